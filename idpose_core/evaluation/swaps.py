"""The ID x pose matrix: does a row keep its object and a column its pose (paper, figures 6 to 8)?

Measured with the judges of :mod:`idpose_core.evaluation.judges`, beside control rows that any
generator must beat, and one that none can be asked to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from idpose_core.evaluation.intervals import Estimate, estimate
from idpose_core.evaluation.judges import AzimuthJudge, IdentityJudge, azimuth_error, judged
from idpose_core.evaluation.pictures import Pictures, at_size, generated, to_network
from idpose_core.evaluation.views import LabelledViews, Rows
from idpose_core.training.samples import Generate, Matrix

CONTROLS = ("copy-id", "copy-pose", "mean-picture", "oracle-frame")


@dataclass(frozen=True, eq=False)
class SwapSet:
    """Which pictures meet, at the size of a model.

    Attributes:
        ids: Rows of the views, one for each line of the matrix.
        poses: Rows of the views, one for each column; of other objects than any line's.
        oracle: int64 [I, P], row of the line's own object that is nearest to the column's pose.
        pictures: uint8 [N, R, R, 3], all views as the model sees them.
        views: What is known of them.
    """

    ids: Rows
    poses: Rows
    oracle: Rows
    pictures: Pictures
    views: LabelledViews

    @property
    def shape(self) -> tuple[int, int]:
        """Lines and columns."""
        return len(self.ids), len(self.poses)


@dataclass(frozen=True, eq=False)
class JudgedSwaps:
    """What the judges say of one method's matrix.

    Attributes:
        method: Its name.
        outputs: uint8 [I, P, R, R, 3].
        azimuth_error: float64 [I, P], degrees between the output's azimuth, as the judge sees it,
            and the true one of the pose picture.
        rank: int64 [I, P], place of the ID's object among all, from 1.
        distance: float64 [I, P], mean absolute difference from the oracle's frame, grey levels
            of 255.
    """

    method: str
    outputs: Pictures
    azimuth_error: NDArray[np.float64]
    rank: Rows
    distance: NDArray[np.float64]


def choose_swaps(
    views: LabelledViews, size: int, *, ids: int = 16, poses: int = 24, seed: int = 0
) -> SwapSet:
    """Lines and columns from disjoint objects; the columns' azimuths are spread evenly.

    Args:
        views: Of held-out objects, all around.
        size: R of the model.
        ids: Lines, each another object; fewer where there are not so many.
        poses: Columns.
        seed: Of the choice.

    Raises:
        ValueError: Fewer than two objects, or a number below 1.
    """
    if min(ids, poses) < 1:
        raise ValueError(f"a matrix has lines and columns, not {ids} x {poses}")
    draws = np.random.default_rng(seed)
    objects = draws.permutation(np.unique(views.identity))
    if len(objects) < 2:
        raise ValueError("swapping needs two objects or more")
    lines = objects[: min(ids, len(objects) // 2)]
    others = objects[len(lines) :]
    id_rows = [int(draws.choice(np.flatnonzero(views.identity == one))) for one in lines]
    offset = draws.uniform(0, 360)
    pose_rows = []
    for column in range(poses):
        own = np.flatnonzero(views.identity == others[column % len(others)])
        aim = np.full(len(own), (offset + 360 * column / poses) % 360)
        far = azimuth_error(views.azimuth_deg[own], aim)
        pose_rows.append(int(draws.choice(own[far <= far.min() + 1e-9])))
    oracle = np.array([[_nearest(views, i, p) for p in pose_rows] for i in id_rows], np.int64)
    return SwapSet(
        np.array(id_rows, np.int64), np.array(pose_rows, np.int64), oracle,
        at_size(views.pictures, size), views,
    )  # fmt: skip


def generate_swaps(swaps: SwapSet, generator: Generate, **options: Any) -> Pictures:
    """A generator's matrix, uint8 [I, P, R, R, 3]; options as of ``generated``."""
    lines, columns = swaps.shape
    ids = swaps.pictures[np.repeat(swaps.ids, columns)]
    poses = swaps.pictures[np.tile(swaps.poses, lines)]
    return generated(generator, ids, poses, **options).reshape(lines, columns, *ids.shape[1:])


