"""What a person is told of a video that was forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def describe(video_id: str, found: dict[str, Any]) -> Iterator[str]:
    """What ``storage.forget`` did, and what is left to do, as lines."""
    yield f"{video_id} is forgotten: no build of this root uses it again"
    if not found["media"]:
        yield "  nothing of it was here"
    else:
        yield (
            f"  removed: its media ({len(found['media'])}), its rows in {found['shards']} shards, "
            f"{found['results']} neighbour tables"
        )
    for version in found["withdrawn"]:
        yield f"  withdrawn: {version} held it; the same build makes one without it"
    for version in found["to_rebuild"]:
        yield f"  withdrawn: {version} shared a shard with it; the same build commits it again"
    for name in found["evaluation_sets"]:
        yield f"  withdrawn: evaluation set {name} showed it; freeze it anew"
    for name in found["models"]:
        yield f"  trained on it: model {name}"
    for name in found["runs"]:
        yield f"  trained on it: run {name}, whose samples may show it"
    for name in found["unknown"]:
        yield f"  could not be looked through: {name}"
    yield "  exported copies are out of reach; a build that runs now may still write rows of it:"
    yield "  run the same command again once it is done"
