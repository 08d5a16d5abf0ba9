"""What a sample of triplets teaches: how often the pose changes, and how often it is the right one.

A triplet whose ID picture and target show the same pose teaches to copy. What counts as a change is
said by the truth where it is known, and elsewhere by what was read; the two are never added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from idpose_core.pose.directions import (
    CHANGED_DEG,
    VIEW_NAMES,
    Directions,
    angle_between,
    view_of,
)
from idpose_core.pose.space import Float64, Int32

Rows = npt.NDArray[np.int64]

RIGHT_DEG = 45.0
OPPOSITE_DEG = 135.0


@dataclass(frozen=True)
class Changes:
    """Counts of triplets.

    Attributes:
        rows: all of them.
        by_truth: those whose true directions of ID picture and target are known.
        changed_by_truth: of these, those more than 30 degrees apart.
        as_read: of the others, those of which both directions are read.
        changed_as_read: of these, those more than 30 degrees apart.
        pose_by_truth: rows whose true directions of pose picture and target are known.
        pose_right: of these, those within 45 degrees of each other.
        pose_opposite: of these, those 135 degrees or more apart.
    """

    rows: int
    by_truth: int
    changed_by_truth: int
    as_read: int
    changed_as_read: int
    pose_by_truth: int
    pose_right: int
    pose_opposite: int

    def to_dict(self) -> dict[str, int]:
        """The counts for JSON."""
        return asdict(self)


def measure_changes(directions: Directions, own: Rows, target: Rows, pose: Rows) -> Changes:
    """Count the changes of a sample.

    Args:
        directions: of N crops.
        own: int64 [T], rows of the ID pictures.
        target: int64 [T], rows of the targets.
        pose: int64 [T], rows of the pose pictures.
    """
    true, read = directions.true_deg, directions.read_deg
    by_truth, by_reader = (angle_between(deg[own], deg[target]) for deg in (true, read))
    known = ~np.isnan(by_truth)
    elsewhere = ~known & ~np.isnan(by_reader)
    apart = angle_between(true[pose], true[target])
    return Changes(
        rows=len(own),
        by_truth=int(known.sum()),
        changed_by_truth=int(np.sum(by_truth > CHANGED_DEG)),
        as_read=int(elsewhere.sum()),
        changed_as_read=int(np.sum(elsewhere & (by_reader > CHANGED_DEG))),
        pose_by_truth=int(np.sum(~np.isnan(apart))),
        pose_right=int(np.sum(apart <= RIGHT_DEG)),
        pose_opposite=int(np.sum(apart >= OPPOSITE_DEG)),
    )


def missing_poses(
    directions: Directions, clusters: Int32, count: int, target: Rows
) -> tuple[str, Sequence[str]]:
    """Which poses no target of a sample shows.

    Args:
        directions: of N crops.
        clusters: int32 [N], their pose clusters.
        count: M, the number of clusters.
        target: int64 [T], rows of the targets.

    Returns:
        How poses are told, and the names of those that are missing: ``as read`` and ``by truth``
        have the eight views, ``by cluster`` the numbers of the clusters.
    """
    told: dict[str, Float64] = {"as read": directions.read_deg, "by truth": directions.true_deg}
    for how, azimuth in told.items():
        if not np.isnan(azimuth).all():
            shown = azimuth[target]
            there = set(view_of(shown[~np.isnan(shown)]).tolist())
            return how, [name for view, name in enumerate(VIEW_NAMES) if view not in there]
    there = set(clusters[target].tolist())
    return "by cluster", [str(cluster) for cluster in range(count) if cluster not in there]
