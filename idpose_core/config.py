"""The configuration of a build: one object that describes it entirely.

The command line, the YAML files and the Prefect parameters all fill this model; nothing else is
configuration. Unknown keys are refused, with the nearest known key named.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from idpose_core import settings
from idpose_core.instances.coco import COCO_CLASSES
from idpose_core.settings import ConfigError as ConfigError
from idpose_core.settings import Section, nearest

PUBLISHED = ("cars3d", "chairs3d", "eth80", "epfl-cars")
VIEW_SETS = ("rendered-views", *PUBLISHED)
"""Kinds of source that are sets of views: objects pictured from all sides, without a detector."""

VEHICLES = frozenset({"car", "bus", "truck"})
"""Classes as which detectors report cars, vans and pick-ups."""

ImageSize = Annotated[int, Field(ge=32, le=1024)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class SourceConfig(Section):
    """Where the videos come from."""

    kind: Literal[
        "folder",
        "http",
        "youtube",
        "rendered",
        "rendered-views",
        "cars3d",
        "chairs3d",
        "eth80",
        "epfl-cars",
    ] = Field("folder", description="Videos, or a set of views: objects pictured from all sides")
    path: str | None = Field(
        None,
        description="Folder of videos, searched recursively; http and youtube: a text file with "
        "one video id a line, where no annotations name them; a published image set: the folder "
        "that its archive was extracted to",
    )
    annotations: str | None = Field(
        None,
        description="CSV in YouTube-BoundingBoxes form; its youtube_id is the file's stem. The "
        "rendered world has its own: `own` uses them",
    )
    test_annotations: str | None = Field(
        None, description="The same for the test videos, with split=source"
    )
    url_template: str | None = Field(
        None,
        description="Address of a video, with {video_id} in it, and ${NAME} for a credential that "
        "the environment has; youtube has its own",
    )
    allow_private: bool = Field(
        False, description="The template's own host may have a private or loopback address"
    )
    licence: str | None = Field(None, description="Licence of the videos, carried into the card")


class DownloadConfig(Section):
    """How videos are fetched from the network; nothing here changes what a video is.

    The environment's $IDPOSE_PROXY comes before ``proxy``.
    """

    per_hour: float | None = Field(
        None, gt=0, description="Videos an hour; null = 300 for youtube (guests), else no limit"
    )
    min_height: int = Field(
        360, ge=32, description="Of youtube's formats the smallest with so many lines is fetched"
    )
    max_bytes: int = Field(2 << 30, gt=0, description="Largest file")
    max_seconds: float = Field(4 * 3600, gt=0, description="Longest video")
    bytes_per_second: float | None = Field(
        None, gt=0, description="Of one transfer, of which each process has one; null = no limit"
    )
    request_sleep_seconds: float = Field(
        0, ge=0, description="Between the requests with which yt-dlp looks up one video"
    )
    connect_seconds: float = Field(20, gt=0, description="Longest time to a connection")
    stall_seconds: float = Field(30, gt=0, description="Longest silence of a server")
    deadline_seconds: float = Field(1800, gt=0, description="Longest time on the network a video")
    tries: int = Field(4, ge=1, description="Tries that bring nothing new, within one build")
    backoff_seconds: float = Field(5, ge=0, description="Before the second try; then twice as long")
    pause_seconds: float = Field(
        60, gt=0, description="First pause of all when the source refuses; then twice as long"
    )
    patience_seconds: float = Field(
        6 * 3600, ge=0, description="Longest wait for a source that refuses; then a later build"
    )
    retry: tuple[str, ...] = Field(
        (), description="Reasons that are tried again though they are final, e.g. age_restricted"
    )
    cookies: str | None = Field(None, description="Cookie file in Netscape format")
    proxy: str | None = Field(
        None, description="Address of an HTTP proxy; ${NAME} for its password"
    )
    js_runtime: str | None = Field(
        None,
        pattern=r"^(deno|node|bun|quickjs)(:.+)?$",  # yt-dlp leaves out others without a word
        description="For yt-dlp: deno, node, bun or quickjs, with :PATH if need be",
    )


class RenderedConfig(Section):
    """The rendered world: its videos (source.kind=rendered) and views (source.kind=rendered-views).

    Of the views only kind, models and samples are asked for.
    """

    kind: Literal["car", "chair"] = Field("car", description="Family of models")
    models: int = Field(183, ge=1, description="The first so many models of the family")
    scenes: int = Field(3, ge=1, le=100, description="Videos of each model")
    seconds: float = Field(4.0, gt=0, le=60, description="Length of a video")
    fps: int = Field(6, ge=1, le=60, description="Frames a second")
    width: int = Field(320, ge=64, le=1920, multiple_of=2, description="Pixels")
    height: int = Field(240, ge=64, le=1080, multiple_of=2, description="Pixels")
    samples: int = Field(4, ge=2, le=1024, description="Light paths a pixel: noise against time")


class DetectorConfig(Section):
    """Which detector crops the instances."""

    kind: Literal["torchvision", "detectron2", "yolox", "annotations"] = Field(
        "torchvision", description="Network; annotations = the boxes of source.annotations"
    )
    weights: str | None = Field(
        None, description="File or name of `idpose weights list`; null = by kind"
    )
    threshold: Share = Field(0.9, description="A detection below this score starts no track")
    device: str = Field("cpu", description="cpu, cuda or cuda:N")


class SamplingConfig(Section):
    """How frames are chosen."""

    fps: float = Field(4.0, gt=0, le=60, description="Frames a second that are looked at")
    cut_contrast: float = Field(
        0.8,
        gt=0,
        description="A step that changes the picture by this share of the video's own contrast, "
        "and stands out, is a cut; unrelated pictures differ by about 1",
    )
    dissolve_error: Share = Field(
        0.2,
        description="Share by which a frame of a dissolve may be off the mixture of the two shots; "
        "0 = dissolves are not looked for",
    )
    max_bar: float = Field(
        0.4,
        ge=0,
        le=0.49,
        description="Black bars up to this share of the frame's height or width are no picture; "
        "0 = bars are not looked for",
    )
    deadline_seconds: float = Field(600.0, gt=0, description="Limit for decoding one video")


class ClipsConfig(Section):
    """What a clip and its crops must satisfy (absolute thresholds only)."""

    min_crops: int = Field(5, ge=2, description="Good crops that a clip needs")
    min_seconds: float = Field(2.0, ge=0, description="From the first good crop to the last")
    min_side: int = Field(64, ge=8, description="Shorter side of the box, pixels of the frame")
    border: int = Field(2, ge=0, description="A box this near to the frame's edge is dropped")
    min_aspect: float = Field(0.5, ge=0, description="Width over height of the box, at least")
    max_aspect: float = Field(4.0, gt=0, description="Width over height of the box, at most")
    max_fill: float = Field(
        0.96,
        gt=0,
        le=1,
        description="Share of the picture's width or height that a box may fill; more shows a "
        "detail of a vehicle, or its inside. 1 = all",
    )
    min_part: Share = Field(
        0.5,
        description="Area of a box over those of the same object just before and after, or of a "
        "box of its kind around it; less shows a detail. 0 = all",
    )
    max_padding: Share = Field(
        0.5, description="Share of the crop that lies beyond the picture and is filled with grey"
    )
    min_sharpness: float = Field(50.0, ge=0, description="Variance of the crop's Laplacian")
    min_brightness: float = Field(
        40.0,
        ge=0,
        le=255,
        description="Grey level that the brightest twentieth of the object's box reaches",
    )
    min_contrast: float = Field(
        12.0, ge=0, description="Standard deviation of the grey levels in the object's box"
    )
    max_appearance_jump: Share = Field(
        0.5,
        description="Hellinger distance of the colours of successive crops; more is another "
        "object. 1 = all",
    )
    min_iou: Share = Field(0.5, description="Overlap with the annotated box")

    @model_validator(mode="after")
    def _check_aspects(self) -> Self:
        if self.min_aspect > self.max_aspect:
            raise ValueError(f"min_aspect {self.min_aspect} is above max_aspect {self.max_aspect}")
        return self


class ImageConfig(Section):
    """The stored pictures."""

    size: ImageSize = Field(160, description="Side of a crop in pixels")
    scale: float = Field(1.25, ge=1.0, le=3.0, description="Side of the square over the box's")


class EmbedderConfig(Section):
    """The pose feature."""

    kind: Literal[
        "auto",
        "car-view",
        "rotnet",
        "st-alex",
        "dinov2",
        "random-alexnet",
        "grey-pixels",
        "silhouette",
    ] = Field(
        "auto",
        description="auto = car-view, which reads how a car faces, where cars are asked for, "
        "nothing but vehicles beside them, and neither masks nor an azimuth; else st-alex, which "
        "knows no classes",
    )
    weights: str | None = Field(
        None, description="File or name of `idpose weights list`; null = by kind"
    )
    masks: Literal["auto", "grabcut", "source", "none"] = Field(
        "auto",
        description="How the object is told from its background; source = masks that the data "
        "brings; none = paper mode; auto = by kind",
    )
    silhouette: bool = Field(True, description="Append the mask itself to a masked feature")
    azimuth: str | None = Field(
        None,
        description="File or name (car-azimuth) of a network that tells front from rear; what it "
        "reads is appended to a masked feature. null = off. Of car-view its reader of views; "
        "null = the one that is shipped",
    )
    device: str = Field("cpu", description="cpu, cuda or cuda:N")

    @model_validator(mode="after")
    def _check_masks(self) -> Self:
        if self.kind == "car-view" and self.masks not in ("auto", "none"):
            raise ValueError(f"car-view looks at no masks: leave masks={self.masks} out")
        if self.kind != "car-view" and self.azimuth is not None and self.masks == "none":
            raise ValueError("an azimuth is read from masked pictures: set masks")
        return self

    def chosen(self, classes: Collection[str]) -> EmbedderConfig:
        """The same without ``auto``: kind and masks as the classes ask for them."""
        kind = self.kind
        if kind == "auto":
            plain = self.masks in ("auto", "none") and self.azimuth is None
            cars = "car" in classes and set(classes) <= VEHICLES
            kind = "car-view" if plain and cars else "st-alex"
        masks = self.masks
        if masks == "auto":
            masks = "none" if kind == "car-view" else "grabcut"
        return EmbedderConfig.model_validate({**self.model_dump(), "kind": kind, "masks": masks})


class PoseConfig(Section):
    """The pose space: projection and clusters, fitted on training rows only."""

    clusters: int = Field(32, ge=1, description="M of the paper")
    dimensions: int = Field(512, ge=1, description="Principal components for the shortlist")
    space: str = Field("fit", description="fit, or the id of an existing pose space")


class TripletsConfig(Section):
    """How triplets are sampled (paper section 3.2)."""

    train: int | None = Field(
        None, ge=1, description="Of the train split; null = what the pool gives, <= 100,000"
    )
    test: int | None = Field(None, ge=1, description="Of the test split")
    top_k: int = Field(1, ge=1, le=100, description="1 = the nearest neighbour, as in the paper")
    min_gap_ms: int = Field(1000, ge=0, description="Between the ID picture and the target")
    window_ms: int = Field(
        0,
        ge=0,
        description="Compare the crops so long before and after as well, which tells front from "
        "rear; 0 = single crops, as in the paper",
    )
    mutual: bool = Field(False, description="Only mutual nearest neighbours")
    min_similarity: float | None = Field(
        None, ge=-1, le=1, description="Least similarity of target and pose picture"
    )
    exclude_diagonal: bool = Field(
        False, description="Leave out rows whose two balanced poses are of one cluster"
    )
    balance: Literal["target", "paper"] = Field(
        "target",
        description="What is balanced beside the pose of the ID picture: that of the target, with "
        "which the pose picture must agree; or paper = that of the pose picture",
    )
    max_turn_deg: float = Field(
        45,
        gt=0,
        le=180,
        description="balance=target: largest angle between the directions read of target and pose "
        "picture; where none is read, none is asked for",
    )
    clip_rows: int | None = Field(
        8,
        ge=1,
        description="balance=target: a clip that shows v of the eight views gives at most so many "
        "rows times v squared, and as many as it has where it shows all; of rows without a change "
        "of pose at most half so many; null = no limit",
    )
    min_trust: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Least probability that a pose picture is right, for embedders that read "
        "directions",
    )


class RunConfig(Section):
    """How the work is carried out; nothing here changes a result."""

    workers: int = Field(0, ge=0, description="Processes; 0 = one for each core")
    executor: Literal["processes", "dask"] = Field(
        "processes", description="dask = the workers of $DASK_SCHEDULER_ADDRESS"
    )
    shard_rows: int | None = Field(None, ge=1, description="Input rows a shard; null = by stage")
    allow_smaller: bool = Field(
        False, description="Commit a version with less than half of the latest's videos or triplets"
    )


class BuildConfig(Section):
    """Everything that `idpose build` needs to know."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Name of the dataset")
    source: SourceConfig = SourceConfig()
    rendered: RenderedConfig = RenderedConfig()
    download: DownloadConfig = DownloadConfig()
    split: Literal["hash", "source"] = Field(
        "hash",
        description="Train or test by hash of the video id, or source = as the source says "
        "(source.test_annotations); rendered and published sets have frozen splits",
    )
    test_share: Share = Field(0.1, description="Share of videos that the hash puts in test")
    classes: tuple[str, ...] = Field(("car",), min_length=1, description="COCO class names")
    detector: DetectorConfig = DetectorConfig()
    decoder: Literal["pyav", "decord", "torchcodec"] = Field(
        "pyav", description="Library that reads the frames"
    )
    sampling: SamplingConfig = SamplingConfig()
    clips: ClipsConfig = ClipsConfig()
    image: ImageConfig = ImageConfig()
    embedder: EmbedderConfig = EmbedderConfig()
    pose: PoseConfig = PoseConfig()
    triplets: TripletsConfig = TripletsConfig()
    run: RunConfig = RunConfig()
    seed: int = Field(0, ge=0, description="Of everything random")

    @model_validator(mode="after")
    def _check_classes(self) -> Self:
        # Without a detector the annotation file alone says which classes there are.
        for name in self.classes if self.detector.kind != "annotations" else ():
            if name not in COCO_CLASSES:
                near = nearest(name, COCO_CLASSES)
                raise ValueError(
                    f"classes: no detector knows {name!r}; the nearest known class is {near!r}"
                )
        return self

    @model_validator(mode="after")
    def _choose_embedder(self) -> Self:
        self.__dict__["embedder"] = self.embedder.chosen(self.classes)
        return self

    @model_validator(mode="after")
    def _check_masks(self) -> Self:
        if self.embedder.masks == "source" and self.source.kind not in _WITH_MASKS:
            raise ValueError(
                f"embedder.masks=source: source.kind={self.source.kind} brings no masks: take "
                "grabcut or none"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """The part that the content depends on: no paths, no devices, no limits, no secrets.

        Weights enter by their digest, in the keys of the stages and in the lineage.
        """
        full: dict[str, Any] = self.model_dump(mode="json")
        del full["run"], full["name"], full["download"]
        if self.source.kind not in _RENDERED:
            del full["rendered"]
        full["source"]["annotated"] = self.source.annotations is not None
        if self.embedder.azimuth is not None and self.embedder.kind != "car-view":
            full["embedder"]["reads_azimuth"] = True
        if not self.triplets.window_ms:  # versions made before there were windows stay the same
            del full["triplets"]["window_ms"]
        if self.triplets.balance == "paper":  # so do those made before another balance
            for key in ("balance", "max_turn_deg", "clip_rows"):
                del full["triplets"][key]
        if self.triplets.min_trust is None:
            del full["triplets"]["min_trust"]
        for section, key in _NOT_CONTENT:
            del full[section][key]
        return full


_RENDERED = ("rendered", "rendered-views")
_WITH_MASKS = ("rendered", "rendered-views", "cars3d", "chairs3d", "eth80")
_NOT_CONTENT = (
    ("source", "path"),
    ("source", "annotations"),
    ("source", "test_annotations"),
    ("source", "url_template"),
    ("source", "allow_private"),
    ("detector", "weights"),
    ("detector", "device"),
    ("embedder", "weights"),
    ("embedder", "azimuth"),
    ("embedder", "device"),
    ("sampling", "deadline_seconds"),
)


def parse_config(values: Mapping[str, Any]) -> BuildConfig:
    """Validate plain values. Raises ConfigError; see ``settings.parse``."""
    return settings.parse(BuildConfig, values)


def load_config(text: str, overrides: Mapping[str, Any] | None = None) -> BuildConfig:
    """Parse YAML and apply ``key.path: value`` overrides. Raises ConfigError."""
    return parse_config(settings.with_overrides(BuildConfig, settings.read_yaml(text), overrides))


def parse_override(text: str) -> tuple[str, Any]:
    """Split ``key.path=value`` of a build; see ``settings.parse_override``."""
    return settings.parse_override(BuildConfig, text)


def read_config_file(path: Path, overrides: Mapping[str, Any] | None = None) -> BuildConfig:
    """Load a YAML file. Raises ConfigError."""
    return load_config(settings.read_text(path), overrides)
