"""DINOv2's patches as a pose feature, through the optional package timm.

Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision" (TMLR 2024), ViT-S/14,
with or without the registers of Darcet et al. (ICLR 2024). Its weights come from a local file
only: timm is never asked to download any. Nobody has measured here how well it retrieves.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from idpose_core.pose.rotnet import IMAGENET_MEAN, IMAGENET_STD
from idpose_core.pose.trunks import Trunk
from idpose_core.weights.tensors import read_tensors
from storage.digests import file_sha256

BLOCKS = tuple(f"block{number}" for number in range(1, 13))
DEFAULT_BLOCK = "block9"
"""After Amir et al., "Deep ViT Features as Dense Visual Descriptors" (2021), who match parts by
about this depth of DINO's ViT: later blocks forget places, earlier ones know little of parts."""

_PATCH = 14  # pixels on a side
_CHANNELS = 384
_PLACES = 37 * 37  # patches of the 518 x 518 pixels that it was last trained on


def dinov2_trunk(weights: Path, *, layer: str, grid: int, device: str) -> Trunk:
    """The patches of one block, normalised by the network's last norm, a patch for each cell.

    The picture is resized to 14 pixels a cell (bicubic, antialiased, as DINOv2's evaluation does)
    and the places' embedding to the grid as timm does it (bicubic, antialiased).

    Args:
        weights: The published file, with Meta's names or with timm's.
        layer: Of ``BLOCKS``.
        grid: Cells on a side.
        device: Torch device.

    Raises:
        ImportError: timm is not installed.
        ValueError: An unknown layer; a file that is missing, damaged or of another network.
    """
    if layer not in BLOCKS:
        raise ValueError(f"unknown layer {layer!r}: choose from {list(BLOCKS)}")
    tensors = read_tensors(weights)
    try:
        network = _network(tensors)
    except ValueError as error:
        raise ValueError(f"{weights}: {error}") from error
    side = (_PATCH * grid, _PATCH * grid)
    network.set_input_size(img_size=side)
    network.to(device).eval()
    mean = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=device).view(1, 3, 1, 1)

    def compute(picture: NDArray[np.uint8]) -> Tensor:
        x = torch.tensor(picture, device=device).permute(2, 0, 1)[None].float()
        x = F.interpolate(x, side, mode="bicubic", align_corners=False, antialias=True)
        x = (x.clamp(0, 255) / 255 - mean) / std
        (maps,) = network.forward_intermediates(
            x, [BLOCKS.index(layer)], norm=True, stop_early=True, intermediates_only=True
        )
        found: Tensor = maps[0].cpu()
        return found

    return Trunk(compute, _CHANNELS * grid * grid, file_sha256(weights))


def convert_published(tensors: Mapping[str, Any]) -> tuple[dict[str, Tensor], bool]:
    """A state dict with timm's names, and whether the network has registers.

    Meta's file differs from timm's in a token that only training uses, and with registers in the
    class token's place, which timm adds to that token once and for all.

    Raises:
        ValueError: It is not DINOv2's ViT-S/14.
    """
    found = {name: value for name, value in tensors.items() if name != "mask_token"}
    registers = "register_tokens" in found or "reg_token" in found
    expected: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, _CHANNELS),
        "pos_embed": (1, _PLACES + ("reg_token" not in found), _CHANNELS),
        "patch_embed.proj.weight": (_CHANNELS, 3, _PATCH, _PATCH),
        f"blocks.{len(BLOCKS) - 1}.ls2.gamma": (_CHANNELS,),
        "norm.weight": (_CHANNELS,),
    }
    for name, shape in expected.items():
        if not isinstance(found.get(name), Tensor):
            raise ValueError(f"not DINOv2's ViT-S/14: the tensor {name} is missing")
        if tuple(found[name].shape) != shape:
            raise ValueError(
                f"not DINOv2's ViT-S/14: {name} is {tuple(found[name].shape)}, expected {shape}"
            )
    if "register_tokens" in found:
        found["reg_token"] = found.pop("register_tokens")
        found["cls_token"] = found["cls_token"] + found["pos_embed"][:, :1]
        found["pos_embed"] = found["pos_embed"][:, 1:]
    return found, registers


def _network(tensors: Mapping[str, Any]) -> Any:
    converted, registers = convert_published(tensors)
    try:
        import timm
    except ImportError as error:
        raise ImportError("the embedder dinov2 needs timm: pip install 'idpose[dinov2]'") from error
    name = "vit_small_patch14_reg4_dinov2" if registers else "vit_small_patch14_dinov2"
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    try:
        network.load_state_dict(converted)
    except RuntimeError as error:
        cause = str(error).splitlines()[-1].strip()
        raise ValueError(f"not DINOv2's ViT-S/14: {cause}") from error
    return network
