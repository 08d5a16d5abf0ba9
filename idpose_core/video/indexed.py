"""Decoders that count frames (decord, torchcodec) made to answer by presentation time stamp."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from idpose_core.video.container import inspect, presentation_times
from idpose_core.video.frames import Frame, Image, Selector, Target
from storage.reasons import Status, Unusable


@dataclass(frozen=True)
class IndexedVideo:
    """An open video of a library that counts frames in presentation order.

    Attributes:
        count: Number of frames.
        picture: Returns the upright frame of an index, uint8 [H, W, 3] RGB.
    """

    count: int
    picture: Callable[[int], Image]


@dataclass(frozen=True)
class IndexedDecoder:
    """A ``frames.Decoder`` over such a library.

    Attributes:
        name: Name of the decoder.
        open: Opens a file.
        errors: Exceptions by which the library says that it cannot read a file.
        without: Codecs and containers that the library lacks or reads wrongly.
    """

    name: str
    open: Callable[[str], IndexedVideo]
    errors: tuple[type[Exception], ...]
    without: frozenset[str] = frozenset()

    def frames(self, path: str, targets: Iterator[Target]) -> Iterator[Frame]:
        """Yield the wanted frames; see ``frames.Decoder``."""
        info, turned = inspect(path)
        for name in (info.codec, info.container):
            if name in self.without:
                raise self._unusable(f"cannot read {name}")
        if turned.mirrored:
            raise self._unusable("ignores a mirroring display matrix")
        try:
            video = self.open(path)
        except self.errors as error:
            raise self._unusable(_first_line(error)) from error
        times = presentation_times(path)
        if len(times) < video.count:
            raise self._unusable(f"counts {video.count} frames, the container {len(times)}")
        delivered = False
        for index, timestamp_ms in _choose(times[: video.count], targets):
            try:
                image = video.picture(index)
            except self.errors as error:
                if delivered:
                    return  # the frames before the damage are good
                raise self._unusable(_first_line(error)) from error
            yield Frame(timestamp_ms, image)
            delivered = True

    def _unusable(self, why: str) -> Unusable:
        return Unusable(Status.DECODE_FAILED, f"{self.name} {why}: use decoder=pyav")


def _choose(times: list[int], targets: Iterator[Target]) -> Iterator[tuple[int, int]]:
    selector = Selector(targets)
    for index, timestamp_ms in enumerate(times):
        if selector.next_ms is None:
            return
        if selector.take(timestamp_ms):
            yield index, timestamp_ms


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"failed ({lines[0] if lines else error!r})"
