"""Sets of pictures compared without assuming a Gaussian: KID, precision and recall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from idpose_core.evaluation.features import Features, without_repeats
from idpose_core.evaluation.intervals import FEWEST, Estimate

_ROWS_AT_ONCE = 1024


def kernel_distance(generated: Features, real: Features, identities: NDArray[np.int64]) -> Estimate:
    """KID: the squared MMD with the kernel (x.y / D + 1)^3, unbiased, over all pictures.

    Bińkowski et al., "Demystifying MMD GANs" (ICLR 2018). Unlike FID it does not depend on the
    number of pictures. Its interval is a jackknife that leaves out one identity after the other.

    Args:
        generated: [N, D].
        real: [N, D], the same rows: generated pictures and their targets.
        identities: [N], which rows belong together.

    Raises:
        ValueError: Fewer than two rows, or different shapes.
    """
    if generated.shape != real.shape or len(generated) != len(identities) or len(real) < 2:
        raise ValueError(
            f"KID compares two rows or more, paired: {generated.shape}, {real.shape}, "
            f"{len(identities)} identities"
        )
    _, group = np.unique(identities, return_inverse=True)
    groups = int(group.max()) + 1
    within, across = np.zeros((groups, groups)), np.zeros((groups, groups))
    for at in range(0, len(real), _ROWS_AT_ONCE):
        rows = slice(at, at + _ROWS_AT_ONCE)
        own = np.arange(len(real))[rows]
        both = _kernel(generated[rows], generated) + _kernel(real[rows], real)
        both[np.arange(len(own)), own] = 0  # a picture is not compared with itself
        for total, block in ((within, both), (across, 2 * _kernel(generated[rows], real))):
            by_column = np.zeros((len(own), groups))
            np.add.at(by_column.T, group, block.T)
            np.add.at(total, group[rows], by_column)
    sizes = np.bincount(group).astype(np.float64)

    def value(inside: float, between: float, n: float) -> float:
        return float(inside / (n * (n - 1)) - between / n**2)

    whole = value(within.sum(), across.sum(), len(real))
    left = len(real) - sizes
    if groups < FEWEST or left.min() < 2:
        return Estimate(whole, None, None, len(real), groups)
    without = np.array([
        value(_less(within, one), _less(across, one), left[one]) for one in range(groups)
    ])  # fmt: skip
    deviation = np.sqrt((groups - 1) / groups * ((without - without.mean()) ** 2).sum())
    reach = float(t.ppf(0.975, groups - 1)) * deviation
    return Estimate(whole, whole - reach, whole + reach, len(real), groups)


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


def _less(total: NDArray[np.float64], group: int) -> float:
    """The sum of a matrix without the row and the column of a group."""
    return float(total.sum() - total[group].sum() - total[:, group].sum() + total[group, group])
