"""Files and decoders that misbehave: each ends in a status, none in a hang or a crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from idpose_core.video.decoding import frames_at, probe, sample_frames
from storage.reasons import Status, Unusable
from tests.video.make_videos import frame_number, numbered_frames, write_sound, write_video

REPOSITORY = Path(__file__).parents[2]


def status(call: Callable[[], object]) -> Status:
    with pytest.raises(Unusable) as failure:
        call()
    return failure.value.status


def both(path: Path) -> Status:
    """The status that probing and sampling agree on."""
    probed = status(lambda: probe(str(path)))
    assert status(lambda: next(sample_frames(str(path), fps=4))) is probed
    return probed


def decoding_processes(parent: int | None = None) -> list[int]:
    """Ids of the decoding processes of a process, this one by default."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes()
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            continue
        ours = int(fields[1]) == (parent or os.getpid()) and fields[0] != "Z"
        if ours and b"idpose_core.video.decoding_process" in command:
            found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "good.mp4", numbered_frames(100), fps=10)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").touch()
    assert both(tmp_path / "v.mp4") is Status.EMPTY_FILE


def test_text_named_mp4(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_text("this is no video\n" * 50)
    assert both(tmp_path / "v.mp4") is Status.NOT_A_VIDEO


def test_noise(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(np.random.default_rng(0).bytes(20_000))
    assert both(tmp_path / "v.mp4") is Status.NOT_A_VIDEO


def test_sound_only(tmp_path: Path) -> None:
    assert both(write_sound(tmp_path / "v.mp4")) is Status.NO_VIDEO_STREAM


def test_missing_file_folder_and_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    for name in ("missing.mp4", ".", "pipe.mp4", "loop.mp4"):
        assert both(tmp_path / name) is Status.UNREADABLE


def test_file_without_permission(tmp_path: Path, video: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    video.chmod(0)
    assert both(video) is Status.UNREADABLE


@pytest.mark.parametrize(
    "text",
    ["#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{}\n#EXT-X-ENDLIST\n",
     "ffconcat version 1.0\nfile '{}'\n"],
)  # fmt: skip
def test_play_lists_open_no_other_file(tmp_path: Path, video: Path, text: str) -> None:
    path = tmp_path / "list.mp4"
    path.write_text(text.format(video))
    assert both(path) is Status.NOT_A_VIDEO


def test_one_pixel(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "v.gif", [np.zeros((1, 1, 3), np.uint8)] * 3, codec="gif", pixel_format="rgb8"
    )
    assert both(path) is Status.FRAME_TOO_SMALL


@pytest.mark.parametrize(
    ("side", "expected"), [(9000, Status.FRAME_TOO_LARGE), (60_000, Status.DECODE_FAILED)]
)
def test_huge_declared_size(tmp_path: Path, side: int, expected: Status) -> None:
    path = write_video(tmp_path / "v.gif", numbered_frames(3), codec="gif", pixel_format="rgb8")
    content = bytearray(path.read_bytes())
    content[6:10] = side.to_bytes(2, "little") * 2  # the logical screen of the GIF
    path.write_bytes(content)
    assert both(path) is expected


def test_cut_off_before_the_index(tmp_path: Path, video: Path) -> None:
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    assert both(video) is Status.NOT_A_VIDEO


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_cut_off_gives_the_frames_before(tmp_path: Path, name: str) -> None:
    front = {"movflags": "faststart"} if name == "v.mp4" else {}
    path = write_video(tmp_path / name, numbered_frames(100), fps=10, container_options=front)
    whole = list(sample_frames(str(path), fps=10))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    part = list(sample_frames(str(path), fps=10))
    assert 20 < len(part) < 80
    for a, b in zip(part, whole, strict=False):
        assert a.timestamp_ms == b.timestamp_ms
        assert np.array_equal(a.image, b.image)


def damage_the_middle(video: Path) -> None:
    content = bytearray(video.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = np.random.default_rng(1).bytes(3000)
    video.write_bytes(content)


def test_damage_in_the_middle(video: Path) -> None:
    whole = {f.timestamp_ms: f.image for f in sample_frames(str(video), fps=10)}
    damage_the_middle(video)
    part = list(sample_frames(str(video), fps=10))
    assert 20 < len(part) < 80
    for frame in part:
        assert np.array_equal(frame.image, whole[frame.timestamp_ms])
    again = list(sample_frames(str(video), fps=10))
    assert [f.timestamp_ms for f in again] == [f.timestamp_ms for f in part]


def test_decord_survives_damage_in_the_middle(video: Path) -> None:
    """What decord gives of a damaged file differs from run to run; it ends, and that is all."""
    pytest.importorskip("decord")
    damage_the_middle(video)
    try:
        part = list(sample_frames(str(video), fps=10, decoder="decord", deadline_s=30))
    except Unusable as unusable:
        assert unusable.status in (Status.DECODE_FAILED, Status.DECODER_CRASHED)
    else:
        assert 0 < len(part) <= 100
    assert probe(str(video)).width == 192


def test_damage_everywhere(tmp_path: Path, video: Path) -> None:
    content = bytearray(video.read_bytes())
    start = content.index(b"mdat") + 4
    end = content.index(b"moov") - 4
    content[start:end] = np.random.default_rng(2).bytes(end - start)
    video.write_bytes(content)
    assert both(video) is Status.DECODE_FAILED


def test_random_damage_never_escapes(tmp_path: Path, video: Path) -> None:
    """Twenty files with bytes flipped anywhere: frames or a status, within the deadline."""
    good = video.read_bytes()
    random = np.random.default_rng(3)
    for _ in range(20):
        content = np.frombuffer(good, np.uint8).copy()
        places = random.integers(0, len(content), 30)
        content[places] = random.integers(0, 256, 30)
        video.write_bytes(content.tobytes())
        try:
            times = [f.timestamp_ms for f in sample_frames(str(video), fps=5, deadline_s=30)]
        except Unusable as unusable:
            assert unusable.status is not Status.INTERNAL_ERROR
        else:
            assert times == sorted(set(times))


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
