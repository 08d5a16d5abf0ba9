"""How well do pose features retrieve pose in the rendered world, whose truth is exact.

    python -m tests.benchmarks.retrieval_rendered FOLDER --st-alex FILE --rotnet FILE

Two forms: the clean multi-view set (the 42 test cars, 24 azimuths at one elevation) and frames of
videos of the validation and test cars, rendered below FOLDER. A hit is a nearest neighbour among
*other* cars within 22.5 degrees of azimuth; confused means within 22.5 degrees of the opposite. In
the videos masks are found by GrabCut from the true box. Intervals are bootstrapped over cars.
NMI: normalised mutual information of 24 pose clusters with 24 bins of azimuth.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from idpose_core.datasets.rendered.detector import read_frames
from idpose_core.datasets.rendered.splits import models_of
from idpose_core.datasets.rendered.truth import box_of_row
from idpose_core.datasets.rendered.videos import WORLD_VERSION, write_rendered_videos
from idpose_core.datasets.rendered.views import rendered_views
from idpose_core.instances.cropping import crop_square
from idpose_core.pose.embedding import Embedder
from idpose_core.pose.masks import find_mask
from idpose_core.pose.space import assign, fit_pose_space, project
from tests.benchmarks import retrieval
from tests.benchmarks.retrieval import (
    CONTEXT,
    SIZE,
    Value,
    Views,
    distances,
    hits,
    interval,
    opposites,
    row,
)

KEPT = (  # of the features that ETH-80 told apart
    "st-alex/conv4+silhouette",
    "st-alex/conv4",
    "rotnet-own-pretext/conv4",
    "rotnet-own-pretext/conv4+silhouette",
    "random-alexnet/conv4",
    "random-alexnet/conv4+silhouette",
    "grey-pixels",
    "silhouette",
)
REFERENCES = ("random-alexnet/conv4+silhouette", "silhouette", "grey-pixels")
CLUSTERS = 24
LEAST_SIDE, LEAST_VISIBLE = 40, 0.7
SEED = 2000  # of the videos: no other world has it
PLAIN, MASKED = "no mask", "masked"
FRAMES_A_SECOND = 3
Row = tuple[str, str, Value]


class VideoCrop(NamedTuple):
    """A crop around the true box, its mask as GrabCut finds it, and its truth.

    The azimuth is in degrees, the time in milliseconds.
    """

    picture: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    model: int
    azimuth: float
    video: str
    time: int


def multi_view() -> Views:
    """The test cars at 24 azimuths, at one of the four elevations."""
    grid = [(15.0 * step, 10.0) for step in range(24)]
    seen = list(rendered_views("car", models_of("car", "test"), grid=grid, side=SIZE))
    return Views(
        [view.image for view in seen],
        [view.mask for view in seen],
        np.array([view.model for view in seen]),
        np.array([view.azimuth_deg for view in seen]),
    )


def video_crops(folder: Path, models: Sequence[int], processes: int) -> Iterator[VideoCrop]:
    """Every object that is large and clear enough, of a video of each model below the folder."""
    write_rendered_videos(
        folder, models=models, scenes_per_model=1, seconds=4.0, fps=FRAMES_A_SECOND, seed=SEED,
        processes=processes,
    )  # fmt: skip
    for frame in read_frames(folder):
        height, width = frame.image.shape[:2]
        for seen in frame.wanted:
            box = box_of_row(seen)
            side = min((box.xmax - box.xmin) * width, (box.ymax - box.ymin) * height)
            if side < LEAST_SIDE or seen["visible_share"] < LEAST_VISIBLE:
                continue
            picture, transform = crop_square(frame.image, box, size=SIZE, scale=CONTEXT)
            mask = find_mask(picture, transform.box_to_crop(box, width, height))
            truth = seen["model"], seen["azimuth_deg"]
            yield VideoCrop(picture, mask, *truth, frame.video, frame.timestamp_ms)


def video_views(crops: Sequence[VideoCrop]) -> Views:
    """The same as views."""
    pictures, masks, identities, azimuths, _, _ = zip(*crops, strict=True)
    return Views(list(pictures), list(masks), np.array(identities), np.array(azimuths))


def clusters_against_azimuth(features: NDArray[np.float16], views: Views) -> float:
    """Normalised mutual information of pose clusters and bins of azimuth, 0..1."""
    names = [f"{index:06d}" for index in range(len(features))]
    space = fit_pose_space(features, names, clusters=CLUSTERS, dimensions=128, seed=0)
    cluster = assign(space, project(space, features))
    bins = (views.azimuths // (360 / CLUSTERS)).astype(int) % CLUSTERS
    joint = np.zeros((CLUSTERS, CLUSTERS))
    np.add.at(joint, (cluster, bins), 1)
    joint /= joint.sum()
    alone = joint.sum(1)[:, None] * joint.sum(0)[None, :]
    some = joint > 0
    shared = float((joint[some] * np.log(joint[some] / alone[some])).sum())
    return 2 * shared / (_entropy(joint.sum(0)) + _entropy(joint.sum(1)))


def _entropy(shares: NDArray[np.float64]) -> float:
    some = shares[shares > 0]
    return float(-(some * np.log(some)).sum())


def measure(form: str, views: Views, ways: dict[str, dict[str, Embedder]]) -> Iterator[Row]:
    """Method, metric and value with its interval, for every feature with and without masks."""
    pictures, masks = np.stack(views.pictures), np.stack(views.masks)
    scores: dict[tuple[str, str], NDArray[np.float64]] = {}
    for way, embedders in ways.items():
        for name in (name for name in KEPT if name in embedders):
            features = embedders[name].embed(pictures, masks if way == MASKED else None)
            found = distances(features, views)
            scores[way, name] = hits(found)
            yield name, f"hit within 22.5 deg: {way}", interval(hits(found), views.identities)
            turned = interval(opposites(found), views.identities)
            yield name, f"confused by 180 deg: {way}", turned
            agreement = clusters_against_azimuth(features, views)
            yield name, f"NMI of {CLUSTERS} clusters: {way}", (agreement, None, None)
            print(f"{form:10} {way:8} {name:36} {hits(found).mean():.3f}", flush=True)
    yield "chance", "hit within 22.5 deg", (retrieval.chance(views), None, None)
    for name in KEPT:
        pairs = [(MASKED, other) for other in REFERENCES if other != name]
        for way, other in [*pairs, (PLAIN, name)]:
            if (way, other) in scores:
                difference = scores[MASKED, name] - scores[way, other]
                metric = f"paired difference of hits, masked: minus {other}, {way}"
                yield name, metric, interval(difference, views.identities)


def main() -> None:
    """Measure and write the rows."""
    parser = retrieval.benchmark_parser(
        __doc__, "retrieval-rendered.json", "folder", "--st-alex", "--processes"
    )
    parser.add_argument("--rotnet", type=Path, required=True, help="of pretext.train_rotnet")
    arguments = parser.parse_args()
    began = time.monotonic()
    ways = {
        PLAIN: retrieval.unmasked_embedders(arguments.st_alex, arguments.rotnet),
        MASKED: retrieval.masked_embedders(arguments.st_alex, arguments.rotnet),
    }
    models = [*models_of("car", "validation"), *models_of("car", "test")]
    crops = list(video_crops(arguments.folder, models, arguments.processes))
    forms = {"multi-view": multi_view(), "video": video_views(crops)}
    rows = [
        row(
            f"rendered cars, {form}",
            f"world {WORLD_VERSION}",
            name,
            metric,
            value,
            seed=str(SEED),
            n=len(views.pictures),
            budget="",
            command=f"python -m tests.benchmarks.retrieval_rendered {retrieval.public_arguments()}",
        )
        for form, views in forms.items()
        for name, metric, value in measure(form, views, ways)
    ]
    budget = f"{round(time.monotonic() - began)} s"
    retrieval.write(arguments.out, [{**entry, "budget": budget} for entry in rows])


if __name__ == "__main__":
    main()
