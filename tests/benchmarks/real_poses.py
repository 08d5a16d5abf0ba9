"""How well do pose features retrieve pose on real video, labelled by hand?

    python -m tests.benchmarks.real_poses --data DIR --trunk FILE --st-alex FILE
        --reader FILE [--reader FILE ...] [--rendered-reader FILE]

DIR is the folder of real test data: ``real_poses/labels.csv`` names one of eight views, 45 degrees
apart, of crops of followed vehicles. Each vehicle is followed anew by YOLOX-nano at 4 frames a
second, so that what the pictures of a clip tell together can be measured; the labelled crops ask.
Neighbours are among the labelled crops of *other videos*, of both halves. Every clip counts the
same, and front, rear and side are told apart: front is any view that shows the front.

- hits: the share of the five nearest within one view of the target's; the mean of front and rear.
- front taken for rear: the share of the five nearest that show the other end; mean of both ends.
- ends right: front scores of the right sign; azimuth error: of the reading, against the label.
- coverage: queries and neighbours are limited to the crops with the largest certainty. Few videos
  show a rear, so a perfect reader on the same crops and a random neighbour stand beside it.

What is chosen (``CHOICES``) is chosen on the videos of one half (``real_poses_split``) and reported
on the other, both ways round, readings pooled. Intervals are drawn by video.

``real_poses_corrections.csv`` has labels that were found wrong when every clip was looked at again;
the labels as given are measured too, as ``labels as given``.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from idpose_core.evaluation.intervals import estimate
from idpose_core.instances.boxes import Box, FrameDetections, iou
from idpose_core.instances.cropping import crop_square
from idpose_core.instances.linking import link_over_time
from idpose_core.pose import car_view, turning
from idpose_core.pose.directions import VIEW_NAMES
from idpose_core.pose.embedding import Embedder, load_embedder
from idpose_core.pose.masks import find_mask
from idpose_core.video.decoding import frames_at, sample_frames
from tests.benchmarks import retrieval
from tests.benchmarks.real_poses_split import half
from tests.benchmarks.retrieval import CONTEXT, SIZE, VEHICLES, vehicle_detector

HERE = Path(__file__).parent
CORRECTIONS = HERE / "real_poses_corrections.csv"
FRAMES_A_SECOND, THRESHOLD = 4.0, 0.4
LEAST_IOU = 0.4  # of a labelled box and the one that was followed
NEAREST = 5
COVERAGES = (1.0, 0.75, 0.5)
CHOICES = tuple(itertools.product((0.35, 0.5, 0.7), (30.0, 45.0, 60.0)))
"""Spread of a reading, and deviation of a clip's turn in degrees a second."""
MAIN = ("hits", "front taken for rear", "ends right", "azimuth error, median")
"""What is told of each half and each coverage; of all crops everything is."""


@dataclass(frozen=True)
class Labelled:
    """One labelled crop.

    Attributes:
        file: Name of its video.
        clip: Which followed vehicle of it.
        timestamp_ms: In the video.
        box: Relative to the frame.
        view: Index into ``VIEW_NAMES``; -1 where it was not decided.
    """

    file: str
    clip: str
    timestamp_ms: int
    box: Box
    view: int


@dataclass(frozen=True)
class Followed:
    """The crops of one followed vehicle; those that are labelled are named by ``asks``.

    Attributes:
        asks: Of each crop the place of its label, -1 for a crop between them.
        timestamps_ms: int64 [N].
        pictures: uint8 [N, 160, 160, 3].
        masks: bool [N, 160, 160], by GrabCut.
    """

    asks: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    pictures: NDArray[np.uint8]
    masks: NDArray[np.bool_]


@dataclass(frozen=True)
class Truth:
    """Of N labelled crops: view, end (1 front, -1 rear, 0 side, 9 unknown), file, clip."""

    view: NDArray[np.int64]
    end: NDArray[np.int64]
    file: NDArray[Any]
    clip: NDArray[Any]


