"""Row stages: plans, failures as rows, retries, damage, packing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.datasets import DatasetError
from storage.digests import digest, sha256
from storage.objects import Store
from storage.parquet import from_parquet, to_parquet
from storage.reasons import Status, Unusable
from storage.results import result
from storage.shards import (
    Item,
    RowStage,
    collect_outcomes,
    compute_shard,
    locate,
    plan_stage,
    read_located,
    read_rows,
)


@dataclass(frozen=True)
class Squares(RowStage):
    """Gives n rows with the square of n; 13 is unusable, 14 transient, 15 a defect."""

    offset: int = 0
    weights_sha256: str = "w"

    name: ClassVar[str] = "squares"
    version: ClassVar[int] = 1
    shard_rows: ClassVar[int] = 3
    columns: ClassVar[pa.Schema] = pa.schema([pa.field("square", pa.int64())])

    def settings(self) -> Mapping[str, Any]:
        return {"offset": self.offset}

    def weights(self) -> Mapping[str, str]:
        return {"network": self.weights_sha256}

    def compute(
        self, row: Mapping[str, Any], location: Mapping[str, Any]
    ) -> Sequence[Mapping[str, Any]]:
        n = row["n"]
        if n == 13:
            raise Unusable(Status.EMPTY_FILE, "thirteen")
        if n == 14 and location.get("fails", "yes") == "yes":
            raise Unusable(Status.UNREADABLE, "permission denied")
        if n == 15:
            raise ZeroDivisionError("a defect")
        return [{"square": n * n + self.offset}] * n


def items(*numbers: int, **location: str) -> list[Item]:
    return [Item({"n": n}, location) for n in numbers]


def run(store: Store, wanted: list[Item], stage: RowStage = Squares(), rows: int | None = None):
    plan = plan_stage(store, stage, wanted, shard_rows=rows)
    written = [compute_shard(store, stage, chunk) for chunk in plan.todo]
    return plan, collect_outcomes(store, plan, written)


def values(store: Store, outcomes: Any) -> dict[str, list[int]]:
    found = read_rows(store, outcomes, ["square"])
    return {outcome.row_key: [row["square"] for row in rows] for outcome, rows in found}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_rows_come_back_under_the_key_of_their_input(store: Store) -> None:
    _, outcomes = run(store, items(1, 2, 3, 4, 5))
    found = values(store, outcomes)
    assert [found[o.row_key] for o in outcomes] == [[1], [4] * 2, [9] * 3, [16] * 4, [25] * 5]


def test_an_unchanged_plan_computes_nothing(store: Store) -> None:
    run(store, items(1, 2, 3, 4, 5))
    plan, outcomes = run(store, items(1, 2, 3, 4, 5))
    assert plan.counts == {"computed": 0, "reused": 2, "retried": 0}
    assert all(outcome.status is Status.OK for outcome in outcomes)


def test_one_new_row_computes_only_its_own_shard(store: Store) -> None:
    run(store, items(1, 2, 3, 4, 5, 6))
    plan, _ = run(store, items(1, 2, 3, 4, 5, 6, 7))
    assert [[task.item.row["n"] for task in chunk] for chunk in plan.todo] == [[7]]


def test_what_was_never_tried_comes_before_what_is_tried_again(store: Store) -> None:
    run(store, items(13, 14), rows=2)

    def again(outcome: Any) -> bool:
        return outcome.status is not Status.OK

    plan = plan_stage(store, Squares(), items(13, 14, 1, 2, 3), shard_rows=2, again=again)
    order = [[task.item.row["n"] for task in chunk] for chunk in plan.todo]
    assert order == [[1, 2], [3], [13, 14]]
    assert plan.counts == {"computed": 2, "reused": 0, "retried": 1}


def test_failures_are_rows_with_a_reason(store: Store, tmp_path: Path) -> None:
    _, outcomes = run(store, items(12, 13, 14, 15))
    assert [o.status for o in outcomes] == [
        Status.OK, Status.EMPTY_FILE, Status.UNREADABLE, Status.INTERNAL_ERROR,
    ]  # fmt: skip
    assert outcomes[1].detail == "thirteen"
    assert "ZeroDivisionError: a defect" in str(outcomes[3].detail)
    rows = duckdb.sql(
        f"SELECT status, count(*) FROM '{tmp_path}/shards/squares/*.parquet' "
        "WHERE status != 'ok' GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    assert rows == [("empty_file", 1), ("internal_error", 1), ("unreadable", 1)]


def test_only_what_is_transient_is_tried_again(store: Store) -> None:
    run(store, items(13, 14))
    plan, outcomes = run(store, items(13, 14))
    assert plan.counts == {"computed": 0, "reused": 0, "retried": 1}
    assert [task.item.row["n"] for task in plan.todo[0]] == [14]
    assert [o.attempt for o in outcomes] == [1, 2]
    _, outcomes = run(store, items(13, 14, fails="no"))
    assert [(o.attempt, o.status) for o in outcomes] == [(1, Status.EMPTY_FILE), (3, Status.OK)]
    plan, _ = run(store, items(13, 14))
    assert plan.counts == {"computed": 0, "reused": 1, "retried": 0}


@pytest.mark.parametrize("other", [Squares(offset=1), Squares(weights_sha256="v")])
def test_settings_and_weights_enter_the_key(store: Store, other: Squares) -> None:
    run(store, items(1))
    assert plan_stage(store, other, items(1)).todo


def test_the_location_does_not_enter_the_key(store: Store) -> None:
    run(store, items(1, fails="a"))
    assert not plan_stage(store, Squares(), items(1, fails="b")).todo


def test_a_deleted_and_a_flipped_shard_are_made_again_to_the_same_bytes(store: Store) -> None:
    run(store, items(*range(1, 10)))
    before = {path: store.read(path) for path in store.list("shards")}
    deleted, flipped, _ = sorted(before)
    store.delete(deleted)
    local = store.local_path(flipped)
    assert local is not None
    data = bytearray(before[flipped])
    data[len(data) // 2] ^= 4
    local.write_bytes(data)
    plan, _ = run(store, items(*range(1, 10)))
    assert plan.counts == {"computed": 2, "reused": 1, "retried": 0}
    assert plan.damaged == (flipped,)
    assert {path: store.read(path) for path in store.list("shards")} == before


@given(data=st.data())
@settings(max_examples=60)
def test_any_single_flipped_bit_is_noticed(data: st.DataObject) -> None:
    store = Store(f"memory://{data.draw(st.uuids())}")
    run(store, items(1, 2))
    (path,) = store.list("shards")
    whole = bytearray(store.read(path))
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    store.replace(path, bytes(whole))
    assert plan_stage(store, Squares(), items(1, 2)).todo


def test_looking_without_repair_changes_nothing(store: Store) -> None:
    run(store, items(1))
    (path,) = store.list("shards")
    store.replace(path, b"damaged")
    plan = plan_stage(store, Squares(), items(1), repair=False)
    assert plan.todo and store.read(path) == b"damaged"


@given(st.permutations(range(1, 8)), st.integers(1, 7), st.integers(1, 7))
@settings(max_examples=25)
def test_packing_and_order_never_change_results(order: list[int], one: int, two: int) -> None:
    plain, mixed = Store(f"memory://a{one}{order}"), Store(f"memory://b{two}{order}")
    for store in (plain, mixed):
        for path in store.list(""):
            store.delete(path)
    _, first = run(plain, items(*range(1, 8)))
    run(mixed, items(*order[:4]), rows=one)
    _, second = run(mixed, items(*order), rows=two)
    assert values(plain, first) == values(mixed, second)


def test_computed_and_reused_add_up_to_the_plan_after_a_stop(store: Store) -> None:
    plan = plan_stage(store, Squares(), items(*range(1, 10)))
    compute_shard(store, Squares(), plan.todo[1])
    after = plan_stage(store, Squares(), items(*range(1, 10)))
    assert after.counts == {"computed": 2, "reused": 1, "retried": 0}


def test_located_rows_are_read_without_the_rest(store: Store) -> None:
    _, outcomes = run(store, items(2, 3))
    assert read_located(locate(store, outcomes[1]), ["square"]) == [{"square": 9}] * 3


def test_global_results_are_kept_and_repaired(store: Store) -> None:
    calls = []

    def compute() -> bytes:
        calls.append(1)
        return b"fitted"

    assert result(store, "spaces/x", "space", "bin", compute) == (b"fitted", True)
    assert result(store, "spaces/x", "space", "bin", compute) == (b"fitted", False)
    (path,) = store.list("spaces")
    store.replace(path, b"fittee")
    assert result(store, "spaces/x", "space", "bin", compute) == (b"fitted", True)
    assert store.read(path) == b"fitted" and len(calls) == 2


@pytest.mark.parametrize(
    "name", ["x/notes.txt", "notes.txt", "notes.parquet", f"x/{'0' * 64}.parquet", "0" * 64]
)
def test_other_files_are_neither_shards_nor_removed(name: str, store: Store) -> None:
    run(store, items(1))
    store.publish(f"shards/squares/{name}", b"mine")
    plan, _ = run(store, items(1))
    assert plan.damaged == () and not plan.todo
    assert store.read(f"shards/squares/{name}") == b"mine"


@pytest.mark.parametrize("error", [PermissionError(13, "denied"), OSError(5, "I/O error")])
def test_a_shard_that_cannot_be_read_now_is_not_removed(
    error: OSError, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(store, items(1))
    before = store.list("shards")

    def refuse(*_: Any) -> Any:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(Store, "open", refuse)
        patched.setattr(Store, "read", refuse)
        with pytest.raises(OSError, match=error.strerror):
            plan_stage(store, Squares(), items(1))
    assert store.list("shards") == before


def test_a_whole_shard_of_a_newer_version_is_not_removed(store: Store) -> None:
    path = compute_shard(store, Squares(), plan_stage(store, Squares(), items(1)).todo[0])
    rows = from_parquet(store.read(path)).to_pylist()
    newer = pa.Table.from_pylist([{**row, "status": "of_tomorrow"} for row in rows])
    data = to_parquet(newer)
    store.delete(path)
    store.publish(f"shards/squares/{sha256(data)}.parquet", data)
    with pytest.raises(DatasetError, match=r"is whole and cannot be used .* update"):
        plan_stage(store, Squares(), items(1))
    assert store.exists(f"shards/squares/{sha256(data)}.parquet")


def test_a_key_is_the_digest_of_all_that_made_the_row() -> None:
    stage = Squares(offset=2)
    made_by = {"stage": "squares", "version": 1, "weights": {"network": "w"}}
    for n in (1, 2):
        told = {**made_by, "settings": {"offset": 2}, "row": digest({"n": n})}
        assert stage.key({"n": n}) == digest(told)
    assert list(stage.keys([{"n": 1}, {"n": 2}])) == [stage.key({"n": 1}), stage.key({"n": 2})]


def test_a_large_plan_has_larger_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.shards._MANY_SHARDS", 4)
    for count, shards in ((3, 1), (12, 4), (13, 4), (40, 4), (240, 10)):
        assert len(plan_stage(Store(tmp_path), Squares(), items(*range(count))).chunks) == shards
