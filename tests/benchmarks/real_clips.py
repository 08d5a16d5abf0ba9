"""From real clips to triplets, judged by eye: right object, one vehicle a clip, pose of the target.

    IDPOSE_REAL_DATA=... python -m tests.benchmarks.real_clips ROOT [--sheets FOLDER]

Builds real-clips from the clips and both YouTube-BoundingBoxes videos with YOLOX, and ytbb-car from
the latter alone with their own annotated boxes. Of real-clips 100 crops and 50 triplets are chosen
by a seed and, with ``--sheets``, drawn as numbered pictures for judging. The pictures are for
looking at and are not kept; verdicts are kept in real_clips_verdicts.csv by the names of the crops,
so that they hold only for the very pictures that were looked at.

Verdicts: crops ``right`` (the box holds the object followed), ``wrong``; triplets, three letters
for ID, target and pose: ``y`` right, ``r`` roughly, ``n`` wrong, and a note.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from idpose_core.reports.pictures import load_pictures, sample_triplets, seeded
from storage.datasets import read_manifest, read_table
from storage.objects import Store
from tests.benchmarks.retrieval import public_arguments, write
from tests.benchmarks.retrieval import row as result_row

HERE = Path(__file__).parent
VERDICTS = HERE / "real_clips_verdicts.csv"
CROPS, TRIPLETS, SEED = 100, 50, 0


def build_all(data: Path, root: Path) -> dict[str, Any]:
    """Build from the clips and the two annotated videos, found by the detector."""
    folder = root / "real-videos"
    folder.mkdir(parents=True, exist_ok=True)
    for path in [*sorted((data / "clips").iterdir()), *sorted((data / "ytbb").glob("*.mp4"))]:
        if not (folder / path.name).exists():
            shutil.copy2(path, folder)
    weights = data / "detector" / "yolox_nano.onnx"
    return build(
        str(HERE / "real_clips.yaml"), root, f"source.path={folder}", f"detector.weights={weights}"
    )


def build_annotated(data: Path, root: Path) -> dict[str, Any]:
    """Build from the two annotated videos with the boxes of the annotation."""
    return build(
        "ytbb-car",
        root,
        f"source.path={data / 'ytbb'}",
        f"source.annotations={data / 'ytbb' / 'ytbb_subset.csv'}",
        "detector.kind=annotations",
        "test_share=0",
        "pose.clusters=4",
    )


def build(config: str, root: Path, *sets: str) -> dict[str, Any]:
    """Build through the command line. Returns what ``--json`` prints."""
    command = [sys.executable, "-c", "from flows.cli import main; main()"]
    command += ["build", config, "--root", str(root), "--json"]
    command += [word for pair in sets for word in ("--set", pair)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def sheet(
    cells: Sequence[Sequence[NDArray[np.uint8]]], numbers: Sequence[str], columns: int
) -> Any:
    """Groups of pictures side by side, each with its number above."""
    drawn = []
    for group, number in zip(cells, numbers, strict=True):
        row = np.concatenate([cv2.resize(p, (128, 128)) for p in group], axis=1)
        head = np.full((18, row.shape[1], 3), 255, np.uint8)
        cv2.putText(head, number, (3, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1)
        drawn.append(np.pad(np.concatenate([head, row]), ((0, 4), (0, 8), (0, 0))))
    drawn += [np.zeros_like(drawn[0])] * (-len(drawn) % columns)
    rows = [drawn[i : i + columns] for i in range(0, len(drawn), columns)]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])[..., ::-1]


def main() -> None:
    """Builds, draws, counts, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--sheets", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/results/real-clips.json"))
    arguments = parser.parse_args()
    data = Path(os.environ["IDPOSE_REAL_DATA"])
    annotated = build_annotated(data, arguments.root)
    found = build_all(data, arguments.root)
    store = Store(arguments.root)
    manifest = read_manifest(store, f"real-clips@{found['version']}")
    crops, triplets = (read_table(store, manifest, table) for table in ("crops", "triplets"))
    chosen = sorted(crops["crop_id"].to_pylist(), key=lambda name: seeded(SEED, name))[:CROPS]
    drawn = sample_triplets(triplets, TRIPLETS, SEED)
    roles = ("id_crop", "pose_crop", "target_crop")
    if arguments.sheets:
        arguments.sheets.mkdir(parents=True, exist_ok=True)
        wanted = {*chosen, *(row[role] for row in drawn for role in roles)}
        pictures = load_pictures(store, crops, wanted)
        for page in range(0, CROPS, 50):
            names = chosen[page : page + 50]
            picture = sheet([[pictures[n]] for n in names], [n[:8] for n in names], 10)
            cv2.imwrite(str(arguments.sheets / f"crops-{page:03d}.png"), picture)
        for page in range(0, TRIPLETS, 18):
            rows = drawn[page : page + 18]
            groups = [[pictures[row[role]] for role in roles] for row in rows]
            picture = sheet(groups, [row["triplet_id"][:8] + " id pose target" for row in rows], 3)
            cv2.imwrite(str(arguments.sheets / f"triplets-{page:03d}.png"), picture)
    rows = [*attrition(store, found), *verdicts(chosen, drawn, found), *attrition(store, annotated)]
    write(arguments.out, rows)


def attrition(store: Store, found: dict[str, Any]) -> list[dict[str, Any]]:
    """The counts of a build, and for each video its crops or the reason why there are none."""
    manifest = read_manifest(store, f"{found['dataset']}@{found['version']}")
    rows = [row(found, f"{name} kept", value) for name, value in found["counts"].items()]
    made: Counter[str] = Counter()
    for clip in read_table(store, manifest, "clips").to_pylist():
        made[clip["video_id"]] += clip["crops"]
    for video in read_table(store, manifest, "videos").to_pylist():
        lost = f": {video['reason_detail']}" if video["status"] != "ok" else ""
        what = {"video": video["source_uri"], "outcome": f"{video['status']}{lost}"}
        rows.append({**row(found, "crops of a video", made[video["video_id"]]), **what})
    return rows


def verdicts(
    chosen: Sequence[str], drawn: Sequence[dict[str, Any]], found: dict[str, Any]
) -> list[dict[str, Any]]:
    """Counts of the verdicts on the drawn crops and triplets; what was not judged is counted."""
    kept = {}
    if VERDICTS.is_file():
        with VERDICTS.open(newline="") as file:
            kept = {line["name"]: line["verdict"] for line in csv.DictReader(file)}
    of_crops = Counter(kept.get(name, "not judged") for name in chosen)
    rows = [row(found, f"drawn crops: {what}", n) for what, n in sorted(of_crops.items())]
    judged = [kept[t["triplet_id"]] for t in drawn if t["triplet_id"] in kept]
    rows.append(row(found, "drawn triplets judged", len(judged)))
    for place, role in enumerate(("ID", "target", "pose")):
        of_role = Counter(verdict[place] for verdict in judged)
        names = {"y": "right", "r": "roughly", "n": "wrong"}
        rows += [
            row(found, f"drawn triplets: {role} {name}", of_role[letter])
            for letter, name in names.items()
        ]
    return rows


def row(found: dict[str, Any], metric: str, value: int) -> dict[str, Any]:
    """One row of docs/results."""
    return result_row(
        found["dataset"],
        found["version"],
        "build",
        metric,
        (value, None, None),
        seed=str(SEED),
        n=value,
        budget="",
        command=f"IDPOSE_REAL_DATA=... python -m tests.benchmarks.real_clips {public_arguments()}",
    )


if __name__ == "__main__":
    main()
