"""A store at S3: what local ones promise, through faults of the server and of the way to it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from storage import logs
from storage.copies import local_copy, working_path
from storage.errors import DamageError, StoreError
from storage.objects import Store
from storage.parquet import from_parquet, to_parquet
from storage.shards import Item, RowStage, compute_shard, plan_stage
from tests.storage.s3 import (
    KEY,
    SECRET,
    TOKEN,
    FaultyProxy,
    cut_body,
    every,
    first,
    lose_reply,
    refuse,
    silent,
    slow,
)

INTERNAL = refuse(500, "InternalError")
SLOW_DOWN = refuse(503, "SlowDown")
CONFLICT = refuse(409, "ConditionalRequestConflict")


@pytest.fixture
def store(s3_root: str) -> Store:
    return Store(s3_root)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_it_keeps_what_a_local_store_keeps(store: Store, tmp_path: Path) -> None:
    assert store.list("") == []
    assert store.publish("a/b", b"first")
    assert not store.publish("a/b", b"second")
    assert store.read("a/b") == b"first"
    assert store.size("a/b") == 5
    assert store.exists("a/b")
    assert not store.exists("a")
    store.replace("a/b", b"third")
    assert store.read("a/b") == b"third"
    assert store.list("") == store.list("a") == ["a/b"]
    [found] = store.details("")
    assert (found.path, found.bytes) == ("a/b", 5)
    assert abs(found.modified - time.time()) < 300
    store.delete("a/b")
    store.delete("a/b")
    with pytest.raises(FileNotFoundError):
        store.read("a/b")
    with pytest.raises(FileNotFoundError), store.open("a/b"):
        pass


@pytest.mark.faults
def test_files_go_and_come_in_parts(store: Store, proxy: FaultyProxy, tmp_path: Path) -> None:
    data = random.Random(1).randbytes((20 << 20) + 7)
    (tmp_path / "file").write_bytes(data)
    assert store.publish_file("media/file", tmp_path / "file")
    assert not store.publish_file("media/file", tmp_path / "file")
    store.fetch_file("media/file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    assert max(max(a.sent, a.answered) for a in proxy.asked) <= 8 << 20


@pytest.mark.faults
def test_of_a_table_only_the_columns_that_are_read_come(store: Store, proxy: FaultyProxy) -> None:
    pictures = [random.Random(i).randbytes(200_000) for i in range(64)]
    table = pa.table({"key": [str(i) for i in range(64)], "image": pictures})
    store.publish("shard", to_parquet(table))
    before = len(proxy.asked)
    with store.open("shard") as file:
        assert from_parquet(file, ["key"]).to_pydict() == {"key": [str(i) for i in range(64)]}
    assert sum(asked.answered for asked in proxy.asked[before:]) < 3 << 20


@pytest.mark.parametrize("fault", [SLOW_DOWN, CONFLICT, lose_reply])
def test_an_entry_is_added_once_through_a_fault(
    store: Store, proxy: FaultyProxy, fault: Any
) -> None:
    proxy.rule = first(fault, 1, "PUT")
    assert logs.append_entry(store, "log", {"version": "a"}) == 1
    assert len(proxy.hit) == 1
    proxy.rule = first(fault, 1, "PUT")
    assert logs.append_entry(store, "log", {"version": "b"}) == 2
    assert [entry["version"] for entry in logs.entries(store, "log")] == ["a", "b"]


@pytest.mark.faults
def test_a_lost_reply_to_the_last_part_is_no_second_file(
    store: Store, proxy: FaultyProxy, tmp_path: Path
) -> None:
    data = random.Random(2).randbytes(17 << 20)
    (tmp_path / "file").write_bytes(data)
    proxy.rule = first(lose_reply, 1, "POST", "uploadId")
    store.publish_file("media/file", tmp_path / "file")
    assert proxy.hit
    assert sha256(store.read("media/file")) == sha256(data)


def test_half_an_answer_is_asked_for_again(store: Store, proxy: FaultyProxy) -> None:
    data = random.Random(3).randbytes(3 << 20)
    store.publish("a", data)
    proxy.rule = first(cut_body, 2, "GET")
    assert store.read("a") == data
    proxy.rule = first(cut_body, 1, "GET")
    with store.open("a") as file:
        assert file.read() == data
    assert len(proxy.hit) == 3


@pytest.mark.faults
def test_of_racing_writers_one_wins(store: Store) -> None:
    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(lambda i: store.publish("one", bytes([i])), range(8)))
        numbers = list(
            pool.map(lambda i: logs.append_entry(store, "log", {"version": str(i)}), range(4))
        )
    assert sum(won) == 1
    assert store.read("one") == bytes([won.index(True)])
    assert sorted(numbers) == [1, 2, 3, 4]
    assert {e["version"] for e in logs.entries(store, "log")} == {"0", "1", "2", "3"}


@pytest.mark.parametrize(
    "fault",
    [
        refuse(400, "ExpiredToken", "The provided token has expired."),
        refuse(403, "InvalidAccessKeyId"),
        refuse(403, "AccessDenied"),
    ],
)
def test_a_refusal_is_told_at_once(store: Store, proxy: FaultyProxy, fault: Any) -> None:
    store.publish("a", b"1")
    proxy.rule = every(1, fault)
    for ask in (
        lambda: store.list(""),
        lambda: store.publish("b", b"1"),
        lambda: store.read("a"),
        lambda: store.exists("a"),
    ):
        began = time.monotonic()
        with pytest.raises(StoreError, match="set or renew the credentials") as raised:
            ask()
        assert time.monotonic() - began < 10
        # An answer to HEAD has no body, and so no more than its number.
        assert re.search(f"{fault.__name__}|400|403", str(raised.value))
        for planted in (KEY, SECRET, TOKEN):
            assert planted not in str(raised.value)


def test_no_bucket_no_credentials_and_credentials_in_the_root(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nowhere = Store("s3://no-such-bucket/x")
    for ask in (lambda: nowhere.list(""), lambda: nowhere.publish("a", b"1")):
        with pytest.raises(StoreError, match="no such bucket: create it"):
            ask()
    for root in (f"s3://{KEY}:{SECRET}@bucket/x", f"s3://{KEY}@bucket"):
        with pytest.raises(StoreError, match="the root holds credentials") as raised:
            Store(root)
        assert KEY not in str(raised.value)
    assert Store("s3://arn:aws:s3:us-east-1:123456789012:accesspoint/name/x")


class Copies(RowStage):
    """Reads an object of the store."""

    name, version, shard_rows = "copies", 1, 1
    columns = pa.schema([pa.field("n", pa.int64())])

    def settings(self) -> dict[str, Any]:
        return {}

    def compute(self, row: Any, location: Any) -> list[dict[str, Any]]:
        return [{"n": len(Store(location["root"]).read("a"))}]


def test_an_outage_is_no_row_and_no_damage(
    store: Store, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.remote.PATIENCE_S", 0.5)
    store.publish("a", b"1")
    items = [Item({"i": 1}, {"root": store.location})]
    [tasks] = plan_stage(store, Copies(), items).todo
    proxy.rule = lambda method, path: INTERNAL if path.endswith("/a") else None
    with pytest.raises(StoreError, match="InternalError"):
        compute_shard(store, Copies(), tasks)
    assert store.list("shards") == []
    proxy.rule = lambda method, path: None
    compute_shard(store, Copies(), tasks)
    proxy.rule = lambda method, path: INTERNAL if "shards" in path and method == "GET" else None
    with pytest.raises(StoreError):
        plan_stage(store, Copies(), items)
    proxy.rule = lambda method, path: None
    assert plan_stage(store, Copies(), items).todo == []


def test_copies_are_whole_bounded_and_made_again(
    store: Store, proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDPOSE_CACHE_GB", "0.0025")
    datas = [random.Random(i).randbytes(1_000_000) for i in range(5)]
    for data in datas:
        store.publish(f"media/{sha256(data)}.mp4", data)

    def copied(data: bytes) -> bytes:
        with local_copy(store, f"media/{sha256(data)}.mp4", sha256(data)) as file:
            return file.read_bytes()

    folder = tmp_path / "cache" / "copies"
    for data in (*datas, *datas):
        assert copied(data) == data
        assert sum(file.stat().st_size for file in folder.iterdir()) <= 2_500_000
    asked = len(proxy.asked)
    assert copied(datas[-1]) == datas[-1]
    assert len(proxy.asked) == asked  # it is here
    (folder / sha256(datas[-1])).write_bytes(b"damaged")
    assert copied(datas[-1]) == datas[-1]
    with local_copy(store, f"media/{sha256(datas[0])}.mp4", sha256(datas[0])) as held:
        for data in datas[1:]:
            copied(data)
        assert held.read_bytes() == datas[0]
    store.replace("media/x.mp4", b"other")
    for path in ("media/x.mp4", "media/gone.mp4"):
        with pytest.raises(DamageError, match="run the same build again"):  # noqa: SIM117
            with local_copy(store, path, sha256(b"wanted")):
                pass
    assert not [file for file in folder.iterdir() if file.name.startswith(".tmp")]


def test_a_local_root_needs_no_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDPOSE_CACHE", str(tmp_path / "cache"))
    store = Store(tmp_path / "root")
    store.publish("a", b"1")
    with local_copy(store, "a", sha256(b"1")) as file:
        assert file == tmp_path / "root" / "a"
    assert working_path(store, "x") == tmp_path / "root" / "x"
    assert not (tmp_path / "cache").exists()


def test_without_the_extra_the_remedy_is_told(tmp_path: Path) -> None:
    (tmp_path / "s3fs.py").write_text("raise ImportError('no s3fs here')")
    done = command(["inspect", "cars", "--root", "s3://bucket/x"], {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert "pip install 'idpose[s3]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def command(words: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from flows.cli import main; main()", *words]
    return subprocess.run(
        program, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )


@pytest.mark.faults
def test_a_hundred_writes_and_reads_through_every_fault(
    store: Store, proxy: FaultyProxy, tmp_path: Path
) -> None:
    faults = (INTERNAL, SLOW_DOWN, lose_reply, cut_body, slow(0.5), CONFLICT)
    proxy.rule = every(4, *faults)
    datas = {f"objects/{i:03d}": random.Random(i).randbytes(50_000 + i) for i in range(100)}
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda item: store.publish(*item), datas.items()))
        assert list(pool.map(store.read, datas)) == list(datas.values())
        numbers = list(
            pool.map(lambda i: logs.append_entry(store, "log", {"version": str(i)}), range(30))
        )
    assert store.list("objects") == sorted(datas)
    assert sorted(numbers) == list(range(1, 31))
    assert sorted(int(e["version"]) for e in logs.entries(store, "log")) == list(range(30))
    assert {fault.__name__ for fault in faults} == set(proxy.hit)
    assert len(proxy.hit) > 50


@pytest.mark.faults
@pytest.mark.parametrize("dead", ["refused", "silent", "unknown", "expired", "none"])
def test_a_command_ends_within_a_minute(
    dead: str, proxy: FaultyProxy, s3_root: str, tmp_path: Path
) -> None:
    env = {
        "refused": {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
        "unknown": {"AWS_ENDPOINT_URL": "http://store.invalid"},
        "none": {
            "AWS_ACCESS_KEY_ID": "",
            "AWS_SECRET_ACCESS_KEY": "",
            "AWS_SESSION_TOKEN": "",
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
            "AWS_CONFIG_FILE": str(tmp_path / "none"),
        },
    }.get(dead, {})
    if dead == "silent":
        proxy.rule = every(1, silent)
    if dead == "expired":
        proxy.rule = every(1, refuse(400, "ExpiredToken", "The provided token has expired."))
    began = time.monotonic()
    done = command(["inspect", "cars", "--root", s3_root], env)
    assert time.monotonic() - began < 70  # a minute, and the start of Python
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1
    wanted = {"expired": "renew", "none": "renew"}.get(dead, "AWS_ENDPOINT_URL")
    assert wanted in done.stderr
    for planted in (KEY, SECRET, TOKEN):
        assert planted not in done.stdout + done.stderr


@pytest.mark.faults
def test_a_video_of_200_mb_takes_little_memory(
    proxy: FaultyProxy, s3_root: str, tmp_path: Path
) -> None:
    file = tmp_path / "video"
    with file.open("wb") as out:
        for i in range(200):
            out.write(random.Random(i).randbytes(1_000_000))
    code = f"""
import json
from pathlib import Path
from storage.copies import local_copy
from storage.digests import file_sha256
from storage.objects import Store
store = Store({s3_root!r})
store.list("")
def peak():  # of this program alone; what started it counts in ru_maxrss
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1000
before = peak()
sha256 = file_sha256(Path({str(file)!r}))
store.publish_file(f"media/{{sha256}}.mp4", Path({str(file)!r}))
put = peak()
with local_copy(store, f"media/{{sha256}}.mp4", sha256) as copy:
    assert copy.stat().st_size == 200_000_000
print(json.dumps([before, put, peak()]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, put, got = json.loads(done.stdout)
    print(f"peak RSS: {before:.0f} MB before, {put:.0f} after the PUT, {got:.0f} after the GET")
    assert got - before < 100
