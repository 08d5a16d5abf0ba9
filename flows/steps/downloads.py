"""Downloads: the videos that annotations (or a list of ids) name, fetched from the network."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import cast
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from flows.steps.annotations import Annotations
from flows.steps.context import Context
from flows.steps.videos import choose_split, keep_test_videos
from idpose_core.assembly.records import Video
from idpose_core.assembly.splits import TEST
from idpose_core.config import ConfigError
from idpose_core.download.addresses import place_of
from idpose_core.download.budget import Pace
from idpose_core.download.credentials import SECRET, filled_in, has_place, holds_credential
from idpose_core.download.partial import remove_partial
from idpose_core.download.transfer import Limits
from idpose_core.download.youtube import WATCH, Lookup
from idpose_core.stages.download import MEDIA, PARTIAL, DownloadVideos, Kind, Manner, partial_path
from storage.copies import working_path
from storage.digests import digest
from storage.reasons import Status
from storage.shards import Item, Outcome, read_rows
from storage.tombstones import read_tombstones

GUESTS_PER_HOUR = 300.0  # what YouTube gives whoever is not signed in
_ID = "{video_id}"
_TEMPLATE = "source.url_template"
_NOT_BY_DECORD = ("av01",)
# As Transfer and DownloadVideos write it: what was found, and the limit that refused it
_OVER_A_LIMIT = re.compile(r"(?:(\d+) (?:s|bytes), at most|more than) (\d+)")


def per_hour(build: Context) -> float | None:
    """Videos an hour that the source may be asked for; None = no limit."""
    if build.config.download.per_hour is None and build.config.source.kind == "youtube":
        return GUESTS_PER_HOUR
    return build.config.download.per_hour


def download_stage(build: Context) -> DownloadVideos:
    """The download stage of this configuration.

    Raises:
        ConfigError: The template, the proxy or a reason to try again is not what it should be.
    """
    config, download = build.config, build.config.download
    if unknown := set(download.retry) - set(Status):
        raise ConfigError(f"download.retry: no reason is called {min(unknown)!r}")
    template, place = _template(build), _place(build)
    kind = cast(Kind, config.source.kind)
    manner = Manner(
        limits=Limits(
            connect_s=download.connect_seconds,
            stall_s=download.stall_seconds,
            deadline_s=download.deadline_seconds,
            max_bytes=download.max_bytes,
            bytes_per_s=download.bytes_per_second,
        ),
        pace=Pace(per_hour(build), download.pause_seconds, download.patience_seconds),
        budget=kind if template == WATCH else f"{kind}-{digest(list(place))[:12]}",
        lookup=Lookup(
            extractors=("youtube",) if template == WATCH else ("default",),
            js_runtime=download.js_runtime,
            sleep_s=download.request_sleep_seconds,
            cache=str(working_path(build.store, "budgets/yt-dlp")),
        ),
        max_seconds=download.max_seconds,
        tries=download.tries,
        backoff_s=download.backoff_seconds,
        private=place if config.source.allow_private else None,
        cookies=None if download.cookies is None else str(Path(download.cookies).absolute()),
        proxy=_proxy(build),
    )
    avoid = _NOT_BY_DECORD if config.decoder == "decord" else ()
    return DownloadVideos(kind, manner, download.min_height, avoid)


def wanted_ids(build: Context, annotations: Annotations | None) -> list[str]:
    """The ids of the videos: those that the annotations name, or those of a list.

    Raises:
        ConfigError: There is neither, or the list cannot be read.
    """
    if annotations is not None:
        return sorted(annotations)
    path = build.config.source.path
    if path is None:
        raise ConfigError(
            f"source.kind={build.config.source.kind} needs source.annotations, or source.path with "
            "one video id a line"
        )
    try:
        lines = Path(path).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"source.path: cannot read {path}: {error}") from error
    ids = sorted({line.strip() for line in lines if line.strip()})
    if not ids:
        raise ConfigError(f"source.path: no video id in {path}")
    return ids


def download_items(build: Context, ids: Sequence[str]) -> list[Item]:
    """The download stage's input: what is asked for, and by which address."""
    template, root = _template(build), build.store.location
    public, secret = _public(template), filled_in(template, _TEMPLATE)
    return [
        Item(
            {"video_id": video_id, "url": _fill(public, video_id)},
            {"root": root, "url": _fill(secret, video_id)},
            {"video_id": video_id},
        )
        for video_id in ids
    ]


