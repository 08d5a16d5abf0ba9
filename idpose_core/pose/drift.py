"""How far new pictures have moved from those that a pose space was fitted on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def drift(before: Sequence[int], now: Sequence[int]) -> float:
    """Share of the crops that would have to change their cluster to bring the sizes back.

    The total variation distance of two distributions over the clusters of one space, in [0, 1].

    Args:
        before: Crops in each of the M clusters where the space was fitted.
        now: The same of another dataset in the same space.
    """
    one, other = (np.asarray(sizes, np.float64) for sizes in (before, now))
    assert len(one) == len(other) and one.any() and other.any()
    return float(np.abs(one / one.sum() - other / other.sum()).sum() / 2)
