"""Linking over time: known answers, invented traffic with known identities, invariance."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idpose_core.instances.boxes import Box, Detection, FrameDetections
from idpose_core.instances.linking import link_over_time
from idpose_core.instances.tracks import Track
from tests.instances.worlds import World, boxes_in_motion, moving, random_traffic

VEHICLES = frozenset({"car", "bus", "truck"})


def link(world: World, **options: Any) -> list[Track]:
    return link_over_time(world.frames, classes=VEHICLES, threshold=0.5, **options)


def test_one_moving_car_is_one_track() -> None:
    world = boxes_in_motion([moving((0.2, 0.5), (0.03, 0.01), (0.2, 0.2), 12)])
    (track,) = link(world)
    assert len(track.observations) == 12
    assert (track.class_name, track.object_id) == ("car", "0")
    assert (track.start_ms, track.end_ms) == (0, 2750)


def test_two_cars_far_apart_are_two_tracks_numbered_by_their_start() -> None:
    late = [None] * 4 + moving((0.2, 0.5), (0.01, 0), (0.2, 0.2), 8)
    early = moving((0.7, 0.5), (0.01, 0), (0.2, 0.2), 12)
    world = boxes_in_motion([late, early])
    first, second = link(world)
    assert world.identities(first) == {1}
    assert world.identities(second) == {0}
    assert (first.object_id, second.object_id) == ("0", "1")


def test_cars_that_cross_never_swap() -> None:
    """At the middle each stands where the other one stood before: overlap alone would swap."""
    for speed in (0.02, 0.03, 0.05, 0.08):
        steps = int(0.6 / speed)
        world = boxes_in_motion(
            [
                moving((0.2, 0.5), (speed, 0), (0.2, 0.2), steps),
                moving((0.2 + speed * (steps - 1), 0.5), (-speed, 0), (0.2, 0.2), steps),
            ]
        )
        tracks = link(world)
        assert all(len(world.identities(track)) == 1 for track in tracks)
        assert {i for track in tracks for i in world.identities(track)} == {0, 1}


def test_where_a_car_was_a_second_ago_there_may_be_the_next_one() -> None:
    leader = [*moving((0.2, 0.5), (0.08, 0), (0.2, 0.2), 4), None, None, None, None]
    follower: list[Box | None] = [*[None] * 6, *moving((0.44, 0.5), (0.08, 0), (0.2, 0.2), 2)]
    world = boxes_in_motion([leader, follower])
    tracks = link(world)
    assert [world.identities(track) for track in tracks] == [{0}, {1}, {1}]


def test_a_parked_car_that_is_missed_for_a_second_is_one_track() -> None:
    path = moving((0.5, 0.5), (0.0, 0), (0.2, 0.2), 12)
    path[4:7] = [None] * 3
    (track,) = link(boxes_in_motion([path]))
    assert len(track.observations) == 9


@pytest.mark.parametrize(("missing", "tracks"), [(5, 1), (6, 2)])
def test_a_gap_of_more_than_a_second_and_a_half_ends_a_track(missing: int, tracks: int) -> None:
    path = moving((0.5, 0.5), (0.0, 0), (0.2, 0.2), 16)
    path[5 : 5 + missing] = [None] * missing  # 250 ms a frame: 1500 and 1750 ms apart
    assert len(link(boxes_in_motion([path]))) == tracks


def test_a_cut_ends_every_track() -> None:
    path = moving((0.5, 0.5), (0.0, 0), (0.2, 0.2), 10)
    first, second = link(boxes_in_motion([path], cuts=frozenset({4})))
    assert (first.end_ms, second.start_ms) == (750, 1000)


def test_car_bus_and_truck_on_one_vehicle_are_one_object() -> None:
    names = [["car", "truck", "car", "bus", "truck", "car", "car", "truck"]]
    path = moving((0.3, 0.5), (0.02, 0), (0.2, 0.2), 8)
    (track,) = link(boxes_in_motion([path], names=names))
    assert track.class_name == "car"
    assert [o.detection.class_name for o in track.observations] == names[0]


def test_the_class_is_that_of_the_larger_sum_of_scores() -> None:
    names, scores = [["bus", "car", "car"]], [[0.95, 0.5, 0.5]]
    path = moving((0.3, 0.5), (0.0, 0), (0.2, 0.2), 3)
    world = boxes_in_motion([path], names=names, scores=scores)
    (track,) = link(world)
    assert track.class_name == "car"
    assert link_over_time(world.frames, classes=frozenset({"bus"}), threshold=0.5) == []
    assert link_over_time(world.frames, classes=frozenset({"car"}), threshold=0.5) == [track]


def test_a_person_is_not_linked_when_cars_are_wanted() -> None:
    path = moving((0.3, 0.5), (0.0, 0), (0.1, 0.3), 6)
    world = boxes_in_motion([path], names=[["person"] * 6])
    assert link(world) == []
    (track,) = link_over_time(world.frames, classes=frozenset({"person"}), threshold=0.5)
    assert track.class_name == "person"


def test_a_person_in_front_of_a_car_is_not_linked_to_it() -> None:
    car: list[Box | None] = [Box(0.3, 0.6, 0.3, 0.6)] * 3 + [None] * 3
    person: list[Box | None] = [None] * 3 + [Box(0.35, 0.6, 0.3, 0.6)] * 3
    world = boxes_in_motion([car, person], names=[["car"] * 6, ["person"] * 6])
    tracks = link_over_time(world.frames, classes=frozenset({"car", "person"}), threshold=0.5)
    assert [(t.class_name, world.identities(t)) for t in tracks] == [("car", {0}), ("person", {1})]


def test_weak_boxes_bridge_but_neither_start_a_track_nor_are_observed() -> None:
    path = moving((0.3, 0.5), (0.0, 0), (0.2, 0.2), 14)
    scores = [[0.3, 0.3, 0.9, 0.9, *[0.3] * 8, 0.9, 0.9]]  # weak for 2 s: too long without bridge
    (track,) = link(boxes_in_motion([path], scores=scores))
    assert [o.timestamp_ms for o in track.observations] == [500, 750, 3000, 3250]
    very_weak = [[0.2 if score == 0.3 else score for score in scores[0]]]
    assert len(link(boxes_in_motion([path], scores=very_weak))) == 2
    assert link(boxes_in_motion([path], scores=[[0.49] * 14])) == []


def test_a_box_that_doubles_its_size_at_once_is_not_the_same_object() -> None:
    world = boxes_in_motion([[Box(0.4, 0.6, 0.4, 0.6), Box(0.3, 0.71, 0.4, 0.6)]])
    assert len(link(world)) == 2


def test_a_vehicle_behind_another_is_not_observed_there() -> None:
    front = moving((0.5, 0.6), (0.0, 0), (0.4, 0.4), 12)
    behind = moving((0.1, 0.5), (0.02, 0), (0.15, 0.15), 12)
    world = boxes_in_motion([front, behind])
    tracks = link(world)
    for track in tracks:
        (who,) = world.identities(track)
        if who == 1:
            assert all(o.detection.box.xmax < 0.35 for o in track.observations)
    assert sum(len(t.observations) for t in tracks if world.identities(t) == {0}) == 12


def test_two_equal_continuations_end_the_track() -> None:
    before: list[Box | None] = [Box(0.4, 0.6, 0.4, 0.6)] * 2 + [None] * 2
    left: list[Box | None] = [None] * 2 + [Box(0.32, 0.5, 0.4, 0.6)] * 2
    right: list[Box | None] = [None] * 2 + [Box(0.5, 0.68, 0.4, 0.6)] * 2
    world = boxes_in_motion([before, left, right])
    assert [world.identities(track) for track in link(world)] == [{0}, {1}, {2}]


def test_no_frames_and_no_detections() -> None:
    assert link_over_time([], classes=VEHICLES, threshold=0.5) == []
    empty = [FrameDetections(0, 640, 360, False, ())]
    assert link_over_time(empty, classes=VEHICLES, threshold=0.5) == []


def test_empty_boxes_are_no_objects() -> None:
    line = Detection("car", 0.9, Box(0.5, 0.5, 0.2, 0.8))
    frames = [FrameDetections(t, 640, 360, False, (line,)) for t in (0, 250)]
    assert link_over_time(frames, classes=VEHICLES, threshold=0.5) == []


@pytest.mark.parametrize("times", [(0, 0), (250, 0)])
def test_times_that_do_not_increase_are_refused(times: tuple[int, int]) -> None:
    frames = [FrameDetections(t, 640, 360, False, ()) for t in times]
    with pytest.raises(ValueError, match="do not increase"):
        link_over_time(frames, classes=VEHICLES, threshold=0.5)


def impure_share(seeds: range, **faults: Any) -> tuple[float, float]:
    """Share of tracks of 3 or more that mix identities; share of confident boxes that are kept."""
    tracks = impure = kept = confident = 0
    for seed in seeds:
        world = random_traffic(seed, **faults)
        confident += sum(d.score >= 0.5 for f in world.frames for d in f.detections)
        for track in link(world):
            if len(track.observations) >= 3:
                tracks += 1
                kept += len(track.observations)
                impure += len(world.identities(track)) > 1
    return impure / tracks, kept / confident


def test_identities_stay_apart_in_dense_traffic() -> None:
    impure, kept = impure_share(range(150), misses=0.0, weakest=0.6)
    assert impure <= 0.002
    assert kept >= 0.65


def test_identities_stay_apart_where_the_detector_reports_now_this_and_now_that() -> None:
    impure, _ = impure_share(range(150), misses=0.0, weakest=0.6, front_wins=False)
    assert impure <= 0.015


def test_identities_stay_apart_in_dense_traffic_under_a_poor_detector() -> None:
    impure, kept = impure_share(range(150))
    assert impure <= 0.015
    assert kept >= 0.55


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_properties_in_any_traffic(seed: int, order: random.Random) -> None:
    world = random_traffic(seed, steps=10)
    tracks = link(world)

    shuffled = []
    for frame in world.frames:
        detections = list(frame.detections)
        order.shuffle(detections)
        shuffled.append(replace(frame, detections=tuple(detections)))
    assert link_over_time(shuffled, classes=VEHICLES, threshold=0.5) == tracks

    observed = [(o.timestamp_ms, o.detection) for t in tracks for o in t.observations]
    assert len(set(observed)) == len(observed), "a detection belongs to one track only"
    assert [t.object_id for t in tracks] == [str(i) for i in range(len(tracks))]
    for track in tracks:
        times = [o.timestamp_ms for o in track.observations]
        assert times == sorted(set(times))
        assert all(o.detection.score >= 0.5 for o in track.observations)
