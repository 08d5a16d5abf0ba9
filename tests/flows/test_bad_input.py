"""Sixty and more bad inputs: each a row with its reason or one clear error, nothing outside ROOT.

The good rest beside them gives the version that it gives without them. Damaged shards, manifests
and weights have tests of their own: test_damage and test_wrong_setup.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.datasets import latest_observation, read_manifest
from storage.digests import file_sha256
from storage.objects import Store
from tests.download.server import LocalServer, video
from tests.flows.bad_input import CASES, FILES, IDS, ROWS, SAME, SEEN, still
from tests.flows.builds import BOX_CARS, VIDEOS, build, run, settings
from tests.flows.test_downloads import build as build_from
from tests.flows.test_downloads import rows_of
from tests.flows.test_forget import build as build_here
from tests.video.make_videos import write_video

NOBODY = 65534


@pytest.mark.parametrize("cases", [CASES], ids=[f"{CASES}-cases"])
def test_there_are_sixty(cases: int) -> None:
    assert cases >= 60


def snapshot(folder: Path, *, but: tuple[Path, ...]) -> dict[str, tuple[int, str]]:
    """Every file below a folder, but for some parts: when it was changed, and what it holds."""
    return {
        str(path): (path.lstat().st_mtime_ns, file_sha256(path) if path.is_file() else "")
        for path in folder.rglob("*")
        if not path.is_fifo() and not any(path.is_relative_to(part) for part in but)
    }


@contextlib.contextmanager
def only_inside(root: Path) -> Iterator[None]:
    """Nothing beside the root is written or touched, and no temporary file is left."""
    left = Path(tempfile.gettempdir())
    before = snapshot(root.parent, but=(root, left))
    yield
    assert snapshot(root.parent, but=(root, left)) == before
    assert list(left.iterdir()) == []


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for temporary files, of this process and of its children."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What else a build could reach and must not touch: working folder, home, a secret."""
    folder = tmp_path / "outside"
    for name in ("home", "work"):
        (folder / name).mkdir(parents=True)
    write_video(folder / "secret.mp4", still())
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.chdir(folder / "work")
    return folder


def annotated(name: str) -> list[str]:
    return [f'"{name}",{t},23,car,0,present,0.2,0.6,0.2,0.7' for t in range(0, 3001, 500)]


def test_bad_files_and_rows_beside_good_ones(
    videos: Path, built: tuple[dict[str, Any], Path], tmp_path: Path, outside: Path
) -> None:
    mixed, root = tmp_path / "in" / "mixed", tmp_path / "root"
    shutil.copytree(videos, mixed)
    for name, (write, _) in FILES.items():
        write(mixed, name)
    shutil.copy(mixed / "car-000.mp4", mixed / "zz-copy.mp4")
    stems = [
        Path(name).stem for name, (_, status) in FILES.items() if status in (SEEN, "too_few_crops")
    ]
    with (mixed / "annotations.csv").open("ab") as file:
        for stem in stems:
            if stem.isprintable():
                file.write("".join(line + "\n" for line in annotated(stem)).encode())
        for row in ROWS:
            file.write(row + b"\n")
        file.write(b"car-000,0,23,car,8,present,0.1,0.4,0.1,0.5\n")  # a segment of no length
        file.write(2 * b"car-000,500,23,car,8,absent,-1,-1,-1,-1\n")  # twice, and of no box
    with only_inside(root):
        found = build(mixed, root)

    assert found["version"] == built[0]["version"]
    assert found["internal_errors"] == 0
    store = Store(root)
    manifest = read_manifest(store, "box-cars")
    rows = latest_observation(store, manifest)["videos"].to_pylist()
    statuses = {row["source_uri"]: row["status"] for row in rows}
    details = {row["source_uri"]: row["reason_detail"] for row in rows}
    for name, (_, status) in FILES.items():
        expected = "no_annotation" if not Path(name).stem.isprintable() else status
        assert statuses.get(name) == expected, (name, details.get(name))
    assert statuses["zz-copy.mp4"] == "duplicate"
    assert statuses["\\xff\\xfe.mp4"] == "unreadable"
    assert sum(status == "ok" for status in statuses.values()) == VIDEOS
    assert not any("secret" in str(value) for row in rows for value in row.values())
    assert manifest["lineage"]["annotations"]["malformed"] == len(ROWS)
    assert manifest["lineage"]["annotations"]["duplicates"] == 1


def test_ids_of_the_network(videos: Path, tmp_path: Path, outside: Path) -> None:
    good = rows_of((videos / "annotations.csv").read_text())
    film = write_video(tmp_path / "still.mp4", still(), fps=10).read_bytes()
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerows(good)
    for name in IDS:
        for line in annotated("x"):
            writer.writerow([name, *line.split(",")[1:]])
    (tmp_path / "all.csv").write_text(table.getvalue())
    (tmp_path / "good.csv").write_text("".join(",".join(row) + "\n" for row in good))
    sets = ["test_share=0.4", "pose.clusters=4"]
    with LocalServer() as server:
        server.otherwise = video(film)
        for name in {row[0] for row in good}:
            server.routes[f"/v/{name}.mp4"] = video((videos / f"{name}.mp4").read_bytes())
        with only_inside(tmp_path / "alone"):
            alone = build_from(server, tmp_path / "good.csv", tmp_path / "alone", *sets)
        with only_inside(tmp_path / "root"):
            found = build_from(server, tmp_path / "all.csv", tmp_path / "root", *sets)
        asked = {asked.path for asked in server.asked}
    assert found["version"] == alone["version"]
    store = Store(tmp_path / "root")
    rows = latest_observation(store, read_manifest(store, "box-cars"))["videos"].to_pylist()
    statuses = {row["video_id"]: row["status"] for row in rows}
    for name, status in IDS.items():
        assert statuses[name] in ((SEEN, "duplicate") if status == SAME else (status,)), name
    assert [statuses[name] for name in IDS].count(SEEN) == 1
    assert not any("/../" in path or "%2F" in path for path in asked)


