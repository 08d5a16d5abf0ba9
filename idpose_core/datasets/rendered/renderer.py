"""The only file that knows the renderer (Mitsuba 3, ``scalar_rgb``: no GPU, no system library).

It is imported when the first picture is asked for, because the import sets a process-wide variant.
One thread draws, and each picture has its own seed, so equal input gives equal pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from idpose_core.datasets.rendered.camera import Camera
from idpose_core.datasets.rendered.meshes import Floats, Mesh
from idpose_core.datasets.rendered.skins import Solid, Texels

Pixels = NDArray[np.float32]
_SENSORS = ("full", "half", "centres")


@dataclass(frozen=True)
class Matte:
    """A mesh that reflects equally to all sides.

    Attributes:
        mesh: Its places lie anywhere: the picture is repeated.
        picture: float32 [H, W, 3], linear RGB in 0..1.
    """

    mesh: Mesh
    picture: Texels


@dataclass(frozen=True)
class Light:
    """What shines.

    Attributes:
        panorama: float32 [H, W, 3], linear radiance; the upper row is the zenith, the lowest the
            nadir; the left edge lies at +y, and further right come +x, -y and -x.
        sun: Unit vector to the sun.
        sun_colour: Linear RGB irradiance on a surface that faces it.
        bounce: Linear RGB radiance that comes back from the ground, from everywhere.
    """

    panorama: Texels
    sun: tuple[float, float, float]
    sun_colour: tuple[float, float, float]
    bounce: tuple[float, float, float]


@dataclass(frozen=True)
class Layers:
    """One picture, by what lights it; all linear radiance.

    Attributes:
        sun: float32 [H, W, 3]: what the sun lights, without noise; the sky where nothing stands.
        sky: float32 [H/2, W/2, 3]: what the sky lights, noisy; also the sky itself.
        flash: float32 [H, W, 3]: what a lamp of intensity 1 at the camera lights, through the
            pixels' centres. It has no shadows.
        depth: float32 [H, W]: distance through the pixels' centres; 0 where nothing stands.
    """

    sun: Pixels
    sky: Pixels
    flash: Pixels
    depth: Pixels


class Stage:
    """A scene that is built once and drawn many times.

    Args:
        movers: Solids that have a place of their own in each picture, by name.
        fixed: What never moves.
        light: None where only ``depth`` is asked for.
        size: Width and height of the pictures.
    """

    def __init__(
        self,
        movers: Mapping[str, Solid],
        fixed: Sequence[Matte],
        light: Light | None,
        size: tuple[int, int],
    ) -> None:
        mi = _mitsuba()
        self._movers = tuple(movers)
        self._lit = light is not None
        scene: dict[str, Any] = {"type": "scene"}
        small = ((size[0] + 1) // 2, (size[1] + 1) // 2)
        scene["full"] = _sensor(size, {"type": "independent"})
        scene["half"] = _sensor(small, {"type": "independent"})
        scene["centres"] = _sensor(size, {"type": "stratified", "jitter": False})
        self._places: dict[str, Floats] = {}
        if light is not None:
            scene |= _lights(light)
        if fixed:
            group: dict[str, Any] = {"type": "shapegroup"}
            group |= {
                f"part{i}": _shape(part.mesh, _matte(part.picture)) for i, part in enumerate(fixed)
            }
            # Behind an instance the triangles are sorted once and not at every move
            scene |= {"fixed": group, "fixed-here": _instance("fixed")}
        for i, solid in enumerate(movers.values()):
            group = {"type": "shapegroup", "solid": _shape(solid.mesh, _lacquer(solid.skin.texels))}
            scene |= {f"group{i}": group, f"mover{i}": _instance(f"group{i}")}
        self._scene = mi.load_dict(scene)
        self._parameters = mi.traverse(self._scene)
        one = {"type": "direct", "hide_emitters": False}
        self._asks_lamps = mi.load_dict(one | {"emitter_samples": 1, "bsdf_samples": 0})
        self._asks_sky = mi.load_dict(one | {"emitter_samples": 0, "bsdf_samples": 1})
        self._depth = mi.load_dict({"type": "depth"})

    def layers(
        self, camera: Camera, places: Mapping[str, Floats], *, samples: int, seed: int
    ) -> Layers:
        """Draw one picture in layers, see ``photography.lit``.

        Args:
            camera: Of the stage's size.
            places: 4 x 4 matrix of each mover, from its own coordinates to the world's.
            samples: Light paths a pixel, at least 2.
            seed: Of the noise.
        """
        self._set(camera, places)
        self._pick("sun")
        sun = self._render("full", self._asks_lamps, samples // 2, seed)
        sky = self._render("half", self._asks_sky, samples, seed)
        self._pick("flash")
        flash = self._render("centres", self._asks_lamps, 1, 0)
        return Layers(sun, sky, flash, self._render("centres", self._depth, 1, 0)[..., 0])

    def depth(self, camera: Camera, places: Mapping[str, Floats]) -> Pixels:
        """Distance along the ray through each pixel's centre, float32 [H, W]; 0 meets nothing."""
        self._set(camera, places)
        self._parameters.update()
        return self._render("centres", self._depth, 1, 0)[..., 0]

    def _render(self, sensor: str, integrator: Any, samples: int, seed: int) -> Pixels:
        image = _mitsuba().render(
            self._scene,
            sensor=_SENSORS.index(sensor),
            integrator=integrator,
            spp=samples,
            seed=seed % 2**32,
        )
        return np.array(image, np.float32)

    def _pick(self, lamp: str) -> None:
        """Let the lamps be asked for light by this one only."""
        for name in ("sun", "flash"):
            self._parameters[f"{name}.sampling_weight"] = float(name == lamp)
        self._parameters.update()

    def _set(self, camera: Camera, places: Mapping[str, Floats]) -> None:
        mi = _mitsuba()
        right, down, ahead = camera.axes()
        matrix = np.eye(4)
        matrix[:3] = np.stack([-right, -down, ahead, camera.place], axis=1)
        fov = float(np.rad2deg(2 * np.arctan(camera.size[0] / 2 / camera.focal)))
        for sensor in _SENSORS:
            self._parameters[f"{sensor}.to_world"] = mi.ScalarTransform4f(matrix)
            self._parameters[f"{sensor}.x_fov"] = fov
        if self._lit:
            self._parameters["flash.position"] = camera.place.tolist()
        for i, name in enumerate(self._movers):
            if not np.array_equal(self._places.get(name, np.eye(4)), places[name]):
                self._parameters[f"mover{i}.to_world"] = mi.ScalarTransform4f(places[name])
                self._places[name] = places[name].copy()


