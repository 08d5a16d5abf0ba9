"""Train the pose feature on one's own pictures, by the pretext task of RotNet.

Gidaris, Singh, Komodakis (ICLR 2018): turn every picture by 0, 90, 180 and 270 degrees and let
the network tell by how much. No labels and no published weights are needed. Differences from
the published recipe, made for small sets and machines: the head is one linear layer on conv5
pooled to 3 x 3, the learning rate falls along a cosine, and no picture is mirrored, since the
feature shall tell left from right.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from idpose_core.instances.arrays import single_thread
from idpose_core.pose.rotnet import IMAGENET_MEAN, IMAGENET_STD, RotNetAlexNet, initialise
from storage.digests import file_sha256

ROTATIONS = 4
_HEAD_CELLS = 3
_SMALLEST_INPUT = 96  # below this, conv5 has fewer cells than the head pools to


@dataclass(frozen=True)
class RotNetTraining:
    """What :func:`train_rotnet` made.

    Attributes:
        path: The safetensors file; ``load_embedder("rotnet", path)`` reads it.
        sha256: Its digest.
        accuracy: Share of right answers on held-out pictures, all four rotations of each
            (chance is 0.25).
        held_out: Number of held-out pictures.
        losses: Cross-entropy of every step.
    """

    path: Path
    sha256: str
    accuracy: float
    held_out: int
    losses: tuple[float, ...]


def train_rotnet(
    pictures: NDArray[np.uint8],
    destination: Path,
    *,
    steps: int,
    batch_size: int = 32,
    seed: int = 0,
    device: str = "cpu",
    width: float = 1.0,
    input_size: int = 224,
    learning_rate: float = 0.05,
    held_out_share: float = 0.1,
    on_step: Callable[[int, float], None] | None = None,
) -> RotNetTraining:
    """Train RotNet's AlexNet on these pictures and write its convolutions.

    The same arguments on the CPU give the same file, byte for byte.

    Args:
        pictures: uint8 [N, S, S, 3] RGB, upright; N at least 2. Only training pictures belong
            here: whatever is fitted must not see test videos.
        destination: The ``.safetensors`` file to write.
        steps: Number of updates.
        batch_size: Pictures in a batch; the network sees four turned copies of each.
        seed: Of the weights, the held-out pictures, the batches and their crops.
        device: Torch device.
        width: Multiplier of the channel counts; 1 is the published network.
        input_size: Side of the network's input in pixels, at least 96. The embedder shows it 224.
        learning_rate: Of SGD with Nesterov momentum 0.9 and weight decay 5e-4, at the start.
        held_out_share: Share of the pictures, at least one, that only measure the accuracy.
        on_step: Called after each step with its number (from 1) and its loss.

    Raises:
        ValueError: Pictures of another form, fewer than 2, or a setting out of its range.
    """
    _check(pictures, destination, steps, batch_size, input_size, held_out_share)
    # Two independent streams: the weights must not depend on how batches are drawn.
    generator = torch.Generator().manual_seed(seed)
    draws = np.random.default_rng([seed, 1])
    order = draws.permutation(len(pictures))
    held_out = max(1, round(held_out_share * len(pictures)))
    held, kept = pictures[order[:held_out]], pictures[order[held_out:]]

    network = RotNetAlexNet(width)
    head = nn.Linear(network.channels[-1] * _HEAD_CELLS**2, ROTATIONS)
    initialise(network, generator)
    initialise(head, generator)
    network.to(device)
    head.to(device)
    parameters = [*network.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(
        parameters, lr=learning_rate, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    losses = []
    with single_thread(device):
        network.train()
        for step in range(steps):
            rate = learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
            optimizer.param_groups[0]["lr"] = rate
            batch = _random_crops(kept, batch_size, draws)
            inputs, labels = turned(_normalised(batch, input_size, device))
            loss = F.cross_entropy(_logits(network, head, inputs), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(loss.detach()))
            if on_step is not None:
                on_step(step + 1, losses[-1])
        accuracy = _accuracy(network, head, held, input_size, device)
    _save(network, destination)
    return RotNetTraining(destination, file_sha256(destination), accuracy, held_out, tuple(losses))


def turned(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The four rotations of every input and their labels.

    Args:
        inputs: [N, C, H, H].

    Returns:
        [4N, C, H, H], label k being k quarter turns counterclockwise, and the labels [4N]; first
        all inputs unturned, then all turned once, and so on.
    """
    copies = torch.cat([torch.rot90(inputs, k, (2, 3)) for k in range(ROTATIONS)])
    labels = torch.arange(ROTATIONS, device=inputs.device).repeat_interleave(len(inputs))
    return copies, labels


