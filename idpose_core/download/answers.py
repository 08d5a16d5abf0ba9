"""What the answer of a web server means, in the closed set of reasons."""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime

import httpcore

from storage.reasons import Status, Unusable

_TEXT_BYTES = 300
_STATUSES = {
    400: Status.DOWNLOAD_FAILED,
    401: Status.FORBIDDEN,
    403: Status.FORBIDDEN,
    404: Status.NOT_FOUND,
    408: Status.SERVER_ERROR,
    410: Status.REMOVED,
    425: Status.SERVER_ERROR,
    429: Status.RATE_LIMITED,
    451: Status.REMOVED,  # for legal reasons
}
# What begins like one of these is a page, a message or a list of addresses.
_TEXTS = (b"<", b"{", b"#EXTM3U", b"%PDF-")


class Refused(Unusable):
    """The source asks to be left alone for a while.

    Attributes:
        retry_after_s: How long, where it says so.
    """

    def __init__(self, status: Status, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(status, detail)
        self.retry_after_s = retry_after_s


def failure_of_answer(response: httpcore.Response) -> Unusable:
    """The reason that an answer without a video gives, with the server's own words."""
    code = response.status
    detail = f"HTTP {code} {_reason_phrase(response)}".rstrip()
    said = _words(response)
    if said:
        detail = f"{detail}: {said}"
    wait = retry_after_s(header(response, "retry-after"))
    status = _STATUSES.get(code, Status.SERVER_ERROR if code >= 500 else Status.DOWNLOAD_FAILED)
    if wait is not None and status.retryable:
        status = Status.RATE_LIMITED if code in (429, 503) else status
        return Refused(status, f"{detail} (Retry-After: {wait:.0f} s)", wait)
    return Refused(status, detail) if code == 429 else Unusable(status, detail)


def failure_of_network(error: Exception, *, begun: bool, late: bool) -> Unusable:
    """The reason behind an error of the connection.

    Args:
        error: An error of httpcore.
        begun: Whether an answer had begun.
        late: Whether the deadline of the video had passed.
    """
    detail = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if late:
        return Unusable(Status.DOWNLOAD_TIMEOUT, detail)
    if isinstance(error, httpcore.ReadTimeout):
        return Unusable(Status.STALLED, detail)
    return Unusable(Status.INCOMPLETE if begun else Status.CONNECTION_FAILED, detail)


def retry_after_s(text: str | None, *, now: float | None = None) -> float | None:
    """Seconds that a Retry-After header asks to wait, be it a number or a date."""
    if text is None:
        return None
    if re.fullmatch(r"\s*\d{1,9}\s*", text):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, date.timestamp() - (time.time() if now is None else now))


def content_range(text: str | None) -> tuple[int, int | None]:
    """First byte and length of the whole (None = not told), of ``bytes 0-99/1000``.

    Raises:
        Unusable: DOWNLOAD_FAILED for anything else.
    """
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", (text or "").strip())
    if found is None:
        raise Unusable(Status.DOWNLOAD_FAILED, f"a partial answer without its range: {text!r}")
    return int(found[1]), None if found[3] == "*" else int(found[3])


def check_beginning(data: bytes) -> None:
    """Refuse what begins like a web page or a message, before the rest of it is fetched.

    Raises:
        Unusable: NOT_A_VIDEO, with its first words.
    """
    text = data[:_TEXT_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(_TEXTS):
        raise Unusable(Status.NOT_A_VIDEO, f"a text in place of a video: {_printable(text)}")


def header(response: httpcore.Response, name: str) -> str | None:
    """A header of an answer; of several the first."""
    wanted = name.encode()
    found = (value for key, value in response.headers if key.lower() == wanted)
    value = next(found, None)
    return None if value is None else value.decode("latin-1").strip()


def _reason_phrase(response: httpcore.Response) -> str:
    phrase: bytes = response.extensions.get("reason_phrase", b"")
    return phrase.decode("latin-1")


def _words(response: httpcore.Response) -> str:
    """The beginning of a text answer; nothing where it has none or the connection ends."""
    if not (header(response, "content-type") or "").startswith("text/plain"):
        return ""
    try:
        return _printable(next(iter(response.iter_stream()), b"")[:_TEXT_BYTES])
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError):
        return ""


def _printable(data: bytes) -> str:
    text = " ".join(data.decode("utf-8", "replace").split())
    return "".join(c for c in text if c.isprintable())[:200]
