"""Doctor: what of idpose works on this machine, and the remedy for what does not."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import shutil
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from flows.runners import configured_server
from flows.steps.weights import weights_root
from idpose_core.weights import list_weights, verify_weights
from storage.objects import Store


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        state: ``missing`` for something optional that is not there, ``broken`` for something
            that idpose cannot work without.
    """

    name: str
    state: Literal["ok", "missing", "broken"]
    found: str
    remedy: str = ""


_OPTIONAL = {
    "decord": "pip install 'idpose[decord]'",
    "torchcodec": "pip install 'idpose[torchcodec]', and FFmpeg's shared libraries",
    "onnxruntime": "pip install 'idpose[yolox]'",
    "detectron2": "build its main branch from source (FORCE_CUDA=0)",
    "timm": "pip install 'idpose[dinov2]'",
    "datasets": "pip install 'idpose[export]'",
    "yt_dlp": "pip install 'idpose[youtube]'; update it often",
}
_FREE_BYTES = 5 * 10**9


def check_machine(root: str) -> list[Check]:
    """Look at everything; nothing is changed but for a probe object that is removed again."""
    checks = [_package(name, None) for name in ("torch", "torchvision", "av", "faiss", "prefect")]
    checks += [_package(name, remedy) for name, remedy in _OPTIONAL.items()]
    checks += [_device(), _decoding(), _javascript(), _root(root), _disk(root), _prefect_server()]
    return checks + _weights(root)


def _package(name: str, remedy: str | None) -> Check:
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a broken native library raises whatever it likes at import
        state: Literal["missing", "broken"] = "broken" if remedy is None else "missing"
        reason = "not installed" if isinstance(error, ModuleNotFoundError) else str(error)
        return Check(name, state, reason.splitlines()[0][:80], remedy or "pip install idpose")
    return Check(name, "ok", str(getattr(module, "__version__", "installed")))


def _device() -> Check:
    import torch

    if not torch.cuda.is_available():
        return Check("GPU", "missing", f"none; {os.cpu_count()} cores")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Check("GPU", "ok", ", ".join(names))


def _decoding() -> Check:
    from idpose_core.datasets.rendered.video_file import VideoFile
    from idpose_core.video.decoding import sample_frames

    picture = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    with tempfile.TemporaryDirectory(prefix="idpose-doctor-") as folder:
        video = Path(folder) / "test.mp4"
        with VideoFile(video, 4, (64, 64)) as file:
            for shift in range(4):
                file.add(np.roll(picture, 8 * shift, axis=1))
        frames = len(list(sample_frames(str(video), fps=4.0)))
    return Check("decoding", "ok" if frames == 4 else "broken", f"{frames} of 4 test frames")


def _javascript() -> Check:
    found = next(filter(None, map(shutil.which, ("deno", "node", "bun", "qjs"))), None)
    if found is None:
        return Check("JavaScript", "missing", "no deno, node, bun or quickjs", "yt-dlp needs one")
    return Check("JavaScript", "ok", found)


def _root(root: str) -> Check:
    store, probe = Store(root), ".doctor-probe"
    try:
        store.publish(probe, b"probe")
        store.delete(probe)
    except OSError as error:
        return Check("root", "broken", f"{root}: {error}", "give a folder that can be written")
    return Check("root", "ok", root)


def _disk(root: str) -> Check:
    local = Store(root).local_path(".")
    if local is None:
        return Check("disk", "ok", "remote root")
    free = shutil.disk_usage(local).free
    state: Literal["ok", "broken"] = "ok" if free >= _FREE_BYTES else "broken"
    return Check("disk", state, f"{free / 1e9:.0f} GB free", "" if state == "ok" else "free some")


def _prefect_server() -> Check:
    url = configured_server()
    if not url:
        return Check("Prefect server", "missing", "none configured", "export PREFECT_API_URL=...")
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=5) as answer:
            healthy = answer.status == 200
    except OSError as error:
        return Check("Prefect server", "broken", f"{url}: {error}", "prefect server start")
    return Check("Prefect server", "ok" if healthy else "broken", url)


def _weights(root: str) -> list[Check]:
    checks = []
    for network in list_weights():
        stored = verify_weights(network.name, weights_root(root))
        name = f"weights {network.name}"
        remedy = f"idpose weights fetch {network.name}"
        if not network.fetchable:
            remedy = f"idpose weights import {network.name} PATH"
        if not stored:
            checks.append(Check(name, "missing", "not here", remedy))
        elif all(weights.intact for weights in stored):
            checks.append(Check(name, "ok", stored[0].sha256[:12]))
        else:
            checks.append(Check(name, "broken", "damaged", remedy))
    return checks