def _logits(network: RotNetAlexNet, head: nn.Linear, inputs: Tensor) -> Tensor:
    conv5 = network(inputs)[-1]
    logits: Tensor = head(F.adaptive_avg_pool2d(conv5, _HEAD_CELLS).flatten(1))
    return logits


def _random_crops(
    pictures: NDArray[np.uint8], count: int, draws: np.random.Generator
) -> list[NDArray[np.uint8]]:
    """Square parts of 0.7 to 1 of the side, of pictures drawn with replacement."""
    side = pictures.shape[1]
    crops = []
    for index in draws.integers(len(pictures), size=count):
        length = int(draws.integers(round(0.7 * side), side + 1))
        top, left = draws.integers(side - length + 1, size=2)
        crops.append(pictures[index, top : top + length, left : left + length])
    return crops


def _normalised(pictures: list[NDArray[np.uint8]], size: int, device: str) -> Tensor:
    planes = []
    for picture in pictures:
        x = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None]
        x = x.to(device).float() / 255.0
        planes.append(
            F.interpolate(x, (size, size), mode="bilinear", align_corners=False, antialias=True)
        )
    mean = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=device).view(1, 3, 1, 1)
    return (torch.cat(planes) - mean) / std


@torch.no_grad()
def _accuracy(
    network: RotNetAlexNet, head: nn.Linear, pictures: NDArray[np.uint8], size: int, device: str
) -> float:
    network.eval()
    right = 0
    for picture in pictures:
        inputs, labels = turned(_normalised([picture], size, device))
        right += int((_logits(network, head, inputs).argmax(1) == labels).sum())
    return right / (ROTATIONS * len(pictures))


def _save(network: RotNetAlexNet, destination: Path) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    temporary = destination.with_name(f".{destination.name}.{os.getpid()}.tmp")
    save_file(tensors, temporary)
    temporary.replace(destination)


def _check(
    pictures: NDArray[np.uint8],
    destination: Path,
    steps: int,
    batch_size: int,
    input_size: int,
    held_out_share: float,
) -> None:
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3:
        raise ValueError(
            f"pictures must be uint8 [N, S, S, 3], not {pictures.dtype} {list(pictures.shape)}"
        )
    if pictures.shape[1] != pictures.shape[2]:
        raise ValueError(f"pictures must be square, not {pictures.shape[1]}x{pictures.shape[2]}")
    if len(pictures) < 2:
        raise ValueError("at least 2 pictures are needed: one to train on, one to measure on")
    if destination.suffix != ".safetensors":
        raise ValueError(f"the destination must end in .safetensors, not {destination.name}")
    if steps < 1 or batch_size < 1:
        raise ValueError(f"steps and batch_size must be positive, not {steps} and {batch_size}")
    if input_size < _SMALLEST_INPUT:
        raise ValueError(f"input_size must be at least {_SMALLEST_INPUT}, not {input_size}")
    if not 0 < held_out_share < 1:
        raise ValueError(f"held_out_share must lie between 0 and 1, not {held_out_share}")
    if len(pictures) <= max(1, round(held_out_share * len(pictures))):
        raise ValueError("held_out_share leaves no picture to train on")
