"""pytorch-fid's network with random weights, where the published ones are not at hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn


def random_inception() -> tuple[dict[str, torch.Tensor], nn.Module]:
    """A state dict of the published form, and pytorch-fid's own network holding it."""
    from pytorch_fid import inception as fid

    kept: dict[str, torch.Tensor] = {}

    def load(self: nn.Module, tensors: dict[str, torch.Tensor], strict: bool = True) -> None:
        generator = torch.Generator().manual_seed(1)
        for name, value in self.state_dict().items():
            if not value.dtype.is_floating_point:
                continue
            noise = torch.randn(value.shape, generator=generator)
            if name.endswith("running_var"):
                value.copy_(1 + 0.2 * noise.abs())
            elif name.endswith("conv.weight"):
                fan = value.shape[1] * value.shape[2] * value.shape[3]
                value.copy_(noise * (2 / fan) ** 0.5)
            else:  # what comes out differs from picture to picture where biases are small
                value.copy_(0.1 * noise + (1.0 if name.endswith("bn.weight") else 0.0))
        kept.update({name: value.clone() for name, value in self.state_dict().items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fid, "load_state_dict_from_url", lambda *args, **kwargs: {})
        patch.setattr("torchvision.models.Inception3.load_state_dict", load)
        network = fid.InceptionV3([fid.InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).eval()
    return kept, network
