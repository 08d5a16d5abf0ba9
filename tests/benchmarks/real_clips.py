"""From real clips to triplets, judged by eye: right object, one vehicle a clip, pose of the target.

    IDPOSE_REAL_DATA=... python -m tests.benchmarks.real_clips ROOT [--sheets FOLDER]

Builds real-clips from the clips and both YouTube-BoundingBoxes videos with YOLOX, and ytbb-car from
the latter alone with their own annotated boxes. Of real-clips 100 crops and 50 triplets are chosen
by a seed and, with ``--sheets``, drawn as numbered pictures for judging. Among the triplets stand
25 whose pose picture is drawn at random from another video, so that whoever judges does not know
which are which. The pictures are for looking at and are not kept; verdicts are kept in
docs/results/real-clips-verdicts.csv by the names of the crops, so that they hold only for the very
pictures that were looked at.

Verdicts: crops ``right`` (the box holds the object followed) or ``wrong``; clips ``one`` vehicle
or ``several``; triplets, four letters: ID, target and pose, each ``y`` right, ``r`` roughly, ``n``
wrong; and ``y`` where the pose visibly changes from ID to target, else ``n``. A pose is right
within about 45 degrees, rough within 90.
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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from idpose_core.reports.pictures import load_pictures, sample_triplets, seeded
from storage.datasets import read_manifest, read_table
from storage.digests import digest
from storage.objects import Store
from tests.benchmarks.retrieval import public_arguments, write
from tests.benchmarks.retrieval import row as result_row

HERE = Path(__file__).parent
VERDICTS = Path("docs/results/real-clips-verdicts.csv")
CROPS, TRIPLETS, RANDOM, SEED = 100, 50, 25, 0
_AT_RANDOM = "r"  # no hexadecimal digit: it tells them apart, behind what a sheet shows
ROLES = ("id_crop", "pose_crop", "target_crop")


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
        "source.kind=folder",
        "split=hash",
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


def draw(
    store: Store,
    crops: pa.Table,
    groups: Mapping[str, Sequence[str]],
    columns: int,
    rows: int,
    out: Path,
) -> None:
    """Draw groups of crops side by side, each with the start of its name above, page by page."""
    pictures = load_pictures(store, crops, {crop for group in groups.values() for crop in group})
    drawn = []
    for name, group in groups.items():
        strip = np.concatenate([cv2.resize(pictures[crop], (128, 128)) for crop in group], axis=1)
        head = np.full((18, strip.shape[1], 3), 255, np.uint8)
        cv2.putText(head, name[:8], (3, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1)
        drawn.append(np.pad(np.concatenate([head, strip]), ((0, 4), (0, 8), (0, 0))))
    drawn += [np.zeros_like(drawn[0])] * (-len(drawn) % columns)
    lines = [np.concatenate(drawn[i : i + columns], axis=1) for i in range(0, len(drawn), columns)]
    for page in range(0, len(lines), rows):
        picture = np.concatenate(lines[page : page + rows])
        cv2.imwrite(f"{out}-{page // rows}.png", picture[..., ::-1])


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
    mixed = sorted(
        [*drawn, *at_random(triplets, crops)], key=lambda row: seeded(1, row["triplet_id"])
    )
    clips = strips_of_clips(crops)
    if arguments.sheets:
        arguments.sheets.mkdir(parents=True, exist_ok=True)
        groups = {
            "crops": {name: [name] for name in chosen},
            "clips": clips,
            "triplets": {row["triplet_id"]: [row[role] for role in ROLES] for row in mixed},
        }
        for what, columns, rows in (("crops", 10, 5), ("clips", 1, 10), ("triplets", 3, 6)):
            draw(store, crops, groups[what], columns, rows, arguments.sheets / what)
    random = [row for row in mixed if _AT_RANDOM in row["triplet_id"]]
    counted = verdicts({"drawn crops": chosen, "clips": list(clips)}, drawn, random, found)
    write(arguments.out, [*attrition(store, found), *counted, *attrition(store, annotated)])


def at_random(triplets: pa.Table, crops: pa.Table) -> list[dict[str, Any]]:
    """Triplets whose pose picture is a crop of another video, drawn by the seed."""
    ids = sorted(zip(crops["crop_id"].to_pylist(), crops["video_id"].to_pylist(), strict=True))
    draws = np.random.default_rng(SEED)
    found = []
    for row in sample_triplets(triplets, RANDOM, SEED + 1):
        elsewhere = [crop for crop, video in ids if video != row["video_id"]]
        pose = elsewhere[int(draws.integers(len(elsewhere)))]
        name = digest([row["id_crop"], pose, row["target_crop"]])[: 32 - len(_AT_RANDOM)]
        found.append({**row, "pose_crop": pose, "triplet_id": f"{name[:8]}{_AT_RANDOM}{name[8:]}"})
    return found


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


def strips_of_clips(crops: pa.Table, count: int = 10) -> dict[str, list[str]]:
    """For each clip ten of its crops, evenly chosen over time."""
    rows = sorted(crops.to_pylist(), key=lambda row: (row["clip_id"], row["timestamp_ms"]))
    strips: dict[str, list[str]] = {}
    for row in rows:
        strips.setdefault(row["clip_id"], []).append(row["crop_id"])
    return {
        clip: [ids[i] for i in np.linspace(0, len(ids) - 1, count).round().astype(int)]
        for clip, ids in strips.items()
    }


def verdicts(
    named: Mapping[str, Sequence[str]],
    drawn: Sequence[dict[str, Any]],
    random: Sequence[dict[str, Any]],
    found: dict[str, Any],
) -> list[dict[str, Any]]:
    """Counts of the verdicts on crops, clips and triplets; what was not judged is counted."""
    with VERDICTS.open(newline="") as file:
        kept = {line["name"]: line["verdict"] for line in csv.DictReader(file)}
    rows = []
    for what, names in named.items():
        counts = Counter(kept.get(name, "not judged") for name in names)
        rows += [row(found, f"{what}: {verdict}", n) for verdict, n in sorted(counts.items())]
    names = {"y": "right", "r": "roughly", "n": "wrong"}
    for what, some in (("drawn triplets", drawn), ("random pose pictures", random)):
        judged = [kept[t["triplet_id"]] for t in some if t["triplet_id"] in kept]
        rows.append(row(found, f"{what} judged", len(judged)))
        for place, role in enumerate(("ID", "target", "pose")):
            of_role = Counter(verdict[place] for verdict in judged)
            rows += [
                row(found, f"{what}: {role} {name}", of_role[letter])
                for letter, name in names.items()
            ]
        changed = sum(verdict[3] == "y" for verdict in judged)
        rows.append(row(found, f"{what}: the pose visibly changes from ID to target", changed))
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
