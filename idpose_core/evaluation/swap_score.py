"""Swap score: figure 9 of the paper with a number.

One ID picture is combined with pose pictures of several objects at each of several azimuths. A
generator that takes nothing but the pose from the pose picture gives the same output for all
objects at one azimuth, and another one at another azimuth. So the variance of its outputs is split
in two (one-way analysis of variance with random effects): over the azimuth, and over the object
within an azimuth. The score is the azimuth's share.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from idpose_core.evaluation.intervals import Jackknife
from idpose_core.evaluation.judges import azimuth_error
from idpose_core.evaluation.pictures import Pictures, at_size, generated
from idpose_core.evaluation.views import LabelledViews, Rows
from idpose_core.training.samples import Generate

TOLERANCE_DEG = 11.25
"""Half a step of 16: pictures this near to an azimuth show one pose."""


def variance_shares(outputs: NDArray[np.generic]) -> tuple[float, float]:
    """Variance over the pose and over the pose picture's object, per value.

    Args:
        outputs: [K poses, J objects, ...], J at least 2, K at least 2.

    Returns:
        The two components; the first is corrected for what chance leaves of the second in means
        over J objects, and never negative.

    Raises:
        ValueError: Fewer than two poses or objects.
    """
    poses, objects = outputs.shape[:2]
    if min(poses, objects) < 2:
        raise ValueError(
            f"variance needs two poses and two objects or more, not {poses}, {objects}"
        )
    values = outputs.reshape(poses, objects, -1).astype(np.float64)
    within = float(values.var(axis=1, ddof=1).mean())
    between = float(values.mean(axis=1).var(axis=0, ddof=1).mean())
    return max(between - within / objects, 0.0), within


def swap_score(outputs: NDArray[np.generic]) -> float:
    """Share in [0, 1] of the pose in the variance of outputs [K, J, ...].

    0 where nothing varies with the pose (a copy of the ID picture), 1 where nothing else varies.

    Raises:
        ValueError: Fewer than two poses or objects.
    """
    pose, identity = variance_shares(outputs)
    return pose / (pose + identity) if pose > 0 else 0.0


def pose_grid(
    views: LabelledViews, *, poses: int = 8, objects: int = 6, seed: int = 0
) -> tuple[Rows, Rows]:
    """The pictures of a measurement.

    Args:
        views: Of held-out objects, all around.
        poses: K azimuths, evenly spread.
        objects: J objects that give the pose, fewer where there are not twice as many that are
            seen from all these azimuths; those first that are seen from the lowest height.
        seed: Of the choice.

    Returns:
        Rows of the pose pictures, int64 [K, J], and of one ID picture of every other object.

    Raises:
        ValueError: Fewer than four objects, or than two that are seen all around.
    """
    draws = np.random.default_rng(seed)
    order = draws.permutation(np.unique(views.identity))
    # From an azimuth that there is: in a set of even steps the others are there as well.
    start = float(draws.choice(views.azimuth_deg))
    aims = (start + 360 * np.arange(poses) / poses) % 360
    columns = [
        column
        for column, farthest in (_nearest(views, int(one), aims) for one in order)
        if farthest <= TOLERANCE_DEG
    ]
    # Seen from one height rather than several: else what differs between objects is in part pose.
    height = _height(views)
    lowest = np.min([height[column] for column in columns], axis=0) if columns else 0.0
    columns.sort(key=lambda column: float((height[column] - lowest).max()))
    grid = columns[: min(objects, len(order) // 2)]
    if len(grid) < 2:
        raise ValueError(
            "the swap score needs four objects or more, two of which are seen all around: within "
            f"{TOLERANCE_DEG} degrees of {poses} azimuths"
        )
    taken = {int(views.identity[column[0]]) for column in grid}
    ids = [
        int(draws.choice(np.flatnonzero(views.identity == one)))
        for one in order
        if int(one) not in taken
    ]
    return np.stack(grid, axis=1), np.array(ids, np.int64)


def uneven_directions(views: LabelledViews, *, poses: int = 8, seed: int = 0) -> str | None:
    """A warning where the objects of a measurement are not seen from equal directions.

    What differs between the objects then is in part their pose, and the score is too low.

    Args:
        views: See :func:`pose_grid`.
        poses: Likewise.
        seed: Likewise.

    Returns:
        The warning; None where directions are equal to a degree.
    """
    grid, _ = pose_grid(views, poses=poses, seed=seed)
    turned = azimuth_error(views.azimuth_deg[grid], views.azimuth_deg[grid[:, :1]]).max()
    known = bool(np.isfinite(views.elevation_deg[grid]).all())
    height = _height(views)[grid]
    tilted = (height.max(1) - height.min(1)).max()
    if max(turned, tilted) <= 1 and (known or _all_elevations_seen(views, grid)):
        return None
    apart = f"{tilted:.0f} of elevation" if known else "an unknown number of elevation"
    return (
        f"objects are compared from directions up to {turned:.0f} degrees of azimuth and {apart} "
        "apart, so the score is too low: take a set that holds all views"
    )


def _height(views: LabelledViews) -> NDArray[np.float64]:
    """Elevations [N]; where they are not known, which one of them it is."""
    elevation = views.elevation_deg
    return np.where(np.isnan(elevation), views.elevation_order, elevation)


def _all_elevations_seen(views: LabelledViews, grid: Rows) -> bool:
    """Whether the first, second, ... elevation means the same one for all objects of a grid."""
    order = views.elevation_order
    counts = [
        np.sum(
            (views.identity == views.identity[row]) & (views.azimuth_deg == views.azimuth_deg[row])
        )
        for row in grid.ravel()
    ]
    return len(set(counts)) == 1 and not np.ptp(order[grid], axis=1).any()


def _nearest(views: LabelledViews, identity: int, aims: NDArray[np.float64]) -> tuple[Rows, float]:
    """The object's view nearest to each azimuth, the lowest of equals, and the largest error."""
    own = np.flatnonzero(views.identity == identity)
    far = np.round(azimuth_error(views.azimuth_deg[own][None], aims[:, None]), 6)
    level = np.broadcast_to(_height(views)[own], far.shape)
    first = np.lexsort((level, far), axis=1)[:, 0]
    return own[first], float(far.min(1).max())


