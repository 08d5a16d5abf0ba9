"""What makes one chair another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from idpose_core.datasets.rendered.seeds import generator

Colour = tuple[float, float, float]

# Few colours for many identities, so that colour alone does not name one
_FRAMES: tuple[Colour, ...] = (
    (0.30, 0.17, 0.08), (0.12, 0.06, 0.03), (0.02, 0.02, 0.022), (0.5, 0.5, 0.52),
)  # fmt: skip
_METAL = 3  # index of the metal frame
_CUSHIONS: tuple[Colour, ...] = (
    (0.03, 0.03, 0.035), (0.35, 0.03, 0.03), (0.04, 0.08, 0.24), (0.5, 0.44, 0.34),
)  # fmt: skip


@dataclass(frozen=True)
class ChairModel:
    """One identity. Lengths in metres, colours linear RGB.

    Attributes:
        index: Its number in the family.
        seat_height: Top of the seat above the ground.
        seat_width: Across.
        seat_depth: Front to rear.
        seat_thickness: Of seat or cushion.
        seat_power: 2 round, 4 and more square with round corners.
        back_height: Above the seat.
        back_lean_deg: Backwards.
        back: slats, rungs, solid, round, ring or fan.
        slats: How many slats or rungs.
        legs: four, splayed, star, sled or column.
        leg_thickness: Radius.
        stretchers: Whether bars join four legs.
        arms: none, bar or pad.
        cushion: Whether seat and solid backs are upholstered.
        frame: Colour of the frame.
        metal: Whether the frame is metal.
        upholstery: Colour of the cushion.
        headrest: Whether a cushion lies on top of the back.
    """

    index: int
    seat_height: float
    seat_width: float
    seat_depth: float
    seat_thickness: float
    seat_power: float
    back_height: float
    back_lean_deg: float
    back: str
    slats: int
    legs: str
    leg_thickness: float
    stretchers: bool
    arms: str
    cushion: bool
    frame: Colour
    metal: bool
    upholstery: Colour
    headrest: bool


def chair_model(index: int) -> ChairModel:
    """The chair of that number, at least 0: always the same one."""
    random = generator("chair", index)

    def within(low: float, high: float) -> float:
        return float(random.uniform(low, high))

    def one_of(*values: str) -> str:
        return values[int(random.integers(len(values)))]

    frame, cushion = int(random.integers(len(_FRAMES))), int(random.integers(len(_CUSHIONS)))
    legs = one_of("four", "four", "splayed", "star", "sled", "column")
    return ChairModel(
        index=index,
        seat_height=within(0.40, 0.52),
        seat_width=within(0.40, 0.58),
        seat_depth=within(0.38, 0.52),
        seat_thickness=within(0.03, 0.11),
        seat_power=within(2.6, 9.0),
        back_height=within(0.3, 0.72),
        back_lean_deg=within(3, 20),
        back=one_of("slats", "rungs", "solid", "round", "ring", "fan"),
        slats=int(random.integers(2, 7)),
        legs=legs,
        leg_thickness=within(0.012, 0.03),
        stretchers=bool(random.random() < 0.4),
        arms=one_of("none", "none", "bar", "pad"),
        cushion=bool(random.random() < 0.45),
        frame=_near(random, _FRAMES[frame]),
        metal=frame == _METAL or legs == "star",
        upholstery=_near(random, _CUSHIONS[cushion]),
        headrest=bool(random.random() < 0.12),
    )


def _near(random: np.random.Generator, colour: Colour) -> Colour:
    light = random.uniform(0.96, 1.04)
    red, green, blue = (min(0.85, c * light * float(random.uniform(0.98, 1.02))) for c in colour)
    return red, green, blue
