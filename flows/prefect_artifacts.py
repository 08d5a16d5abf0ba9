"""What the page of a flow run shows. A server that is away never ends the work, nor stalls it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_CLIENT_MAX_RETRIES,
    temporary_settings,
)

from idpose_core.reports.pictures import Picture, bounded_uri

_LONGEST_URI = 200_000  # characters: it goes through the database, and into every list of artifacts
_TELLER = ThreadPoolExecutor(1, thread_name_prefix="progress")
_AT_ONCE = {PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: 10.0}


def publish_table(rows: list[dict[str, Any]], key: str, description: str) -> None:
    """Show a table; where the server does not take it, the log says so.

    Args:
        rows: By column.
        key: Lower case, digits and dashes.
        description: What it shows.
    """
    _attempt(lambda: create_table_artifact(rows, key=key, description=description), key)


def publish_markdown(text: str, key: str, description: str) -> None:
    """Show a text; where the server does not take it, the log says so.

    Args:
        text: Markdown.
        key: Lower case, digits and dashes.
        description: What it shows.
    """
    _attempt(lambda: create_markdown_artifact(text, key=key, description=description), key)


def publish_image(draw: Callable[[], Picture], key: str, description: str) -> None:
    """Show a picture; where it cannot be drawn or the server does not take it, the log says so.

    The artifact holds the picture itself: a browser opens neither files of the worker nor a store.

    Args:
        draw: Gives the picture.
        key: Lower case, digits and dashes.
        description: What it shows.
    """

    def act() -> None:
        uri = bounded_uri(draw(), _LONGEST_URI)
        create_image_artifact(uri, key=key, description=description)

    _attempt(act, key)


class ProgressBar:
    """A percentage on the page. Only the newest is told, by a thread: nobody waits for the server.

    Args:
        key: Lower case, digits and dashes.
        description: Of what.
    """

    def __init__(self, key: str, description: str | None = None) -> None:
        self._key = key
        self._description = description
        self._lock = threading.Lock()
        self._newest: float | None = None
        self._artifact: Any = None
        self._shown = True

    def show(self, percent: float) -> None:
        """Move the bar."""
        with self._lock:
            under_way = self._newest is not None
            self._newest = percent
        if not under_way:
            _TELLER.submit(copy_context().run, self._tell)

    def _tell(self) -> None:
        with self._lock:
            percent, self._newest = self._newest, None
        assert percent is not None
        with temporary_settings(_AT_ONCE):
            self._shown = _attempt(lambda: self._update(percent), self._key, warn=self._shown)

    def _update(self, percent: float) -> None:
        if self._artifact is None:
            self._artifact = create_progress_artifact(
                percent, key=self._key, description=self._description
            )
        else:
            update_progress_artifact(self._artifact, percent)


def _attempt(act: Callable[[], Any], key: str, warn: bool = True) -> bool:
    """Do it; whatever goes wrong, only the log tells. Returns whether it was done."""
    try:
        act()
    except Exception as error:
        if warn:
            get_run_logger().warning("the page lacks %s: %r", key, error)
        return False
    return True
