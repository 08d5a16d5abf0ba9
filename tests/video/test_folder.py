"""Listing a folder: what is listed, and what cannot make it fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from idpose_core.video.folder import MediaFile, list_videos


def put(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def names(folder: Path) -> list[str]:
    return [file.relative_path for file in list_videos(folder)]


def test_any_extension_sorted_by_path(tmp_path: Path) -> None:
    for name in ("b.mp4", "a/z.mkv", "a/b/c.weird", "noextension", "B.AVI", "a.gif"):
        put(tmp_path / name)
    assert names(tmp_path) == ["B.AVI", "a.gif", "a/b/c.weird", "a/z.mkv", "b.mp4", "noextension"]


def test_size_and_time(tmp_path: Path) -> None:
    path = put(tmp_path / "v.mp4", b"12345")
    os.utime(path, ns=(1, 1_700_000_000_123_456_789))
    assert list_videos(tmp_path) == [MediaFile("v.mp4", 5, 1_700_000_000_123_456_789)]


def test_hidden_files_tables_and_notes_are_left_out(tmp_path: Path) -> None:
    for name in (
        ".hidden.mp4", ".cache/v.mp4", "boxes.csv", "boxes.CSV.GZ", "README.md", "x.txt", "m.json",
    ):  # fmt: skip
        put(tmp_path / name)
    assert names(tmp_path) == []


def test_odd_names(tmp_path: Path) -> None:
    odd = ["-dash.mp4", "with space.mp4", "ünï 車.mp4", "new\nline.mp4", "%d.mp4", "a:b.mp4"]
    for name in odd:
        put(tmp_path / name)
    assert names(tmp_path) == sorted(odd)


def test_name_that_is_no_text_is_unreadable(tmp_path: Path) -> None:
    os.close(os.open(os.fsencode(tmp_path) + b"/caf\xe9.mp4", os.O_CREAT | os.O_WRONLY))
    assert list_videos(tmp_path) == [MediaFile("caf\\xe9.mp4", -1, 0)]


def test_links_within_are_listed_and_links_out_are_not(tmp_path: Path) -> None:
    outside = put(tmp_path / "outside/secret.mp4")
    folder = tmp_path / "videos"
    put(folder / "a.mp4")
    (folder / "link.mp4").symlink_to("a.mp4")
    (folder / "out.mp4").symlink_to(outside)
    (folder / "out").symlink_to(outside.parent)
    assert names(folder) == ["a.mp4", "link.mp4"]


def test_loops_and_broken_links_end(tmp_path: Path) -> None:
    put(tmp_path / "a/v.mp4")
    (tmp_path / "a/up").symlink_to("..")
    (tmp_path / "self.mp4").symlink_to("self.mp4")
    (tmp_path / "broken.mp4").symlink_to("missing.mp4")
    assert list_videos(tmp_path)[1:] == [
        MediaFile("broken.mp4", -1, 0),
        MediaFile("self.mp4", -1, 0),
    ]
    assert names(tmp_path)[0] == "a/v.mp4"


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    put(tmp_path / "real/v.mp4")
    (tmp_path / "link").symlink_to("real")
    assert names(tmp_path / "link") == ["v.mp4"]


def test_what_is_no_regular_file_is_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    put(tmp_path / "v.mp4")
    assert names(tmp_path) == ["v.mp4"]


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        list_videos(tmp_path / "missing")
    with pytest.raises(ValueError, match="no such folder"):
        list_videos(put(tmp_path / "file.mp4"))


def test_unreadable_entries_are_listed(tmp_path: Path) -> None:
    put(tmp_path / "ok.mp4")
    put(tmp_path / "locked.mp4").chmod(0)
    put(tmp_path / "closed/v.mp4")
    (tmp_path / "closed").chmod(0)
    script = (
        "import os, sys; from pathlib import Path\n"
        "from idpose_core.video.folder import list_videos\n"
        "os.chdir(sys.argv[1]); os.geteuid() or os.setuid(65534);"
        "print([(f.relative_path, f.bytes) for f in list_videos(Path('.'))])"
    )
    for folder in (tmp_path, *tmp_path.parents[:-2]):  # another user must get this far
        folder.chmod(folder.stat().st_mode | 0o055)
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)],
            capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
    finally:
        (tmp_path / "closed").chmod(0o755)
    assert done.stdout.strip() == "[('closed', -1), ('locked.mp4', -1), ('ok.mp4', 1)]"
