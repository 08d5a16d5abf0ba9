"""A small Faster R-CNN with torchvision's interface, for worlds of few classes.

Two-stage detection as in Ren et al., "Faster R-CNN" 2015, and a feature pyramid of one level as in
Lin et al., "Feature Pyramid Networks" 2017, sized for frames of some 300 pixels on a CPU: 1.4
million parameters, where the COCO network has 43. Its files say which classes it knows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import Conv2dNormActivation, MultiScaleRoIAlign

NETWORK = "small-faster-rcnn"
_CHANNELS = 64
_SIDE = 256  # shorter side of the frame as the network sees it


class SmallBackbone(nn.Module):
    """Pictures float [B, 3, H, W] to features float [B, 64, H / 8, W / 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.out_channels = _CHANNELS
        self.stride_8 = nn.Sequential(
            _convolution(3, 16, stride=2),
            _convolution(16, 32, stride=2),
            _convolution(32, 32),
            _convolution(32, 64, stride=2),
            _convolution(64, 64),
        )
        self.stride_16 = nn.Sequential(_convolution(64, 128, stride=2), _convolution(128, 128))
        self.from_8 = nn.Conv2d(64, _CHANNELS, 1)
        self.from_16 = nn.Conv2d(128, _CHANNELS, 1)
        self.merge = _convolution(_CHANNELS, _CHANNELS)

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        fine = self.stride_8(pictures)
        coarse = self.from_16(self.stride_16(fine))
        merged: Tensor = self.merge(
            self.from_8(fine) + F.interpolate(coarse, size=fine.shape[-2:], mode="nearest")
        )
        return merged


def small_faster_rcnn(classes: int, *, floor: float = 0.05) -> FasterRCNN:
    """The untrained network.

    Args:
        classes: Number of classes without the background.
        floor: Its own score threshold, in [0, 1].
    """
    return FasterRCNN(
        SmallBackbone(),
        min_size=_SIDE,
        max_size=2 * _SIDE,
        rpn_anchor_generator=AnchorGenerator(
            sizes=((24, 48, 96, 192),), aspect_ratios=((0.6, 1.0, 1.8),)
        ),
        box_roi_pool=MultiScaleRoIAlign(["0"], output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(_CHANNELS * 49, 256),
        box_predictor=FastRCNNPredictor(256, classes + 1),
        rpn_pre_nms_top_n_test=500,
        rpn_post_nms_top_n_test=100,
        rpn_post_nms_top_n_train=200,
        box_batch_size_per_image=32,
        box_score_thresh=floor,
        box_detections_per_img=20,
    )


def save_small_faster_rcnn(network: FasterRCNN, class_names: Sequence[str], path: Path) -> None:
    """Write the weights as float16 safetensors that name the network and its classes."""
    from safetensors.torch import save_file

    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    metadata = {"description": json.dumps({"network": NETWORK, "class_names": list(class_names)})}
    save_file(state, path, metadata=metadata)


def class_names_of(path: Path) -> list[str] | None:
    """The classes that a file of this network knows; None where the file is of another network."""
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, "pt") as file:
            described = json.loads((file.metadata() or {}).get("description", "{}"))
    except (SafetensorError, OSError, ValueError):
        return None
    if not isinstance(described, dict) or described.get("network") != NETWORK:
        return None
    return [str(name) for name in described["class_names"]]


def _convolution(inputs: int, outputs: int, *, stride: int = 1) -> nn.Module:
    layer: nn.Module = Conv2dNormActivation(inputs, outputs, 3, stride)
    return layer
