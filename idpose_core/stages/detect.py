"""Detect: decode a video once and look at its frames (detector, cuts, black bars, hash)."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa

from idpose_core.instances.boxes import Detection
from idpose_core.instances.detectors import Detector, DetectorKind, load_detector
from idpose_core.stages.link import BOX
from idpose_core.video.bars import BarFinder
from idpose_core.video.decoding import check_decoder, sample_frames
from idpose_core.video.footage import perceptual_hash, scene_cuts
from idpose_core.video.frames import Frame, Image
from storage.copies import media_file
from storage.shards import RowStage

_BATCH = 4  # frames that a detector sees at once; no detector mixes the frames of a batch
DETECTION = pa.struct([pa.field("class_name", pa.string()), pa.field("score", pa.float64()), *BOX])


@dataclass(frozen=True)
class DetectObjects(RowStage):
    """Sample frames of one video and detect the objects in them.

    Boxes are kept from ``floor`` upwards: low scores bridge gaps of a track, and another
    threshold needs no second detection.

    Row: ``media_sha256``, ``windows_ms`` (pairs of start and end, or null = all of the video).
    Location: of the media, see ``storage.copies.media_file``.
    """

    kind: DetectorKind | Literal["annotations"]
    weights_path: str | None
    weights_sha256: str | None
    floor: float
    fps: float
    cut_contrast: float
    dissolve_error: float
    max_bar: float
    decoder: str
    device: str
    deadline_s: float

    name: ClassVar[str] = "detect"
    version: ClassVar[int] = 2
    shard_rows: ClassVar[int] = 2
    columns: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("timestamp_ms", pa.int64()),
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("cut", pa.bool_()),
            pa.field("picture", pa.list_(pa.int32())),  # left, top, right, bottom: see Area
            pa.field("footage_hash", pa.uint64()),
            pa.field("detections", pa.list_(DETECTION)),
        ]
    )

    def settings(self) -> Mapping[str, Any]:
        """Detector, floor, sampling and decoder (decoders differ by a grey level in places)."""
        chosen = ("kind", "floor", "fps", "cut_contrast", "dissolve_error", "max_bar", "decoder")
        return {name: getattr(self, name) for name in chosen}

    def weights(self) -> Mapping[str, str]:
        """The detector's weights."""
        return {self.kind: self.weights_sha256} if self.weights_sha256 else {}

    def prepare(self) -> None:
        """Load the decoder's package and the detector."""
        check_decoder(self.decoder)
        if self.kind != "annotations":
            _detector(self.kind, self.weights_path, self.floor, self.device)

    def compute(
        self, row: Mapping[str, Any], location: Mapping[str, Any]
    ) -> Sequence[Mapping[str, Any]]:
        """One row a frame."""
        with media_file(location, row["media_sha256"]) as file:
            return self._rows_of(file, row["windows_ms"])

    def _rows_of(
        self, file: str, windows: Sequence[Sequence[int]] | None
    ) -> Sequence[Mapping[str, Any]]:
        frames = sample_frames(
            file,
            fps=self.fps,
            windows_ms=None if windows is None else [(start, end) for start, end in windows],
            decoder=self.decoder,
            deadline_s=self.deadline_s,
        )
        rows: list[dict[str, Any]] = []
        bars = BarFinder(self.max_bar)
        cuts = scene_cuts(
            self._look(frames, rows, bars),
            cut_contrast=self.cut_contrast,
            dissolve_error=self.dissolve_error,
        )
        return [
            {**row, "cut": cut, "picture": astuple(bars.area(row["width"], row["height"]))}
            for row, cut in zip(rows, cuts, strict=True)
        ]

    def _look(
        self, frames: Iterable[Frame], rows: list[dict[str, Any]], bars: BarFinder
    ) -> Iterator[Image]:
        """Append a row for each frame and pass its picture on, so that a video passes once."""
        for batch in _batches(frames, _BATCH):
            for frame, detections in zip(batch, self._detect(batch), strict=True):
                height, width = frame.image.shape[:2]
                rows.append(
                    {
                        "timestamp_ms": frame.timestamp_ms,
                        "width": width,
                        "height": height,
                        "footage_hash": perceptual_hash(frame.image),
                        "detections": [_plain(detection) for detection in detections],
                    }
                )
                bars.add(frame.image)
                yield frame.image

    def _detect(self, frames: Sequence[Frame]) -> Sequence[Sequence[Detection]]:
        if self.kind == "annotations":
            return [()] * len(frames)
        detector = _detector(self.kind, self.weights_path, self.floor, self.device)
        return detector.detect([frame.image for frame in frames])


@functools.lru_cache(maxsize=1)
def _detector(kind: DetectorKind, weights: str | None, floor: float, device: str) -> Detector:
    return load_detector(kind, Path(weights) if weights else None, floor=floor, device=device)


def _plain(detection: Detection) -> dict[str, Any]:
    return {
        "class_name": detection.class_name,
        "score": detection.score,
        **asdict(detection.box),
    }


def _batches(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    iterator = iter(frames)
    while batch := list(islice(iterator, size)):
        yield batch
