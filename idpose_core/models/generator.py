"""The generator: identity encoder, pose encoder, decoder (section 3.1, equation 1).

The decoder is pix2pixHD's generator from its residual blocks onward (NVIDIA/pix2pixHD,
``models/networks.py``) with upsampling and convolution in place of transposed convolutions. The
paper leaves widths and depths open; the defaults let the trunk receive exactly the width that it
has in pix2pixHD (512 at 16 x 16 for 128 x 128 pictures).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from idpose_core.models.identity_attention import HEADS, IdentityAttention
from idpose_core.models.layers import (
    Norm,
    Padding,
    check_choice,
    convolution,
    initialise,
    initialise_without_norm,
    instance_norm,
    layer_norm,
)

Upsample = Literal["nearest", "bilinear"]
DecoderNorm = Literal["instance", "layer"]


@dataclass(frozen=True)
class GeneratorConfig:
    """What the paper leaves open.

    Attributes:
        size: Side of the pictures in pixels.
        n_down: Times that an encoder halves the picture.
        width: Channels of an encoder's first map; they double with every halving.
        n_blocks: Residual blocks of the trunk.
        upsample: How the decoder enlarges its maps.
        padding: Of the convolutions in the trunk and after it. ``zero`` is a quarter faster on a
            CPU. First and last convolution always reflect: zeros around a picture would let the
            pose encoder see its colour against black.
        norm: Implementation of the instance norm; ``group`` for ``channels_last``.
        decoder_norm: Of trunk and upper blocks. ``instance`` is pix2pixHD's; it takes from every
            feature its mean and strength, and with them colour, which ``layer`` keeps
            (docs/decisions/decoder-norm.md).
        copy_at: Maps of the decoder at which every place looks for its counterpart in the identity
            picture and takes over its pixels and features, by how often they are halved: 2 is a
            quarter of the picture's side. The paper has none (docs/decisions/copy-attention.md).

    Raises:
        ValueError: A setting that no network can have.
    """

    size: int = 128
    n_down: int = 3
    width: int = 32
    n_blocks: int = 9
    upsample: Upsample = "nearest"
    padding: Padding = "reflect"
    norm: Norm = "instance"
    decoder_norm: DecoderNorm = "instance"
    copy_at: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_choice("upsample", self.upsample, Upsample)
        check_choice("padding", self.padding, Padding)
        check_choice("norm", self.norm, Norm)
        check_choice("decoder_norm", self.decoder_norm, DecoderNorm)
        if min(self.n_down, self.width) < 1 or self.n_blocks < 0:
            raise ValueError(f"n_down and width must be at least 1, n_blocks at least 0: {self}")
        # Instance norm of a single value is zero: the code needs 2 x 2 cells or more.
        if self.size % 2**self.n_down or self.size < 2 ** (self.n_down + 1):
            raise ValueError(
                f"pictures of {self.size} cannot be halved {self.n_down} times into 2 x 2 or more"
            )
        if not set(self.copy_at) <= set(range(self.n_down + 1)):
            raise ValueError(f"copy_at names halvings from 0 to {self.n_down}, not {self.copy_at}")

    @property
    def code_channels(self) -> int:
        """Channels of either encoder's map."""
        return int(self.width * 2**self.n_down)

    @property
    def feature_channels(self) -> int:
        """Channels of the decoder's last feature map."""
        return 2 * self.width


PRESETS = {
    "128": GeneratorConfig(size=128),
    "64": GeneratorConfig(size=64),
    "small": GeneratorConfig(
        size=64, width=16, n_blocks=6, padding="zero", norm="group", decoder_norm="layer"
    ),
}
"""YTBB at 128 x 128, synthetic pictures at 64 x 64 (paper), and 64 x 64 on two CPU cores."""


class Decoded(NamedTuple):
    """What the decoder gives.

    Attributes:
        picture: float [N, 3, S, S] in [-1, 1].
        feature: float [N, F, S, S], the last map before the picture, after its ReLU: the feature
            of the pixel verification. Both in the precision of the weights, autocast or not.
    """

    picture: Tensor
    feature: Tensor


def _encoder(config: GeneratorConfig, *, normalise: bool) -> list[nn.Module]:
    def block(convolve: nn.Conv2d) -> list[nn.Module]:
        norm = [instance_norm(convolve.out_channels, config.norm)] if normalise else []
        return [convolve, *norm, nn.ReLU(inplace=True)]

    layers = block(convolution(3, config.width, 7, padding="reflect"))
    for step in range(config.n_down):
        channels = config.width * 2**step
        layers += block(convolution(channels, 2 * channels, 3, stride=2, padding="zero"))
    return layers


