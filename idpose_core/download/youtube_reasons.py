"""From yt-dlp's error texts to the closed set of reasons.

yt-dlp passes on what YouTube says, in English; its own remarks (how to give cookies, how to report
a bug) follow and are cut off before anything is read out of the text. The first rule that fits
counts: "Video unavailable" alone is dead, but the same words with "try again later" are not.
"""

from __future__ import annotations

import re

from storage.reasons import Status

_RULES: tuple[tuple[Status, str], ...] = (
    (Status.ADDRESS_REFUSED, r"address refused"),
    # What yt-dlp asks behind the page has moved: that says nothing of the video
    (Status.DOWNLOAD_FAILED, r"(api page|player|client config)\b.*http error 4(04|10)"),
    (Status.RATE_LIMITED, r"try again later|rate.limited|too many requests|http error 429"),
    (
        Status.MEMBERS_ONLY,
        r"members.only|this channel's members|requires payment|premium members|must be purchased",
    ),
    (Status.AGE_RESTRICTED, r"confirm your age|age.restricted|inappropriate for some users"),
    (Status.PRIVATE, r"private video|video is private|granted you access"),
    (Status.BOT_CHECK, r"not a bot|captcha|unusual traffic|please sign in|sign in to continue"),
    (
        Status.REGION_BLOCKED,
        r"in your (country|region|location)|from your location|geo.?restrict"
        r"|on this country domain",
    ),
    (Status.NO_FORMAT, r"drm.protected"),
    (Status.UNAVAILABLE, r"recording is not available"),
    (Status.PREMIERE, r"premieres? (in|will)|premiering"),
    (
        Status.LIVE,
        r"live event|live stream|livestream|is offline|currently live"
        r"|processing this video|check back later",
    ),
    (
        Status.REMOVED,
        r"removed|no longer available|terminated|closed their youtube account|copyright"
        r"|http error 410|for violating",
    ),
    (Status.NOT_FOUND, r"http error 404|does not exist|incomplete youtube id|looks truncated"),
    (Status.NO_FORMAT, r"requested format is not available|no video formats|only images are avail"),
    (Status.FORBIDDEN, r"http error 40[13]|forbidden"),
    (Status.SERVER_ERROR, r"http error 5\d\d|internal server error"),
    (
        Status.CONNECTION_FAILED,
        r"timed out|unable to connect|connection (refused|reset|aborted|broken)|name resolution"
        r"|getaddrinfo|name or service not known|network is unreachable|no route to host"
        r"|remote end closed|certificate verify failed|ssl error|violation of protocol",
    ),
    (
        Status.UNAVAILABLE,
        r"^video unavailable\.?$"
        r"|^(video unavailable\.? )?(this|the) video is (not available|unavailable)"
        r"( any ?more)?\.?$",
    ),
)
_COMPILED = tuple((status, re.compile(pattern)) for status, pattern in _RULES)
# "ERROR: [youtube] dQw4w9WgXcQ: ", where an id may hold any word
_PREFIX = re.compile(r"^(error:\s*)?(\[[^\]\s]+\]\s+)?(\S{1,64}:\s+)?", re.IGNORECASE)
_REMARKS = re.compile(
    r"(; please report this issue on\s.*|\.?\s*use --cookies(-from-browser)?\b.*"
    r"|\.?\s*it is recommended to use .*|\.?\s*you might want to use a vpn\b.*)$",
    re.IGNORECASE | re.DOTALL,
)


def classify(text: str) -> Status:
    """The reason behind an error of yt-dlp.

    Args:
        text: Its message, with or without ``ERROR: [youtube] <id>:`` before it.

    Returns:
        DOWNLOAD_FAILED for a text that is not known: it is tried again, a bounded number of times,
        and shown.
    """
    said = meaning(text)
    return next((s for s, rule in _COMPILED if rule.search(said)), Status.DOWNLOAD_FAILED)


def meaning(text: str) -> str:
    """What the site said, in lower case and on one line, without yt-dlp's own remarks."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\u2019", "'").strip()
    plain = _REMARKS.sub("", _PREFIX.sub("", plain, count=1))
    return " ".join(plain.split()).lower()