def measure_swap_score(
    generator: Generate,
    views: LabelledViews,
    size: int,
    *,
    poses: int = 8,
    objects: int = 6,
    ids: int = 48,
    seed: int = 0,
    look: Callable[[Pictures], NDArray[np.generic]] = lambda pictures: pictures,
    device: str = "cpu",
) -> Jackknife:
    """The mean score over ID pictures.

    It depends on the ID pictures' objects and on those that give the pose: its jackknife leaves
    out either.

    Args:
        generator: ``(id, pose) -> picture``.
        views: See :func:`pose_grid`.
        size: R of the generator.
        poses: See :func:`pose_grid`.
        objects: See :func:`pose_grid`.
        ids: ID pictures, at most.
        seed: Of the choice.
        look: What is compared: the pictures' pixels, or features [N, ...] of pictures [N, R, R, 3].
        device: Where the generator is.

    Raises:
        ValueError: Not enough objects.
    """
    grid, lines = pose_grid(views, poses=poses, objects=objects, seed=seed)
    seen = at_size(views.pictures[grid.ravel()], size)
    count = grid.shape[1]
    others = [np.delete(np.arange(count), one) for one in range(count if count > 2 else 0)]
    scores, without = [], []
    for own in at_size(views.pictures[lines[:ids]], size):
        same = np.broadcast_to(own, seen.shape)
        made = np.asarray(look(generated(generator, same, seen, device=device)))
        outputs = made.reshape(*grid.shape, -1)
        scores.append(swap_score(outputs))
        without.append([swap_score(outputs[:, kept]) for kept in others])
    found, n = np.array(scores), len(scores)
    left = (found.sum() - found) / (n - 1) if n > 1 else found
    by_object = np.array(without).mean(0)
    return Jackknife(float(found.mean()), (left, by_object), n, min(n, count))
