"""Sets of pictures compared without assuming a Gaussian: KID, precision and recall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from idpose_core.evaluation.features import Features, without_repeats
from idpose_core.evaluation.intervals import Jackknife, Objects, fewest_units

_ROWS_AT_ONCE = 1024


def kernel_distance(generated: Features, real: Features, objects: Objects) -> Jackknife | None:
    """KID: the squared MMD with the kernel (x.y / D + 1)^3, unbiased.

    Bińkowski et al., "Demystifying MMD GANs" (ICLR 2018). Unlike FID it does not depend on the
    number of pictures. A row is a generated picture and its target, which are not independent of
    one another, nor of the other rows that show one of their objects: so it is the mean of
    k(x, x') + k(y, y') - k(x, y') - k(x', y) over the pairs of rows that share no object
    (Gretton et al., "A Kernel Two-Sample Test", JMLR 2012, lemma 6, where no two rows do). With all
    pairs, copies of inputs would be nearer than nothing, and targets that stand in several rows
    would set any generator apart. Its jackknife leaves out one object after the other, with all
    its rows.

    Args:
        generated: [N, D].
        real: [N, D], the targets of the same rows.
        objects: [N] or [K, N], the objects that a row shows.

    Returns:
        None where every two rows share an object.

    Raises:
        ValueError: Different shapes.
    """
    roles = np.atleast_2d(objects)
    if generated.shape != real.shape or len(real) != roles.shape[1]:
        raise ValueError(
            f"KID compares pairs: {generated.shape}, {real.shape}, {roles.shape[1]} objects"
        )
    names = np.unique(roles)
    shows = (roles[:, :, None] == names).any(0).astype(np.float64)
    # Of the differences of kernels, and of the pairs that count: all, and those with each object.
    sums, parts = np.zeros(2), np.zeros((2, len(names)))
    for at in range(0, len(real), _ROWS_AT_ONCE):
        rows = slice(at, at + _ROWS_AT_ONCE)
        counts = (shows[rows] @ shows.T == 0).astype(np.float64)
        block = _kernel(generated[rows], generated) + _kernel(real[rows], real)
        block -= 2 * _kernel(generated[rows], real)
        block *= counts
        for which, cells in enumerate((block, counts)):
            sums[which] += cells.sum()
            # No pair that counts has an object on both sides.
            parts[which] += shows[rows].T @ cells.sum(1) + cells.sum(0) @ shows
    if not sums[1]:
        return None
    rest = sums[:, None] - parts
    without = (rest[0] / rest[1],) if rest[1].min() > 0 else ()
    return Jackknife(float(sums[0] / sums[1]), without, len(real), fewest_units(roles))


@dataclass(frozen=True, eq=False)
class Coverage:
    """Precision and recall, picture by picture.

    Attributes:
        precise: bool [N], whether a generated picture lies among the real ones.
        recalled: bool [M], whether a real picture lies among the generated ones.
    """

    precise: NDArray[np.bool_]
    recalled: NDArray[np.bool_]


def precision_recall(generated: Features, real: Features, *, neighbours: int = 3) -> Coverage:
    """Improved precision and recall (Kynkäänniemi et al., NeurIPS 2019).

    A picture lies among others if it is nearer to one of them than that one's k-th neighbour. A
    picture that occurs several times is no neighbour of itself, or its radius would be nothing; of
    a set with k different pictures or fewer the farthest counts.

    Args:
        generated: [N, D].
        real: [M, D].
        neighbours: k.

    Raises:
        ValueError: No more pictures than neighbours.
    """
    if min(len(generated), len(real)) <= neighbours:
        raise ValueError(
            f"{neighbours} neighbours among {len(generated)} generated and {len(real)} real "
            "pictures: there must be more pictures"
        )
    return Coverage(_among(generated, real, neighbours), _among(real, generated, neighbours))


def _among(queries: Features, points: Features, neighbours: int) -> NDArray[np.bool_]:
    points = without_repeats(points)
    neighbours = min(neighbours, len(points) - 1)
    radius = np.concatenate([
        # Place 0 is the point itself.
        np.partition(block, neighbours, axis=1)[:, neighbours]
        for block in _squared_distances(points, points)
    ])  # fmt: skip
    return np.concatenate([
        (block <= radius).any(1) for block in _squared_distances(queries, points)
    ])  # fmt: skip


def _squared_distances(one: Features, two: Features) -> list[NDArray[np.float64]]:
    """Blocks of rows of the squared distances [N, M]; the same pair always gives the same bits."""
    lengths = (two**2).sum(1)
    blocks = []
    for at in range(0, len(one), _ROWS_AT_ONCE):
        part = one[at : at + _ROWS_AT_ONCE]
        block = (part**2).sum(1)[:, None] + lengths - 2 * part @ two.T
        blocks.append(np.clip(block, 0, None))
    return blocks


def _kernel(x: Features, y: Features) -> NDArray[np.float64]:
    found: NDArray[np.float64] = (x @ y.T / x.shape[1] + 1) ** 3
    return found
