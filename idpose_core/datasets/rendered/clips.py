"""One clip: its place, its actors, its pictures and their truth.

Everything follows from (settings, model, scene): no clip depends on another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from idpose_core.datasets.rendered.camera import Camera, view_angles
from idpose_core.datasets.rendered.company import Obstacle, draw_obstacle, draw_second
from idpose_core.datasets.rendered.families import solid
from idpose_core.datasets.rendered.meshes import Floats
from idpose_core.datasets.rendered.motion import Path, corners, draw_motion, screen_box
from idpose_core.datasets.rendered.photography import (
    Picture,
    developed,
    exposure_for,
    lit,
    smoothed,
)
from idpose_core.datasets.rendered.place import Place
from idpose_core.datasets.rendered.props import pedestrian, post
from idpose_core.datasets.rendered.renderer import Light, Matte, Pixels, Stage
from idpose_core.datasets.rendered.seeds import generator, number
from idpose_core.datasets.rendered.skies import daylight
from idpose_core.datasets.rendered.skins import Palette, Skin, Solid
from idpose_core.datasets.rendered.splits import models_of, split_of
from idpose_core.instances.boxes import box_of

Mask = NDArray[np.bool_]
Box = tuple[float, float, float, float]

_SECOND_SHARE = 0.2  # of the clips that are to have two cars; not every one finds room for it
_OBSTACLE_SHARE = 0.62
_SHARP = 2.5  # pixels of motion that need no second moment in one exposure
_SOME = 1e-3  # metres by which two depths of one surface may differ


@dataclass(frozen=True)
class ClipSettings:
    """What all clips of a world have in common.

    Attributes:
        kind: car or chair.
        seconds: Length of a clip.
        fps: Frames a second.
        size: Width and height in pixels.
        seed: Everything is drawn from it.
        samples: Light paths a pixel, at least 2.
    """

    kind: str
    seconds: float
    fps: int
    size: tuple[int, int]
    seed: int
    samples: int = 4

    @property
    def frames(self) -> int:
        """Number of frames of a clip."""
        return round(self.seconds * self.fps)


@dataclass(frozen=True)
class Actor:
    """An object that the truth tells of.

    Attributes:
        object_id: Unique in the clip.
        model: Its identity.
        solid: Its shape.
        course: Its pose at a time.
    """

    object_id: str
    model: int
    solid: Solid
    course: Path


@dataclass(frozen=True)
class Sighting:
    """The truth of one object in one frame.

    Attributes:
        object_id: Of the actor.
        model: Its identity.
        azimuth_deg: See ``camera``.
        elevation_deg: Of the camera above the object's middle.
        distance: Metres from the camera to the object's middle.
        box: xmin, xmax, ymin, ymax relative to the frame, tight around what would be seen of it if
            nothing stood before it; None where it is outside of the frame.
        visible_share: Pixels of ``mask`` over those that it would have if nothing stood before it.
        mask: bool [H, W], where it is seen.
    """

    object_id: str
    model: int
    azimuth_deg: float
    elevation_deg: float
    distance: float
    box: Box | None
    visible_share: float
    mask: Mask


class Clip:
    """A clip that is set up and ready to be drawn.

    Args:
        settings: Of the world.
        model: The object that the clip follows.
        scene: Number of this model's scene.
    """

    def __init__(self, settings: ClipSettings, model: int, scene: int) -> None:
        self._settings = settings
        self._names = (*_named(settings), model, scene)
        random = generator(*self._names)
        times = np.linspace(0, settings.seconds, 17)
        shape = solid(settings.kind, model)
        self.motion = draw_motion(
            random, settings.kind, shape.size, settings.seconds, settings.size
        )
        self.actors = [Actor("0", model, shape, self.motion.pose)]
        if settings.kind == "car" and random.random() < _SECOND_SHARE:
            self._add_second(random, times)
        obstacle = None
        if random.random() < _OBSTACLE_SHARE:
            others = [actor.course for actor in self.actors[1:]]
            obstacle = draw_obstacle(random, self.motion, shape.size, others, times)
        self._extras: dict[str, tuple[Solid, Path]] = {}
        self.light: Light = daylight(random)
        self._parts = self._furnish(random, obstacle, times)
        self._shutter = 1 / random.uniform(25, 90)

    def pictures(self) -> Iterator[tuple[Picture, list[Sighting]]]:
        """Each frame, uint8 [H, W, 3] RGB, with the truth of its objects."""
        exposure = None
        for frame in range(self._settings.frames):
            time = frame / self._settings.fps
            light, depth = self._exposed(frame, time)
            exposure = exposure or exposure_for(light)
            yield smoothed(developed(light, exposure)), self._sightings(time, depth)

    def sightings(self, time: float) -> list[Sighting]:
        """The truth of each object at a time in seconds."""
        return self._sightings(time, self._depth(time))

    def _depth(self, time: float) -> Pixels:
        return self._stage.depth(self.motion.camera(time), self._places(time))

    def _sightings(self, time: float, depth: Pixels) -> list[Sighting]:
        camera, places = self.motion.camera(time), self._places(time)
        return [
            _sighting(actor, camera, places[actor.object_id], alone.depth(camera, places), depth)
            for actor, alone in zip(self.actors, self._alone, strict=True)
        ]

    @cached_property
    def _courses(self) -> dict[str, Path]:
        own = {actor.object_id: actor.course for actor in self.actors}
        return own | {name: course for name, (_, course) in self._extras.items()}

    @cached_property
    def _stage(self) -> Stage:
        solids = {actor.object_id: actor.solid for actor in self.actors}
        solids |= {name: shape for name, (shape, _) in self._extras.items()}
        return Stage(solids, self._parts, self.light, self._settings.size)

    @cached_property
    def _alone(self) -> list[Stage]:
        return [Stage({a.object_id: a.solid}, [], None, self._settings.size) for a in self.actors]

    def _places(self, time: float) -> dict[str, Floats]:
        return {name: course(time) for name, course in self._courses.items()}

    def _exposed(self, frame: int, time: float) -> tuple[Pixels, Pixels]:
        """The light of one frame, and the depth at its middle.

        The light is that of two moments where things move while the shutter is open.
        """
        parts = 2 if self._moves(time) > _SHARP else 1
        light = np.zeros((*self._settings.size[::-1], 3), np.float32)
        for part in range(parts):
            now = time + self._shutter * ((part + 0.5) / parts - 0.5)
            layers = self._stage.layers(
                self.motion.camera(now),
                self._places(now),
                samples=max(2, self._settings.samples // parts),
                seed=number(*self._names, frame, part),
            )
            light += lit(layers, self.light) / parts
        return light, layers.depth if parts == 1 else self._depth(time)

    def _moves(self, time: float) -> float:
        """Pixels by which the picture moves while the shutter is open, at its fastest spot."""
        moved = 0.0
        ends = (time - self._shutter / 2, time + self._shutter / 2)
        far = np.eye(4)
        far[:3, 3] = self.motion.aim(time) + 3 * (self.motion.aim(time) - self.motion.eye(time))
        for actor in (*self.actors, None):
            spots = corners(actor.solid.size) if actor else np.zeros((1, 3))
            before, after = (
                screen_box(self.motion.camera(end), actor.course(end) if actor else far, spots)
                for end in ends
            )
            moved = max(moved, float(np.abs(after - before).max()))
        return moved

    def _add_second(self, random: np.random.Generator, times: Floats) -> None:
        first = self.actors[0]
        # Of the same split, so that no test identity is seen in a training video
        others = models_of("car", split_of("car", first.model))
        model = int(random.choice([m for m in others if m != first.model]))
        shape = solid("car", model)
        course = draw_second(random, self.motion, first.solid.size, shape.size, times)
        if course is not None:
            self.actors.append(Actor("1", model, shape, course))

    def _furnish(
        self, random: np.random.Generator, obstacle: Obstacle | None, times: Floats
    ) -> list[Matte]:
        ways = [self.motion.eye, *(actor.course for actor in self.actors)]
        reach = max(float(np.linalg.norm(_spot(way(t)))) for way in ways for t in times)
        place = Place(random, reach + 4.0)
        if obstacle is not None:
            spot = np.array((*_spot(obstacle.pose(0.0)), 0.0))
            if obstacle.kind == "post":
                place.add_painted(post(random, place.palette), spot)
            elif obstacle.kind == "bush":
                place.add_bush(spot, random.uniform(0.7, 1.3))
            else:
                palette = Palette()
                mesh = pedestrian(random, palette)
                self._extras["pedestrian"] = (Solid(mesh, Skin(palette.texels())), obstacle.pose)
        return place.parts()


def _named(settings: ClipSettings) -> tuple[object, ...]:
    return "clip", settings.kind, settings.seed, settings.seconds, settings.fps, settings.size


def _spot(where: Floats) -> Floats:
    """The place on the ground [2] of a pose or of a point."""
    return where[:2, 3] if where.ndim == 2 else where[:2]


def _sighting(
    actor: Actor, camera: Camera, pose: Floats, own: NDArray[np.float32], all_: NDArray[np.float32]
) -> Sighting:
    whole = own > 0
    mask = whole & (own <= all_ + _SOME)
    azimuth, elevation, distance = view_angles(camera.place, pose, actor.solid.size[2] / 2)
    count = int(whole.sum())
    return Sighting(
        object_id=actor.object_id,
        model=actor.model,
        azimuth_deg=azimuth,
        elevation_deg=elevation,
        distance=distance,
        box=box_of(whole),
        visible_share=int(mask.sum()) / count if count else 0.0,
        mask=mask,
    )
