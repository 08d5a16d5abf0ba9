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
    """

    panorama: Texels
    sun: tuple[float, float, float]
    sun_colour: tuple[float, float, float]


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
        scene: dict[str, Any] = {"type": "scene", "sensor": _sensor(size, "independent")}
        scene["centres"] = _sensor(size, "stratified")
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
        self._light = mi.load_dict({"type": "direct"})
        self._depth = mi.load_dict({"type": "depth"})

    def draw(
        self, camera: Camera, places: Mapping[str, Floats], *, samples: int, seed: int
    ) -> Pixels:
        """Draw one picture.

        Args:
            camera: Of the stage's size.
            places: 4 x 4 matrix of each mover, from its own coordinates to the world's.
            samples: Light paths a pixel.
            seed: Of the noise, 0 to 2**32 - 1.

        Returns:
            float32 [H, W, 3], linear RGB.
        """
        self._set(camera, places)
        mi = _mitsuba()
        image = mi.render(
            self._scene, sensor=0, integrator=self._light, spp=samples, seed=seed % 2**32
        )
        return np.array(image, np.float32)

    def depth(self, camera: Camera, places: Mapping[str, Floats]) -> Pixels:
        """Distance along the ray through each pixel's centre, float32 [H, W]; 0 meets nothing."""
        self._set(camera, places)
        image = _mitsuba().render(self._scene, sensor=1, integrator=self._depth, spp=1, seed=0)
        return np.array(image, np.float32)[..., 0]

    def _set(self, camera: Camera, places: Mapping[str, Floats]) -> None:
        mi = _mitsuba()
        right, down, ahead = camera.axes()
        matrix = np.eye(4)
        matrix[:3] = np.stack([-right, -down, ahead, camera.place], axis=1)
        for sensor in ("sensor", "centres"):
            self._change(f"{sensor}.to_world", mi.ScalarTransform4f(matrix))
            fov = float(np.rad2deg(2 * np.arctan(camera.size[0] / 2 / camera.focal)))
            self._change(f"{sensor}.x_fov", fov)
        for i, name in enumerate(self._movers):
            if not np.array_equal(self._places.get(name, np.eye(4)), places[name]):
                self._change(f"mover{i}.to_world", mi.ScalarTransform4f(places[name]))
                self._places[name] = places[name].copy()
        self._parameters.update()

    def _change(self, name: str, value: Any) -> None:
        self._parameters[name] = value


@cache
def _mitsuba() -> Any:
    import drjit
    import mitsuba

    mitsuba.set_variant("scalar_rgb")
    mitsuba.set_log_level(mitsuba.LogLevel.Error)
    drjit.set_thread_count(1)
    return mitsuba


def _sensor(size: tuple[int, int], sampler: str) -> dict[str, Any]:
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
        "sampler": {"type": sampler}
        if sampler == "independent"
        else {"type": sampler, "jitter": False},
    }


def _lights(light: Light) -> dict[str, Any]:
    mi = _mitsuba()
    upright = mi.ScalarTransform4f().rotate([1, 0, 0], 90)
    lights: dict[str, Any] = {
        # Never picked as the light to sample: paths find the smooth sky by leaving a surface, and
        # each of them also asks the sun. That is far less noise than choosing between the two.
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