def read_labels(table: Path, corrections: Path | None) -> list[Labelled]:
    """The labels, with those corrected that the second table names."""
    corrected: dict[tuple[str, str], tuple[str, str]] = {}
    if corrections is not None:
        for row in csv.DictReader(corrections.open(encoding="utf-8")):
            corrected[row["file"], row["clip"]] = (row["given"], row["seen"])
    found = []
    for row in csv.DictReader(table.open(encoding="utf-8")):
        given, seen = corrected.get((row["file"], row["clip"]), ("", ""))
        view = seen if row["view"] == given else row["view"]
        edges = (float(row[name]) for name in ("xmin", "xmax", "ymin", "ymax"))
        number = VIEW_NAMES.index(view) if view in VIEW_NAMES else -1
        found.append(
            Labelled(row["file"], row["clip"], int(row["timestamp_ms"]), Box(*edges), number)
        )
    return found


def truth_of(labels: Sequence[Labelled]) -> Truth:
    """The labels as arrays."""
    view = np.array([label.view for label in labels])
    end = np.select(
        [view < 0, np.isin(view, (0, 1, 7)), np.isin(view, (3, 4, 5))], [9, 1, -1], default=0
    )
    clips = np.array([f"{label.file}/{label.clip}" for label in labels])
    return Truth(view, end, np.array([label.file for label in labels]), clips)


def follow(data: Path, labels: Sequence[Labelled]) -> Iterator[Followed]:
    """The vehicle of every labelled clip, followed by the detector."""
    detector = vehicle_detector(data)
    by_file: dict[str, list[int]] = defaultdict(list)
    for place, label in enumerate(labels):
        by_file[label.file].append(place)
    for file, places in sorted(by_file.items()):
        path = next(p for p in (data / "clips" / file, data / "ytbb" / file) if p.is_file())
        frames = list(sample_frames(str(path), fps=FRAMES_A_SECOND))
        seen = [
            FrameDetections(
                frame.timestamp_ms, frame.image.shape[1], frame.image.shape[0], False,
                tuple(found),
            )
            for frame, found in zip(frames, detector.detect([f.image for f in frames]), strict=True)
        ]  # fmt: skip
        tracks = link_over_time(seen, classes=VEHICLES, threshold=THRESHOLD)
        image_at = {frame.timestamp_ms: frame.image for frame in frames}
        asked = sorted({labels[place].timestamp_ms for place in places})
        image_asked = {f.timestamp_ms: f.image for f in frames_at(str(path), asked)}
        for clip in sorted({labels[place].clip for place in places}):
            mine = [place for place in places if labels[place].clip == clip]
            track = max(tracks, key=lambda t: _overlap(t, [labels[p] for p in mine]), default=None)
            cuts = [(p, labels[p].timestamp_ms, labels[p].box) for p in mine]
            if track is not None and _overlap(track, [labels[p] for p in mine]) > 0:
                taken = {labels[p].timestamp_ms for p in mine}
                cuts += [
                    (-1, o.timestamp_ms, o.detection.box)
                    for o in track.observations
                    if o.timestamp_ms not in taken
                ]
            yield _cut(cuts, {**image_at, **image_asked})


def _overlap(track: Any, labels: Sequence[Labelled]) -> float:
    """How well a track goes through labelled boxes: the sum of their overlaps with its nearest."""
    total = 0.0
    for label in labels:
        near = min(track.observations, key=lambda o: abs(o.timestamp_ms - label.timestamp_ms))
        overlap = iou(near.detection.box, label.box)
        if abs(near.timestamp_ms - label.timestamp_ms) <= 700 and overlap >= LEAST_IOU:
            total += overlap
    return total


def _cut(cuts: Sequence[tuple[int, int, Box]], images: Mapping[int, Any]) -> Followed:
    pictures, masks = [], []
    for _, time, box in cuts:
        height, width = images[time].shape[:2]
        picture, transform = crop_square(images[time], box, size=SIZE, scale=CONTEXT)
        pictures.append(picture)
        masks.append(find_mask(picture, transform.box_to_crop(box, width, height)))
    return Followed(
        np.array([place for place, _, _ in cuts]),
        np.array([time for _, time, _ in cuts], np.int64),
        np.stack(pictures),
        np.stack(masks),
    )


