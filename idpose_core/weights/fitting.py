"""Does a file hold the network that it is said to be: names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from idpose_core.pose import dinov2
from idpose_core.pose.rotnet import convert_checkpoint, width_of
from idpose_core.pose.shift_tolerant import convert_published
from idpose_core.weights.tensors import read_tensors

# VGG16 with blur-pools: convolution -> (inputs, outputs), all 3x3; blur -> channels.
_ST_VGG16_CONVOLUTIONS = {
    "slice1.0": (3, 64),
    "slice1.2": (64, 64),
    "slice2.6": (64, 128),
    "slice2.8": (128, 128),
    "slice3.12": (128, 256),
    "slice3.14": (256, 256),
    "slice3.16": (256, 256),
    "slice4.20": (256, 512),
    "slice4.22": (512, 512),
    "slice4.24": (512, 512),
    "slice5.28": (512, 512),
    "slice5.30": (512, 512),
    "slice5.32": (512, 512),
}
_ST_VGG16_BLURS = {"slice2.5": 64, "slice3.11": 128, "slice4.19": 256, "slice5.27": 512}
_LPIPS_HEADS = (64, 128, 256, 512, 512)

# Last block of each EfficientNet-Lite: its number, and the channels into and out of its projection.
_LITE_LAST_BLOCKS = {"efficientnet-lite0": (15, 1152, 320), "efficientnet-lite2": (20, 1248, 352)}
_FID_LANDMARKS = {
    "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
    "Mixed_5b.branch_pool.conv.weight": (32, 192, 1, 1),
    "Mixed_7c.branch_pool.conv.weight": (192, 2048, 1, 1),
    "fc.weight": (1008, 2048),
}
_R50_FPN_LANDMARKS = {
    "backbone.bottom_up.stem.conv1.weight": (64, 3, 7, 7),
    "backbone.fpn_output2.weight": (256, 256, 3, 3),
    "proposal_generator.rpn_head.conv.weight": (256, 256, 3, 3),
    "roi_heads.box_predictor.cls_score.weight": (81, 1024),
    "roi_heads.box_predictor.bbox_pred.weight": (320, 1024),
}


def check_fits(name: str, path: Path) -> None:
    """Check that a file holds the named network.

    Raises:
        ValueError: It is damaged, or tensors are missing or have other shapes.
    """
    if name == "yolox-nano":
        _check_yolox(path)
        return
    tensors = read_tensors(path)
    if "network" not in tensors:
        tensors = {key: value for key, value in tensors.items() if isinstance(value, Tensor)}
    _CHECKS[name](tensors)


def _check_shapes(tensors: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]]) -> None:
    for key, shape in expected.items():
        if key not in tensors:
            raise ValueError(f"the tensor {key} is missing")
        if tuple(tensors[key].shape) != tuple(shape):
            raise ValueError(f"{key} is {tuple(tensors[key].shape)}, expected {tuple(shape)}")


def _check_module(build: Callable[[], nn.Module]) -> Callable[[Mapping[str, Any]], None]:
    def check(tensors: Mapping[str, Any]) -> None:
        with torch.device("meta"):
            expected = {key: tuple(value.shape) for key, value in build().state_dict().items()}
        # Counters of batch normalisation are absent from older files and unused in evaluation.
        _check_shapes(
            tensors, {k: v for k, v in expected.items() if not k.endswith("num_batches_tracked")}
        )

    return check


def _check_dinov2(registers: bool) -> Callable[[Mapping[str, Any]], None]:
    def check(tensors: Mapping[str, Any]) -> None:
        _, found = dinov2.convert_published(tensors)
        if found != registers:
            raise ValueError(f"DINOv2's ViT-S/14 {'with' if found else 'without'} registers")

    return check


def _check_lite(last: int, inside: int, outputs: int) -> Callable[[Mapping[str, Any]], None]:
    """Landmarks: stem, first and last block, head. The architecture is not part of idpose."""
    landmarks = {
        "_conv_stem.weight": (32, 3, 3, 3),
        "_blocks.0._depthwise_conv.weight": (32, 1, 3, 3),
        f"_blocks.{last}._project_conv.weight": (outputs, inside, 1, 1),
        "_conv_head.weight": (1280, outputs, 1, 1),
        "_fc.weight": (1000, 1280),
    }
    return lambda tensors: _check_shapes(tensors, landmarks)


def _check_rotnet(tensors: Mapping[str, Any]) -> None:
    width = width_of(convert_checkpoint(tensors))
    if width != 1:
        raise ValueError(f"a network of width {width:g}; the published one has width 1")


def _torchvision(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torchvision.models import get_model

        network: nn.Module = get_model(name, weights=None)
        return network

    return build


def _faster_rcnn() -> nn.Module:
    from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2

    network: nn.Module = fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None)
    return network


def _check_st_vgg16(tensors: Mapping[str, Any]) -> None:
    expected: dict[str, tuple[int, ...]] = {}
    for key, (inputs, outputs) in _ST_VGG16_CONVOLUTIONS.items():
        expected[f"net.{key}.weight"] = (outputs, inputs, 3, 3)
        expected[f"net.{key}.bias"] = (outputs,)
    for key, channels in _ST_VGG16_BLURS.items():
        expected[f"net.{key}.filt"] = (channels, 1, 3, 3)
    for index, channels in enumerate(_LPIPS_HEADS):
        expected[f"lin{index}.model.1.weight"] = (1, channels, 1, 1)
    _check_shapes(tensors, expected)


def _check_yolox(path: Path) -> None:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            "checking an ONNX file needs onnxruntime: pip install 'idpose[yolox]'"
        ) from error
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no public base class
        raise ValueError(f"not an ONNX network: {error}") from error
    inputs = [(entry.name, list(entry.shape)) for entry in session.get_inputs()]
    outputs = [list(entry.shape) for entry in session.get_outputs()]
    if inputs != [("images", [1, 3, 416, 416])] or outputs != [[1, 3549, 85]]:
        raise ValueError(f"not YOLOX-nano at 416: inputs {inputs}, outputs {outputs}")


_CHECKS: dict[str, Callable[[Mapping[str, Any]], object]] = {
    "ImageNet_RotNet_AlexNet": _check_rotnet,
    "st-alex": convert_published,
    "st-vgg16": _check_st_vgg16,
    "dinov2_vits14": _check_dinov2(registers=False),
    "dinov2_vits14_reg4": _check_dinov2(registers=True),
    **{name: _check_lite(*last) for name, last in _LITE_LAST_BLOCKS.items()},
    "fasterrcnn_resnet50_fpn_v2": _check_module(_faster_rcnn),
    "faster_rcnn_R_50_FPN_3x": lambda tensors: _check_shapes(tensors, _R50_FPN_LANDMARKS),
    "inception-fid": lambda tensors: _check_shapes(tensors, _FID_LANDMARKS),
    **{
        name: _check_module(_torchvision(name))
        for name in ("alexnet", "vgg16", "vgg19", "resnet50")
    },
}
