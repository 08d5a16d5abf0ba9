"""DrNet's scene discriminator (edenton/drnet-py, ``models/classifiers.py``) for maps as codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from idpose_core.models.layers import at_least_float32


class SceneDiscriminator(nn.Module):
    """Are these two pose codes of one video?

    The reference's codes are vectors; here they are the means of maps over all places.

    Args:
        channels: Of a code.
        hidden: Width of the two hidden layers.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * channels, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, 1),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Linear):  # utils.py of the reference
                nn.init.normal_(layer.weight, 0.0, 0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Logits [N] of being of one video, for codes ``[N, channels, s, s]``; order matters.

        The reference ends in a sigmoid; here it is part of the loss, which loses no digits so.
        """
        means = [at_least_float32(code).mean(dim=(2, 3)) for code in (one, other)]
        return at_least_float32(self.layers(torch.cat(means, dim=1)).squeeze(1))