def fetch_downloads(build: Context, annotations: Annotations | None) -> list[Video]:
    """Fetch every video that is not there. Returns one record a video.

    Raises:
        ConfigError: The source cannot be asked, or a test video would turn into training data.
    """
    stage, ids = download_stage(build), wanted_ids(build, annotations)
    items = download_items(build, ids)
    build.needed = (stage, *build.needed)
    outcomes = build.run(stage, items, try_again(build))
    outcomes = _fetch_lost_media(build, stage, items, outcomes)
    _remove_finished(build, items, outcomes)
    _show_unknown(build, outcomes)
    columns = ["media", "media_sha256", "duration_ms", "width", "height", "licence"]
    found = {
        outcome.row_key: rows[0] for outcome, rows in read_rows(build.store, outcomes, columns)
    }
    forgotten, videos = read_tombstones(build.store).media, []
    for item, outcome in zip(items, outcomes, strict=True):
        video = Video(
            source_uri=item.row["url"],
            location={},
            video_id=item.row["video_id"],
            name=item.row["video_id"],
            attempts=outcome.attempt,
        )
        video.split = choose_split(build, video, annotations)
        videos.append(video)
        if outcome.status is not Status.OK:
            video.reject(outcome.status, outcome.detail)
            continue
        media = found[outcome.row_key]
        if media["media_sha256"] in forgotten:
            video.reject(Status.FORGOTTEN, "its bytes are those of a forgotten video")
            build.store.delete(f"{MEDIA}/{media['media']}")
            continue
        video.location = {"root": build.store.location, "media": f"{MEDIA}/{media['media']}"}
        video.media_sha256, video.licence = media["media_sha256"], media["licence"]
        video.duration_ms = media["duration_ms"]
        video.width, video.height = media["width"], media["height"]
    keep_test_videos(build, videos)
    _drop_equal_media(videos)
    return videos


def try_again(build: Context) -> Callable[[Outcome], bool]:
    """Which known downloads are asked for again.

    Those that are worth another try, those whose reason ``download.retry`` names, and those that
    a limit refused which the configuration has no more.
    """
    place = _place(build)
    return lambda outcome: (
        outcome.retryable
        or outcome.status.value in build.config.download.retry
        or _allowed_by_now(build, outcome, place)
    )


def lost_media(build: Context, outcomes: Iterable[Outcome]) -> set[str]:
    """The row keys of what was fetched once and is not below ROOT/media any more."""
    there, forgotten = set(build.store.list(MEDIA)), read_tombstones(build.store).media
    return {
        outcome.row_key
        for outcome, [row] in read_rows(build.store, outcomes, ["media", "media_sha256"])
        if f"{MEDIA}/{row['media']}" not in there and row["media_sha256"] not in forgotten
    }


def _allowed_by_now(build: Context, outcome: Outcome, place: tuple[str, int]) -> bool:
    """Whether what refused a video would let it pass by now, by the words of its row.

    A video that is refused again has the new limit in its row, so that it is asked for once.
    """
    download, detail = build.config.download, (outcome.detail or "").lower()
    if outcome.status is Status.ADDRESS_REFUSED:
        host, port = place
        return build.config.source.allow_private and f"{host}:{port}" in detail.split()
    if outcome.status not in (Status.TOO_LONG, Status.TOO_LARGE):
        return False
    limit = download.max_seconds if outcome.status is Status.TOO_LONG else download.max_bytes
    told = _OVER_A_LIMIT.search(detail)
    if told is None:
        return False
    found, before = float(told[1] or 0), float(told[2])
    # Both were rounded when they were written down, and so the new limit is here.
    return limit >= found and float(f"{limit:.0f}") > before


def _fetch_lost_media(
    build: Context, stage: DownloadVideos, items: Sequence[Item], outcomes: list[Outcome]
) -> list[Outcome]:
    """Fetch again what was fetched once and is not below ROOT/media any more."""
    lost = lost_media(build, outcomes)
    if not lost:
        return outcomes
    build.progress.say(f"{len(lost)} videos are gone from {MEDIA}: they are fetched again")
    return build.run(stage, items, lambda outcome: outcome.row_key in lost)


