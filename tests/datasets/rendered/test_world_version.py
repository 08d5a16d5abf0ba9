"""The version of the world guards its looks: whoever changes them raises it and these numbers."""

from __future__ import annotations

import numpy as np
import pytest

from idpose_core.datasets.rendered.clips import Clip, ClipSettings
from idpose_core.datasets.rendered.families import solid
from idpose_core.datasets.rendered.videos import WORLD_VERSION

GOLDEN = {
    1: {
        "car 5": [1.31847, 0.72344, 0.93718, 0.52487, 0.50538, 0.49287, 0.35905, 0.02923, 0.78581],
        "car 60": [1.34594, 0.69484, 1.00462, 0.44134, 0.42634, 0.40995, 0.2813, 0.02274, 0.70836],
        "chair 7": [0.20188, 0.16724, 0.5592, 0.00031, 0.0003, 0.00034, 0.00703, 0.0, 0.0],
        "car 5 0": [330.55321, 15.9076, np.float64(12.61574), 123.96803, 125.46398, 122.12153],
        "car 12 1": [71.02725, 4.61552, np.float64(22.33796), 143.58594, 146.65741, 152.53588],
        "chair 7 0": [206.45824, 20.94934, np.float64(1.30208), 121.7594, 122.37486, 136.59664],
    }
}


def looks() -> dict[str, list[float]]:
    """A few numbers that follow from everything: shapes, skins, courses, light and development."""
    found = {}
    for kind, index in (("car", 5), ("car", 60), ("chair", 7)):
        shape = solid(kind, index)
        found[f"{kind} {index}"] = [
            *np.abs(shape.mesh.points).mean(axis=0).tolist(),
            *shape.skin.texels.mean(axis=(0, 1)).tolist(),
        ]
    for kind, model, scene in (("car", 5, 0), ("car", 12, 1), ("chair", 7, 0)):
        clip = Clip(ClipSettings(kind, 2.0, 1, (96, 72), 0, 2), model, scene)
        for picture, [sighting, *_] in clip.pictures():
            found[f"{kind} {model} {scene}"] = [
                sighting.azimuth_deg,
                sighting.elevation_deg,
                float(sighting.mask.mean()) * 100,
                *picture.mean(axis=(0, 1)).tolist(),
            ]
    return found


def test_the_world_looks_as_its_version_says() -> None:
    expected = GOLDEN[WORLD_VERSION]
    found = looks()
    assert found.keys() == expected.keys()
    for name, numbers in found.items():
        assert numbers == pytest.approx(expected[name], rel=2e-3, abs=1e-5), (
            f"{name} looks otherwise: raise WORLD_VERSION and write {found} beside it"
        )