def as_nobody(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """A command of a user who owns nothing, but sees the Python that runs this test."""
    program = [sys.executable, "-c", "from flows.cli import main; main()", *words]
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    python = Path(sys.executable).resolve()
    closed = next((p for p in reversed(python.parents) if not p.stat().st_mode & 0o001), None)
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become another user")
    command = [*drop, *program]
    if closed is not None:  # as where the home of its user holds it
        inner = closed / python.relative_to(closed).parts[0]
        seen = folder / "python"
        script = (
            'mount --bind "$2" "$3" && mount -t tmpfs -o mode=755 none "$1" && mkdir "$2" && '
            'mount --bind "$3" "$2" && shift 3 && exec "$@"'
        )
        places = [str(closed), str(inner), str(seen)]
        command = ["unshare", "-m", "sh", "-c", script, "sh", *places, *command]
    env = {**os.environ, "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.skip(f"Python cannot be shown to another user here: {done.stderr.strip()}")
    return done


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that other users can reach, with a place for their temporary files."""
    with tempfile.TemporaryDirectory(prefix="idpose-test-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for part in ("temporary", "python"):
            (folder / part).mkdir()
        (folder / "temporary").chmod(0o1777)
        monkeypatch.setenv("TMPDIR", str(folder / "temporary"))
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield folder


def test_an_unprivileged_user(
    videos: Path, built: tuple[dict[str, Any], Path], public: Path
) -> None:
    """What cannot be read is a row each; a root that cannot be written is one error."""
    shutil.copytree(videos, public / "videos")
    (public / "videos").chmod(0o755)
    for file in (public / "videos").iterdir():
        file.chmod(0o644)
    (public / "videos" / "closed").mkdir(mode=0o700)
    shutil.copy(videos / "car-001.mp4", public / "videos" / "closed")
    shutil.copy(videos / "car-002.mp4", public / "videos" / "closed.mp4")
    (public / "videos" / "closed.mp4").chmod(0o600)
    (public / "root").mkdir()
    words = ["build", BOX_CARS, *settings(public / "videos")]
    with only_inside(public / "root"):
        done = as_nobody([*words, "--root", str(public / "root")], public)
    assert done.returncode == 1
    assert "give another folder" in done.stderr and "Traceback" not in done.stderr
    assert list((public / "root").iterdir()) == []

    os.chown(public / "root", NOBODY, NOBODY)
    with only_inside(public / "root"):
        done = as_nobody([*words, "--root", str(public / "root")], public)
    assert done.returncode == 0, done.stderr
    store = Store(public / "root")
    manifest = read_manifest(store, "box-cars")
    assert manifest["version"] == built[0]["version"]
    rows = latest_observation(store, manifest)["videos"].to_pylist()
    statuses = {row["source_uri"]: row["status"] for row in rows if row["status"] != "ok"}
    assert statuses == {"closed": "unreadable", "closed.mp4": "unreadable"}


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A real file system of its own, of so many bytes."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_dry_run_refuses_a_disk_that_is_too_small(videos: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "600k") as root:
        done = run(["build", BOX_CARS, "--dry-run", "--root", str(root), *settings(videos)])
        assert done.returncode == 1
        assert "the disk of the root has 614 kB free" in done.stderr, done.stderr
        assert list(root.iterdir()) == []


@pytest.mark.parametrize("size", ["4k", "600k"])
def test_a_full_disk_is_one_error_and_room_mends_it(
    size: str, videos: Path, built: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", size) as root:
        with only_inside(root):
            done = run(["build", BOX_CARS, "--root", str(root), *settings(videos)])
        assert done.returncode == 1, done.stderr
        assert "No space left on device" in done.stderr and "make room" in done.stderr
        assert "Traceback" not in done.stderr
        subprocess.run(["mount", "-o", "remount,size=50m", str(root)], check=True)
        assert build_here(videos, root)["version"] == built[0]["version"]


def test_a_disk_that_fills_up_while_a_video_is_fetched(videos: Path, tmp_path: Path) -> None:
    rows = rows_of((videos / "annotations.csv").read_text())
    (tmp_path / "all.csv").write_text("".join(",".join(row) + "\n" for row in rows))
    sets = ["test_share=0.4", "pose.clusters=4"]
    with LocalServer() as server, small_disk(tmp_path / "disk", "100k") as root:
        for name in {row[0] for row in rows}:
            server.routes[f"/v/{name}.mp4"] = video((videos / f"{name}.mp4").read_bytes())
        with pytest.raises(OSError, match="No space left"):
            build_from(server, tmp_path / "all.csv", root, *sets)
        subprocess.run(["mount", "-o", "remount,size=50m", str(root)], check=True)
        found = build_from(server, tmp_path / "all.csv", root, *sets)
        assert found["attrition"]["videos"] == {"ok": VIDEOS}
