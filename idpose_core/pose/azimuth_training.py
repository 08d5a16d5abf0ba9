"""Teach a network the azimuth of masked pictures (``azimuth``) where the azimuth is known.

The pictures are clean and rendered, those that it is to read are not: so their colours, light,
sharpness, outline and what stands before them are changed at random, and a found mask is imitated.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from idpose_core.instances.arrays import single_thread
from idpose_core.pose.azimuth import (
    BINS,
    SIDE,
    AzimuthNetwork,
    azimuth_probabilities,
    network_input,
)
from idpose_core.pose.rotnet import initialise
from storage.digests import file_sha256

_SHARPNESS = 16.0  # of the wanted distribution, von Mises: a deviation of about 15 degrees
_WEIGHT_DECAY = 0.02
_WARM_UP = 100  # steps

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class AzimuthTraining:
    """What :func:`train_azimuth` made.

    Attributes:
        path: The safetensors file.
        sha256: Its digest.
        hit: Share of held-out pictures whose likeliest azimuth is within 22.5 degrees of the truth.
        confused: Share within 22.5 degrees of the opposite.
        held_out: Number of held-out pictures.
    """

    path: Path
    sha256: str
    hit: float
    confused: float
    held_out: int


def train_azimuth(
    pictures: NDArray[np.uint8],
    opacity: NDArray[np.uint8],
    azimuths: NDArray[np.float64],
    identities: NDArray[np.int64],
    destination: Path,
    *,
    steps: int,
    batch_size: int = 32,
    seed: int = 0,
    learning_rate: float = 2e-3,
    held_out: int = 10,
    on_step: Callable[[int, float], None] | None = None,
) -> AzimuthTraining:
    """Train on the CPU and write the network; the same arguments give the same file.

    Args:
        pictures: uint8 [N, S, S, 3] RGB, aligned (``alignment.align``). Training objects only.
        opacity: uint8 [N, S, S], their masks, 255 on the object.
        azimuths: [N] in degrees, counted the same way for all objects.
        identities: [N], which object a picture shows.
        destination: The ``.safetensors`` file to write.
        steps: Number of updates.
        batch_size: Pictures in a batch.
        seed: Of the weights, the held-out objects, the batches and their changes.
        learning_rate: Of AdamW at its highest; it rises over 100 steps and falls along a cosine.
        held_out: Objects that only measure.
        on_step: Called after each step with its number (from 1) and its loss.

    Raises:
        ValueError: Arrays that do not describe the same pictures, no object left to train on, or
            no step.
    """
    if not len(pictures) == len(opacity) == len(azimuths) == len(identities):
        raise ValueError("pictures, opacity, azimuths and identities differ in number")
    if pictures.dtype != np.uint8 or opacity.dtype != np.uint8:
        raise ValueError(f"pictures and opacity must be uint8: {pictures.dtype}, {opacity.dtype}")
    objects = np.unique(identities)
    if not 1 <= held_out < len(objects):
        raise ValueError(f"held_out must leave some of {len(objects)} objects, not be {held_out}")
    if steps < 1 or batch_size < 2:
        raise ValueError(f"need steps >= 1 and batch_size >= 2, not {steps} and {batch_size}")
    draws = np.random.default_rng([seed, 1])
    held = np.isin(identities, draws.permutation(objects)[:held_out])
    known = np.flatnonzero(~held)
    network = AzimuthNetwork()
    initialise(network, torch.Generator().manual_seed(seed))
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=_WEIGHT_DECAY)
    with single_thread("cpu"), torch.random.fork_rng():
        torch.manual_seed(seed)  # of the dropout
        network.train()
        for step in range(steps):
            falling = 0.5 * (1 + math.cos(math.pi * step / steps))
            rate = learning_rate * falling * min(1.0, (step + 1) / _WARM_UP)
            optimizer.param_groups[0]["lr"] = rate
            drawn = [
                changed(pictures[row], opacity[row], float(azimuths[row]), draws)
                for row in known[draws.integers(len(known), size=batch_size)]
            ]
            seen, masks, truth = zip(*drawn, strict=True)
            x = network_input(np.stack(seen), np.stack(masks))
            scores = network(x.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(scores, wanted(np.array(truth)))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if on_step is not None:
                on_step(step + 1, float(loss.detach()))
        off = _errors(network, pictures[held], opacity[held], azimuths[held])
    _save(network, destination)
    hit, confused = float((off <= 22.5).mean()), float((off >= 157.5).mean())
    return AzimuthTraining(destination, file_sha256(destination), hit, confused, int(held.sum()))


def wanted(azimuths: NDArray[np.float64]) -> Tensor:
    """The distribution over the 24 azimuths that a picture of this azimuth shall be given, [N, 24].

    Args:
        azimuths: [N] in degrees.
    """
    bins = np.arange(BINS) * (360 / BINS)
    near = np.cos(np.radians(bins[None] - azimuths[:, None]))
    return torch.softmax(torch.from_numpy(_SHARPNESS * near).float(), 1)


def changed(
    picture: NDArray[np.uint8],
    opacity: NDArray[np.uint8],
    azimuth: float,
    draws: np.random.Generator,
) -> tuple[NDArray[np.uint8], Pixels, float]:
    """One picture as it might look in a video.

    Args:
        picture: uint8 [S, S, 3].
        opacity: uint8 [S, S], 255 on the object.
        azimuth: In degrees.
        draws: Source of the changes.

    Returns:
        uint8 [64, 64, 3], the found mask float32 [64, 64] in 0..1, and the azimuth, which is
        minus the given one where the picture was mirrored.
    """
    matrix, mirrored = _placement(picture.shape[0], draws)
    size = (SIDE, SIDE)
    colour = cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REFLECT_101)
    truth = cv2.warpAffine(opacity, matrix, size).astype(np.float32) / 255
    found = _found_mask(truth, draws) if draws.random() < 0.7 else truth
    if draws.random() < 0.3:
        truth, found = _something_before(truth, found, draws)
    behind = _smooth_noise(draws.uniform(0, 255, (6, 6, 3)))
    pixels = _other_light(colour.astype(np.float32), draws)
    pixels = pixels * truth[..., None] + behind * (1 - truth[..., None])
    seen = np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)
    return seen, found.astype(np.float32), -azimuth if mirrored else azimuth


def _placement(side: int, draws: np.random.Generator) -> tuple[NDArray[np.float64], bool]:
    """The map of a picture's pixels to the input's, a little off, and whether it mirrors."""
    scale = SIDE / side * math.exp(draws.normal(0, 0.05))
    stretch = math.exp(draws.normal(0, 0.07))  # long cars and short ones
    angle = math.radians(draws.normal(0, 2.5))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    mirrored = bool(draws.random() < 0.5)
    linear = turn @ np.diag([scale * stretch * (-1 if mirrored else 1), scale / stretch])
    middle = (SIDE - 1) / 2 + draws.normal(0, 1.5, 2)
    return np.c_[linear, middle - linear @ np.full(2, (side - 1) / 2)], mirrored


def _other_light(pixels: Pixels, draws: np.random.Generator) -> Pixels:
    """Other colours or none, brightness, contrast, shade, a light from one side, blur, noise."""
    grey = pixels.mean(2, keepdims=True)
    pixels = (grey + (pixels - grey) * draws.uniform(0, 1.5)) * draws.uniform(0.85, 1.15, 3)
    if draws.random() < 0.3:
        pixels = pixels[..., draws.permutation(3)]
    if draws.random() < 0.3:
        pixels = np.repeat(pixels.mean(2, keepdims=True), 3, axis=2)
    if draws.random() < 0.5:  # shade and reflections
        field = np.exp(_smooth_noise(draws.normal(0, 0.45, (7, 7))))[..., None]
        pixels = np.asarray(pixels * field, np.float32)
    gamma = np.float32(math.exp(draws.normal(0, 0.35)))
    pixels = np.asarray(255 * np.clip(pixels / 255, 0, 1) ** gamma, np.float32)
    if draws.random() < 0.5:
        across, down = draws.normal(0, 0.3, 2)
        ramp = np.linspace(-1, 1, SIDE)
        light = np.exp(across * ramp[None, :] + down * ramp[:, None])[..., None]
        pixels = np.asarray(pixels * light, np.float32)

    if draws.random() < 0.4:
        pixels = cv2.GaussianBlur(pixels, (0, 0), draws.uniform(0.4, 1.3))
    if draws.random() < 0.5:
        pixels = pixels + draws.normal(0, draws.uniform(0, 12), pixels.shape).astype(np.float32)
    return pixels


def _found_mask(truth: Pixels, draws: np.random.Generator) -> Pixels:
    """A mask with dents and bulges, as a segmentation finds it."""
    soft = cv2.GaussianBlur(truth, (0, 0), 2.0) + _smooth_noise(draws.normal(0, 0.18, (9, 9)))
    found = (soft > draws.uniform(0.35, 0.62)).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(found, (0, 0), 0.6))


def _something_before(
    truth: Pixels, found: Pixels, draws: np.random.Generator
) -> tuple[Pixels, Pixels]:
    """Hide an upright strip; the mask leaves it out more often than not."""
    width, height = int(draws.integers(4, 16)), int(draws.integers(16, SIDE))
    left = int(draws.integers(0, SIDE - width))
    strip = np.s_[SIDE - height :, left : left + width]
    truth, found = truth.copy(), found.copy()
    truth[strip] = 0
    if draws.random() < 0.6:
        found[strip] = 0
    return truth, found


def _smooth_noise(coarse: NDArray[np.float64]) -> Pixels:
    smooth = cv2.resize(coarse.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return np.asarray(smooth)


@torch.inference_mode()
def _errors(
    network: AzimuthNetwork,
    pictures: NDArray[np.uint8],
    opacity: NDArray[np.uint8],
    azimuths: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Degrees between the likeliest azimuth and the true one, 0..180, unchanged pictures."""
    network.eval()
    off = []
    for picture, mask, azimuth in zip(pictures, opacity, azimuths, strict=True):
        small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        x = network_input(small[None].astype(np.uint8), alpha[None].astype(np.float32) / 255)
        likeliest = int(azimuth_probabilities(network, x).argmax()) * 360 / BINS
        off.append(abs((likeliest - azimuth + 180) % 360 - 180))
    return np.array(off)


def _save(network: AzimuthNetwork, destination: Path) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
    temporary = destination.with_name(f".{destination.name}.{os.getpid()}.tmp")
    save_file(tensors, temporary)
    temporary.replace(destination)
