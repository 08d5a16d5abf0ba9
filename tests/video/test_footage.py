"""Near-duplicates and scene cuts: known answers, brute force, and the real clips."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import cv2
import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from idpose_core.video.decoding import sample_frames
from idpose_core.video.footage import (
    NO_TEXTURE,
    _difference,
    _hue_saturation_value,
    find_near_duplicates,
    perceptual_hash,
    scene_cuts,
)
from tests.video.make_videos import Image, write_video


def scenery(
    seed: int, count: int, *, width: int = 320, height: int = 180, speed: float = 0.025
) -> list[Image]:
    """A pan over a smooth random picture with a rectangle that crosses it the other way."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (7, 24, 3), dtype=np.uint8)
    wide = cv2.resize(small, (width * 3, height), interpolation=cv2.INTER_CUBIC)
    colour = random.integers(0, 256, 3).tolist()
    frames = []
    for i in range(count):
        start = round(i * speed * width)
        image = np.ascontiguousarray(wide[:, start : start + width])
        x = width - round(i * width / max(count, 1))
        cv2.rectangle(image, (x, height // 3), (x + width // 4, 2 * height // 3), colour, -1)
        frames.append(image)
    return frames


def resized(frames: list[Image], width: int, height: int) -> list[Image]:
    return [cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA) for f in frames]


def hashes_of(path: Path, fps: float = 4) -> list[int]:
    return [perceptual_hash(frame.image) for frame in sample_frames(str(path), fps=fps)]


def test_equals_imagehash() -> None:
    for seed in range(20):
        [image] = scenery(seed, 1)
        theirs = int(str(imagehash.phash(Pillow.fromarray(image))), 16)
        assert perceptual_hash(image) == theirs
        assert bin(theirs).count("1") in range(25, 40)


def test_frames_without_texture_have_no_hash() -> None:
    random = np.random.default_rng(0)
    for level in (0, 16, 128, 255):
        flat = np.full((90, 160, 3), level, np.uint8)
        noise = np.clip(flat + random.normal(0, 3, flat.shape), 0, 255).astype(np.uint8)
        assert perceptual_hash(flat) == NO_TEXTURE
        assert perceptual_hash(noise) == NO_TEXTURE


def brute_force(
    hashes: dict[str, list[int]], max_distance: int, min_matches: int
) -> list[tuple[str, str]]:
    """All pairs, all frames, longest common subsequence by dynamic programming."""
    pairs = []
    for a, b in itertools.combinations(sorted(hashes), 2):
        left = [h for h in hashes[a] if h]
        right = [h for h in hashes[b] if h]
        best = np.zeros((len(left) + 1, len(right) + 1), int)
        for i, x in enumerate(left):
            for j, y in enumerate(right):
                match = (x ^ y).bit_count() <= max_distance
                best[i + 1, j + 1] = max(best[i, j + 1], best[i + 1, j], best[i, j] + match)
        if best[-1, -1] >= min_matches:
            pairs.append((a, b))
    return pairs


@st.composite
def hash_sets(draw: st.DrawFn) -> dict[str, list[int]]:
    """Few distinct hashes, with some bits flipped, so that matches of every distance occur."""
    base = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5))

    def one() -> st.SearchStrategy[int]:
        flips = st.lists(st.integers(0, 63), max_size=9).map(
            lambda bits: sum(1 << b for b in set(bits))
        )
        return st.builds(lambda h, f: h ^ f, st.sampled_from([*base, 0]), flips | st.just(0))

    return draw(st.dictionaries(st.sampled_from("abcdef"), st.lists(one(), max_size=7), max_size=6))