def _remove_finished(build: Context, items: Sequence[Item], outcomes: Sequence[Outcome]) -> None:
    """Remove what is left of transfers whose result is in a shard by now."""
    folder = working_path(build.store, PARTIAL)
    if not folder.is_dir():
        return
    left = {path.name.split(".")[0] for path in folder.iterdir()}
    for item, outcome in zip(items, outcomes, strict=True) if left else ():
        path = partial_path(build.store, item.row)
        if not outcome.retryable and path.stem in left:
            remove_partial(path)


def _show_unknown(build: Context, outcomes: Sequence[Outcome]) -> None:
    """Show what no rule could name: a source that changed its words shows here first."""
    unknown = [o.detail or "" for o in outcomes if o.status is Status.DOWNLOAD_FAILED]
    if unknown:
        build.progress.say(
            f"{len(unknown)} videos gave an answer that is not known, such as: {unknown[0][:300]}"
        )


def _drop_equal_media(videos: Sequence[Video]) -> None:
    """Keep one of videos with equal bytes: of these a training video, the first by its id."""
    originals: dict[str | None, Video] = {}
    good = [video for video in videos if video.status is Status.OK]
    for video in sorted(good, key=lambda v: (v.split == TEST, v.video_id)):
        original = originals.setdefault(video.media_sha256, video)
        if original is not video:
            video.reject(Status.DUPLICATE, f"same bytes as {original.video_id}")


def _template(build: Context) -> str:
    """The address of a video, with a place for its id, and ``${NAME}`` for a credential.

    Raises:
        ConfigError: It is none, or it holds credentials, which would be kept in clear.
    """
    source = build.config.source
    template = source.url_template
    if template is None:
        if source.kind == "youtube":
            return WATCH
        raise ConfigError(
            f"source.kind=http needs {_TEMPLATE}, such as https://host.example/{_ID}.mp4"
        )
    whole = filled_in(template, _TEMPLATE)
    try:
        place_of(whole)
    except ValueError:
        raise ConfigError(f"{_TEMPLATE}: not an http or https address: {template!r}") from None
    parts = urlsplit(whole)
    if _ID not in f"{parts.path}?{parts.query}":  # what stands behind a # is never sent
        raise ConfigError(f"{_TEMPLATE}: there is no {_ID} behind its host")
    if _ID in parts.netloc or "@" in parts.netloc:
        raise ConfigError(
            f"{_TEMPLATE}: an id has no place in the host, nor have credentials: give them "
            "as download.cookies"
        )
    if not whole.isascii() or not whole.isprintable() or " " in whole:
        raise ConfigError(f"{_TEMPLATE}: write other letters than ASCII as %XX")
    return template


def _place(build: Context) -> tuple[str, int]:
    return place_of(filled_in(_template(build), _TEMPLATE))


def _public(template: str) -> str:
    """The template as it may be published: of its query only what names the video.

    The other parameters tell one source from another (``set=cars``) and may hold a key: their
    digest stands for them, without those that are called like a secret or filled in.
    """
    parts = urlsplit(template)
    query = parse_qsl(parts.query, keep_blank_values=True)
    named = [(name, value) for name, value in query if _ID in value]
    others = sorted(
        [name, value]
        for name, value in query
        if _ID not in name + value and not SECRET.search(name) and not has_place(name + value)
    )
    mark = f"query-{digest(others)[:12]}" if others else ""
    return urlunsplit((*parts[:3], urlencode(named, safe="{}"), mark))


def _fill(template: str, video_id: str) -> str:
    return template.replace(_ID, quote(video_id, safe=""))


def _proxy(build: Context) -> str | None:
    """The proxy with its credentials: of the environment, or the one that is configured.

    Raises:
        ConfigError: It is no address, or the configuration holds credentials.
    """
    configured = build.config.download.proxy
    if configured is not None and holds_credential(configured):
        raise ConfigError(
            "download.proxy: credentials belong in $IDPOSE_PROXY, or stand there as ${NAME}"
        )
    proxy = os.environ.get("IDPOSE_PROXY") or filled_in(configured or "", "download.proxy") or None
    if proxy is not None:
        try:
            place_of(proxy)
        except ValueError:
            raise ConfigError("download.proxy (or $IDPOSE_PROXY) is no http address") from None
    return proxy
