"""Features: find the object in each crop, and embed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flows.steps.context import Context, usable
from flows.steps.weights import resolve_weights
from idpose_core.assembly.records import Clip, Observed
from idpose_core.config import VIEW_SETS
from idpose_core.stages.embed import EmbedCrops
from idpose_core.stages.mask import MaskObjects
from storage.shards import Item, Outcome, locate


def embed_stage(build: Context) -> EmbedCrops:
    """The embed stage of this configuration.

    Raises:
        ConfigError: The embedder's weights are not there.
    """
    embedder = build.config.embedder
    assert embedder.kind != "auto"  # chosen when the configuration was read
    weights, weights_sha256 = resolve_weights(embedder.kind, embedder.weights, build.store)
    azimuth, azimuth_sha256 = None, None
    reader = "view-reader" if embedder.kind == "car-view" else "azimuth"
    if embedder.azimuth is not None or reader == "view-reader":
        azimuth, azimuth_sha256 = resolve_weights(reader, embedder.azimuth, build.store)
    masked = embedder.masks != "none"
    return EmbedCrops(
        kind=embedder.kind,
        weights_path=weights,
        weights_sha256=weights_sha256,
        masked=masked,
        silhouette=masked and embedder.silhouette,
        image_size=build.config.image.size,
        device=embedder.device,
        azimuth_path=azimuth,
        azimuth_sha256=azimuth_sha256,
        turning=build.config.source.kind not in VIEW_SETS,
    )


def embed(build: Context, seen: Observed) -> dict[str, Outcome]:
    """Mask and embed the crops of each clip."""
    stage = embed_stage(build)
    wanted = [clip for clip in seen.clips if clip.crops]
    masks: Mapping[str, Outcome] = {}
    if stage.masked:
        masks = seen.masks or _find_masks(build, wanted, seen.crops)
        wanted = [clip for clip in wanted if clip.clip_id in masks]
    items = []
    for clip in wanted:
        crops, mask = seen.crops[clip.clip_id], masks.get(clip.clip_id)
        row = {"crops": crops.row_key, "masks": mask.row_key if mask else None}
        place = {
            "crops": locate(build.store, crops),
            "masks": locate(build.store, mask) if mask else None,
        }
        items.append(Item(row, place, clip.about))
    outcomes = build.run(stage, items)
    embedded = {clip.clip_id: outcome for clip, outcome in usable(wanted, outcomes)}
    for clip in seen.clips:
        if clip.clip_id not in embedded:
            clip.crops = ()
    return embedded


def _find_masks(
    build: Context, clips: Sequence[Clip], crops: Mapping[str, Outcome]
) -> dict[str, Outcome]:
    items = [
        Item(
            {"crops": crops[clip.clip_id].row_key},
            locate(build.store, crops[clip.clip_id]),
            clip.about,
        )
        for clip in clips
    ]
    outcomes = build.run(MaskObjects(build.config.embedder.masks), items)
    return {clip.clip_id: outcome for clip, outcome in usable(clips, outcomes)}
