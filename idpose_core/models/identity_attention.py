"""Attention from the decoder to the identity picture: pixel verification as architecture.

Equation 5 of the paper traces each generated pixel back to the identity picture by a matrix of
affinities, and asks for it in a loss. Here the same matrix, on a small map, says what is copied.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEADS = 4
_CHANNELS = 16  # of queries and keys
_FEATURES = 8  # of the values, beside the pixels


class IdentityAttention(nn.Module):
    """Each place of a decoder's map takes over colours and features of the identity picture.

    Queries come from the decoder's map and from the pose picture's code; keys from the identity
    picture's two codes. The part over the pose encoder's maps is one for both sides, so that a
    place finds itself in the same picture from the first step on. No map of the pose encoder is
    among the values: it says where to copy from, and nothing of it is copied.

    Args:
        channels: Of the decoder's map.
        encoder_channels: Of the encoders' maps of the same side.
        patch: Pixels of a picture by which a place of the map is wide.
    """

    def __init__(self, channels: int, encoder_channels: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        width = HEADS * _CHANNELS
        self.query = nn.Conv2d(channels, width, 1, bias=False)
        self.key = nn.Conv2d(encoder_channels, width, 1, bias=False)
        self.place = nn.Conv2d(encoder_channels, width, 1, bias=False)
        self.value = nn.Conv2d(encoder_channels, HEADS * _FEATURES, 1)
        self.out = nn.Conv2d(HEADS * (_FEATURES + 3 * patch**2), channels, 1)

    def initialise(self) -> None:
        """Draw weights that keep the size of signals: no norm follows."""
        for layer in (self.query, self.key, self.place, self.value, self.out):
            nn.init.xavier_normal_(layer.weight)

    def forward(
        self, x: Tensor, identity: Tensor, place: Tensor, wanted: Tensor, picture: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the map becomes, and the colours that were copied.

        Args:
            x: The decoder's map ``[N, channels, s, s]``.
            identity: E_i of the ID picture ``[N, encoder_channels, s, s]``.
            place: E_p of the ID picture, the same shape.
            wanted: E_p of the pose picture, the same shape.
            picture: The ID picture ``[N, 3, patch * s, patch * s]`` in [-1, 1].

        Returns:
            The map, and what was copied of the picture, ``[N, 3 * HEADS, patch * s, patch * s]``.
        """
        count, side = len(x), x.shape[-1]
        queries = _by_place(self.query(x) + self.place(wanted))
        keys = _by_place(self.key(identity) + self.place(place))
        pixels = F.pixel_unshuffle(picture, self.patch)
        pixels = pixels[:, None].expand(-1, HEADS, -1, -1, -1).flatten(3).transpose(2, 3)
        features = _by_place(self.value(identity))
        values = torch.cat([features, pixels.to(features.dtype)], dim=3)
        found = F.scaled_dot_product_attention(queries, keys, values).transpose(2, 3)
        copied = found[:, :, _FEATURES:].reshape(count, -1, side, side)
        changed = x + self.out(found.reshape(count, -1, side, side))
        return changed, F.pixel_shuffle(copied, self.patch)


def _by_place(maps: Tensor) -> Tensor:
    """``[N, HEADS * C, s, s]`` as ``[N, HEADS, s * s, C]``."""
    parts = maps.reshape(len(maps), HEADS, maps.shape[1] // HEADS, -1)
    return parts.transpose(2, 3).contiguous()
