"""Which neighbours may serve as pose pictures: those that face as the target does, and are trusted.

Agreement is judged by direction and not by cluster: a true neighbour may lie on the other side of
a cluster's border. Where a direction is not read, agreement is not judged.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from idpose_core.pose.directions import angle_between
from idpose_core.pose.neighbours import Neighbours, without
from idpose_core.pose.space import Float64

NO_NEIGHBOUR = "no_neighbour"
OTHER_DIRECTION = "other_direction"
LOW_TRUST = "low_trust"


def keep_agreeing(
    neighbours: Neighbours,
    *,
    read_deg: Float64 | None = None,
    max_turn_deg: float = 45.0,
    min_trust: float | None = None,
) -> tuple[Neighbours, dict[str, npt.NDArray[np.bool_]]]:
    """Leave out neighbours that face elsewhere or are not trusted; farther ones move up.

    Args:
        neighbours: of N crops.
        read_deg: float64 [N], directions as read, NaN where nothing is; None = agreement is not
            judged.
        max_turn_deg: largest angle between the directions of a crop and its neighbour.
        min_trust: least probability of being right; None = all. Where it is
            not known, none is asked for.

    Returns:
        The neighbours that are left, and for each reason which crops have none because of it,
        bool [N]: by what is wrong with their nearest one. A crop has one reason at most.
    """
    some = neighbours.indices >= 0
    elsewhere = np.zeros_like(some)
    if read_deg is not None:
        apart = angle_between(read_deg[:, None], read_deg[neighbours.indices])
        elsewhere = some & (apart > max_turn_deg)
    doubtful = np.zeros_like(some)
    if min_trust is not None and neighbours.trust is not None:
        doubtful = some & (neighbours.trust < min_trust)
    lost = some[:, 0] & ~np.any(some & ~elsewhere & ~doubtful, axis=1)
    reasons = {
        NO_NEIGHBOUR: ~some[:, 0],
        OTHER_DIRECTION: lost & elsewhere[:, 0],
        LOW_TRUST: lost & ~elsewhere[:, 0],
    }
    return without(neighbours, elsewhere | doubtful), reasons
