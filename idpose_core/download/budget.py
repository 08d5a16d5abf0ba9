"""A polite pace: one budget for all processes that ask one source, kept through kills.

The state is a small file below ROOT under a kernel lock, so that however many workers and builds
ask the same source, together they keep its pace, and a new process goes on where the last one
stood. It adapts: whoever is told to slow down halves the pace for all and pauses all; success
brings the pace back little by little.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from storage.reasons import Status, Unusable

_HOUR = 3600.0
_LONGEST_PAUSE = 24 * _HOUR  # so that no answer closes a source for years
_LONGEST_NAP = 5.0  # so that a pause set meanwhile is noticed
_DOWN = 10  # failures in a row, over all processes, that say that the source itself is down
_FIRST_S = 0.25  # between two videos of a source without a limit, once it asks for less
_RECOVERY = 0.8  # of the interval, with every success
_STATE_BYTES = 512


@dataclass(frozen=True)
class Pace:
    """How fast a source may be asked.

    Attributes:
        per_hour: Videos an hour; None = as fast as it gives, until it asks for less.
        pause_s: First pause after a refusal that says no time; it doubles up to an hour.
        patience_s: Longest time to wait for a source that refuses. After that its videos end as
            RATE_LIMITED without being asked for, to be tried by a later build.
    """

    per_hour: float | None
    pause_s: float = 60.0
    patience_s: float = 6 * _HOUR

    @property
    def interval_s(self) -> float:
        """Seconds between two videos."""
        return _HOUR / self.per_hour if self.per_hour else 0.0


@dataclass(frozen=True)
class _State:
    next_at: float = 0.0  # when the next video may be asked for
    interval_s: float = 0.0
    paused_at: float = 0.0
    pause_s: float = 0.0
    strikes: int = 0  # refusals since the last success
    refused_since: float = 0.0  # the first of them; 0 where there is none
    failures: int = 0  # videos that failed in a row

    def at(self, now: float) -> _State:
        """The state as it stands to a clock; one that was set back prolongs no wait.

        Refusals are forgotten where nobody asked for an hour after the last pause: what was true
        then would make a build of next week give up at its first failure.
        """
        if self.refused_since and self.pause_left(now) < -_HOUR:
            return replace(self, strikes=0, refused_since=0.0, failures=0).at(now)
        return replace(
            self,
            next_at=min(self.next_at, now + self.interval_s),
            paused_at=min(self.paused_at, now),
        )

    def pause_left(self, now: float) -> float:
        """Seconds of the pause that are left."""
        return self.pause_s - (now - self.paused_at) if self.pause_s else 0.0


class Budget:
    """The pace of one source.

    Args:
        path: The state's file; its folder is made.
        pace: What is allowed.
        clock: Seconds since the epoch, the same for all processes.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        path: Path,
        pace: Pace,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path = path
        self._pace = pace
        self._clock = clock
        self._sleep = sleep

    def acquire(self) -> None:
        """Wait until one video may be asked for.

        Raises:
            Unusable: RATE_LIMITED, where that would take longer than the patience lasts.
        """
        while (wait := self._take()) > 0:
            self._sleep(min(wait, _LONGEST_NAP))

    def refused(self, retry_after_s: float | None = None) -> None:
        """The source asked for less: halve the pace and pause, for everybody.

        Args:
            retry_after_s: How long it said to wait; a day at most is waited.
        """
        if retry_after_s is not None:
            retry_after_s = min(retry_after_s, _LONGEST_PAUSE)
        with self._locked() as (handle, state, now):
            _write(handle, self._slower(state, now, retry_after_s))

    def failed(self) -> None:
        """A video could not be had; many in a row are a refusal of the source as a whole."""
        with self._locked() as (handle, state, now):
            state = replace(state, failures=state.failures + 1)
            if state.failures >= _DOWN:
                state = self._slower(state, now, None)
            _write(handle, state)

    def served(self) -> None:
        """The source gave an answer, be it that there is no such video."""
        base = self._pace.interval_s
        with self._locked() as (handle, state, _):
            interval = state.interval_s * _RECOVERY
            if interval < base + 0.05:
                interval = base
            better = replace(state, strikes=0, refused_since=0.0, failures=0, interval_s=interval)
            if better != state:
                _write(handle, better)

    def _slower(self, state: _State, now: float, retry_after_s: float | None) -> _State:
        left = state.pause_left(now)
        if left > 0:  # others were under way when the pause began: one refusal, not many
            if retry_after_s is not None and retry_after_s > left:
                return replace(state, paused_at=now, pause_s=retry_after_s)
            return state
        pause = retry_after_s
        if pause is None:
            pause = min(_HOUR, self._pace.pause_s * 2.0 ** min(state.strikes, 20))
        slowest = max(60.0, 16 * self._pace.interval_s)
        return replace(
            state,
            paused_at=now,
            pause_s=pause,
            interval_s=min(max(2 * state.interval_s, _FIRST_S), slowest),
            strikes=state.strikes + 1,
            refused_since=state.refused_since or now,
        )

    def _take(self) -> float:
        """Take a place, or say how many seconds there are to wait."""
        with self._locked() as (handle, state, now):
            pause = state.pause_left(now)
            refused_s = now - state.refused_since if state.refused_since else 0.0
            patience = self._pace.patience_s
            if pause > patience or (pause > 0 and refused_s > patience):
                raise Unusable(
                    Status.RATE_LIMITED,
                    f"not asked: the source has refused for {refused_s / _HOUR:.1f} h and is to be "
                    f"left alone for {pause / _HOUR:.1f} h more",
                )
            wait = max(pause, state.next_at - now)
            if wait <= 0:
                _write(handle, replace(state, next_at=now + state.interval_s))
        return wait

    @contextmanager
    def _locked(self) -> Iterator[tuple[int, _State, float]]:
        """The state and the time, under the lock; never a faster pace than is configured."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            now, kept = self._clock(), _read(handle)
            state = replace(kept, interval_s=max(kept.interval_s, self._pace.interval_s)).at(now)
            if state != kept:
                _write(handle, state)
            yield handle, state, now
        finally:
            os.close(handle)  # and with it the lock, as when this process is killed


def _read(handle: int) -> _State:
    try:
        return _State(**json.loads(os.pread(handle, _STATE_BYTES, 0)))
    except (ValueError, TypeError):
        return _State()  # a new file, or one that lost power while it was written


def _write(handle: int, state: _State) -> None:
    # One write of one size: a killed process leaves the old state or the new one.
    os.pwrite(handle, json.dumps(asdict(state)).encode().ljust(_STATE_BYTES), 0)
