"""The decoding process: kept, replaced, bounded in time and memory, never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from idpose_core.video.decoding import frames_at, probe, sample_frames
from storage.reasons import Status, Unusable
from tests.video.make_videos import frame_number, numbered_frames, write_video
from tests.video.processes import REPOSITORY, alive, decoding_processes, status, wait_until


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "good.mp4", numbered_frames(100), fps=10)


def test_the_process_is_kept_and_left_ready(video: Path) -> None:
    list(sample_frames(str(video), fps=5))
    [first] = decoding_processes()
    probe(str(video))
    status(lambda: probe(str(video) + ".missing"))
    assert decoding_processes() == [first]


def test_two_videos_at_once(tmp_path: Path, video: Path) -> None:
    other = write_video(tmp_path / "other.mp4", numbered_frames(50, first=1000), fps=10)
    pairs = zip(sample_frames(str(video), fps=10), sample_frames(str(other), fps=10), strict=False)
    numbers = [(frame_number(a.image), frame_number(b.image)) for a, b in pairs]
    assert numbers == [(i, 1000 + i) for i in range(50)]


def test_an_abandoned_iteration_does_not_disturb_the_next(video: Path) -> None:
    frames = sample_frames(str(video), fps=10)
    next(frames)
    frames.close()
    assert [f.timestamp_ms for f in frames_at(str(video), [300, 500])] == [300, 500]


def test_threads_have_their_own_process(video: Path) -> None:
    probe(str(video))
    [mine] = decoding_processes()
    others: list[int] = []

    def work() -> None:
        assert len(list(sample_frames(str(video), fps=5))) == 50
        others.extend(pid for pid in decoding_processes() if pid != mine)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(others) == 1
    assert wait_until(lambda: not alive(others[0]))
    assert len(list(sample_frames(str(video), fps=5))) == 50
    assert decoding_processes() == [mine]


def test_a_decoder_that_hangs_is_killed(video: Path) -> None:
    frames = sample_frames(str(video), fps=10, deadline_s=1.5)
    next(frames)
    [pid] = decoding_processes()
    os.kill(pid, signal.SIGSTOP)  # as a decoder in an endless loop, or a disk that never answers
    began = time.monotonic()
    assert status(lambda: list(frames)) is Status.DECODE_TIMEOUT
    assert time.monotonic() - began < 5
    assert not alive(pid)
    assert len(list(sample_frames(str(video), fps=10))) == 100


def test_the_callers_own_time_does_not_count(video: Path) -> None:
    probe(str(video))
    count = 0
    for _ in sample_frames(str(video), fps=10, deadline_s=1):
        count += 1
        if count == 2:
            time.sleep(1.2)
    assert count == 100


def test_a_killed_decoder_is_reported_and_replaced(tmp_path: Path) -> None:
    big = write_video(tmp_path / "v.mp4", numbered_frames(60, width=1280, height=720), fps=10)
    frames = sample_frames(str(big), fps=10)
    next(frames)
    [pid] = decoding_processes()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Unusable, match="signal 9") as failure:
        list(frames)
    assert failure.value.status is Status.DECODER_CRASHED
    assert failure.value.status.retryable
    assert len(list(sample_frames(str(big), fps=1))) == 6


def test_an_idle_process_that_died_is_replaced(video: Path) -> None:
    probe(str(video))
    [pid] = decoding_processes()
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not alive(pid))
    assert probe(str(video)).width == 192


def threads_and_memory(pid: int) -> tuple[int, int]:
    lines = (Path("/proc") / str(pid) / "status").read_text().splitlines()
    numbers = dict(line.split(":", 1) for line in lines)
    return int(numbers["Threads"]), int(numbers["VmSize"].split()[0])


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_many_files_in_one_process(video: Path, decoder: str) -> None:
    """No thread for every core (numpy's aside), and nothing left behind by earlier files."""
    if decoder == "decord":
        pytest.importorskip("decord")
    list(sample_frames(str(video), fps=2, decoder=decoder))
    [pid] = decoding_processes()
    threads, memory = threads_and_memory(pid)
    for _ in range(30):
        list(sample_frames(str(video), fps=2, decoder=decoder))
    assert decoding_processes() == [pid]
    later_threads, later_memory = threads_and_memory(pid)
    assert later_threads == threads
    assert later_memory - memory < 60_000


def test_limits_and_light_import(video: Path) -> None:
    probe(str(video))
    [pid] = decoding_processes()
    limits = (Path("/proc") / str(pid) / "limits").read_text()
    assert (
        f"Max address space{6 << 30:>21}" in " ".join(limits.split("  ")) or str(6 << 30) in limits
    )
    assert "libtorch" not in (Path("/proc") / str(pid) / "maps").read_text()


@pytest.mark.parametrize("busy", [True, False])
def test_it_dies_with_its_parent(video: Path, busy: bool) -> None:
    script = (
        "import sys, time; from idpose_core.video.decoding import probe, sample_frames\n"
        "probe(sys.argv[1])\n"
        "frames = sample_frames(sys.argv[1], fps=10)\n"
        f"{'next(frames)' if busy else 'list(frames)'}\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(video)], stdout=subprocess.PIPE, cwd=REPOSITORY
    )
    assert parent.stdout is not None
    with parent.stdout:
        assert parent.stdout.readline() == b"ready\n"
        [pid] = decoding_processes(parent.pid)
        os.kill(pid, signal.SIGSTOP)  # even when it hangs
        parent.kill()
        parent.wait()
        assert wait_until(lambda: not alive(pid))


def test_more_memory_than_allowed(tmp_path: Path) -> None:
    """A process that has used up its address space says so; the build goes on."""
    script = (
        "import resource, sys\n"
        "from idpose_core.video import decoding_process as child\n"
        "child.MEMORY_LIMIT = 700 << 20\n"
        "child._limit()\n"
        "request = {'ask': 'frames', 'path': sys.argv[2], 'decoder': 'pyav', 'fps': 4}\n"
        "request['windows_ms'] = None\n"
        "for header, _ in child._answer(request): print(header['kind'], header.get('status'))\n"
    )
    path = write_video(
        tmp_path / "v.mkv",
        [np.zeros((8000, 8000, 3), np.uint8)],
        codec="ffv1",
        pixel_format="bgr0",
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(os.getpid()), str(path)],
        capture_output=True, text=True, check=False, cwd=REPOSITORY,
    )  # fmt: skip
    assert done.stdout.split()[-2:] == ["unusable", Status.DECODER_CRASHED.value], done.stderr


def test_a_missing_decoder_names_the_command(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "decord.py").write_text("raise ImportError('not there')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def work() -> None:
        with pytest.raises(ImportError, match=r"pip install 'idpose\[decord\]'"):
            next(sample_frames(str(video), fps=1, decoder="decord"))
        done.append(True)

    done: list[bool] = []
    thread = threading.Thread(target=work)  # a fresh process, with the changed environment
    thread.start()
    thread.join()
    assert done
