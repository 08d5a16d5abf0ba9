"""Features of whole pictures, over which sets of pictures are compared.

``inception`` is pytorch-fid's network (its weights, its patched blocks) with pytorch-fid's
preprocessing; ``efficientnet-lite2`` a stand-in for machines without those weights, never reported
under the name of FID. It was ``efficientnet-lite0`` until that network became one that retrieves
(docs/decisions/evaluation.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from idpose_core.evaluation.pictures import Pictures
from idpose_core.weights.tensors import read_tensors

FEATURE_NETWORKS = ("inception", "efficientnet-lite2")
Features = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FeatureNetwork:
    """A network ready for use.

    Attributes:
        name: Of ``FEATURE_NETWORKS``; part of the names of the metrics.
        network: From pictures float [N, 3, R, R] in [0, 1] to [N, dimensions].
        dimensions: Of a feature.
    """

    name: str
    network: nn.Module
    dimensions: int


def without_repeats(features: Features) -> Features:
    """Each different row of features [N, D] once, where it occurs first."""
    places = {row.tobytes(): place for place, row in reversed(list(enumerate(features)))}
    kept: Features = features[sorted(places.values())]
    return kept


def load_features(name: str, weights: Path) -> FeatureNetwork:
    """The network of this name.

    Args:
        name: Of ``FEATURE_NETWORKS``.
        weights: As ``find_weights`` gives them (``inception-fid``, ``efficientnet-lite2``).

    Raises:
        ValueError: An unknown name; weights that are damaged or of another network.
    """
    if name not in FEATURE_NETWORKS:
        raise ValueError(f"no features {name!r}; there are {', '.join(FEATURE_NETWORKS)}")
    tensors = read_tensors(weights)
    try:
        if name == "inception":
            return FeatureNetwork(name, _Inception(tensors).eval(), 2048)
        return FeatureNetwork(name, _EfficientNetLite2(tensors).eval(), 1280)
    except RuntimeError as error:
        cause = str(error).splitlines()[-1].strip()
        raise ValueError(f"{weights} does not hold the network of {name}: {cause}") from error


def extract(
    features: FeatureNetwork,
    pictures: Pictures,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 32,
) -> Features:
    """Features [N, dimensions] of pictures uint8 [N, R, R, 3].

    Raises:
        ValueError: Pictures of another form, or none.
    """
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3:
        raise ValueError(
            f"pictures are uint8 [N, R, R, 3], not {pictures.dtype} {list(pictures.shape)}"
        )
    if not len(pictures):
        raise ValueError("there are no pictures")
    network = features.network.to(device)
    found = np.empty((len(pictures), features.dimensions))
    with torch.inference_mode():
        for at in range(0, len(pictures), batch_size):
            part = torch.tensor(pictures[at : at + batch_size], device=device)
            planes = part.permute(0, 3, 1, 2).float() / 255
            found[at : at + batch_size] = network(planes).double().cpu().numpy()
    return found


class _Inception(nn.Module):
    """Inception v3 of the FID, up to pool3; batch norms folded into their convolutions."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        super().__init__()
        from pytorch_fid import inception as fid
        from torchvision.models import inception_v3

        network = inception_v3(
            weights=None, num_classes=1008, aux_logits=False, init_weights=False,
            transform_input=False,
        )  # fmt: skip
        for name, block in {
            "5b": fid.FIDInceptionA(192, pool_features=32),
            "5c": fid.FIDInceptionA(256, pool_features=64),
            "5d": fid.FIDInceptionA(288, pool_features=64),
            "6b": fid.FIDInceptionC(768, channels_7x7=128),
            "6c": fid.FIDInceptionC(768, channels_7x7=160),
            "6d": fid.FIDInceptionC(768, channels_7x7=160),
            "6e": fid.FIDInceptionC(768, channels_7x7=192),
            "7b": fid.FIDInceptionE_1(1280),
            "7c": fid.FIDInceptionE_2(2048),
        }.items():
            setattr(network, f"Mixed_{name}", block)
        network.load_state_dict(dict(tensors))
        network.fc = nn.Identity()
        network.eval()
        _fold_batch_norms(network)
        # Its convolutions take half the time of a CPU so; nothing in it undoes the layout.
        self.network = network.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, (299, 299), mode="bilinear", align_corners=False)
        feature: Tensor = self.network(2 * x - 1)
        return feature


def _fold_batch_norms(network: nn.Module) -> None:
    """A convolution and its batch norm, in evaluation, are one convolution."""
    for module in network.modules():
        convolution, norm = getattr(module, "conv", None), getattr(module, "bn", None)
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            module.conv = fuse_conv_bn_eval(convolution, norm)
            module.bn = nn.Identity()


class _EfficientNetLite2(nn.Module):
    """EfficientNet-Lite2 up to the mean that its classes are read from.

    Pictures as it was trained on them (tensorflow/tpu, models/official/efficientnet: main.py and
    lite/efficientnet_lite_builder.py): to 260 x 260 bilinearly, not antialiased, then 127 taken
    from their 0 to 255 and divided by 128. The package that converted it does not say this.
    """

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        self.network = EfficientNet.from_name("efficientnet-lite2")
        self.network.load_state_dict(dict(tensors))

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, (260, 260), mode="bilinear", align_corners=False, antialias=False)
        maps: Tensor = self.network.extract_features((255 * x - 127) / 128)
        return maps.mean((2, 3))
