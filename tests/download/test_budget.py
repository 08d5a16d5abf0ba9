"""The pace of a source: known answers on a clock of its own, then several processes at once."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idpose_core.download.budget import Budget, Pace
from storage.reasons import Status, Unusable


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(tmp_path: Path, clock: Clock) -> Callable[..., Budget]:
    def budget(per_hour: float | None, **pace: Any) -> Budget:
        path = tmp_path / "budgets" / "source.json"
        return Budget(path, Pace(per_hour, **pace), clock=clock, sleep=clock.sleep)

    return budget


def times(budget: Budget, clock: Clock, count: int) -> list[float]:
    found = []
    for _ in range(count):
        budget.acquire()
        found.append(clock.now - 1e9)
    return found


def gap(budget: Budget, clock: Clock) -> float:
    first, second = times(budget, clock, 2)
    return second - first


def test_300_an_hour_is_one_in_twelve_seconds(make: Callable[..., Budget], clock: Clock) -> None:
    assert times(make(300), clock, 4) == [0, 12, 24, 36]


def test_another_process_goes_on_where_the_last_one_stood(
    make: Callable[..., Budget], clock: Clock
) -> None:
    times(make(300), clock, 2)
    assert times(make(300), clock, 2) == [24, 36]


def test_without_a_limit_nobody_waits(make: Callable[..., Budget], clock: Clock) -> None:
    assert times(make(None), clock, 100)[-1] == 0


def test_retry_after_is_respected_to_the_second(make: Callable[..., Budget], clock: Clock) -> None:
    budget = make(None)
    budget.acquire()
    budget.refused(90)
    assert times(make(None), clock, 1) == [90]


def test_refusals_without_a_time_pause_twice_as_long_each(
    make: Callable[..., Budget], clock: Clock
) -> None:
    budget, waited = make(3600, pause_s=10, patience_s=1e9), []
    for _ in range(10):
        budget.acquire()
        before = clock.now
        budget.refused()
        budget.acquire()
        waited.append(clock.now - before)
    assert waited[:4] == [10, 20, 40, 80]
    assert waited[-1] == 3600  # and never longer than an hour


def test_refusals_of_many_at_once_count_as_one(make: Callable[..., Budget], clock: Clock) -> None:
    budget = make(3600, pause_s=10)
    for _ in range(8):
        budget.refused()
    assert times(budget, clock, 1) == [10]
    budget.refused()
    assert times(budget, clock, 1) == [30]


def test_the_pace_halves_and_recovers(make: Callable[..., Budget], clock: Clock) -> None:
    budget = make(360, pause_s=1)  # one in 10 s
    budget.refused()
    budget.acquire()
    assert gap(budget, clock) == pytest.approx(20)
    for _ in range(30):
        budget.served()
    assert gap(budget, clock) == pytest.approx(10)


def test_a_source_that_refuses_for_too_long_is_left_alone(
    make: Callable[..., Budget], clock: Clock
) -> None:
    budget = make(None, pause_s=60, patience_s=6 * 3600)
    with pytest.raises(Unusable) as caught:
        for _ in range(100):
            budget.acquire()
            budget.refused()
    assert caught.value.status is Status.RATE_LIMITED
    assert 6 <= (clock.now - 1e9) / 3600 < 7.5
    clock.now += 3600  # after the pause one may try; a success opens the source for all
    budget.acquire()
    budget.served()
    assert len(times(budget, clock, 5)) == 5


def test_ten_failures_in_a_row_pause_the_source(make: Callable[..., Budget], clock: Clock) -> None:
    budget = make(None, pause_s=60)
    for _ in range(9):
        budget.failed()
    assert times(budget, clock, 1) == [0]
    budget.served()
    for _ in range(9):
        budget.failed()
    assert times(budget, clock, 1) == [0]
    budget.failed()
    assert times(budget, clock, 1) == [60]
    budget.failed()
    assert times(budget, clock, 1) == [180]  # and again, twice as long, until one succeeds


def test_being_told_to_wait_longer_than_the_patience_ends_at_once(
    make: Callable[..., Budget], clock: Clock
) -> None:
    budget = make(None, patience_s=600)
    budget.refused(86_400)
    with pytest.raises(Unusable, match=r"24\.0 h more"):
        budget.acquire()
    assert clock.now == 1e9


def test_no_answer_closes_a_source_for_more_than_a_day(
    make: Callable[..., Budget], clock: Clock
) -> None:
    budget = make(per_hour=None, patience_s=1e9)
    budget.acquire()
    budget.refused(999_999_999)
    before = clock.now
    budget.acquire()
    assert clock.now - before == pytest.approx(86_400)


def test_refusals_of_last_week_are_forgotten(make: Callable[..., Budget], clock: Clock) -> None:
    budget = make(per_hour=None, pause_s=60.0)
    with pytest.raises(Unusable):
        while True:
            budget.acquire()
            budget.refused()
    clock.now += 7 * 86_400
    budget.acquire()
    budget.failed()
    budget.acquire()  # one failure is one failure
    budget.refused()
    before = clock.now
    budget.acquire()
    assert clock.now - before == pytest.approx(60)


def test_a_clock_that_is_set_back_does_not_stop_the_source(
    make: Callable[..., Budget], clock: Clock
) -> None:
    budget = make(300)
    budget.acquire()
    budget.refused(30)
    clock.now -= 1e6
    assert times(budget, clock, 1)[0] <= -1e6 + 30


def test_a_damaged_state_is_a_new_one(
    make: Callable[..., Budget], clock: Clock, tmp_path: Path
) -> None:
    times(make(300), clock, 1)
    (tmp_path / "budgets" / "source.json").write_bytes(b"\0" * 512)
    assert times(make(300), clock, 1) == [0]


@given(st.lists(st.sampled_from(["served", "refused", "told"]), max_size=30))
def test_the_configured_pace_is_never_exceeded(
    tmp_path_factory: pytest.TempPathFactory, events: list[str]
) -> None:
    clock = Clock()
    path = tmp_path_factory.mktemp("budget") / "source.json"
    budget = Budget(path, Pace(600, pause_s=1), clock=clock, sleep=clock.sleep)
    found = []
    for event in events:
        budget.acquire()
        found.append(clock.now)
        if event == "served":
            budget.served()
        else:
            budget.refused(3 if event == "told" else None)
    gaps = [b - a for a, b in pairwise(found)]
    assert all(gap >= 6 - 1e-6 for gap in gaps)


def take(path: Path, count: int) -> list[float]:
    budget = Budget(path, Pace(36_000))
    found = []
    for _ in range(count):
        budget.acquire()
        found.append(time.time())
    return found


def test_processes_share_one_budget(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        found = pool.starmap(take, [(tmp_path / "source.json", 6)] * 3)
    taken = sorted(moment for each in found for moment in each)
    assert len(taken) == 18
    assert taken[-1] - taken[0] >= 17 * 0.1 - 0.05  # one in 0.1 s, over all processes
