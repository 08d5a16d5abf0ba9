"""The child process in which yt-dlp looks a video up; it fetches no video.

``python -m idpose_core.download.youtube_process PARENT`` (a process id) reads one request from
standard input and writes one answer, both JSON. yt-dlp runs the code of many sites: here it can
neither connect to a private address nor outlive its parent, and what it leaks ends with it.
"""

from __future__ import annotations

import io
import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from idpose_core.download.addresses import is_public, look_up, place_of
from idpose_core.download.youtube_format import smallest_that_serves
from idpose_core.processes import die_with

Request = Mapping[str, Any]
_WARNINGS, _LETTERS = 3, 300  # kept of what yt-dlp warned of, and of each
_LIVE = ("is_live", "is_upcoming", "post_live")


def main(extractors: Sequence[type] = ()) -> None:
    """Answer one request.

    Args:
        extractors: Classes of further extractors, which come before yt-dlp's own.
    """
    die_with(int(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever prints must not write into the answer
    request = json.load(sys.stdin)
    guard_connections(request)
    json.dump(answer(request, extractors), answers)
    answers.flush()


def guard_connections(request: Request) -> None:
    """From now on this process connects to public addresses only, whatever code asks.

    The check sees the number that is connected to, after every lookup and redirect.
    """
    allowed: set[tuple[str, int]] = set()
    for place in filter(
        None, (request["private"], request["proxy"] and place_of(request["proxy"]))
    ):
        allowed |= {(address, place[1]) for address in look_up(*place)}

    def check(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and arguments[0].family in (socket.AF_INET, socket.AF_INET6):
            host, port = arguments[1][:2]
            if not is_public(host) and (host, port) not in allowed:
                raise PermissionError(f"address refused: {host}:{port} is private")

    sys.addaudithook(check)
    # It connects outside of Python, where nothing is checked.
    sys.modules["curl_cffi"] = None  # type: ignore[assignment]


def answer(request: Request, extractors: Sequence[type] = ()) -> dict[str, Any]:
    """What there is to fetch, or yt-dlp's error text.

    Raises:
        ImportError: yt-dlp is not installed.
    """
    import yt_dlp

    heard = _Warnings()
    options = {**_options(request), "logger": heard}
    with yt_dlp.YoutubeDL(options, auto_init="no_verbose_header") as ydl:
        for extractor in reversed(extractors):
            ydl.add_info_extractor(extractor())
        for extractor in extractors:  # before the others
            key = extractor.ie_key()  # type: ignore[attr-defined]
            ydl._ies = {key: ydl._ies[key], **ydl._ies}
        try:
            found = ydl.extract_info(request["url"], download=False)
        except yt_dlp.utils.YoutubeDLError as error:
            return {"error": str(error), "warnings": heard.texts[:_WARNINGS]}
        if not found or found.get("_type", "video") != "video":
            return {"error": "not one video but a list of them"}
        if found.get("live_status") in _LIVE or found.get("is_live"):
            return {"error": f"this live stream is not over ({found.get('live_status')})"}
        chosen = (found.get("requested_formats") or [found])[0]
        options = chosen.get("downloader_options") or {}
        return {
            "url": chosen["url"],
            "variant": f"{found.get('extractor')}:{chosen.get('format_id')}",
            "headers": {str(k): str(v) for k, v in (chosen.get("http_headers") or {}).items()},
            "cookie": ydl.cookiejar.get_cookie_header(chosen["url"]) or None,
            "chunk_bytes": options.get("http_chunk_size"),
            "bytes": chosen.get("filesize"),
            "duration_s": found.get("duration"),
            "licence": found.get("license"),
        }


def _options(request: Request) -> dict[str, Any]:
    def choose(context: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        chosen = smallest_that_serves(context["formats"], request["min_height"], request["avoid"])
        if chosen is not None:
            yield chosen

    options: dict[str, Any] = {
        "quiet": True,
        "noprogress": True,
        "color": "never",
        "noplaylist": True,
        "extract_flat": "in_playlist",
        "format": choose,
        "socket_timeout": request["stall_s"],
        "sleep_interval_requests": request["sleep_s"],
        "extractor_retries": 0,
        "cachedir": request["cache"],
        "allowed_extractors": request["extractors"],
    }
    if request["proxy"]:
        options["proxy"] = request["proxy"]
    if request["cookies"] is not None:
        # A copy of the text: many processes that write one file back would damage it.
        options["cookiefile"] = io.StringIO(request["cookies"])
    if request["js_runtime"]:
        name, _, path = request["js_runtime"].partition(":")
        options["js_runtimes"] = {name: {"path": path} if path else {}}
    return options


class _Warnings:
    """Takes yt-dlp's messages: errors come as exceptions, warnings may tell why."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def debug(self, message: str) -> None:
        pass

    error = debug

    def warning(self, message: str) -> None:
        self.texts.append(message[:_LETTERS])


if __name__ == "__main__":
    main()
