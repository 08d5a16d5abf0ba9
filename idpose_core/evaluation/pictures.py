"""The one form in which everything is measured: 8 bits, as a PNG file holds them.

A generator's float output is rounded to it first, so that tensors and files give the same result.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from idpose_core.training.augmentation import centre_crop
from idpose_core.training.samples import Generate

Pictures = NDArray[np.uint8]


def distinct(*lists: Pictures) -> tuple[Pictures, list[NDArray[np.int64]]]:
    """What is computed of single pictures is computed of these: in triplets one stands for many.

    Args:
        lists: Each uint8 [N, R, R, 3].

    Returns:
        The different pictures [U, R, R, 3] of all lists, and for each list the places [N] of its
        pictures among them.
    """
    first: dict[bytes, int] = {}
    places = [
        np.array([first.setdefault(one.tobytes(), len(first)) for one in pictures], np.int64)
        for pictures in lists
    ]
    return np.frombuffer(b"".join(first), np.uint8).reshape(len(first), *lists[0].shape[1:]), places


def to_bytes(pictures: Tensor) -> Pictures:
    """Round float [N, 3, R, R] in [-1, 1] to uint8 [N, R, R, 3].

    Raises:
        ValueError: Another shape, or values that are not finite or outside of [-1, 1].
    """
    if pictures.ndim != 4 or pictures.shape[1] != 3:
        raise ValueError(f"pictures are float [N, 3, R, R], not {list(pictures.shape)}")
    values = pictures.detach().float()
    # NaN is not below the bound either. A thousandth for the rounding of half precision.
    if not bool((values.abs() <= 1.001).all()):
        raise ValueError("pictures must lie in [-1, 1] and be finite")
    scaled = ((values + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return np.asarray(scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy(), np.uint8)


def to_network(pictures: Pictures, device: torch.device | str = "cpu") -> Tensor:
    """From uint8 [N, R, R, 3] to float32 [N, 3, R, R] in [-1, 1]."""
    _check(pictures)
    planes = torch.tensor(np.ascontiguousarray(pictures), device=device).permute(0, 3, 1, 2)
    return planes.float() / 127.5 - 1


def at_size(pictures: Pictures, size: int) -> Pictures:
    """Stored pictures as a model of this size sees them in evaluation (no jitter, centre crop)."""
    _check(pictures)
    parts = [
        to_bytes(centre_crop(torch.from_numpy(pictures[start : start + 256]), size))
        for start in range(0, len(pictures), 256)
    ]
    return np.concatenate(parts) if parts else np.empty((0, size, size, 3), np.uint8)


def mask_at_size(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """A mask bool [H, W] on the grid of :func:`at_size`, bool [R, R]."""
    grey = np.repeat(np.where(mask, np.uint8(255), np.uint8(0))[None, ..., None], 3, axis=3)
    return np.asarray(at_size(grey, size)[0, ..., 0] > 127)


@torch.no_grad()
def generated(
    generator: Generate,
    ids: Pictures,
    poses: Pictures,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 32,
) -> Pictures:
    """What a generator makes of pairs of pictures.

    Args:
        generator: From ID and pose pictures float32 [N, 3, R, R] in [-1, 1] to pictures of the
            same form; in evaluation mode.
        ids: uint8 [N, R, R, 3].
        poses: The same shape.
        device: Where the generator is.
        batch_size: Pairs at once.

    Raises:
        ValueError: Different numbers of pictures, or an output that is no picture.
    """
    if len(ids) != len(poses):
        raise ValueError(f"{len(ids)} ID pictures but {len(poses)} pose pictures")
    made = [
        to_bytes(generator(to_network(ids[part], device), to_network(poses[part], device)))
        for part in (slice(at, at + batch_size) for at in range(0, len(ids), batch_size))
    ]
    return np.concatenate(made) if made else np.empty_like(ids)


@contextmanager
def full_precision() -> Iterator[None]:
    """On a GPU compute as on a CPU: convolutions without TF32, the same way in every run."""
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield


def _check(pictures: Pictures) -> None:
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3:
        raise ValueError(
            f"pictures are uint8 [N, R, R, 3], not {pictures.dtype} {list(pictures.shape)}"
        )