def _decoder_norm(channels: int, config: GeneratorConfig) -> nn.Module:
    if config.decoder_norm == "layer":
        return layer_norm(channels)
    return instance_norm(channels, config.norm)


_UP = 4  # layers of an upper block


class _Encoder(nn.Sequential):
    def maps(self, pictures: Tensor) -> list[Tensor]:
        """The map after every ReLU, by how often it is halved; the code is the last one."""
        maps: list[Tensor] = []
        for layer in self:
            pictures = layer(pictures)
            if isinstance(layer, nn.ReLU):
                maps.append(pictures)
        return maps


class IdEncoder(_Encoder):
    """E_i: Conv - ReLU blocks. ``[N, 3, S, S]`` in [-1, 1] to ``[N, code_channels, s, s]``.

    Without any norm, so that the means and variances that carry identity pass.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(*_encoder(config, normalise=False))


class PoseEncoder(_Encoder):
    """E_p: Conv - InstanceNorm - ReLU blocks. ``[N, 3, S, S]`` to ``[N, code_channels, s, s]``.

    A gain shared by all channels and an offset of each channel of the picture change nothing (up
    to the norm's epsilon): the first norm has no affine part and its convolution reflects.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(*_encoder(config, normalise=True))


class ResidualBlock(nn.Module):
    """x + N(Conv(ReLU(N(Conv(x))))), nothing after the sum (pix2pixHD's ResnetBlock)."""

    def __init__(self, channels: int, config: GeneratorConfig) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(channels, channels, 3, padding=config.padding),
            _decoder_norm(channels, config),
            nn.ReLU(inplace=True),
            convolution(channels, channels, 3, padding=config.padding),
            _decoder_norm(channels, config),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, s, s]`` to the same shape."""
        residual: Tensor = self.body(x)
        return x + residual


class Source(NamedTuple):
    """What the decoder may copy from: the maps of one size ``[N, C, s, s]``, and the picture.

    Attributes:
        identity: E_i of the ID picture.
        place: E_p of the ID picture: where its parts are.
        wanted: E_p of the pose picture: where they shall be.
        picture: The ID picture itself, ``[N, 3, S, S]``.
    """

    identity: Tensor
    place: Tensor
    wanted: Tensor
    picture: Tensor


class Decoder(nn.Module):
    """Concatenation, residual trunk, Upsample - Conv - Norm - ReLU blocks, tanh head.

    No norm follows the concatenation: on the joint map it would erase the statistics that carry
    identity. No skip connections lead here: from the pose encoder they would carry colour. At the
    sides of ``copy_at`` maps of the pose encoder choose where to copy from, and are not copied.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        channels = 2 * config.code_channels
        self.trunk = nn.Sequential(
            *(ResidualBlock(channels, config) for _ in range(config.n_blocks))
        )
        ups: list[nn.Module] = []
        copies = nn.ModuleDict()
        for step in range(config.n_down, -1, -1):
            if step in config.copy_at:
                copies[str(step)] = IdentityAttention(
                    channels, config.width * 2**step, patch=2**step
                )
            if step == 0:
                break
            smooth = False if config.upsample == "bilinear" else None
            ups += [
                nn.Upsample(scale_factor=2, mode=config.upsample, align_corners=smooth),
                convolution(channels, channels // 2, 3, padding=config.padding),
                _decoder_norm(channels // 2, config),
                nn.ReLU(inplace=True),
            ]
            channels //= 2
        self.up = nn.Sequential(*ups)
        self.copies = copies if config.copy_at else None
        self.head = convolution(channels + 3 * HEADS * len(copies), 3, 7, padding="reflect")

    def forward(
        self, identity: Tensor, pose: Tensor, sources: dict[int, Source] | None = None
    ) -> Decoded:
        """Decode codes of equal shape ``[N, code_channels, s, s]``.

        Args:
            identity: E_i of the ID picture.
            pose: E_p of the pose picture.
            sources: What to copy from at each halving of ``copy_at``; None where there is none.
        """
        feature: Tensor = self.trunk(torch.cat([identity, pose], dim=1))
        if self.copies is None:
            feature = self.up(feature)
            return self._drawn(feature, feature)
        copied: list[Tensor] = []
        n_down = len(self.up) // _UP
        for step in range(n_down, -1, -1):
            if str(step) in self.copies:
                assert sources is not None
                feature, pixels = self.copies[str(step)](feature, *sources[step])
                copied.append(pixels)
            if step:
                done = n_down - step
                feature = self.up[_UP * done : _UP * (done + 1)](feature)
        return self._drawn(feature, torch.cat([feature, *copied], dim=1))

    def _drawn(self, feature: Tensor, drawn_from: Tensor) -> Decoded:
        # The head is a hundredth of the work. In half precision its output has fewer levels near
        # -1 and 1 than a picture of 8 bits, and pixel verification wants float32 in any case.
        with torch.autocast(feature.device.type, enabled=False):
            precise = self.head.weight.dtype
            picture = torch.tanh(self.head(drawn_from.to(precise)))
            return Decoded(picture, feature.to(precise))


class Generator(nn.Module):
    """G(E_i(I_id), E_p(I_pose)), equation 1. Initial weights come from torch's global generator."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.id_encoder = IdEncoder(config)
        self.pose_encoder = PoseEncoder(config)
        self.decoder = Decoder(config)
        initialise(self)
        # Else the identity reaches the trunk a thousand times weaker than the pose, and is learnt
        # late: docs/decisions/identity-encoder-initialisation.md.
        initialise_without_norm(self.id_encoder)
        for module in self.modules():
            if isinstance(module, IdentityAttention):
                module.initialise()

    def encode_identity(self, pictures: Tensor) -> Tensor:
        """E_i of pictures ``[N, 3, S, S]`` in [-1, 1].

        Raises:
            ValueError: Pictures of another shape than the configured one.
        """
        code: Tensor = self.id_encoder(self._checked(pictures))
        return code

    def encode_pose(self, pictures: Tensor) -> Tensor:
        """E_p of pictures ``[N, 3, S, S]`` in [-1, 1].

        Raises:
            ValueError: Pictures of another shape than the configured one.
        """
        code: Tensor = self.pose_encoder(self._checked(pictures))
        return code

    def passes(self, pictures: Sequence[Tensor], pairs: Sequence[tuple[int, int]]) -> Decoded:
        """G for several pairs of the same pictures: each is encoded once, all are decoded at once.

        Args:
            pictures: Each ``[B, 3, S, S]`` in [-1, 1].
            pairs: For each pass the places in ``pictures`` of the ID and of the pose picture.

        Returns:
            The passes one after the other, ``[len(pairs) * B, ...]``.

        Raises:
            ValueError: Pictures of another shape than the configured one.
        """
        copies = self.config.copy_at
        ids = list(dict.fromkeys(one for one, _ in pairs))
        poses = list(dict.fromkeys([other for _, other in pairs] + (ids if copies else [])))
        id_pictures = self._checked(torch.cat([pictures[n] for n in ids]))
        pose_pictures = self._checked(torch.cat([pictures[n] for n in poses]))
        from_id = [ids.index(one) for one, _ in pairs]
        from_pose = [poses.index(other) for _, other in pairs]

        def dealt(maps: Tensor, parts: int, order: Sequence[int]) -> Tensor:
            chunks = maps.chunk(parts)
            return torch.cat([chunks[n] for n in order])

        if not copies:
            return self.decode(
                dealt(self.id_encoder(id_pictures), len(ids), from_id),
                dealt(self.pose_encoder(pose_pictures), len(poses), from_pose),
            )
        from_place = [poses.index(one) for one, _ in pairs]
        id_maps, pose_maps = (
            self.id_encoder.maps(id_pictures),
            self.pose_encoder.maps(pose_pictures),
        )
        sources = {
            step: Source(
                dealt(id_maps[step], len(ids), from_id),
                dealt(pose_maps[step], len(poses), from_place),
                dealt(pose_maps[step], len(poses), from_pose),
                dealt(id_pictures, len(ids), from_id),
            )
            for step in copies
        }
        decoded: Decoded = self.decoder(
            dealt(id_maps[-1], len(ids), from_id),
            dealt(pose_maps[-1], len(poses), from_pose),
            sources,
        )
        return decoded

    def decode(self, identity: Tensor, pose: Tensor) -> Decoded:
        """Picture and last feature for codes of either encoder; ``passes`` where it copies."""
        decoded: Decoded = self.decoder(identity, pose)
        return decoded

    def forward(self, identity: Tensor, pose: Tensor) -> Tensor:
        """The picture float [N, 3, S, S] in [-1, 1] with this identity and this pose.

        Raises:
            ValueError: Pictures of another shape than the configured one.
        """
        return self.passes((identity, pose), ((0, 1),)).picture

    def _checked(self, pictures: Tensor) -> Tensor:
        side = self.config.size
        if pictures.ndim != 4 or tuple(pictures.shape[1:]) != (3, side, side):
            raise ValueError(
                f"pictures are {tuple(pictures.shape)}, this generator takes [N, 3, {side}, {side}]"
            )
        return pictures
