"""The numbers of ``docs/decisions/pixel-verification.md``.

``python -m tests.models.measure_pixel_verification`` (Linux, one thread, a few minutes); every line
is measured in a process of its own.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from idpose_core.models.pixel_verification import (
    PixelVerificationConfig,
    align,
    measure,
    verify_pixels,
)

WAYS = ("fused", "naive", "fallback")
SIDES = (64, 128)


def inputs(side: int, channels: int = 64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pictures, and features as after IN and ReLU."""
    torch.manual_seed(0)
    pictures = torch.rand(2, 1, 3, side, side) * 2 - 1
    features = torch.randn(2, 1, channels, side, side).relu().requires_grad_()
    return pictures[0], features[0], features[1], pictures[1]


def flat(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2).contiguous()


def loss(way: str, generated: Tensor, queries: Tensor, keys: Tensor, identity: Tensor) -> Tensor:
    """``fallback`` is what torch chooses by itself for values of three channels."""
    if way == "fused":
        return verify_pixels(generated, queries, keys, identity).loss
    q, k, v = flat(queries), flat(keys), flat(identity)
    if way == "naive":
        aligned = torch.softmax(q @ k.transpose(1, 2), dim=-1) @ v
    else:
        attention = torch.nn.functional.scaled_dot_product_attention
        aligned = attention(q[:, None], k[:, None], v[:, None], scale=1.0)[:, 0]
    return (aligned - flat(generated)).abs().mean()


def resident(kind: str) -> float:
    """Memory of this process in MB."""
    found = re.search(kind + r":\s+(\d+)", Path("/proc/self/status").read_text("utf-8"))
    assert found is not None
    return int(found[1]) / 1024


def cost(way: str, side: int) -> None:
    torch.set_num_threads(1)
    loss(way, *inputs(16)).backward()
    tensors = inputs(side)
    Path("/proc/self/clear_refs").write_text("5", "utf-8")
    memory, start = resident("VmRSS"), time.process_time()
    value = loss(way, *tensors)
    forward = time.process_time()
    value.backward()
    end = time.process_time()
    print(
        f"| {way} | {side} | {forward - start:.2f} | {end - forward:.2f} | "
        f"{resident('VmHWM') - memory:.0f} |",
        flush=True,
    )


def precision(side: int = 64) -> None:
    """Largest error of a colour (in [-1, 1]) against float64."""
    _, queries, keys, identity = (x.detach() for x in inputs(side))
    exact, _ = align(queries.double(), keys.double(), identity.double())
    half = PixelVerificationConfig(precision="float16")
    for name, found in (
        ("float32", align(queries, keys, identity)[0]),
        ("float16 operands", align(queries, keys, identity, half)[0]),
        ("features rounded to bfloat16", align(queries.bfloat16(), keys.bfloat16(), identity)[0]),
    ):
        print(f"| {name} | {(found.double() - exact).abs().max():.1e} |")


def spread(side: int = 64) -> None:
    """Effective number of keys, for features of which each has its exact match."""
    _, queries, _, _ = inputs(side)
    for config in (
        PixelVerificationConfig(),
        PixelVerificationConfig(temperature=8.0),
        PixelVerificationConfig(affinity="cosine", temperature=1.0),
        PixelVerificationConfig(affinity="cosine"),
        PixelVerificationConfig(affinity="cosine", temperature=0.02),
    ):
        keys = queries.flatten(2)[..., torch.randperm(side * side)].reshape(queries.shape)
        found = measure(queries, keys, config)
        temperature = 1 / config.scale
        print(f"| {config.affinity}, T = {temperature:g} | {found.effective_keys:.1f} |")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        cost(sys.argv[1], int(sys.argv[2]))
    else:
        for side in SIDES:
            for way in WAYS:
                subprocess.run([sys.executable, "-m", __spec__.name, way, str(side)], check=True)
        torch.set_num_threads(1)
        precision()
        spread()
