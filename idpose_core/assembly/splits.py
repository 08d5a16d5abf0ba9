"""Sticky splits, and which of two near-duplicate videos stays.

The training data never depends on the test data: a video's split is a function of its id alone,
and of near-duplicates across the splits it is the test member that is dropped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

TRAIN = "train"
TEST = "test"


def split_of(video_id: str, test_share: float) -> str:
    """The split of a video by the hash of its id; a larger share only moves train to test."""
    hashed = hashlib.blake2b(video_id.encode(), digest_size=8, person=b"idpose-split").digest()
    return TEST if int.from_bytes(hashed, "big") < test_share * 2**64 else TRAIN


def drop_near_duplicates(
    pairs: Iterable[tuple[str, str]], splits: Mapping[str, str]
) -> dict[str, str]:
    """Choose which near-duplicates to drop.

    Within a split the smaller video id stays; a training video is weighed against training videos
    only. Pairs do not chain: a video is dropped only for one that stays.

    Returns:
        For each dropped video the one that it shows again.
    """
    twins: dict[str, list[str]] = {}
    for a, b in pairs:
        twins.setdefault(a, []).append(b)
        twins.setdefault(b, []).append(a)
    dropped: dict[str, str] = {}
    kept: set[str] = set()
    for split in (TRAIN, TEST):
        for video in sorted(v for v in twins if splits[v] == split):
            original = min((t for t in twins[video] if t in kept), default=None)
            if original is None:
                kept.add(video)
            else:
                dropped[video] = original
    return dropped
