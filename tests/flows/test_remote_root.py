"""A build whose root is an fsspec URL, and a local build of the same videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.build_dataset import build_dataset
from flows.configs import find_config
from flows.inspection import page, summary
from flows.progress import TerminalProgress
from flows.steps.weights import weights_root
from idpose_core.config import parse_override
from storage.export import export_dataset
from storage.objects import Store
from tests.flows.builds import BOX_CARS, InThisProcess, settings
from tests.flows.invariants import check_dataset


def test_a_remote_root_gives_the_version_of_a_local_one(
    videos: Path, built: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    overrides = dict(parse_override(word) for word in settings(videos)[1::2])
    config = find_config(BOX_CARS, overrides)
    root = f"memory://{tmp_path.name}"
    first = build_dataset(config, root, InThisProcess(), TerminalProgress()).to_dict()
    assert first["version"] == built[0]["version"]
    again = build_dataset(config, root, InThisProcess(), TerminalProgress()).to_dict()
    assert again["shards"]["computed"] == 0
    store = Store(root)
    check_dataset(store, "box-cars")
    assert summary(store, "box-cars")["problems"] == []
    assert "<html" in page(store, "box-cars")
    exported = export_dataset(store, "box-cars", Store(tmp_path / "export"), pictures=True)
    assert exported["rows"] == first["counts"]["triplets"]


def test_weights_of_a_remote_root_are_kept_in_a_local_folder(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.delenv("IDPOSE_WEIGHTS", raising=False)
    assert weights_root(str(tmp_path)) == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights_root("memory://root") == tmp_path / ".cache" / "idpose"
    monkeypatch.setenv("IDPOSE_WEIGHTS", str(tmp_path / "shared"))
    assert weights_root("memory://root") == weights_root("here") == tmp_path / "shared"
