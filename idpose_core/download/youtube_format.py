"""Which of a video's formats to fetch: the smallest that serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_PROTOCOLS = ("http", "https")


def smallest_that_serves(
    formats: Sequence[Mapping[str, Any]], min_height: int, avoid: Sequence[str] = ()
) -> Mapping[str, Any] | None:
    """The lowest format with at least ``min_height`` lines, of equal ones the smallest file.

    Where none has so many, the highest. Sound is not needed, so a format without it wins by its
    size. What comes in fragments only, is protected, or has no picture does not serve.

    Args:
        formats: As yt-dlp lists them.
        min_height: Lines of the picture; of one that stands upright, its width.
        avoid: Beginnings of codec names that the decoder cannot open.

    Returns:
        None where no format serves.
    """
    usable = [form for form in formats if _usable(form, avoid)]
    enough = [form for form in usable if _lines(form) >= min_height]
    if enough:
        return min(enough, key=lambda form: (_lines(form), _size(form), _name(form)))
    return min(usable, key=lambda form: (-_lines(form), _size(form), _name(form)), default=None)


def _usable(form: Mapping[str, Any], avoid: Sequence[str]) -> bool:
    codec = str(form.get("vcodec") or "")
    return (
        bool(form.get("url"))
        and str(form.get("protocol") or "https") in _PROTOCOLS
        and codec != "none"
        and not codec.startswith(tuple(avoid))
        and not form.get("has_drm")
        and not form.get("fragments")
        and form.get("ext") != "mhtml"  # sheets of preview pictures
    )


def _lines(form: Mapping[str, Any]) -> int:
    """The shorter side; 0 where it is not told."""
    sides = [int(side) for side in (form.get("height"), form.get("width")) if side]
    return min(sides, default=0)


def _size(form: Mapping[str, Any]) -> float:
    """Bytes, or a stand-in that orders the formats of one video; unknown ones come last."""
    known = form.get("filesize") or form.get("filesize_approx")
    if known:
        return float(known)
    rate = form.get("tbr") or form.get("vbr")
    return float(rate) * 1e6 if rate else float("inf")


def _name(form: Mapping[str, Any]) -> str:
    return str(form.get("format_id"))