@cache
def _mitsuba() -> Any:
    import drjit
    import mitsuba

    mitsuba.set_variant("scalar_rgb")
    mitsuba.set_log_level(mitsuba.LogLevel.Error)
    drjit.set_thread_count(1)
    return mitsuba


def _sensor(size: tuple[int, int], sampler: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "perspective",
        "near_clip": 0.05,
        "film": {
            "type": "hdrfilm",
            "width": size[0],
            "height": size[1],
            "pixel_format": "rgb",
            "component_format": "float32",
            "rfilter": {"type": "box"},  # pixels share no samples, so blocks need no order
        },
        "sampler": sampler,
    }


def _lights(light: Light) -> dict[str, Any]:
    mi = _mitsuba()
    upright = mi.ScalarTransform4f().rotate([1, 0, 0], 90)
    lights: dict[str, Any] = {
        # Never asked: paths find the smooth sky by leaving a surface, which is far less noise
        "sky": {
            "type": "envmap",
            "bitmap": mi.Bitmap(light.panorama),
            "to_world": upright,
            "sampling_weight": 0.0,
        },
        "sun": {
            "type": "directional",
            "direction": [-c for c in light.sun],
            "irradiance": {"type": "rgb", "value": list(light.sun_colour)},
        },
        "flash": {"type": "point", "position": [0, 0, 0], "intensity": 1.0},
    }
    return lights


def _instance(group: str) -> dict[str, Any]:
    return {"type": "instance", "group": {"type": "ref", "id": group}}


def _shape(mesh: Mesh, material: dict[str, Any]) -> Any:
    mi = _mitsuba()
    properties = mi.Properties()
    properties["material"] = mi.load_dict(material)
    shape = mi.Mesh(
        "mesh", len(mesh.points), len(mesh.faces),
        has_vertex_normals=True, has_vertex_texcoords=True, props=properties,
    )  # fmt: skip
    parameters = mi.traverse(shape)
    parameters["vertex_positions"] = mesh.points.astype(np.float32).ravel()
    parameters["vertex_normals"] = mesh.normals.astype(np.float32).ravel()
    parameters["vertex_texcoords"] = mesh.places.astype(np.float32).ravel()
    parameters["faces"] = np.ascontiguousarray(mesh.faces).astype(np.uint32).ravel()
    parameters.update()
    return shape


def _bitmap(picture: Texels) -> dict[str, Any]:
    mi = _mitsuba()
    return {"type": "bitmap", "bitmap": mi.Bitmap(np.ascontiguousarray(picture)), "raw": True}


def _matte(picture: Texels) -> dict[str, Any]:
    return {"type": "twosided", "bsdf": {"type": "diffuse", "reflectance": _bitmap(picture)}}


def _lacquer(texels: Texels) -> dict[str, Any]:
    surface = {
        "type": "principled",
        "base_color": _bitmap(texels[..., :3]),
        "roughness": _bitmap(texels[..., 3:4]),
        "metallic": _bitmap(texels[..., 4:5]),
        "clearcoat": _bitmap(texels[..., 5:6]),
        "clearcoat_gloss": 0.95,
        "diffuse_reflectance_sampling_rate": 2.5,  # the noise that is seen is that of the paint
        "specular": 0.5,
    }
    return {"type": "twosided", "bsdf": surface}
