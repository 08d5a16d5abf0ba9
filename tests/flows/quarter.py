"""A quarter of weekly rounds on a small world: videos come, go and change, challengers are planted.

How good a challenger is follows from how long it was trained; what is asserted holds whatever the
gate decides of the rest: the best model serves, and every model leads to its videos.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from idpose_core.datasets.rendered.video_file import VideoFile
from idpose_core.evaluation.sets import SCHEMA, freeze_set
from idpose_core.training.published import champion, promotions, read_model, rounds, versions
from storage.datasets import read_manifest, read_table, verify
from storage.objects import Store
from tests.flows.builds import BOX_CARS
from tests.training.tiny import SETTINGS
from tests.worlds.box_cars import write_box_car_videos

MODEL = "box-cars-identity-pose"
SET = "box-cars-reviewed"
GOOD, BETTER, BAD = 10, 120, 1  # steps of a training
_FIRST, _ALL = 22, 30


@dataclass
class Quarter:
    """The source folder, and what has become of it.

    Attributes:
        folder: Everything lies below it.
        root: The store.
    """

    folder: Path

    def __post_init__(self) -> None:
        write_box_car_videos(self.folder / "all", videos=_ALL, seconds=3.0, seed=11)
        self.root = str(self.folder / "root")
        self.source.mkdir()
        self.arrive(*range(_FIRST))

    @property
    def source(self) -> Path:
        return self.folder / "videos"

    def arrive(self, *numbers: int) -> None:
        for number in numbers:
            name = f"car-{number:03d}.mp4"
            shutil.copy(self.folder / "all" / name, self.source / name)
        shutil.copy(self.folder / "all" / "annotations.csv", self.source / "annotations.csv")

    def vanish(self, *numbers: int) -> None:
        for number in numbers:
            (self.source / f"car-{number:03d}.mp4").unlink()

    def change(self, number: int) -> None:
        """Another recording under the same name: mirrored."""
        self._rewrite(number, lambda frame: np.ascontiguousarray(frame[:, ::-1]))

    def poison(self, number: int) -> None:
        """Noise in place of the pictures, where the annotations see a car."""
        draws = np.random.default_rng(number)

        def noise(frame: Any) -> Any:
            return cv2.blur(draws.integers(0, 256, frame.shape, dtype=np.uint8), (3, 3))

        self._rewrite(number, noise)

    def config(self, steps: int, **more: Any) -> dict[str, Any]:
        """A round in which the challenger is trained for so many steps."""
        build = {
            "source.path": str(self.source),
            "source.annotations": str(self.source / "annotations.csv"),
            "embedder.kind": "grey-pixels", "embedder.masks": "none", "pose.clusters": 4,
            "test_share": 0.7,
        }  # fmt: skip
        training = {**SETTINGS, "training.steps": steps, "training.learning_rate": 5e-4}
        training |= {"training.checkpoint_every": 20, "training.sample_every": 1000}
        training |= {"weights.gan": 0.0, "weights.aux": 0.0}  # few steps, whose number then counts
        return {
            "build": BOX_CARS, "build_settings": build, "training_settings": training,
            "evaluation_set": SET, "metrics": ["id-score-small"], "training_steps": 2,
            "gate": {"better": {"pixel-l1": 0.0}, "not_worse": {}}, **more,
        }  # fmt: skip

    def _rewrite(self, number: int, changed: Any) -> None:
        path = self.source / f"car-{number:03d}.mp4"
        reader = cv2.VideoCapture(str(path))
        rate = round(reader.get(cv2.CAP_PROP_FPS))
        frames = []
        while (read := reader.read())[0]:
            frames.append(changed(read[1][..., ::-1]))
        reader.release()
        path.unlink()
        height, width = frames[0].shape[:2]
        with VideoFile(path, rate, (width, height)) as file:
            for frame in frames:
                file.add(np.ascontiguousarray(frame))


def freeze_own_triplets(root: str, dataset: str, name: str = SET) -> None:
    """Freeze the test triplets that retrieval chose, as if a person had looked at each."""
    store = Store(root)
    manifest = read_manifest(store, dataset)
    rows = read_table(store, manifest, "triplets", split="test").to_pylist()
    chosen = [
        {
            **{key: row[key] for key in ("triplet_id", "id_crop", "pose_crop", "target_crop")},
            "identity": row["clip_id"], "pose_identity": row["pose_clip_id"],
            "id_ms": row["id_ms"], "target_ms": row["target_ms"],
            "chosen_by": "person", "review": "reviewed",
        }
        for row in rows
    ]  # fmt: skip
    table = pa.Table.from_pylist(chosen, schema=SCHEMA)
    freeze_set(store, name, manifest, "test", table, 0)


def weeks(quarter: Quarter) -> Iterator[tuple[str, dict[str, Any]]]:
    """Twelve rounds: what happened in the week, and the round's configuration."""
    yield "the first", quarter.config(GOOD)
    yield "nothing is new", quarter.config(GOOD)
    quarter.arrive(22, 23)
    yield "two arrive, a bad challenger", quarter.config(BAD)
    yield "a better one", quarter.config(BETTER)
    quarter.vanish(0)
    yield "one vanishes, a bad challenger", quarter.config(BAD)
    quarter.change(1)
    yield "one changes", quarter.config(GOOD)
    quarter.arrive(24, 25)
    for number in (24, 25, 2, 3):
        quarter.poison(number)
    yield "a poisoned batch, a bad challenger", quarter.config(BAD)
    quarter.arrive(2, 3, 24, 25)
    yield "it is taken out", quarter.config(BETTER)
    quarter.arrive(26)
    yield "one arrives, with a warm start", quarter.config(GOOD, start="champion")
    yield "another pose space each round", quarter.config(GOOD, max_drift=0.0)
    quarter.arrive(27, 28, 29)
    yield "three arrive, a bad challenger", quarter.config(BAD)
    yield "a better one at the end", quarter.config(2 * BETTER)


def check_quarter(quarter: Quarter) -> None:
    """What holds at the end of any quarter."""
    store = Store(quarter.root)
    log = rounds(store, MODEL)
    numbers = [entry["number"] for entry in log]
    assert numbers == list(range(1, len(log) + 1))
    by_gate = [entry for entry in promotions(store, MODEL) if "round" in entry]
    promoted = [entry["number"] for entry in log if entry["decision"] == "promoted"]
    assert [entry["round"] for entry in by_gate] == promoted
    # Whoever serves was measured better than the one before, and nothing refused was.
    for entry in log:
        for gain in entry["gains"]:
            shown = gain["low"] is not None and gain["low"] > gain["needed"]
            assert shown == (entry["decision"] == "promoted"), entry
    last = next(e for e in reversed(log) if e["decision"] in ("promoted", "first"))
    assert champion(store, MODEL) == last["version"]
    # Every model leads to its videos.
    for version in versions(store, MODEL):
        info = read_model(store, f"{MODEL}@{version}").info
        name, data = info["dataset"]["name"], info["dataset"]["version"]
        manifest = read_manifest(store, f"{name}@{data}")
        assert verify(store, manifest) == []
        videos = read_table(store, manifest, "videos").to_pylist()
        used = {row["video_id"] for row in read_table(store, manifest, "clips").to_pylist()}
        assert used <= {video["video_id"] for video in videos}
        assert all(video["media_sha256"] for video in videos if video["status"] == "ok")


def steps_of(quarter: Quarter, version: str) -> int:
    return int(read_model(Store(quarter.root), f"{MODEL}@{version}").info["config"]["steps"])
