"""Versions of datasets: which there are, which is the latest, and which may become it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from storage import logs
from storage.errors import DatasetError
from storage.manifests import load_manifest
from storage.objects import Store

_MUCH_SMALLER = 0.5  # of the latest version


def names(store: Store) -> list[str]:
    """The names of all datasets that have a committed version, sorted."""
    paths = (path.split("/") for path in store.list("datasets"))
    return sorted({parts[1] for parts in paths if len(parts) == 4 and parts[3] == "manifest.json"})


def versions(store: Store, name: str) -> list[str]:
    """The committed versions of a dataset, sorted by name."""
    paths = (path.split("/") for path in store.list(f"datasets/{name}"))
    return [parts[2] for parts in paths if len(parts) == 4 and parts[3] == "manifest.json"]


def latest_version(store: Store, name: str) -> str | None:
    """The version that ``name`` alone stands for; None where there is none."""
    entry = logs.last_entry(store, f"datasets/{name}/log")
    return None if entry is None else str(entry["version"])


def rollback(store: Store, name: str, version: str | None = None, reason: str = "") -> str:
    """Let an earlier version be the latest again, by a new entry of the log. Returns it.

    Args:
        store: The root.
        name: Of the dataset.
        version: Which one; None for the one that was the latest before this one, so that rolling
            back twice goes back two versions.
        reason: Kept in the log.

    Raises:
        DatasetError: There is none to go back to, or it is not committed.
    """
    log = f"datasets/{name}/log"
    if version is None:
        served = logs.serving(logs.entries(store, log))
        if len(served) < 2:
            raise DatasetError(f"no version of dataset {name!r} was the latest before: name one")
        version = served[-2]
    known = versions(store, name)
    if version not in known:
        committed = ", ".join(f"{name}@{one}" for one in known) or "none"
        raise DatasetError(f"no committed version {version!r} of {name}; committed are {committed}")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    entry = {"version": version, "action": "rollback", "reason": reason, "created_at": now}
    logs.append_entry(store, log, entry)
    logs.point(store, log, f"datasets/{name}/latest")
    return version


def check_size(
    store: Store, name: str, config: Mapping[str, Any], statistics: Mapping[str, Any]
) -> None:
    """Refuse a version much smaller than the latest one of the same configuration.

    A source that is not mounted, or a downloader that is refused, must not become the latest
    version unseen. Which pose space was used makes no other configuration.

    Args:
        store: The root.
        name: Of the dataset.
        config: Of the version to be, as its manifest would have it.
        statistics: Likewise.

    Raises:
        DatasetError: It has less than half of the latest's usable videos or of its triplets.
    """
    version = latest_version(store, name)
    if version is None:
        return
    latest = load_manifest(store, f"datasets/{name}/{version}/manifest.json")
    if latest is None or without_space(latest["config"]) != without_space(config):
        return
    for what, before, now in zip(
        ("videos", "triplets"), sizes(latest["statistics"]), sizes(statistics), strict=True
    ):
        if now < before * _MUCH_SMALLER:
            raise DatasetError(
                f"{name} would have {now} usable {what} where its latest version "
                f"{version} has {before}: see that the source is complete; if so, build "
                "with --set run.allow_smaller=true"
            )


def without_space(config: Mapping[str, Any]) -> dict[str, Any]:
    """A version's configuration apart from the pose space that its poses are named by."""
    pose = config.get("pose") or {}
    return {**config, "pose": {key: value for key, value in pose.items() if key != "space"}}


def sizes(statistics: Mapping[str, Any]) -> tuple[int, int]:
    """Usable videos, and triplets of all splits, by the statistics of a version."""
    videos = statistics.get("attrition", {}).get("videos", {})
    triplets = statistics.get("counts", {}).get("triplets", {})
    return videos.get("ok", 0), sum(triplets.values())
