"""A dataset as one page: what it is, what it shows, what was lost on the way, how even it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import jinja2
import numpy as np
import pyarrow as pa

from idpose_core.reports.explain import MEASURES, STATUSES
from idpose_core.reports.pictures import (
    Counts,
    Picture,
    contact_sheet,
    heat_map,
    jpeg_uri,
    load_pictures,
    pair_counts,
    png_uri,
    sample_crops,
    sample_triplets,
    shrink,
)
from idpose_core.reports.sampling import changes_in_words, left_out, missing_in_words
from storage.datasets import attrition
from storage.export import ROLES
from storage.objects import Store
from storage.reasons import Status

_STRIP = 8  # crops shown of each cluster
_MOST_STRIPS = 64
_MOST_LOST = 200
_TRIPLET_SIDE, _STRIP_SIDE = 144, 88
_QUANTILES = ("min", "median", "p90", "max")
_TEXT = 320  # characters shown of a name or a reason


def dataset_page(
    store: Store,
    title: str,
    tables: Mapping[str, pa.Table],
    statistics: Mapping[str, Any],
    *,
    triplets: int = 24,
    seed: int = 0,
) -> str:
    """One self-contained HTML page; equal input gives an equal page.

    Args:
        store: The root that holds the picture shards.
        title: Name and version.
        tables: ``videos``, ``clips``, ``crops`` and ``triplets``, in the schemas of
            storage.schemas; each may be empty. Counts and losses are taken from them.
        statistics: As ``assembly.statistics.dataset_statistics`` makes them, with ``pools``: for
            each split the pairs [M, M] that there were to choose from. Keys may be missing.
        triplets: How many to show.
        seed: Another seed shows others.

    Raises:
        DatasetError: A shard of pictures is missing or damaged.
    """
    shown = sample_triplets(tables["triplets"], triplets, seed)
    strips = sample_crops(tables["crops"], _STRIP, seed)
    hidden_strips = max(0, len(strips) - _MOST_STRIPS)
    strips = dict(list(strips.items())[:_MOST_STRIPS])
    wanted = {row[f"{role}_crop"] for row in shown for role in ROLES}
    wanted |= {crop for members in strips.values() for crop in members}
    pictures = load_pictures(store, tables["crops"], wanted)
    names = _video_names(tables["videos"])
    azimuths = _azimuths(tables["crops"], wanted)
    sizes = _cluster_sizes(tables["crops"])
    return _template().render(
        title=title,
        headline=_headline(tables),
        crops_per_clip=_in_order(statistics.get("crops_per_clip", {}), _QUANTILES),
        cards=_by_split([_card(row, pictures, names, azimuths) for row in shown]),
        clusters=[
            {
                "number": cluster,
                "crops": sizes[cluster],
                "share": _percent(sizes[cluster], max(sizes.values())),
                "images": [jpeg_uri(shrink(pictures[crop], _STRIP_SIDE)) for crop in members],
            }
            for cluster, members in strips.items()
        ],
        hidden_strips=hidden_strips,
        losses=[_losses(name, tables[name], names) for name in ("videos", "clips")],
        maps=list(_maps(tables["triplets"], statistics)),
        balance=_balance(statistics.get("balance", {})),
        second=_second(statistics).removesuffix("_cluster"),
        sampling=_sampling(statistics.get("sampling", {})),
    )


def triplet_sheet(
    store: Store,
    tables: Mapping[str, pa.Table],
    *,
    rows: int = 8,
    columns: int = 1,
    side: int = 128,
    seed: int = 0,
) -> Picture:
    """A contact sheet of triplets: ID, pose and target picture below a line of headings.

    Args:
        store: The root that holds the picture shards.
        tables: ``crops`` and ``triplets``.
        rows: Lines of triplets; fewer where there are fewer triplets.
        columns: Triplets side by side.
        side: Of each picture, in pixels.
        seed: Another seed shows others.

    Returns:
        uint8 [H, W, 3] RGB; only the headings where there are no triplets.
    """
    shown = sample_triplets(tables["triplets"], rows * columns, seed)
    wanted = [row[f"{role}_crop"] for row in shown for role in ROLES]
    pictures = load_pictures(store, tables["crops"], wanted)
    return contact_sheet(shown, pictures, columns=columns, side=side)


def visible(text: str | None) -> str:
    """A name or message that may hold anything, as text that shows what it is.

    Control characters, and those that turn the direction of writing, appear as escapes; of a long
    text the beginning and the end remain.
    """
    if text is None:
        return ""
    if len(text) > _TEXT:
        text = f"{text[: _TEXT // 2]} … {text[-_TEXT // 2 :]}"
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["visible"] = visible
    environment.filters["count"] = lambda number: f"{number:,}"
    source = files(__package__).joinpath("gallery.html").read_text(encoding="utf-8")
    return environment.from_string(source)


def _headline(tables: Mapping[str, pa.Table]) -> list[dict[str, Any]]:
    """Of each table the rows that can be used, by split and in all."""
    found = []
    for name in ("triplets", "crops", "clips", "videos"):
        table = tables[name]
        splits = table["split"].to_pylist()
        if "status" in table.column_names:
            good = [status == Status.OK.value for status in table["status"].to_pylist()]
        else:
            good = [True] * len(splits)
        by_split = {
            split: sum(1 for s, ok in zip(splits, good, strict=True) if ok and s == split)
            for split in ("train", "test")
        }
        found.append({"name": name, "good": sum(good), "seen": len(good), **by_split})
    return found


def _video_names(videos: pa.Table) -> dict[str, str]:
    """For each video id the file that stands for it: where copies share an id, the good one."""
    columns = (videos[name].to_pylist() for name in ("status", "source_uri", "video_id"))
    rows = sorted(zip(*columns, strict=True), key=lambda row: (row[0] == Status.OK.value, row[1]))
    return {video: uri for _, uri, video in rows}


def _azimuths(crops: pa.Table, wanted: set[str]) -> dict[str, float]:
    """The azimuth in degrees of the wanted crops of which it is known."""
    columns = (crops[name].to_pylist() for name in ("crop_id", "azimuth_deg"))
    return {
        crop_id: azimuth
        for crop_id, azimuth in zip(*columns, strict=True)
        if crop_id in wanted and azimuth is not None
    }


def _card(
    row: Mapping[str, Any],
    pictures: Mapping[str, Picture],
    names: Mapping[str, str],
    azimuths: Mapping[str, float],
) -> dict[str, Any]:
    video, pose_video = row["video_id"], row["pose_video_id"]
    return {
        "split": row["split"],
        "images": [
            jpeg_uri(shrink(pictures[row[f"{role}_crop"]], _TRIPLET_SIDE)) for role in ROLES
        ],
        "seconds": [row[f"{role}_ms"] / 1000 for role in ROLES],
        "azimuths": [azimuths.get(row[f"{role}_crop"]) for role in ROLES],
        "similarity": row["similarity"],
        # Versions made before it have no target_cluster.
        "clusters": (row["id_cluster"], row.get("target_cluster"), row["pose_cluster"]),
        "trust": row.get("trust"),
        "video": names.get(video, video),
        "pose_video": names.get(pose_video, pose_video),
    }


def _by_split(cards: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = {}
    for card in cards:
        grouped.setdefault(card["split"], []).append(card)
    return grouped


def _cluster_sizes(crops: pa.Table) -> dict[int, int]:
    sizes: dict[int, int] = {}
    for cluster in crops["pose_cluster"].to_pylist():
        if cluster is not None:
            sizes[cluster] = sizes.get(cluster, 0) + 1
    return sizes


def _losses(name: str, table: pa.Table, names: Mapping[str, str]) -> dict[str, Any]:
    """What became of the rows of a table, and each row that was lost."""
    lost = [row for row in table.to_pylist() if row["status"] != Status.OK.value]
    for row in lost:
        row["what"] = row.get("source_uri") or _clip_name(row, names)
    lost.sort(key=lambda row: (row["status"], row["what"], row["video_id"]))
    return {
        "name": name,
        "statuses": [
            {
                "status": status,
                "count": count,
                "share": _percent(count, table.num_rows),
                "meaning": STATUSES.get(status, ""),
            }
            for status, count in attrition(table).items()
        ],
        "lost": [
            {"what": row["what"], "status": row["status"], "detail": row["reason_detail"]}
            for row in lost[:_MOST_LOST]
        ],
        "more": max(0, len(lost) - _MOST_LOST),
    }


def _clip_name(clip: Mapping[str, Any], names: Mapping[str, str]) -> str:
    video = names.get(clip["video_id"], clip["video_id"])
    start, end = clip["start_ms"] / 1000, clip["end_ms"] / 1000
    return f"{video}, {clip['class_name']} {clip['object_id']}, {start:.1f} to {end:.1f} s"


def _maps(triplets: pa.Table, statistics: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """For each split a map of the pairs that were drawn and one of those there were."""
    pools: Mapping[str, Any] = statistics.get("pools", {})
    second = _second(statistics)
    found = set(triplets["split"].to_pylist()) | set(pools)
    for split in sorted(found, key=lambda s: (s != "train", s)):
        pool = _square(pools.get(split), triplets, second)
        drawn = pair_counts(triplets, split, len(pool), second)
        if not pool.any() and not drawn.any():
            continue
        possible = pool > 0 if pool.any() else np.ones_like(pool, np.bool_)
        yield {
            "split": split,
            "clusters": len(pool),
            "drawn": png_uri(heat_map(drawn, possible)),
            "most_drawn": int(drawn.max()),
            "pool": png_uri(heat_map(pool, possible)) if pool.any() else None,
            "most_pool": int(pool.max()),
            "empty": int(np.sum(~possible)),
        }


def _second(statistics: Mapping[str, Any]) -> str:
    """The column that is balanced beside id_cluster; the pose picture's in older versions."""
    rules = {sampling["balance"] for sampling in statistics.get("sampling", {}).values()}
    return "target_cluster" if "target" in rules else "pose_cluster"


