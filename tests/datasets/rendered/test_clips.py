"""Courses and clips: what the videos promise of angles, sizes, company and obstacles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idpose_core.datasets.rendered.camera import view_angles
from idpose_core.datasets.rendered.clips import Clip, ClipSettings
from idpose_core.datasets.rendered.families import solid
from idpose_core.datasets.rendered.motion import (
    KINDS,
    azimuth_range,
    corners,
    draw_motion,
    screen_box,
)
from idpose_core.datasets.rendered.seeds import generator
from idpose_core.datasets.rendered.splits import split_of

FRAME = (320, 240)
CAR = np.array((4.4, 1.8, 1.45))
SETTINGS = ClipSettings("car", 4.0, 3, (160, 120), 0)


@given(st.integers(0, 10_000), st.sampled_from([("car", CAR), ("chair", np.array((0.6, 0.5, 1)))]))
@settings(max_examples=40)
def test_courses_turn_by_20_to_180_degrees_and_stay_in_the_picture(seed: int, what) -> None:
    family, size = what
    motion = draw_motion(generator("test", seed), family, size, 4.0, FRAME)
    assert motion.kind in KINDS[family]
    times = np.linspace(0, 4, 25)
    assert 20 <= azimuth_range(motion, times, size[2] / 2) <= 180
    boxes = np.array([screen_box(motion.camera(t), motion.pose(t), corners(size)) for t in times])
    assert boxes[:, :2].min() > 0
    assert (boxes[:, 2:] < FRAME).all()
    assert (boxes[:, 2:] - boxes[:, :2]).min() > 55


def test_cars_drive_forwards_and_reverse_backwards() -> None:
    seen = set()
    for seed in range(60):
        motion = draw_motion(generator("way", seed), "car", CAR, 4.0, FRAME)
        before, after = motion.pose(2.0), motion.pose(2.1)
        step = (after - before)[:3, 3] @ before[:3, 0]
        assert abs((after - before)[:3, 3] @ before[:3, 1]) < 0.1 * abs(step) + 1e-9  # no sliding
        if motion.kind == "orbit":
            assert step == 0
        else:
            assert (step < 0) == (motion.kind == "reverse")
        seen.add(motion.kind)
    assert seen == set(KINDS["car"])


def test_the_axles_are_where_the_truth_says() -> None:
    """Front and rear end projected by the azimuth alone lie on that side in the mask."""
    checked = 0
    for model in (0, 3, 9):
        clip = Clip(SETTINGS, model, 1)
        half = solid("car", model).size[0] / 2 - 0.1
        for time in (0.0, 2.0, 3.5):
            [sighting, *_] = clip.sightings(time)
            camera = clip.motion.camera(time)
            pose = clip.motion.pose(time)
            ends = np.array([(half, 0, 0.6, 1), (-half, 0, 0.6, 1)]) @ pose.T
            front, rear = camera.project(ends[:, :3])
            for x, y in (front, rear):
                assert sighting.box is not None
                assert sighting.box[0] * 160 - 1 < x < sighting.box[1] * 160 + 1
                assert sighting.box[2] * 120 - 1 < y < sighting.box[3] * 120 + 1
            sine = np.sin(np.deg2rad(sighting.azimuth_deg))
            if abs(sine) > 0.3:  # its left side is seen: the front is on the left
                assert (front[0] < rear[0]) == (sine > 0)
                checked += 1
            nearer = np.linalg.norm(ends[:, :3] - camera.place, axis=1)
            cosine = np.cos(np.deg2rad(sighting.azimuth_deg))
            if abs(cosine) > 0.3:
                assert (nearer[0] < nearer[1]) == (cosine > 0)
            angles = view_angles(camera.place, pose, solid("car", model).size[2] / 2)
            assert (sighting.azimuth_deg, sighting.elevation_deg, sighting.distance) == angles
    assert checked >= 4


def test_a_clip_follows_from_its_names() -> None:
    def facts(model: int, scene: int, seed: int = 0) -> tuple:
        clip = Clip(ClipSettings("car", 4.0, 3, (160, 120), seed), model, scene)
        return clip.motion.kind, clip.motion.focal, clip.light.sun

    assert facts(1, 0) == facts(1, 0)
    assert len({facts(1, 0), facts(1, 1), facts(2, 0), facts(1, 0, seed=1)}) == 4


@pytest.mark.slow
def test_shares_of_company_and_of_hidden_frames_are_as_promised() -> None:
    models = range(0, 183, 2)
    pairs, seen, kinds = 0, [], set()
    for model in models:  # one at a time: each holds its place's pictures
        clip = Clip(SETTINGS, model, 0)
        kinds.add(clip.motion.kind)
        seen += [clip.sightings(time)[0] for time in np.arange(0, 4, 0.5)]
        if len(clip.actors) == 2:
            first, second = (actor.model for actor in clip.actors)
            assert first != second
            # Test identities never appear in training videos
            assert split_of("car", first) == split_of("car", second)
            pairs += 1
    assert 0.12 < pairs / len(models) < 0.3
    hidden = np.array([sighting.visible_share < 0.98 for sighting in seen])
    assert 0.12 < hidden.mean() < 0.3
    assert np.mean([sighting.visible_share < 0.3 for sighting in seen]) < 0.03
    boxes = np.array([sighting.box for sighting in seen]) * (320, 320, 240, 240)
    sides = np.minimum(boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2])
    assert np.mean(sides >= 64) > 0.97
    inside = (boxes[:, ::2].min(axis=1) > 0) & (boxes[:, 1] < 320) & (boxes[:, 3] < 240)
    assert inside.mean() > 0.97
    assert kinds == set(KINDS["car"])
