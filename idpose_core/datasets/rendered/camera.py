"""The pinhole camera, and the one convention for poses.

World and objects: metres, x to an object's front, y to its left, z up, the origin on the ground.
Azimuth: where the camera stands as seen from the middle of the object, measured about its up axis
from its front to its left. So at 0 degrees its front faces the camera, at 90 its left side, at 180
its rear, at 270 its right side. It is the angle of the line between the object's middle and the
camera, wherever in the picture the object lies and wherever it heads in the world.
Elevation: the angle of that line above the ground, in degrees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from idpose_core.datasets.rendered.meshes import Floats, rotation


@dataclass(frozen=True)
class Camera:
    """A camera that looks from one point to another.

    Attributes:
        place: Where it stands, float64 [3].
        target: What lies in the middle of the picture, float64 [3].
        focal: Focal length in pixels.
        size: Width and height of the picture in pixels.
        roll_deg: Turned to the right about its line of sight.
    """

    place: Floats
    target: Floats
    focal: float
    size: tuple[int, int]
    roll_deg: float = 0.0

    def axes(self) -> Floats:
        """Unit vectors right, down and ahead as rows, float64 [3, 3]."""
        ahead = self.target - self.place
        ahead = ahead / np.linalg.norm(ahead)
        right = np.cross(ahead, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        level = np.stack([right, np.cross(ahead, right), ahead])
        return np.asarray(rotation(2, -self.roll_deg) @ level)

    def project(self, points: Floats) -> Floats:
        """Pixels float64 [N, 2] of points [N, 3]; the middle of the first pixel is (0.5, 0.5)."""
        seen = (points - self.place) @ self.axes().T
        return np.asarray(self.focal * seen[:, :2] / seen[:, 2:] + np.array(self.size) / 2)


def pose_matrix(x: float, y: float, heading_deg: float, height: float = 0.0) -> Floats:
    """The 4 x 4 matrix that puts an object on the ground, heading counter-clockwise from +x."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(2, heading_deg)
    matrix[:3, 3] = x, y, height
    return matrix


def view_angles(
    camera_place: Floats, pose: Floats, middle_height: float
) -> tuple[float, float, float]:
    """How a camera sees an object.

    Args:
        camera_place: float64 [3].
        pose: The object's 4 x 4 matrix.
        middle_height: Height of the object's middle.

    Returns:
        Azimuth in 0..360 and elevation in degrees, and the distance in metres.
    """
    x, y, z = (camera_place - pose[:3, 3]) @ pose[:3, :3] - (0.0, 0.0, middle_height)
    distance = float(np.sqrt(x * x + y * y + z * z))
    azimuth = float(np.rad2deg(np.arctan2(y, x))) % 360.0
    return azimuth % 360.0, float(np.rad2deg(np.arcsin(z / distance))), distance


def camera_around(
    azimuth_deg: float, elevation_deg: float, distance: float, middle_height: float,
    focal: float, size: tuple[int, int],
) -> Camera:  # fmt: skip
    """The camera that sees an object at the origin, heading along +x, in that pose."""
    azimuth, elevation = np.deg2rad(azimuth_deg), np.deg2rad(elevation_deg)
    level = np.cos(elevation)
    away = np.array([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)])
    middle = np.array([0.0, 0.0, middle_height])
    return Camera(middle + distance * away, middle, focal, size)
