"""What a build says of its triplets: changes of pose, right pose pictures, what was left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from idpose_core.reports.explain import LEFT_OUT

_POSES_NAMED = 20
_REMEDIES = {
    "other_direction": "a higher triplets.top_k",
    "low_trust": "a lower triplets.min_trust",
    "turns_little": "a higher triplets.clip_rows",
}


def sampling_lines(split: str, sampling: Mapping[str, Any]) -> Iterator[str]:
    """The report of one split (``assembly.sampling.report``) as lines for a person."""
    rule = sampling["balance"]
    changes = sampling["changes"]
    ordered = [rule, *(other for other in changes if other != rule)]
    for name in ordered:
        used = "" if name == rule else "; not used, to compare"
        yield f"{split}, triplets.balance={name}{used}: {changes_in_words(changes[name])}"
    for reason, count in left_out(sampling):
        yield f"{split}: {count:,} pairs left out: {reason}"
    if missing := missing_in_words(sampling["missing_poses"]):
        yield f"{split}: {missing}"
    if sampling["few"]:
        remedies = [what for reason, what in _REMEDIES.items() if reason in sampling["left_out"]]
        told = "; so would ".join(["More videos would give more", *remedies])
        yield f"{split}: only {sampling['rows']:,} triplets. {told}"


def changes_in_words(changes: Mapping[str, int]) -> str:
    """How many rows change pose, and how many pose pictures are right; each with who says so."""
    told = [f"{changes['rows']:,} triplets"]
    for how, rows in (("by truth", "by_truth"), ("as read", "as_read")):
        if changes[rows]:
            share = f"{changes[f'changed_{rows}']:,} of {changes[rows]:,}"
            told.append(f"pose changes by more than 30 degrees in {share} {how}")
    known = changes["pose_by_truth"]
    if known:
        right, opposite = changes["pose_right"] / known, changes["pose_opposite"] / known
        told.append(
            f"pose picture by truth within 45 degrees in {right:.1%}, opposite in {opposite:.1%}"
        )
    if len(told) == 1 and changes["rows"]:
        told.append("no direction is known or read, so that changes of pose cannot be told")
    return "; ".join(told)


def left_out(sampling: Mapping[str, Any]) -> list[tuple[str, int]]:
    """What became of the other pairs, in words, most first."""
    counts = sorted(sampling["left_out"].items(), key=lambda item: (-item[1], item[0]))
    return [(LEFT_OUT.get(reason, reason), count) for reason, count in counts]


def missing_in_words(missing: Mapping[str, Any]) -> str:
    """Which poses no target shows; nothing where all are shown."""
    names, how = list(missing["poses"]), missing["by"]
    if not names:
        return ""
    more = f" and {len(names) - _POSES_NAMED} more" if len(names) > _POSES_NAMED else ""
    return f"no target shows these poses, {how}: {', '.join(names[:_POSES_NAMED])}{more}"
