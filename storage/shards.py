"""Row stages: results named by what made them.

A row stage maps each input row to output rows, or to a status that says why there are none. The
key of an input row is the digest of the stage, its version and settings, the weights it uses and
the row itself. Shards are Parquet files of output rows that carry these keys; what a build has to
do is the wanted keys minus the keys that exist. Resuming after a kill, incremental builds, retry
of only what failed and safe concurrent runs all follow from this; nothing else keeps progress.

A shard's name is the SHA-256 of its bytes, so that a damaged file is told by its name and equal
results meet in one file. How rows are packed never changes results: of two shards that hold one
key the higher attempt wins, then the smaller name.
"""

from __future__ import annotations

import errno
import re
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa

from storage.digests import canonical, digest, digest_of, sha256
from storage.errors import DamageError, StoreError
from storage.objects import Store
from storage.parquet import from_parquet, to_parquet
from storage.reasons import Status, Unusable
from storage.tombstones import read_tombstones

_OUTCOME = pa.schema(
    [
        pa.field("row_key", pa.string(), nullable=False),
        pa.field("attempt", pa.int32(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason_detail", pa.string()),
        pa.field("retryable", pa.bool_(), nullable=False),
    ]
)
ORIGIN = pa.field("origin", pa.string())
_MANY_SHARDS = 4000  # every later build opens each of them: a larger plan has larger ones
_MOST_TIMES = 8  # a stage's own rows a shard: one is held in memory, and lost when it is killed
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError)


@dataclass(frozen=True)
class Item:
    """One input row of a stage.

    Attributes:
        row: What the result depends on; enters the key.
        location: Where to find the bytes on this machine; enters nothing.
        about: Whose row it is, where known: ``video_id``, ``clip_id``, ``media_sha256``. It enters
            no key; the shard keeps the origin of each row, so that a video can be forgotten.
    """

    row: Mapping[str, Any]
    location: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def origin(self) -> str | None:
        """The SHA-256 of the media that the row is about, or before it is known the video's id."""
        return self.about.get("media_sha256") or self.about.get("video_id")


class RowStage(ABC):
    """A stage of the pipeline; instances hold settings only and travel to worker processes."""

    name: ClassVar[str]
    version: ClassVar[int]  # raised when equal input gives other output; a golden test guards it
    columns: ClassVar[pa.Schema]  # of the output rows
    shard_rows: ClassVar[int]  # input rows a shard, unless the run says otherwise

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """The configuration that the result depends on; enters every key."""

    def weights(self) -> Mapping[str, str]:
        """SHA-256 of each weights file that the result depends on; enters every key."""
        return {}

    def prepare(self) -> None:  # noqa: B027 - most stages load nothing
        """Load what ``compute`` needs, so that what is missing is told before hours of work.

        Raises:
            ImportError, OSError, RuntimeError, ValueError: It cannot be had; the message says why.
        """

    @abstractmethod
    def compute(
        self, row: Mapping[str, Any], location: Mapping[str, Any]
    ) -> Sequence[Mapping[str, Any]]:
        """The output rows of one input row, at least one.

        Raises:
            Unusable: There are none; the status and its detail become the row.
        """

    def key(self, row: Mapping[str, Any]) -> str:
        """The name of this row's result."""
        [key] = self.keys([row])
        return key

    def keys(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
        """The names of the rows' results; what is equal in all of them is written down once."""
        made_by = {"stage": self.name, "version": self.version, "weights": self.weights()}
        # "row" is the first of the sorted keys.
        equal = canonical({**made_by, "settings": self.settings()})[1:]
        for row in rows:
            yield digest_of(b'{"row":"' + digest(row).encode() + b'",' + equal)


@dataclass(frozen=True)
class Outcome:
    """What is known of one input row: its status, and where its output rows lie."""

    row_key: str
    attempt: int
    status: Status
    detail: str | None
    retryable: bool
    shard: str
    first_row: int
    rows: int


@dataclass(frozen=True)
class Task:
    """One input row that has to be computed."""

    item: Item
    row_key: str
    attempt: int


@dataclass(frozen=True)
class Plan:
    """What a build asks of a stage.

    Attributes:
        keys: The key of every wanted item, in the order of the items.
        chunks: For each shard of the plan the tasks that are still to do; empty = reused.
        known: What exists already, by key.
        damaged: Shards that were found damaged and removed.
    """

    keys: tuple[str, ...]
    chunks: tuple[tuple[Task, ...], ...]
    known: Mapping[str, Outcome]
    damaged: tuple[str, ...]

    @property
    def todo(self) -> list[tuple[Task, ...]]:
        """The shards that have anything to compute; those that only try again come last."""
        return sorted(filter(None, self.chunks), key=_only_tries_again)

    @property
    def counts(self) -> dict[str, int]:
        """Shards computed, reused and retried; the three add up to the plan."""
        todo = len(self.todo)
        retried = sum(map(_only_tries_again, self.todo))
        return {"computed": todo - retried, "reused": len(self.chunks) - todo, "retried": retried}


def _only_tries_again(tasks: Sequence[Task]) -> bool:
    return all(task.attempt > 1 for task in tasks)


def stage_folder(stage: str) -> str:
    """The folder of a stage's shards, relative to ROOT."""
    return f"shards/{stage}"


def plan_stage(
    store: Store,
    stage: RowStage,
    items: Sequence[Item],
    *,
    shard_rows: int | None = None,
    repair: bool = True,
    again: Callable[[Outcome], bool] = lambda outcome: outcome.retryable,
) -> Plan:
    """Compare what is wanted with what exists; rows about forgotten videos are not looked at.

    Args:
        store: Where the shards are.
        stage: The stage, with its settings.
        items: What is wanted.
        shard_rows: Input rows a shard; by default the stage's own number, and of a large plan
            up to eight times as many.
        repair: Remove shards that turn out to be damaged; False only looks.
        again: Which results are computed anew; by default those that are worth another try.
    """
    keys = tuple(stage.keys(item.row for item in items))
    tombstones = read_tombstones(store)
    forgotten = {k for k, i in zip(keys, items, strict=True) if tombstones.cover(i.about)}
    wanted = [key for key in keys if key not in forgotten]
    known, damaged = find_outcomes(store, stage.name, wanted, repair=repair)
    known |= {key: Outcome(key, 1, Status.FORGOTTEN, None, False, "", 0, 0) for key in forgotten}
    size = shard_rows or _shard_rows(stage, len(items))
    chunks = []
    for start in range(0, len(items), size):
        chunk = []
        for item, key in zip(items[start : start + size], keys[start : start + size], strict=True):
            outcome = known.get(key)
            if outcome is None:
                chunk.append(Task(item, key, 1))
            elif key not in forgotten and again(outcome):
                chunk.append(Task(item, key, outcome.attempt + 1))
        chunks.append(tuple(chunk))
    return Plan(keys, tuple(chunks), known, tuple(damaged))


def _shard_rows(stage: RowStage, items: int) -> int:
    wanted = -(-items // _MANY_SHARDS)
    return min(max(stage.shard_rows, wanted), _MOST_TIMES * stage.shard_rows)


def prepare_stage(stage: RowStage) -> None:
    """Load what a stage needs, in the process that will compute it."""
    stage.prepare()


def compute_shard(store: Store, stage: RowStage, tasks: Sequence[Task]) -> str:
    """Compute the tasks and publish them as one shard. Returns the shard's path."""
    rows: list[dict[str, Any]] = []
    for task in tasks:
        rows.extend(_compute_row(stage, task))
    table = pa.Table.from_pylist(rows, schema=_shard_schema(stage))
    data = to_parquet(table, row_group_rows=256)
    path = f"{stage_folder(stage.name)}/{sha256(data)}.parquet"
    store.publish(path, data)
    return path


def collect_outcomes(store: Store, plan: Plan, new_shards: Iterable[str]) -> list[Outcome]:
    """The outcome of every item of a plan, once its shards are computed, in the items' order.

    Raises:
        RuntimeError: A shard that was just written is not there.
    """
    found = dict(plan.known)
    for path in sorted(new_shards):
        _keep_best(found, read_outcomes(store, path))
    missing = [key for key in plan.keys if key not in found]
    if missing:
        raise RuntimeError(f"{len(missing)} results vanished while the stage ran: build again")
    return [found[key] for key in plan.keys]


def find_outcomes(
    store: Store, stage: str, keys: Iterable[str], *, repair: bool = True
) -> tuple[dict[str, Outcome], list[str]]:
    """Look up keys in a stage's shards.

    Returns:
        The outcome of each key that exists, and the shards that were damaged: their rows count as
        missing. With ``repair`` they are removed, so that they can be made again.
    """
    wanted = set(keys)
    found: dict[str, Outcome] = {}
    damaged = []
    for path in list_shards(store, stage) if wanted else []:
        try:
            outcomes = _read_intact(store, path, wanted)
        except FileNotFoundError:  # removed since by another build, which makes it anew
            continue
        if outcomes is None:
            if repair:
                store.delete(path)
            damaged.append(path)
            continue
        _keep_best(found, outcomes)
    return found, damaged


def list_shards(store: Store, stage: str) -> list[str]:
    """The shards of a stage: ``<sha256>.parquet`` in its folder. Other files are none."""
    shard = re.compile(re.escape(f"{stage_folder(stage)}/") + r"[0-9a-f]{64}\.parquet")
    return [path for path in store.list(stage_folder(stage)) if shard.fullmatch(path)]


def is_intact(store: Store, path: str) -> bool:
    """Whether a shard's bytes still have the digest that is its name."""
    name = path.rsplit("/", 1)[-1].split(".")[0]
    return sha256(store.read(path)) == name


def read_rows(
    store: Store, outcomes: Iterable[Outcome], columns: Sequence[str]
) -> Iterator[tuple[Outcome, list[dict[str, Any]]]]:
    """The output rows of outcomes, shard by shard, with only the named columns read.

    Outcomes without a result (status other than ``ok``) are left out.
    """
    by_shard: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.status is Status.OK:
            by_shard.setdefault(outcome.shard, []).append(outcome)
    for path in sorted(by_shard):
        with _open_shard(store, path) as file:
            table = from_parquet(file, columns)
        for outcome in sorted(by_shard[path], key=lambda o: o.first_row):
            yield outcome, table.slice(outcome.first_row, outcome.rows).to_pylist()


def locate(store: Store, outcome: Outcome) -> dict[str, Any]:
    """Where the output rows of an outcome lie, as plain values for an Item's location."""
    place = {"shard": outcome.shard, "first_row": outcome.first_row, "rows": outcome.rows}
    return {"root": store.location, **place}


def read_located(location: Mapping[str, Any], columns: Sequence[str]) -> list[dict[str, Any]]:
    """The output rows that ``locate`` pointed to."""
    with _open_shard(Store(location["root"]), location["shard"]) as file:
        table = from_parquet(file, columns)
    rows: list[dict[str, Any]] = table.slice(location["first_row"], location["rows"]).to_pylist()
    return rows


@contextmanager
def _open_shard(store: Store, path: str) -> Iterator[Any]:
    """A shard that a plan found.

    Raises:
        DamageError: It is not there any more.
    """
    try:
        with store.open(path) as file:
            yield file
    except FileNotFoundError as error:
        raise DamageError(
            f"{path} was removed while this build ran (by `idpose forget`, or by hand): run the "
            "same build again"
        ) from error


def _keep_best(found: dict[str, Outcome], outcomes: Iterable[Outcome]) -> None:
    for outcome in outcomes:
        known = found.get(outcome.row_key)
        if known is None or outcome.attempt > known.attempt:
            found[outcome.row_key] = outcome


def _shard_schema(stage: RowStage) -> pa.Schema:
    return pa.schema([*_OUTCOME, ORIGIN, *stage.columns])


def _compute_row(stage: RowStage, task: Task) -> list[dict[str, Any]]:
    try:
        rows = list(stage.compute(task.item.row, task.item.location))
        if not rows:
            raise RuntimeError(f"stage {stage.name} gave neither rows nor a reason")
        outcome = _outcome_row(task, Status.OK, None)
    except Unusable as unusable:
        rows, outcome = [{}], _outcome_row(task, unusable.status, unusable.detail or None)
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in _NO_ROOM
        if full or isinstance(error, DamageError | StoreError):
            raise  # no property of the row: whatever comes next would fail like it
        # One row must not end a build of days; the traceback stays with the row, and the build's
        # summary and exit message name every internal error.
        rows, outcome = [{}], _outcome_row(task, Status.INTERNAL_ERROR, traceback.format_exc())
    return [{**outcome, **row} for row in rows]


def _outcome_row(task: Task, status: Status, detail: str | None) -> dict[str, Any]:
    return {
        "row_key": task.row_key,
        "attempt": task.attempt,
        "status": status.value,
        "reason_detail": detail,
        "retryable": status.retryable_after(task.attempt),
        "origin": task.item.origin,
    }


def _read_intact(store: Store, path: str, wanted: set[str]) -> list[Outcome] | None:
    """The wanted outcomes of a shard; None where its bytes are not those that were written.

    Raises:
        OSError: It cannot be read now; nothing is known of its bytes.
        DamageError: Its bytes are right and make no sense to this version.
    """
    try:
        outcomes = [o for o in read_outcomes(store, path) if o.row_key in wanted]
    except _DAMAGE as error:
        if is_intact(store, path):
            raise DamageError(
                f"{path} is whole and cannot be used ({error}): a newer idpose wrote it; update"
            ) from error
        return None
    return outcomes if not outcomes or is_intact(store, path) else None


def read_outcomes(store: Store, path: str) -> list[Outcome]:
    """Everything that a shard says of its input rows.

    Raises:
        FileNotFoundError, OSError, ValueError, KeyError, pyarrow.ArrowException: It is gone, or
            is not what it was.
    """
    with store.open(path) as file:
        table = from_parquet(file, _OUTCOME.names)
    outcomes: list[Outcome] = []
    first = 0
    rows = table.to_pylist()
    for index, row in enumerate(rows):
        last = index + 1 == len(rows) or rows[index + 1]["row_key"] != row["row_key"]
        if last:
            outcomes.append(
                Outcome(
                    row_key=row["row_key"],
                    attempt=row["attempt"],
                    status=Status(row["status"]),
                    detail=row["reason_detail"],
                    retryable=row["retryable"],
                    shard=path,
                    first_row=first,
                    rows=index + 1 - first,
                )
            )
            first = index + 1
    return outcomes
