"""YouTube (and every site that yt-dlp knows): from a video's address to a file to fetch.

yt-dlp looks the video up in a child process of its own; the file is fetched by the same transfer
as any other, so that resuming, limits and checks are the same.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from idpose_core.config import ConfigError
from idpose_core.download.addresses import Deadline
from idpose_core.download.answers import Refused
from idpose_core.download.transfer import Target
from idpose_core.download.youtube_reasons import classify
from storage.reasons import Status, Unusable

_PACKAGES = Path(__file__).resolve().parents[2]
_MODULE = "idpose_core.download.youtube_process"
_SLOW_DOWN = (Status.RATE_LIMITED, Status.BOT_CHECK)
WATCH = "https://www.youtube.com/watch?v={video_id}"


@dataclass(frozen=True)
class Lookup:
    """How yt-dlp is asked.

    Attributes:
        min_height: Lines that the picture should have.
        avoid: Beginnings of the names of codecs that the decoder cannot open.
        extractors: Names (regular expressions) of the extractors that may be used.
        private: Host and port that may have a private address.
        cookies: Cookie file in Netscape's format.
        proxy: Address of a proxy.
        js_runtime: ``deno``, ``node``, ``bun`` or ``quickjs``, with ``:PATH`` where it is not
            found by name; None = yt-dlp's default.
        cache: Folder in which yt-dlp keeps what it learnt of a site's player.
        stall_s: Longest silence of the site.
        sleep_s: Between the requests that one lookup takes.
        command: What answers requests; tests put their own extractors in.
    """

    min_height: int = 0
    avoid: tuple[str, ...] = ()
    extractors: tuple[str, ...] = ("youtube",)
    private: tuple[str, int] | None = None
    cookies: str | None = None
    proxy: str | None = None
    js_runtime: str | None = None
    cache: str | None = None
    stall_s: float = 30.0
    sleep_s: float = 0.0
    command: tuple[str, ...] = ("-m", _MODULE)


@dataclass(frozen=True)
class Found:
    """A video that can be fetched.

    Attributes:
        target: Where the chosen format is.
        bytes: Its size, where the site says it.
        duration_s: Length of the video, where the site says it.
        licence: Its licence, where the site says one.
    """

    target: Target
    bytes: int | None
    duration_s: float | None
    licence: str | None


def check_installed(lookup: Lookup) -> None:
    """See that yt-dlp and the chosen JavaScript runtime are there, before anything is asked.

    Raises:
        ImportError: yt-dlp is not.
        ConfigError: The runtime is not.
    """
    name, _, path = (lookup.js_runtime or "").partition(":")
    if name and shutil.which(path or name) is None:
        raise ConfigError(f"download.js_runtime: no program {path or name!r} on this machine")
    if importlib.util.find_spec("yt_dlp") is None:
        raise ImportError("source.kind=youtube needs yt-dlp: pip install 'idpose[youtube]'")


def look_up_video(url: str, lookup: Lookup, deadline: Deadline) -> Found:
    """Ask yt-dlp for the smallest format that serves.

    Raises:
        Unusable: There is none, with yt-dlp's own words; DOWNLOAD_TIMEOUT; Refused where the site
            asks to be left alone.
    """
    request = {
        "url": url,
        "min_height": lookup.min_height,
        "avoid": lookup.avoid,
        "extractors": lookup.extractors,
        "private": lookup.private,
        "cookies": Path(lookup.cookies).read_text("utf-8") if lookup.cookies else None,
        "proxy": lookup.proxy,
        "js_runtime": lookup.js_runtime,
        "cache": lookup.cache or False,
        "stall_s": lookup.stall_s,
        "sleep_s": lookup.sleep_s,
    }
    told = _ask(json.dumps(request), lookup.command, deadline)
    try:
        answer = json.loads(told)
    except ValueError:
        raise Unusable(Status.DOWNLOAD_FAILED, f"yt-dlp ended without an answer: {told}") from None
    if "error" in answer:
        raise _failure(answer["error"], answer.get("warnings", []))
    cookie = {"Cookie": answer["cookie"]} if answer["cookie"] else {}
    target = Target(
        answer["url"], answer["variant"], {**answer["headers"], **cookie}, answer["chunk_bytes"]
    )
    return Found(target, answer["bytes"], answer["duration_s"], answer["licence"])


def _failure(error: str, warnings: Sequence[str]) -> Unusable:
    """The reason behind an error, with yt-dlp's own words and what it warned of before."""
    status = classify(error)
    if status is Status.NO_FORMAT and warnings:
        # A JavaScript runtime that is missing or fails leaves no format of any video: what the
        # site has is seen only where nothing was warned of.
        status = Status.DOWNLOAD_FAILED
    detail = f"{error}; before that: {'; '.join(warnings)}" if warnings else error
    return Refused(status, detail) if status in _SLOW_DOWN else Unusable(status, detail)


def _ask(request: str, command: Sequence[str], deadline: Deadline) -> str:
    """The child's answer; where it has none, the last line that it wrote elsewhere."""
    child = subprocess.Popen(
        [sys.executable, *command, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # so that its JavaScript runtime ends with it
        env={**os.environ, "PYTHONPATH": _search_path()},
    )
    try:
        out, err = child.communicate(request, timeout=deadline.bound(None))
    except subprocess.TimeoutExpired:
        raise Unusable(
            Status.DOWNLOAD_TIMEOUT, f"yt-dlp gave no answer in {deadline.seconds:.0f} s"
        ) from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    return out or next(reversed(err.strip().splitlines()), f"exit status {child.returncode}")


def _search_path() -> str:
    return os.pathsep.join(filter(None, [str(_PACKAGES), os.environ.get("PYTHONPATH", "")]))