def embed_all(
    embedder: Embedder, clips: Sequence[Followed], count: int, *, alone: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Features [count, D] of the labelled crops, and readings where the embedder reads any."""
    features = np.zeros((count, embedder.dimension), np.float32)
    readings = np.full((count, 3), np.nan, np.float32)
    for clip in clips:
        asks = np.flatnonzero(clip.asks >= 0)
        parts = (
            [asks[at : at + 1] for at in range(len(asks))] if alone else [np.arange(len(clip.asks))]
        )
        for rows in parts:
            found, read = embedder.embed_clip(
                clip.pictures[rows], clip.masks[rows], clip.timestamps_ms[rows]
            )
            labelled = clip.asks[rows] >= 0
            features[clip.asks[rows][labelled]] = found[labelled]
            if read is not None:
                readings[clip.asks[rows][labelled]] = read[labelled]
    return features, None if np.isnan(readings).all() else readings


@dataclass(frozen=True)
class Scores:
    """Of every labelled crop, NaN where it does not count; and what a clip's mean is over."""

    hit: NDArray[np.float64]
    turned: NDArray[np.float64]
    opposite: NDArray[np.float64]


def score(near: NDArray[np.float64], truth: Truth, kept: NDArray[np.bool_]) -> Scores:
    """Judge the five nearest.

    Args:
        near: [N, N], larger is nearer.
        truth: Of the N crops.
        kept: [N], the crops that ask and may be found.
    """
    hit, turned, opposite = (np.full(len(near), np.nan) for _ in range(3))
    there = np.flatnonzero(kept & (truth.view >= 0))
    for place in there:
        others = there[truth.file[there] != truth.file[place]]
        if not len(others):
            continue
        found = others[np.argsort(-near[place, others], kind="stable")[:NEAREST]]
        apart = np.abs((truth.view[found] - truth.view[place] + 4) % 8 - 4)
        hit[place], opposite[place] = (apart <= 1).mean(), (apart >= 3).mean()
        if truth.end[place] != 0:
            turned[place] = (truth.end[found] == -truth.end[place]).mean()
    return Scores(hit, turned, opposite)


def by_clip(values: NDArray[np.float64], rows: NDArray[np.bool_], truth: Truth) -> Any:
    """Means by clip and the video of each, of the rows that count."""
    counted = rows & ~np.isnan(values)
    clips = np.unique(truth.clip[counted])
    means = np.array([values[counted & (truth.clip == clip)].mean() for clip in clips])
    files = np.array([clip.rsplit("/", 1)[0] for clip in clips])
    return means, files


def summary(
    near: NDArray[np.float64],
    truth: Truth,
    readings: NDArray[np.float64] | None,
    kept: NDArray[np.bool_] | None = None,
    asked: NDArray[np.bool_] | None = None,
) -> dict[str, tuple[float, float | None, float | None]]:
    """The numbers of one feature, each with its interval by video where that is one mean."""
    kept = np.ones(len(near), bool) if kept is None else kept
    asked = np.ones(len(near), bool) if asked is None else asked
    found = score(near, truth, kept)
    ends = {"front": truth.end == 1, "rear": truth.end == -1, "side": truth.end == 0}
    numbers: dict[str, tuple[float, float | None, float | None]] = {}

    def add(name: str, values: NDArray[np.float64], rows: NDArray[np.bool_]) -> None:
        means, files = by_clip(values, rows & asked, truth)
        if len(means):
            told = estimate(means, files, resamples=2000)
            numbers[name] = (told.value, told.low, told.high)

    for end, rows in ends.items():
        add(f"{end} hits", found.hit, rows)
    for end in ("front", "rear"):
        add(f"{end} taken for the other end", found.turned, ends[end])
    add("opposite", found.opposite, kept)
    if readings is not None:
        read = kept & (truth.view >= 0)
        for end, sign in (("front", 1), ("rear", -1)):
            add(f"{end} read as {end}", (readings[:, 0] * sign > 0).astype(float), read & ends[end])
        azimuth = np.degrees(np.arctan2(readings[:, 2], readings[:, 1]))
        error = np.abs((azimuth - 45 * truth.view + 180) % 360 - 180)
        if (read & asked).any():
            numbers["azimuth error, median"] = (float(np.median(error[read & asked])), None, None)
    for name, parts in {
        "hits": ("front hits", "rear hits"),
        "front taken for rear": ("front taken for the other end", "rear taken for the other end"),
        "ends right": ("front read as front", "rear read as rear"),
    }.items():
        if all(part in numbers for part in parts):
            numbers[name] = (float(np.mean([numbers[part][0] for part in parts])), None, None)
    return numbers


def perfect(truth: Truth) -> NDArray[np.float64]:
    """Readings [N, 3] without an error."""
    return turning.readings_of(np.radians(45.0 * truth.view)) * (truth.view >= 0)[:, None]


def nearness(readings: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Minus the distance of the three outputs."""
    return -np.linalg.norm(readings[:, None] - readings[None], axis=2).astype(np.float64)


def pooled(
    embedder: car_view.CarViewEmbedder, clips: Sequence[Followed], truth: Truth
) -> tuple[NDArray[np.float32], NDArray[np.float32], dict[str, Any]]:
    """Features and readings, those of each half by what was chosen on the other."""
    halves = np.array([half(file) for file in truth.file])
    seen = [embedder.look(clip.pictures) for clip in clips]
    ways = {way: together(seen, clips, len(halves), *way) for way in CHOICES}
    features, readings = (np.array(part) for part in ways[CHOICES[0]])
    chosen: dict[str, Any] = {}
    for number in (0, 1):
        gains = {}
        for way, (found, read) in ways.items():
            numbers = summary(found @ found.T, truth, read, asked=halves != number)
            gains[way] = numbers["hits"][0] - numbers["front taken for rear"][0]
        best = max(gains, key=lambda way: gains[way])
        chosen[f"half {number}"] = best
        rows = halves == number
        features[rows], readings[rows] = ways[best][0][rows], ways[best][1][rows]
    return features, readings, chosen


def together(
    seen: Sequence[tuple[NDArray[np.float32], NDArray[np.float64]]],
    clips: Sequence[Followed],
    count: int,
    spread: float,
    turn_deg: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features and readings of the labelled crops, given what single pictures look like."""
    features = np.zeros((count, 24 + seen[0][0].shape[1]), np.float32)
    readings = np.zeros((count, 3), np.float32)
    for (looks, read), clip in zip(seen, clips, strict=True):
        witnesses = car_view.witness_of(read, spread=spread)
        directions = turning.clip_directions(witnesses, clip.timestamps_ms, turn_deg=turn_deg)
        asks = clip.asks >= 0
        features[clip.asks[asks]] = car_view.features_of(directions, looks)[asks]
        readings[clip.asks[asks]] = turning.mean_readings(directions)[asks]
    return features, readings


def rows_of(
    name: str,
    seed: str,
    near: NDArray[np.float64],
    truth: Truth,
    readings: NDArray[np.float32] | None,
) -> Iterator[tuple[str, str, str, tuple[float, float | None, float | None], int]]:
    """(method, seed, metric, value, crops) at every coverage, with the perfect reader beside it."""
    known = truth.view >= 0
    certainty = np.ones(len(near)) if readings is None else np.abs(readings[:, 0].astype(float))
    for coverage in COVERAGES if readings is not None else (1.0,):
        kept = known & (certainty >= np.quantile(certainty[known], 1 - coverage))
        clips = len(np.unique(truth.clip[kept]))
        where = "" if coverage == 1 else f", coverage {coverage}"
        for metric, value in summary(near, truth, readings, kept).items():
            if coverage == 1 or metric in MAIN:
                yield name, seed, f"{metric}{where}", value, clips
        if coverage < 1:
            ideal = summary(nearness(perfect(truth)), truth, None, kept)
            for metric in ("hits", "front taken for rear"):
                if metric in ideal:
                    told = f"{metric}{where}, perfect reader on the same crops"
                    yield name, seed, told, ideal[metric], clips
    for number in (0, 1):
        asked = np.array([half(file) == number for file in truth.file])
        for metric, value in summary(near, truth, readings, asked=asked).items():
            if metric in MAIN:
                yield name, seed, f"{metric}, half {number}", value, int(asked.sum())


def random_numbers(truth: Truth) -> Iterator[tuple[str, float]]:
    """What neighbours drawn at random give, the mean of 50 draws."""
    draws = np.random.default_rng(0)
    drawn = [summary(draws.random((len(truth.view),) * 2), truth, None) for _ in range(50)]
    for metric in drawn[0]:
        yield metric, float(np.mean([numbers[metric][0] for numbers in drawn]))


def main() -> None:
    """Follow, embed, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of real test data")
    parser.add_argument("--trunk", type=Path, required=True, help="EfficientNet-Lite0")
    parser.add_argument("--st-alex", type=Path, required=True, help="alex_shift_tolerant.pth")
    parser.add_argument("--azimuth", type=Path, help="car-azimuth.safetensors")
    parser.add_argument("--reader", type=Path, action="append", required=True, help="one a seed")
    parser.add_argument("--rendered-reader", type=Path, help="learnt without photographs")
    parser.add_argument("--readers-only", action="store_true", help="no other features")
    parser.add_argument("--labels", type=Path, help="another table than real_poses/labels.csv")
    parser.add_argument("--out", type=Path, default=Path("docs/results/real-poses.json"))
    arguments = parser.parse_args()
    table = arguments.labels or arguments.data / "real_poses" / "labels.csv"
    labels = read_labels(table, CORRECTIONS)
    truth, clips = truth_of(labels), list(follow(arguments.data, labels))
    print(f"{len(labels)} labels, {len(clips)} clips", flush=True)
    told = [("random neighbour", "0", metric, (value, None, None), 0)
            for metric, value in random_numbers(truth)]  # fmt: skip
    readers = [(f"{i}", path, "car-view") for i, path in enumerate(arguments.reader)]
    if arguments.rendered_reader:
        readers.append(("0", arguments.rendered_reader, "car-view, learnt without photographs"))
    given = truth_of(read_labels(table, None))
    for seed, path, name in readers:
        embedder = car_view.CarViewEmbedder(arguments.trunk, path, image_size=SIZE)
        features, readings = embed_all(embedder, clips, len(labels), alone=True)
        told += rows_of(f"{name}, each picture alone", seed, features @ features.T, truth, readings)
        if arguments.labels is None:  # else a half may lack an end
            features, readings, chosen = pooled(embedder, clips, truth)
            print(name, seed, chosen, flush=True)
            told += rows_of(
                f"{name}, chosen on the other half", seed, features @ features.T, truth, readings
            )
        features, readings = embed_all(embedder, clips, len(labels), alone=False)
        told += rows_of(name, seed, features @ features.T, truth, readings)
        told += rows_of(f"{name}, labels as given", seed, features @ features.T, given, readings)
    for name, embedder in () if arguments.readers_only else other_features(arguments):
        features, readings = embed_all(embedder, clips, len(labels), alone=False)
        told += rows_of(name, "none", features @ features.T, truth, readings)
        print(name, flush=True)
    write_rows(arguments, told, len(labels))


def other_features(arguments: argparse.Namespace) -> Iterator[tuple[str, Embedder]]:
    """Every other feature of the project, each stand-in under its name."""
    yield from retrieval.masked_embedders(arguments.st_alex, None).items()
    if arguments.azimuth:
        yield (
            "st-alex/conv4+silhouette+car-azimuth",
            load_embedder("st-alex", arguments.st_alex, azimuth=arguments.azimuth),
        )
    for name, embedder in retrieval.unmasked_embedders(arguments.st_alex, None).items():
        yield f"{name}, no mask", embedder


def write_rows(arguments: argparse.Namespace, told: Sequence[Any], labels: int) -> None:
    """docs/results, and the main numbers on the terminal."""
    command = f"python -m tests.benchmarks.real_poses {retrieval.public_arguments()}"
    version = retrieval.folder_version(arguments.data / "real_poses")
    rows = [
        retrieval.row(
            f"hand-labelled views of real vehicles ({labels} crops, 160 px)", version, method,
            metric, value, seed=seed, n=n, budget="", command=command,
        )
        for method, seed, metric, value, n in told
    ]  # fmt: skip
    retrieval.write(arguments.out, rows)
    for method in dict.fromkeys(row["method"] for row in rows):
        for seed in dict.fromkeys(row["seed"] for row in rows if row["method"] == method):
            main = {
                r["metric"]: r["value"] for r in rows if (r["method"], r["seed"]) == (method, seed)
            }
            shown = [f"{m}: {main[m]:.2f}" for m in (
                "hits", "front taken for rear", "opposite", "ends right", "azimuth error, median",
                "hits, coverage 0.75", "front taken for rear, coverage 0.75",
                "hits, coverage 0.5", "front taken for rear, coverage 0.5",
                "hits, coverage 0.5, perfect reader on the same crops",
            ) if m in main]  # fmt: skip
            print(f"{method} [{seed}]  {'; '.join(shown)}")


if __name__ == "__main__":
    main()
