"""A chair as a solid: its front at +x, its middle above the origin."""

from __future__ import annotations

import numpy as np

from idpose_core.datasets.rendered.chair_model import ChairModel
from idpose_core.datasets.rendered.meshes import Floats, Mesh, ball, lathe, merged, tube
from idpose_core.datasets.rendered.skins import Material, Palette, Skin, Solid

_SIDES = (1, -1)


def chair_solid(chair: ChairModel) -> Solid:
    """The chair in one mesh with one skin."""
    palette = Palette()
    frame = Material(chair.frame, 0.25 if chair.metal else 0.45, 0.9 if chair.metal else 0.0)
    soft = Material(chair.upholstery, 0.8) if chair.cushion else frame
    meshes = [palette.dress(mesh, frame) for mesh in (*_legs(chair), *_back(chair), *_arms(chair))]
    meshes += [palette.dress(mesh, soft) for mesh in (_seat(chair), *_upholstered(chair))]
    if chair.arms == "pad":
        pad = ball((0.14, 0.035, 0.018), power=5).moved((0, 0, chair.seat_height + 0.22))
        out = chair.seat_width / 2 + 0.01
        meshes += [palette.dress(pad.moved((0, side * out, 0)), soft) for side in _SIDES]
    mesh = merged(meshes)
    low, high = mesh.points.min(axis=0), mesh.points.max(axis=0)
    middle = (low + high) / 2
    return Solid(mesh.moved((-middle[0], -middle[1], -low[2])), Skin(palette.texels()))


def _bar(*points: tuple[float, float, float], radius: float) -> Mesh:
    """A closed bar along points."""
    path = np.array(points)
    ends = [ball((radius,) * 3, sides=8).moved(path[i]) for i in (0, -1)]
    return merged([tube(path, radius), *ends])


def _seat(chair: ChairModel) -> Mesh:
    half = (chair.seat_depth / 2, chair.seat_width / 2, chair.seat_thickness / 2)
    seat = ball(half, power=chair.seat_power, sides=28)
    return seat.moved((0, 0, chair.seat_height - chair.seat_thickness / 2))


def _legs(chair: ChairModel) -> list[Mesh]:
    high = chair.seat_height - chair.seat_thickness
    x, y, thick = 0.86 * chair.seat_depth / 2, 0.86 * chair.seat_width / 2, chair.leg_thickness
    if chair.legs == "star":
        column = lathe([(0.05, 0.1), (0.05, 0.2), (0.025, 0.2), (0.025, high)], sides=12)
        turns = np.deg2rad(np.arange(5) * 72.0)
        feet = [_bar((0, 0, 0.12), (0.31 * np.cos(t), 0.31 * np.sin(t), 0.06), radius=0.022)
                for t in turns]  # fmt: skip
        castors = [
            ball((0.03, 0.03, 0.03), sides=10).moved((0.3 * np.cos(t), 0.3 * np.sin(t), 0.03))
            for t in turns
        ]
        return [column, *feet, *castors]
    if chair.legs == "column":
        foot = [(0.26, 0.0), (0.26, 0.015), (0.05, 0.05), (0.035, 0.2), (0.035, high), (0.1, high)]
        return [lathe(foot, sides=24)]
    if chair.legs == "sled":
        return [
            _bar((x, s * y, high), (1.05 * x, s * y, thick), (-1.15 * x, s * y, thick),
                 (-x, s * y, high), radius=thick) for s in _SIDES
        ]  # fmt: skip
    spread = 1.35 if chair.legs == "splayed" else 1.04
    legs = [_bar((sx * x, sy * y, high), (sx * x * spread, sy * y * spread, thick), radius=thick)
            for sx in _SIDES for sy in _SIDES]  # fmt: skip
    if chair.stretchers:
        low, out = 0.4 * high, 1 + 0.6 * (spread - 1)
        legs += [_bar((x * out, s * y * out, low), (-x * out, s * y * out, low), radius=0.7 * thick)
                 for s in _SIDES]  # fmt: skip
        legs.append(_bar((0, y * out, low), (0, -y * out, low), radius=0.7 * thick))
    return legs


def _on_back(chair: ChairModel, across: Floats, up: Floats) -> Floats:
    """Points of the back's face: across and up in metres from the middle of its foot."""
    lean = np.tan(np.deg2rad(chair.back_lean_deg))
    x = -0.45 * chair.seat_depth - lean * up + 0.25 * across**2
    return np.stack([x, across, chair.seat_height - 0.03 + up], axis=-1)


def _back(chair: ChairModel) -> list[Mesh]:
    half, high = 0.44 * chair.seat_width, chair.back_height
    thick = max(0.012, 0.85 * chair.leg_thickness)
    steps = np.linspace(0, 1, 9)
    if chair.back in ("solid", "round"):
        return [tube(_on_back(chair, np.full(9, s * 0.5 * half), 0.3 * high * steps), thick)
                for s in _SIDES]  # fmt: skip
    if chair.back == "ring":
        turn = np.linspace(-0.35 * np.pi, 1.35 * np.pi, 24)
        ring = _on_back(chair, half * np.cos(turn), high * (0.45 + 0.55 * np.sin(turn)))
        splat = _on_back(chair, 0 * steps, high * steps)
        return [tube(ring, thick), tube(splat, 1.6 * thick)]
    posts = [tube(_on_back(chair, np.full(9, s * half), high * steps), thick) for s in _SIDES]
    across = half * (2 * steps - 1)
    top = tube(_on_back(chair, across, np.full(9, high)), 1.5 * thick)
    if chair.back == "rungs":
        levels = np.linspace(0.25, 0.85, chair.slats) * high
        return [*posts, top, *(tube(_on_back(chair, across, np.full(9, z)), thick) for z in levels)]
    foot = 0.35 if chair.back == "fan" else 1.0
    places = np.linspace(-0.8, 0.8, chair.slats + 1) * half
    slats = [
        tube(_on_back(chair, y * (foot + (1 - foot) * steps), high * steps), 0.8 * thick)
        for y in places
    ]
    return [*posts, top, *slats]


def _upholstered(chair: ChairModel) -> list[Mesh]:
    meshes = []
    if chair.back in ("solid", "round"):
        power = 2.2 if chair.back == "round" else 6.0
        high = 0.8 * chair.back_height
        pad = ball((0.03, 0.46 * chair.seat_width, high / 2), power=power, sides=24)
        middle = _on_back(chair, np.zeros(1), np.array([0.22 * chair.back_height + high / 2]))[0]
        meshes.append(pad.turned(1, -chair.back_lean_deg).moved(middle))
    if chair.headrest:
        at = _on_back(chair, np.zeros(1), np.array([chair.back_height + 0.05]))[0]
        meshes.append(ball((0.04, 0.14, 0.07), power=4, sides=16).moved(at))
    return meshes


def _arms(chair: ChairModel) -> list[Mesh]:
    if chair.arms == "none":
        return []
    out, thick = chair.seat_width / 2 + 0.01, max(0.012, 0.8 * chair.leg_thickness)
    x, low, high = 0.32 * chair.seat_depth, chair.seat_height - 0.03, chair.seat_height + 0.2
    lean = np.tan(np.deg2rad(chair.back_lean_deg)) * 0.2
    rear = -0.45 * chair.seat_depth - lean
    return [
        _bar((x, s * out, low), (x, s * out, high), (rear, s * out, high), radius=thick)
        for s in _SIDES
    ]  # fmt: skip
