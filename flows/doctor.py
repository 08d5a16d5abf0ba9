"""Doctor: what of idpose works on this machine, and the remedy for what does not."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from flows.progress import TerminalProgress
from flows.runners import LocalRunner, configured_server
from flows.steps.context import Context
from flows.steps.features import embed_stage
from flows.steps.instances import detect_stage
from flows.steps.views import is_view_set
from flows.steps.weights import weights_root
from idpose_core.config import BuildConfig, ConfigError
from idpose_core.weights import list_weights, verify_weights
from storage.errors import ToldError
from storage.objects import Store
from storage.shards import RowStage


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
    "decord": "run `pip install 'idpose[decord]'`",
    "torchcodec": "run `pip install 'idpose[torchcodec]'`, and install FFmpeg's shared libraries",
    "onnxruntime": "run `pip install 'idpose[yolox]'`",
    "detectron2": "build its main branch from source (docs/detectron2.md)",
    "timm": "run `pip install 'idpose[dinov2]'`",
    "datasets": "run `pip install 'idpose[export]'`",
    "s3fs": "run `pip install 'idpose[s3]'`",
    "yt_dlp": "run `pip install 'idpose[youtube]'`, and update it often",
}
_FREE_BYTES = 5 * 10**9


def check_machine(root: str, config: BuildConfig | None = None) -> list[Check]:
    """Look at everything; nothing is changed but for a probe object that is removed again.

    Args:
        root: Where data lies.
        config: Of a build, whose weights have to be there.
    """
    checks = [_package(name, None) for name in ("torch", "torchvision", "av", "faiss", "prefect")]
    checks += [_package(name, remedy) for name, remedy in _OPTIONAL.items()]
    checks += [_device(), _compiler(), _decoding(), _javascript(), _root(root), _disk(root)]
    checks += [*_prefect(), *_weights(root)]
    return checks if config is None else [*checks, _needed(root, config)]


def _package(name: str, remedy: str | None) -> Check:
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a broken native library raises whatever it likes at import
        state: Literal["missing", "broken"] = "broken" if remedy is None else "missing"
        reason = "not installed" if isinstance(error, ModuleNotFoundError) else str(error)
        return Check(name, state, reason.splitlines()[0][:80], remedy or "run `pip install idpose`")
    return Check(name, "ok", str(getattr(module, "__version__", "installed")))


def _device() -> Check:
    import torch

    if not torch.cuda.is_available():
        return Check("GPU", "missing", f"none; {os.cpu_count()} cores")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Check("GPU", "ok", ", ".join(names))


def _compiler() -> Check:
    """What torch.compile builds its kernels with."""
    names = (os.environ.get("CC"), "gcc", "cc", "clang")
    found = next(filter(None, (shutil.which(name) for name in names if name)), None)
    if found is None:
        remedy = "install gcc and the headers of the C library, or train with run.compile=false"
        return Check("C compiler", "missing", "none: torch.compile cannot build", remedy)
    return Check("C compiler", "ok", found)


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
        remedy = "run `pip install deno`, without which yt-dlp gets few formats of YouTube"
        return Check("JavaScript", "missing", "no deno, node, bun or quickjs", remedy)
    return Check("JavaScript", "ok", found)


def _root(root: str) -> Check:
    """Whether the root can be written, and an object that is there is not written over."""
    store, probe = Store(root), f".doctor-{secrets.token_hex(4)}"
    try:
        created, again = store.publish(probe, b"first"), store.publish(probe, b"second")
        kept = store.read(probe)
        store.delete(probe)
    except (OSError, ToldError) as error:
        return Check("root", "broken", f"{root}: {error}", "give a root that can be written")
    if not created or again or kept != b"first":
        remedy = (
            "use a store that knows `If-None-Match: *`: in this one builds overwrite each other"
        )
        return Check("root", "broken", f"{root} creates nothing on condition", remedy)
    return Check("root", "ok", root)


def _disk(root: str) -> Check:
    local = Store(root).local_path(".")
    if local is None:
        return Check("disk", "ok", "remote root")
    free = shutil.disk_usage(next(p for p in (local, *local.parents) if p.exists())).free
    if free >= _FREE_BYTES:
        return Check("disk", "ok", f"{free / 1e9:.0f} GB free")
    return Check("disk", "broken", f"{free / 1e9:.1f} GB free", "make room; `idpose gc` may help")


def _prefect() -> list[Check]:
    if not configured_server():
        return [Check("Prefect server", "missing", "none configured", "export PREFECT_API_URL=...")]
    from flows.prefect_doctor import check_server

    return check_server()


def _needed(root: str, config: BuildConfig) -> Check:
    """Whether the detector and the embedder of a configuration have their weights."""
    name = f"weights of {config.name}"
    try:
        with LocalRunner(config.run) as runner:
            build = Context(config, Store(root), runner, TerminalProgress())
            stages: list[RowStage] = [embed_stage(build)]
            if not is_view_set(build):
                stages.append(detect_stage(build))
    except ConfigError as error:
        return Check(name, "broken", str(error), "run `idpose weights list` to see what is here")
    found = {name: digest for stage in stages for name, digest in stage.weights().items()}
    return Check(name, "ok", ", ".join(f"{n} {d[:12]}" for n, d in found.items()) or "none needed")


def _weights(root: str) -> list[Check]:
    checks = []
    for network in list_weights():
        stored = verify_weights(network.name, weights_root(root))
        name = f"weights {network.name}"
        remedy = f"run `idpose weights fetch {network.name}`"
        if not network.fetchable:
            remedy = f"run `idpose weights import {network.name} PATH`"
        if not stored:
            checks.append(Check(name, "missing", "not here", remedy))
        elif all(weights.intact for weights in stored):
            checks.append(Check(name, "ok", stored[0].sha256[:12]))
        else:
            checks.append(Check(name, "broken", "damaged", remedy))
    return checks
