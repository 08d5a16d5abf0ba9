"""An embedder trained on the crops of a dataset serves the next build."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.flows.builds import build, run


def test_a_dataset_trains_the_embedder_of_the_next_build(
    videos: Path, built: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    words = ["weights", "train", "box-cars", "--steps", "3", "--batch-size", "2"]
    words += ["--width", "0.125", "--root", str(built[1]), "--json"]
    trained = [run(words, {"IDPOSE_WEIGHTS": str(tmp_path)}) for _ in range(2)]
    assert [done.returncode for done in trained] == [0, 0], trained[0].stderr
    first, second = (json.loads(done.stdout.splitlines()[-1]) for done in trained)
    assert first == second
    kept = tmp_path / "weights" / "rotnet-own" / f"{first['sha256']}.safetensors"
    assert first["path"] == str(kept) and kept.is_file()
    other = build(
        videos, tmp_path / "root", "embedder.kind=rotnet", f"embedder.weights={first['path']}"
    )
    assert other["counts"]["crops"] == built[0]["counts"]["crops"]
    assert other["content_digest"] != built[0]["content_digest"]


def test_no_dataset_is_one_clear_message(tmp_path: Path) -> None:
    done = run(["weights", "train", "nothing", "--root", str(tmp_path)])
    assert done.returncode == 1
    assert "no dataset 'nothing'" in done.stderr and "Traceback" not in done.stderr
