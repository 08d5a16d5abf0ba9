"""What makes one car another: the numbers behind its shape, paint and details."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

import numpy as np

from idpose_core.datasets.rendered.seeds import generator

Colour = tuple[float, float, float]
"""Linear RGB reflectance in 0..1."""

# Few paints for many identities, so that colour alone does not name one
PAINTS: tuple[Colour, ...] = (
    (0.76, 0.76, 0.74), (0.42, 0.44, 0.46), (0.14, 0.15, 0.165), (0.02, 0.02, 0.024),
    (0.40, 0.025, 0.03), (0.03, 0.09, 0.32), (0.05, 0.17, 0.09), (0.62, 0.40, 0.06),
)  # fmt: skip
_PAINT_SHARES = (0.18, 0.18, 0.14, 0.12, 0.13, 0.13, 0.06, 0.06)
_SECOND: tuple[Colour, ...] = ((0.8, 0.8, 0.78), (0.02, 0.02, 0.022), (0.3, 0.31, 0.32))


@dataclass(frozen=True)
class BodyType:
    """A kind of car: ranges (low, high) of its lengths, and the run of its upper outline.

    Heights of the outline are shares of the height between belt (0) and roof (1), or, below the
    belt, of that between ground (-1) and belt.
    """

    length: tuple[float, float]
    width: tuple[float, float]
    height: tuple[float, float]
    belt: tuple[float, float]  # share of the height
    bonnet: tuple[float, float]  # share of the length in front of the windscreen's foot
    rake: tuple[float, float]  # windscreen: length over its height
    tail: tuple[float, float]  # share of the length behind the rear window's foot
    rear_rake: tuple[float, float]  # rear window: length over its height
    wheel: tuple[float, float]
    clearance: tuple[float, float]
    tumblehome: tuple[float, float]  # how far each side leans in, metres


BODY_TYPES: MappingProxyType[str, BodyType] = MappingProxyType({
    "sedan": BodyType((4.4, 5.0), (1.75, 1.9), (1.40, 1.50), (0.60, 0.65), (0.25, 0.30),
                      (1.1, 1.7), (0.14, 0.20), (1.1, 1.7), (0.31, 0.34), (0.16, 0.20),
                      (0.16, 0.24)),
    "hatchback": BodyType((3.6, 4.3), (1.65, 1.82), (1.42, 1.56), (0.58, 0.63), (0.19, 0.25),
                          (0.9, 1.4), (0.005, 0.03), (0.3, 0.8), (0.29, 0.33), (0.16, 0.20),
                          (0.12, 0.2)),
    "wagon": BodyType((4.4, 4.9), (1.75, 1.88), (1.44, 1.54), (0.59, 0.64), (0.24, 0.29),
                      (1.1, 1.6), (0.005, 0.02), (0.3, 0.8), (0.31, 0.34), (0.16, 0.20),
                      (0.14, 0.2)),
    "suv": BodyType((4.2, 4.9), (1.8, 1.98), (1.64, 1.85), (0.60, 0.66), (0.22, 0.28),
                    (0.6, 1.2), (0.005, 0.02), (0.1, 0.6), (0.36, 0.41), (0.24, 0.32),
                    (0.1, 0.18)),
    "coupe": BodyType((4.1, 4.7), (1.75, 1.92), (1.22, 1.36), (0.62, 0.67), (0.30, 0.37),
                      (1.4, 1.9), (0.05, 0.12), (1.8, 2.8), (0.31, 0.35), (0.12, 0.16),
                      (0.2, 0.28)),
    "van": BodyType((4.3, 5.2), (1.8, 2.0), (1.85, 2.15), (0.50, 0.58), (0.06, 0.16),
                    (0.35, 0.7), (0.003, 0.01), (0.04, 0.15), (0.32, 0.36), (0.2, 0.25),
                    (0.06, 0.14)),
    "pickup": BodyType((4.9, 5.4), (1.8, 1.98), (1.72, 1.86), (0.58, 0.63), (0.24, 0.28),
                       (0.6, 1.0), (0.30, 0.38), (0.05, 0.25), (0.37, 0.42), (0.26, 0.34),
                       (0.1, 0.16)),
    # Nearly the same from the front and from the rear
    "mini": BodyType((3.1, 3.5), (1.42, 1.58), (1.34, 1.46), (0.57, 0.61), (0.16, 0.22),
                     (0.5, 0.8), (0.14, 0.2), (0.5, 0.8), (0.25, 0.28), (0.15, 0.18),
                     (0.1, 0.16)),
})  # fmt: skip
T = TypeVar("T")

_TYPE_SHARES = (0.19, 0.19, 0.12, 0.17, 0.1, 0.1, 0.07, 0.06)


@dataclass(frozen=True)
class CarModel:
    """One identity. Lengths in metres, colours linear RGB.

    Attributes:
        index: Its number in the family.
        body_type: Key of ``BODY_TYPES``.
        length: Front to rear.
        width: Without mirrors.
        height: Ground to roof, without what stands on the roof.
        belt: Height of the windows' lower edge.
        nose: Height of the bonnet's front edge.
        cowl: Height of the windscreen's foot.
        deck: Height of the rear window's foot.
        stern: Height of the body's rear upper edge.
        windscreen: x of the windscreen's foot and of its top.
        rear_window: x of the rear window's top and of its foot.
        axles: x of the front and of the rear axle.
        wheel: Radius of a wheel.
        clearance: Height of the sill.
        tumblehome: How far each side leans in from belt to roof.
        roundness: 0 edged, 1 round: of corners and outline.
        flare: How far the wheel arches stand out.
        paint: Of the body.
        roof_paint: Of the roof.
        trim: Of bumpers and sills.
        second: Of stripes and decals.
        stripe: none, bonnet (two along the middle), side, belt, lower (two-tone) or hoop.
        decal: none, disc (with a number), flash, band or star.
        decal_number: 1..99, drawn on a disc.
        head_lamps: round, square, slanted, narrow or double.
        tail_lamps: upright, flat, round, corner or band.
        grille: none, bars, mesh, upright or split.
        wheel_design: 0..7, see ``car_paint``.
        doors: 1 or 2 on each side.
        panel_van: Whether the rear sides have no windows.
        rack: none, rails, box or sign.
        spoiler: Whether a wing stands on the rear.
        spare_wheel: Whether one hangs on the rear.
        plate_front: Whether the front carries a licence plate.
        dark_glass: 0 clear grey, 1 nearly black.
        gloss: Roughness of the paint, 0.1 new to 0.4 dull.
    """

    index: int
    body_type: str
    length: float
    width: float
    height: float
    belt: float
    nose: float
    cowl: float
    deck: float
    stern: float
    windscreen: tuple[float, float]
    rear_window: tuple[float, float]
    axles: tuple[float, float]
    wheel: float
    clearance: float
    tumblehome: float
    roundness: float
    flare: float
    paint: Colour
    roof_paint: Colour
    trim: Colour
    second: Colour
    stripe: str
    decal: str
    decal_number: int
    head_lamps: str
    tail_lamps: str
    grille: str
    wheel_design: int
    doors: int
    panel_van: bool
    rack: str
    spoiler: bool
    spare_wheel: bool
    plate_front: bool
    dark_glass: float
    gloss: float


def car_model(index: int) -> CarModel:
    """The car of that number, at least 0: always the same one."""
    draw = _Draw(generator("car", index))
    name = draw.one_of(tuple(BODY_TYPES), _TYPE_SHARES)
    kind = BODY_TYPES[name]
    length, width, height = (
        draw.within(kind.length),
        draw.within(kind.width),
        draw.within(kind.height),
    )
    wheel, belt = draw.within(kind.wheel), height * draw.within(kind.belt)
    front, rear = length / 2, -length / 2
    cowl = belt + draw.within((0.0, 0.06))
    nose = cowl - (
        draw.within((0.04, 0.12)) if name in ("van", "pickup", "suv") else draw.within((0.1, 0.24))
    )
    foot = front - length * draw.within(kind.bonnet)
    top = foot - (height - cowl) * draw.within(kind.rake)
    deck = belt + draw.within((0.0, 0.08))
    rear_foot = rear + length * draw.within(kind.tail)
    rear_top = rear_foot + (height - deck) * draw.within(kind.rear_rake)
    if name == "mini":
        nose, deck = cowl - 0.08, cowl
        rear_foot, rear_top = -foot, -top
    if rear_top > top - 0.55:  # a roof is left
        rear_top = top - 0.55
    stern = deck - (0.08 if name == "mini" else draw.within((0.02, 0.1)))
    bed = name == "pickup"
    overhang = wheel + draw.within((0.3, 0.42)) if name != "mini" else wheel + 0.26
    rear_overhang = wheel + draw.within((0.35, 0.55)) if name != "mini" else wheel + 0.26
    paint = _near(draw, PAINTS[draw.one_of(tuple(range(len(PAINTS))), _PAINT_SHARES)])
    other = _near(draw, draw.one_of(_SECOND))
    dark = (0.035, 0.036, 0.038)
    stripe = draw.one_of(
        ("none", "bonnet", "side", "belt", "lower", "hoop"), (0.5, 0.12, 0.14, 0.08, 0.1, 0.06)
    )
    decal = draw.one_of(("none", "disc", "flash", "band", "star"), (0.6, 0.13, 0.1, 0.09, 0.08))
    racks = ("none", "rails", "box", "sign") if not bed else ("none",)
    return CarModel(
        index=index,
        body_type=name,
        length=length,
        width=width,
        height=height,
        belt=belt,
        nose=nose,
        cowl=cowl,
        deck=deck,
        stern=stern,
        windscreen=(foot, top),
        rear_window=(rear_top, rear_foot),
        axles=(front - overhang, rear + rear_overhang),
        wheel=wheel,
        clearance=draw.within(kind.clearance),
        tumblehome=draw.within(kind.tumblehome),
        roundness=draw.within((0.0, 1.0)),
        flare=draw.within((0.0, 0.05)),
        paint=paint,
        roof_paint=other if draw.chance(0.18) else paint,
        trim=dark if draw.chance(0.35) else paint,
        second=other,
        stripe=stripe,
        decal=decal,
        decal_number=int(draw.within((1, 99.99))),
        head_lamps=draw.one_of(("round", "square", "slanted", "narrow", "double")),
        tail_lamps=draw.one_of(("upright", "flat", "round", "corner", "band")),
        grille=draw.one_of(("none", "bars", "mesh", "upright", "split")),
        wheel_design=draw.one_of(tuple(range(8))),
        doors=1 if name in ("coupe", "mini", "van") or draw.chance(0.2) else 2,
        panel_van=name == "van" and draw.chance(0.45),
        rack=draw.one_of(racks, (0.72, 0.16, 0.07, 0.05) if not bed else (1.0,)),
        spoiler=name in ("coupe", "hatchback", "sedan") and draw.chance(0.25),
        spare_wheel=name == "suv" and draw.chance(0.35),
        plate_front=draw.chance(0.85),
        dark_glass=draw.within((0.0, 1.0)),
        gloss=draw.within((0.12, 0.35)),
    )


class _Draw:
    """Draws single plain values."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random

    def within(self, ends: tuple[float, float]) -> float:
        return float(self._random.uniform(*ends))

    def chance(self, share: float) -> bool:
        return bool(self._random.random() < share)

    def one_of(self, values: tuple[T, ...], shares: tuple[float, ...] | None = None) -> T:
        return values[int(self._random.choice(len(values), p=shares))]


def _near(draw: _Draw, colour: Colour) -> Colour:
    """A slightly other shade of a colour."""
    light = draw.within((0.95, 1.05))
    red, green, blue = (min(0.85, c * light * draw.within((0.98, 1.02))) for c in colour)
    return red, green, blue