@given(hash_sets(), st.integers(0, 7), st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_equals_brute_force(hashes: dict[str, list[int]], distance: int, matches: int) -> None:
    found = find_near_duplicates(hashes, max_distance=distance, min_matches=matches)
    assert found == brute_force(hashes, distance, matches)


def test_three_in_order_and_no_chains() -> None:
    random = np.random.default_rng(0)
    h = [int(x) for x in random.integers(1, 2**63, 20)]
    hashes = {
        "a": h[0:6],
        "b": h[3:9],  # three of a's
        "c": h[6:12],  # three of b's, none of a's
        "two": [h[0], h[1], *h[12:15]],
        "reversed": [h[5], h[4], h[3], h[2]],
        "black": [0] * 10,
        "black too": [0] * 10,
        "empty": [],
    }
    assert find_near_duplicates(hashes) == [("a", "b"), ("b", "c")]


def test_no_videos() -> None:
    assert find_near_duplicates({}) == []
    with pytest.raises(ValueError, match="max_distance"):
        find_near_duplicates({}, max_distance=8)


def test_re_encoded_rescaled_and_trimmed(tmp_path: Path) -> None:
    frames = scenery(1, 60)
    original = write_video(tmp_path / "a.mp4", frames, fps=15)
    copies = {
        "smaller": write_video(tmp_path / "b.mp4", resized(frames, 160, 90), fps=15),
        "low rate": write_video(tmp_path / "c.mp4", frames, fps=15, options={"crf": "42"}),
        "vp9, trimmed": write_video(
            tmp_path / "d.webm", frames[15:], fps=15, codec="libvpx-vp9",
            options={"deadline": "realtime", "cpu-used": "8"},
        ),
        "trimmed off the grid": write_video(tmp_path / "e.mp4", frames[4:50], fps=15),
        "other frame rate": write_video(tmp_path / "f.mp4", frames, fps=Fraction(25)),
    }  # fmt: skip
    hashes = {name: hashes_of(path) for name, path in copies.items()}
    hashes["original"] = hashes_of(original)
    for seed in range(2, 8):
        hashes[f"other {seed}"] = [perceptual_hash(image) for image in scenery(seed, 16)]
    found = find_near_duplicates(hashes)
    assert {frozenset(("original", name)) for name in copies} <= set(map(frozenset, found))
    assert not [pair for pair in found if any(name.startswith("other 2") for name in pair)]


def test_score_equals_pyscenedetect() -> None:
    from scenedetect.detectors import content_detector

    a, b = scenery(1, 1)[0], scenery(2, 1)[0]
    small = [cv2.resize(x, (256, 144), interpolation=cv2.INTER_AREA) for x in (a, b)]
    channels = [cv2.split(cv2.cvtColor(x, cv2.COLOR_RGB2HSV)) for x in small]
    theirs = np.mean(
        [content_detector._mean_pixel_distance(x, y) for x, y in zip(*channels, strict=True)]
    )
    ours = _difference(_hue_saturation_value(a), _hue_saturation_value(b))
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_cuts_between_pans() -> None:
    shots = [scenery(seed, count) for seed, count in ((1, 8), (2, 5), (3, 1), (4, 6))]
    flags = scene_cuts(itertools.chain(*shots))
    starts = list(itertools.accumulate(len(shot) for shot in shots[:-1]))
    assert [i for i, cut in enumerate(flags) if cut] == starts


def test_a_fast_pan_is_no_cut() -> None:
    pan = scenery(1, 8, speed=0.25)
    assert not any(scene_cuts(pan))
    scores = [_difference(*map(_hue_saturation_value, pair)) for pair in itertools.pairwise(pan)]
    assert min(scores) > 27  # ContentDetector alone would cut it


def test_few_frames() -> None:
    assert scene_cuts([]) == []
    assert scene_cuts(scenery(1, 1)) == [False]
    assert scene_cuts([scenery(1, 1)[0], scenery(2, 1)[0]]) == [False, True]
    assert scene_cuts([scenery(1, 1)[0]] * 3) == [False] * 3


def test_a_change_of_size_is_no_cut() -> None:
    frames = scenery(1, 1) * 4
    assert not any(scene_cuts([*frames, *resized(frames, 200, 113)]))


CUTS = {  # seconds, found by looking at the frames
    "audi_rs5_night.mp4": [1.94],
    "merc_e63_walk.mp4": [0.03, 2.57, 4.73],
    "highway_kasra.mp4": [0.03],
}


@pytest.mark.parametrize("name", ["audi_rs5_night.mp4", "merc_e63_walk.mp4"])
@pytest.mark.parametrize("fps", [2, 4])
def test_real_cuts(real_data: Path, name: str, fps: float) -> None:
    frames = list(sample_frames(str(real_data / "multishot" / name), fps=fps))
    cuts = [
        any(before.timestamp_ms < 1000 * cut <= after.timestamp_ms + 10 for cut in CUTS[name])
        for before, after in itertools.pairwise(frames)
    ]
    assert scene_cuts(frame.image for frame in frames) == [False, *cuts]


@pytest.mark.slow
def test_all_real_videos(real_data: Path) -> None:
    """No two of the 34 are near-duplicates; at 4 frames a second few steps are taken for cuts."""
    hashes: dict[str, list[int]] = {}
    wrong = found = 0
    for path in sorted([*real_data.glob("clips/*"), *real_data.glob("ytbb/*.mp4")]):
        frames = list(sample_frames(str(path), fps=4))
        hashes[path.name] = [perceptual_hash(frame.image) for frame in frames]
        flags = scene_cuts(frame.image for frame in frames)
        for (before, after), cut in zip(itertools.pairwise(frames), flags[1:], strict=True):
            true = any(
                before.timestamp_ms < 1000 * time <= after.timestamp_ms
                for time in CUTS.get(path.name, [])
            )
            found += cut and true
            wrong += cut and not true
    assert len(hashes) == 34
    assert find_near_duplicates(hashes) == []
    assert found == 1
    assert wrong <= 8