def _sampling(sampling: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each split what the triplets of both rules show, and what was left out."""
    return [
        {
            "split": split,
            "rules": [
                {"name": name, "used": name == of["balance"], "words": changes_in_words(changes)}
                for name, changes in sorted(of["changes"].items(), reverse=True)
            ],
            "left_out": left_out(of),
            "missing": missing_in_words(of["missing_poses"]),
        }
        for split, of in sorted(sampling.items(), key=lambda item: (item[0] != "train", item[0]))
    ]


def _square(pool: Any, triplets: pa.Table, second: str) -> Counts:
    """The pool of a split; zeros of the size that the triplets need where it is not known."""
    if pool is not None:
        return np.asarray(pool, np.int64).reshape(len(pool), len(pool))
    columns = (triplets[name].to_pylist() for name in ("id_cluster", second))
    clusters = max((max(pair) for pair in zip(*columns, strict=True)), default=-1) + 1
    return np.zeros((clusters, clusters), np.int64)


def _balance(balance: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    known = {m: 0.0 for split in ("train", "test") for m in balance.get(split, {})}
    return [
        {
            "measure": measure,
            "meaning": MEASURES.get(measure, ""),
            **{split: _number(balance.get(split, {}).get(measure)) for split in ("train", "test")},
        }
        for measure in _in_order(known, tuple(MEASURES))
    ]


def _in_order(values: Mapping[str, float], order: tuple[str, ...]) -> dict[str, float]:
    """The values in this order, then those that it does not name: JSON does not keep an order."""
    names = [name for name in order if name in values]
    names += sorted(name for name in values if name not in order)
    return {name: values[name] for name in names}


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}"


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 2) if whole else 0.0
