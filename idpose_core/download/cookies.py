"""Cookies of a browser, from the text file that browser extensions and yt-dlp write."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from http.cookiejar import LoadError, MozillaCookieJar
from pathlib import Path


def cookie_headers(path: Path) -> Callable[[str], str | None]:
    """For an address the Cookie header that belongs to it, if any.

    Args:
        path: A file in Netscape's format.

    Raises:
        ValueError: It cannot be read.
    """
    jar = MozillaCookieJar(str(path))
    try:
        jar.load(ignore_discard=True)
    except (OSError, LoadError, UnicodeDecodeError) as error:
        raise ValueError(f"no cookies in Netscape format in {path}: {error}") from error

    def header(url: str) -> str | None:
        request = urllib.request.Request(url)
        jar.add_cookie_header(request)
        return request.get_header("Cookie")

    return header
