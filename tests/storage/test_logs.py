from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import logs
from storage.errors import DamageError
from storage.objects import Store


def test_an_entry_behind_another_is_made_only_while_that_is_the_last(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert logs.append_after(store, "log", 0, {"version": "a"})
    assert not logs.append_after(store, "log", 0, {"version": "b"})
    assert logs.append_entry(store, "log", {"version": "c"}) == 2
    assert not logs.append_after(store, "log", 1, {"version": "d"})
    assert [entry["version"] for entry in logs.entries(store, "log")] == ["a", "c"]


def test_of_many_who_follow_one_entry_one_wins(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    logs.append_entry(store, "log", {"version": "first"})
    with ThreadPoolExecutor(16) as pool:
        won = list(
            pool.map(lambda n: logs.append_after(store, "log", 1, {"version": str(n)}), range(64))
        )
    assert won.count(True) == 1 and len(logs.entries(store, "log")) == 2


def test_nothing_is_lost_of_many_writers_and_the_cache_is_the_last(tmp_path: Path) -> None:
    store = Store(str(tmp_path))

    def write(number: int) -> None:
        logs.append_entry(store, "log", {"version": f"v{number}"})
        logs.point(store, "log", "latest")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    found = logs.entries(store, "log")
    assert sorted(entry["version"] for entry in found) == sorted(f"v{n}" for n in range(40))
    assert store.read("latest").decode().strip() == found[-1]["version"]


def test_a_damaged_entry_is_named(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.publish("log/00000001.json", json.dumps({"verse": 1}).encode())
    with pytest.raises(DamageError, match=r"log/00000001\.json is not an entry"):
        logs.last_entry(store, "log")


@given(st.lists(st.sampled_from("abcd"), max_size=8), st.integers(1, 8))
def test_rolling_back_walks_through_what_served(versions: list[str], times: int) -> None:
    history = [{"version": version} for version in versions]
    for _ in range(times):
        served = logs.serving(history)
        assert served == [
            v for v, before in zip(served, [None, *served], strict=False) if v != before
        ]
        if len(served) < 2:
            break
        history.append({"version": served[-2], "action": "rollback"})
        assert (
            logs.serving(history) == served[: served.index(served[-2]) + 1]
            or served[-2] in served[:-2]
        )
