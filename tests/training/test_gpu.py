"""Training on CUDA: the CPU's results in float32, finite in bfloat16, going on, little memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from idpose_core.models.perceptual import load_perceptual
from idpose_core.models.pixel_verification import PixelVerificationConfig, align
from idpose_core.training.augmentation import Batch
from idpose_core.training.config import resolve
from idpose_core.training.trainer import Trainer
from storage.objects import Store
from tests.training.test_methods import TINY, trained
from tests.training.tiny import SETTINGS
from tests.training.worlds import commit_world

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
METHODS = ("identity-pose", "copy-attention", "pix2pixhd", "fusion-image", "drnet", "factor-vae")


def trainer(method: str, device: str, *, compiled: bool = False, **other: Any) -> Trainer:
    keys = {**SETTINGS, **TINY.get(method, {}), "training.method": method, **other}
    config = resolve(overrides=keys)
    perceptual = load_perceptual(config.distance)
    return Trainer(config, perceptual, clips=8, device=torch.device(device), compiled=compiled)


def batch(count: int = 8, size: int = 32) -> Batch:
    draws = torch.Generator().manual_seed(0)
    pictures = torch.rand(4, count, 3, size, size, generator=draws) * 2 - 1
    return Batch(*pictures, *torch.arange(count).repeat(3, 1))


def on(device: str, of: Batch) -> Batch:
    tensors = ("id", "pose", "target", "mismatch", "clip", "pose_clip")
    return Batch(*(getattr(of, name).to(device) for name in tensors), of.video)


@pytest.mark.parametrize("method", METHODS)
def test_a_step_equals_the_cpus_in_float32(method: str) -> None:
    found = {}
    with torch.backends.cudnn.flags(allow_tf32=False):
        for device in ("cpu", "cuda"):
            made = trainer(method, device, **{"training.precision": "float32"})
            losses, _ = made.train_step(on(device, batch()))
            found[device] = {name: float(loss) for name, loss in losses.items()}
    assert found["cuda"] == pytest.approx(found["cpu"], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_compiled_bfloat16_stays_finite_and_near_eager_float32(method: str) -> None:
    last = {}
    for compiled in (False, True):
        precision = "bfloat16" if compiled else "float32"
        made = trainer(method, "cuda", compiled=compiled, **{"training.precision": precision})
        for _ in range(50):
            losses, _ = made.train_step(on("cuda", batch()))
        made.check_finite()
        last[compiled] = float(sum(losses.values()))
    assert last[True] == pytest.approx(last[False], rel=0.1)


def test_pixel_verification_equals_float64() -> None:
    draws = torch.Generator().manual_seed(0)
    queries, keys = torch.rand(2, 2, 64, 16, 16, generator=draws) * 2
    picture = torch.rand(2, 3, 16, 16, generator=draws) * 2 - 1
    grads, values = {}, {}
    for device, dtype in (("cpu", torch.float64), ("cuda", torch.float32)):
        q, k = (x.to(device, dtype).requires_grad_() for x in (queries, keys))
        aligned, _ = align(q, k, picture.to(device, dtype), PixelVerificationConfig())
        aligned.square().sum().backward()
        values[device] = aligned.detach().cpu().double()
        grads[device] = torch.cat([q.grad.flatten(), k.grad.flatten()]).cpu().double()
    torch.testing.assert_close(values["cuda"], values["cpu"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(grads["cuda"], grads["cpu"], rtol=1e-3, atol=1e-3)


def test_a_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    commit_world(Store(tmp_path))
    gpu = {"run.device": "cuda", "run.compile": False}
    assert trained(tmp_path, "identity-pose", **gpu, **{"run.samples": 8}).steps == 2
    assert trained(tmp_path, "identity-pose", **gpu).resumed_from == 2


def test_a_step_of_the_papers_size_needs_little_memory(capsys: pytest.CaptureFixture[str]) -> None:
    config = resolve(overrides={"training.preset": "128", "perceptual.kind": "pixel-l1"})
    made = Trainer(config, load_perceptual(config.distance), clips=8, device=torch.device("cuda"))
    torch.cuda.reset_peak_memory_stats()
    made.train_step(on("cuda", batch(16, 128)))
    peak = torch.cuda.max_memory_allocated() / 2**30
    with capsys.disabled():
        print(f"\npeak memory of a step of 16 at 128 x 128: {peak:.1f} GiB")
    assert peak < 40  # the matrix of affinities alone would be 16 GiB, and its gradients as much
