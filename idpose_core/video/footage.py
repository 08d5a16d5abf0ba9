"""Whether two videos show the same footage, and where a video cuts from one shot to another."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import cv2
import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from idpose_core.video.frames import Image
from idpose_core.video.transitions import (
    UNLIKE,
    Glimpse,
    dissolves,
    glimpse,
    relative_difference,
    unlikeness,
)

NO_TEXTURE = 0
"""Hash of a frame that shows too little to be recognised; a true pHash has half its bits set."""

MIN_CONTRAST = 6.0  # standard deviation of the 32x32 grey picture, of 255
MAX_DISTANCE = 6
MIN_MATCHES = 3

CUT_SCORE = 27.0
SAME_VIEW = 0.2  # unlikeness of two frames below which they show one view, in whatever light
CUT_RATIO = 1.75
CHANGE_RATIO = 2.5  # the same for changes relative to contrast: cameras jerk
CUT_REACH = 2
_CUT_SIDE = 256


def perceptual_hash(image: Image) -> int:
    """64-bit pHash of a whole frame, equal to ``imagehash.phash``.

    Args:
        image: uint8 [H, W, 3] RGB.

    Returns:
        The hash, in [0, 2**64); ``NO_TEXTURE`` for frames without texture (black, a single colour,
        fog), whose bits would be noise.
    """
    picture = Pillow.fromarray(image)
    grey = np.asarray(picture.convert("L").resize((32, 32), Pillow.Resampling.LANCZOS))
    if grey.std() < MIN_CONTRAST:
        return NO_TEXTURE
    return int(str(imagehash.phash(picture)), 16)


def find_near_duplicates(
    hashes: Mapping[str, Sequence[int]],
    *,
    max_distance: int = MAX_DISTANCE,
    min_matches: int = MIN_MATCHES,
) -> list[tuple[str, str]]:
    """Pairs of videos that show the same footage.

    Two videos are a pair if ``min_matches`` frames of the one match frames of the other in the same
    order. Single frames do not decide: crops and still scenes of different videos collide (method
    section 11). Pairs are not chained: a pair (a, b) and a pair (b, c) do not make (a, c).

    Every match within the distance is found: by the pigeonhole principle two hashes at most 7 bits
    apart differ by at most one bit in one of their four 16-bit words, and those words are looked up
    in hash tables (faiss.IndexBinaryMultiHash). So the time grows with the number of hashes and of
    matches, not with the number of pairs of videos.

    Args:
        hashes: For each video id the hashes of its sampled frames in order of time.
        max_distance: Greatest Hamming distance of a match, in [0, 7].
        min_matches: Length of the chain of matches that makes a pair.

    Returns:
        Pairs (a, b) with a < b, sorted.

    Raises:
        ValueError: A distance outside [0, 7].
    """
    if not 0 <= max_distance <= 7:
        raise ValueError(f"max_distance must lie in [0, 7]: {max_distance}")
    videos = sorted(hashes)
    textured = [(v, i, h) for v, name in enumerate(videos) for i, h in enumerate(hashes[name]) if h]
    if not textured:
        return []
    video, position, value = zip(*textured, strict=True)
    matches: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for first, second in _close(np.array(value, dtype=np.uint64), max_distance):
        if video[first] < video[second]:
            matches[video[first], video[second]].append((position[first], position[second]))
    return [
        (videos[a], videos[b])
        for (a, b), found in sorted(matches.items())
        if _longest_chain(found) >= min_matches
    ]


def _close(values: npt.NDArray[np.uint64], max_distance: int) -> Iterator[tuple[int, int]]:
    """Ordered index pairs of 64-bit values at most so many bits apart."""
    import faiss  # it loads torch's threads and takes a second: only where it is needed

    codes = values.view(np.uint8).reshape(-1, 8)
    index = faiss.IndexBinaryMultiHash(64, 4, 16)
    index.nflip = 1
    index.add(codes)
    for start in range(0, len(codes), 4096):  # bounds the memory of the answers
        limits, _, found = index.range_search(codes[start : start + 4096], max_distance + 1)
        for row, (begin, end) in enumerate(pairwise(limits.tolist())):
            for other in found[begin:end].tolist():
                yield start + row, other


def _longest_chain(matches: Iterable[tuple[int, int]]) -> int:
    """Length of the longest sequence of matches that rises strictly in both videos."""
    ends: list[int] = []  # ends[n]: lowest last position of a chain of n + 1 matches
    for _, b in sorted(matches, key=lambda match: (match[0], -match[1])):
        place = bisect_left(ends, b)
        ends[place : place + 1] = [b]
    return len(ends)


def scene_cuts(
    frames: Iterable[Image], *, cut_contrast: float = 0.8, dissolve_error: float = 0.2
) -> list[bool]:
    """Whether another shot has begun between each sampled frame and the one before it.

    A hard cut scores high: the score of a step is that of PySceneDetect's ContentDetector, the
    mean absolute difference of hue, saturation and value, threshold 27. Dark or colourless videos
    never score so high, so a step is also taken for a cut where it changes the picture by
    ``cut_contrast`` of the frames' own contrast (see ``transitions.relative_difference``). Either
    way the picture must be another one, not the same in another light: hue is noise in the dark,
    and headlamps flash.

    Between frames sampled at 2 to 4 a second a pan or a car that fills the picture scores as high
    as a cut, but then so do the steps beside it. So, as in PySceneDetect's AdaptiveDetector, a cut
    must also stand out: it scores at least 1.75 times the second lowest of the two steps before and
    the two after it, and relative to contrast 2.5 times. (The second lowest and not their mean, so
    that two cuts close together do not hide each other.)

    Each frame of a dissolve begins a shot, so that no shot holds a mixture, and so do the first
    blank frame and the one after the last: between a fade out and a fade in the shot has changed.

    Args:
        frames: uint8 [H, W, 3] RGB, in order of time; consumed one at a time.
        cut_contrast: See above; about 1 is the difference of unrelated pictures.
        dissolve_error: See ``transitions.dissolves``; 0 finds no dissolves.

    Returns:
        One flag a frame; the first is False.
    """
    scores: list[float] = []
    seen: list[Glimpse] = []
    before = None
    for image in frames:
        now = _hue_saturation_value(image)
        scores.append(0.0 if before is None else _difference(before, now))
        seen.append(glimpse(image))
        before = now
    steps = scores[1:]
    changes = [relative_difference(a, b) for a, b in pairwise(seen)]
    unlike = [unlikeness(a, b) for a, b in pairwise(seen)]
    mixed = dissolves(seen, least_difference=cut_contrast, max_error=dissolve_error)
    blank = [frame.blank for frame in seen]

    def is_cut(i: int) -> bool:
        if _stands_out(steps, i, CUT_SCORE, CUT_RATIO) and unlike[i] >= SAME_VIEW:
            return True
        limits = ((changes, cut_contrast), (unlike, UNLIKE))
        return all(_stands_out(values, i, least, CHANGE_RATIO) for values, least in limits)

    return [
        i > 0 and (i in mixed or blank[i - 1] != blank[i] or is_cut(i - 1))
        for i in range(len(scores))
    ]


def _hue_saturation_value(image: Image) -> npt.NDArray[np.int16]:
    height, width = image.shape[:2]
    scale = _CUT_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2HSV), dtype=np.int16)


def _difference(a: npt.NDArray[np.int16], b: npt.NDArray[np.int16]) -> float:
    if a.shape != b.shape:  # a stream may change its size without a cut
        b = cv2.resize(b, a.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return float(np.abs(a - b).mean())


def _stands_out(scores: Sequence[float], i: int, least: float, ratio: float) -> bool:
    around = sorted([*scores[max(0, i - CUT_REACH) : i], *scores[i + 1 : i + 1 + CUT_REACH]])
    usual = around[(len(around) - 1) // 2] if around else 0.0
    return scores[i] >= least and scores[i] >= ratio * usual
