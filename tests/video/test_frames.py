"""Which frames are wanted: known answers, then brute force over all time stamps."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idpose_core.video.frames import Selector, exact_targets, grid_targets


def chosen(times: list[int], fps: float, windows: list[tuple[int, int]] | None) -> list[int]:
    selector = Selector(grid_targets(fps, windows))
    return [time for time in times if selector.take(time)]


def brute_force(times: list[int], fps: float, windows: list[tuple[int, int]] | None) -> list[int]:
    """For each grid time in turn look through all frames."""
    found = set()
    for k in range(int((max(times, default=0) + 1000) * fps / 1000) + 2):
        grid = round(k * 1000 / fps)
        if windows is None or any(start <= grid <= end for start, end in windows):
            later = [time for time in times if grid <= time <= grid + round(500 / fps)]
            if later:
                found.add(min(later))
    return sorted(found)


def test_constant_rate() -> None:
    times = [round(i * 1000 / 30) for i in range(31)]
    assert chosen(times, 4, None) == [0, 267, 500, 767, 1000]


def test_slower_than_the_grid_gives_each_frame_once() -> None:
    assert chosen([0, 500, 1000], 8, None) == [0, 500, 1000]


def test_a_gap_gives_nothing() -> None:
    assert chosen([0, 1100, 1990], 2, None) == [0, 1100]  # 1990 is 490 ms after 1500


def test_windows_include_both_ends() -> None:
    times = list(range(0, 5001, 50))
    assert chosen(times, 2, [(1000, 2000), (4000, 4000)]) == [1000, 1500, 2000, 4000]


def test_windows_may_overlap_and_come_in_any_order() -> None:
    times = list(range(0, 5001, 50))
    assert chosen(times, 2, [(3000, 4000), (2500, 3000), (2900, 3100)]) == [2500, 3000, 3500, 4000]


def test_no_window_wants_nothing() -> None:
    assert chosen([0, 100, 200], 10, []) == []


def test_time_that_goes_back_is_never_chosen() -> None:
    assert chosen([0, 500, 250, 500, 1000], 4, None) == [0, 500, 1000]


@given(
    times=st.lists(st.integers(0, 20_000), unique=True, max_size=120).map(sorted),
    fps=st.one_of(st.sampled_from([0.5, 1, 2, 3, 4, 10, 29.97]), st.floats(0.2, 60)),
    windows=st.none()
    | st.lists(
        st.tuples(st.integers(0, 20_000), st.integers(0, 6_000)).map(lambda w: (w[0], w[0] + w[1])),
        max_size=4,
    ),
)
def test_equals_brute_force(
    times: list[int], fps: float, windows: list[tuple[int, int]] | None
) -> None:
    assert chosen(times, fps, windows) == brute_force(times, fps, windows)


@given(st.floats(0.1, 250), st.integers(0, 100_000))
def test_targets_rise_and_are_disjoint(fps: float, start: int) -> None:
    targets = list(grid_targets(fps, [(start, start + 2000), (start + 500, start + 4000)]))
    assert all(a[1] < b[0] for a, b in pairwise(targets))


@given(st.lists(st.integers(0, 1000), max_size=40), st.sets(st.integers(0, 1000)))
def test_exact_targets(wanted: list[int], present: set[int]) -> None:
    selector = Selector(exact_targets(wanted))
    got = [time for time in sorted(present) if selector.take(time)]
    assert got == sorted(set(wanted) & present)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 251])
def test_bad_rate(fps: float) -> None:
    with pytest.raises(ValueError, match="sampling rate"):
        grid_targets(fps, None)


@pytest.mark.parametrize("window", [(-1, 5), (10, 9)])
def test_bad_window(window: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="window"):
        grid_targets(4, [window])