def draw_swaps(swaps: SwapSet, outputs: Pictures) -> Pictures:
    """The matrix uint8 [H, W, 3]: poses on top, identities at the left."""
    made = to_network(outputs.reshape(-1, *outputs.shape[2:]))
    sheet: Pictures = Matrix(
        to_network(swaps.pictures[swaps.ids]), to_network(swaps.pictures[swaps.poses])
    ).draw(made.view(*swaps.shape, *made.shape[1:]))
    return sheet


def control_swaps(swaps: SwapSet) -> Iterator[tuple[str, Pictures]]:
    """The matrices of the control rows, in the order of ``CONTROLS``."""
    shape = (*swaps.shape, *swaps.pictures.shape[1:])
    average = np.rint(swaps.pictures.mean(0, dtype=np.float64)).astype(np.uint8)
    matrices = (
        swaps.pictures[swaps.ids][:, None],
        swaps.pictures[swaps.poses][None],
        average[None, None],
        swaps.pictures[swaps.oracle],
    )
    for name, matrix in zip(CONTROLS, matrices, strict=True):
        yield name, np.broadcast_to(matrix, shape)


def judge_swaps(
    method: str, outputs: Pictures, swaps: SwapSet, azimuth: AzimuthJudge, identity: IdentityJudge
) -> JudgedSwaps:
    """Measure a matrix.

    Raises:
        ValueError: The matrix has another shape than the set, or the identity judge knows other
            objects.
    """
    wanted = (*swaps.shape, *swaps.pictures.shape[1:])
    if outputs.shape != wanted:
        raise ValueError(f"{method}: the matrix is {outputs.shape}, the set asks for {wanted}")
    if identity.names != swaps.views.names:
        raise ValueError("the identity judge was trained on other objects than are swapped here")
    lines, columns = swaps.shape
    flat = outputs.reshape(-1, *outputs.shape[2:])
    true = np.tile(swaps.views.azimuth_deg[swaps.poses], lines)
    own = np.repeat(swaps.views.identity[swaps.ids], columns)
    away = [
        np.abs(made.astype(np.float64) - swaps.pictures[row]).mean()
        for made, row in zip(flat, swaps.oracle.ravel(), strict=True)
    ]
    return JudgedSwaps(
        method,
        outputs,
        azimuth_error(azimuth.azimuth(flat), true).reshape(swaps.shape),
        identity.rank(flat, own).reshape(swaps.shape),
        np.array(away).reshape(swaps.shape),
    )


def summarise(found: JudgedSwaps, swaps: SwapSet) -> dict[str, Estimate]:
    """The figures of a matrix, with intervals by object."""
    lines = np.repeat(swaps.views.identity[swaps.ids], swaps.shape[1])
    columns = np.tile(swaps.views.identity[swaps.poses], swaps.shape[0])
    objects = np.stack([lines, columns])
    return {
        **judged(found.azimuth_error.ravel(), found.rank.ravel(), objects),
        "distance-to-oracle": estimate(found.distance.ravel(), objects),
    }


def _nearest(views: LabelledViews, id_row: int, pose_row: int) -> int:
    """The row of the ID's object nearest in azimuth, then in elevation where it is known."""
    own = np.flatnonzero(views.identity == views.identity[id_row])
    own = own[own != id_row] if len(own) > 1 else own
    far = azimuth_error(views.azimuth_deg[own], views.azimuth_deg[np.full(len(own), pose_row)])
    high = np.nan_to_num(np.abs(views.elevation_deg[own] - views.elevation_deg[pose_row]))
    return int(own[np.lexsort((high, np.round(far, 6)))[0]])
