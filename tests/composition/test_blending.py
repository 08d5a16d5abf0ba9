"""Blends: nothing outside of the matte, the generation where it is 1, known colours between."""

from __future__ import annotations

import numpy as np
import pytest

from idpose_core.composition.blending import BLENDS, Blend, blend

SHAPE = (61, 83)


@pytest.fixture
def pictures() -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(3)
    ground, made = (draws.integers(0, 256, (*SHAPE, 3), dtype=np.uint8) for _ in range(2))
    return ground, made


def disc(radius: float, centre: tuple[int, int] = (30, 40)) -> np.ndarray:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    away = np.hypot(rows - centre[0], columns - centre[1])
    return (radius - away).clip(0, 1).astype(np.float32)


@pytest.mark.parametrize("kind", BLENDS)
def test_alpha_0_is_the_scene_bit_by_bit(
    kind: Blend, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    ground, made = pictures
    found = blend(kind, ground, made, np.zeros(SHAPE, np.float32))
    assert (found == ground).all() and found is not ground


def test_alpha_1_is_the_generation_bit_by_bit(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    ground, made = pictures
    assert (blend("alpha", ground, made, np.ones(SHAPE, np.float32)) == made).all()


def test_alpha_between_is_the_mixture(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    ground, made = pictures
    found = blend("alpha", ground, made, np.full(SHAPE, 0.25, np.float32))
    assert abs(found - (0.25 * made + 0.75 * ground)).max() <= 0.5


@pytest.mark.parametrize("kind", BLENDS)
@pytest.mark.parametrize("centre", [(30, 40), (0, 0), (60, 82), (30, 82)])
def test_outside_of_the_matte_nothing_changes(
    kind: Blend, centre: tuple[int, int], pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    ground, made = pictures
    before = ground.copy()
    matte = disc(17.5, centre)
    found = blend(kind, ground, made, matte)
    assert (found[matte == 0] == before[matte == 0]).all()
    assert (found[matte > 0] != before[matte > 0]).any()
    assert (ground == before).all()


@pytest.mark.parametrize("kind", BLENDS)
@pytest.mark.parametrize("centre", [(30, 40), (3, 5), (58, 80)])
def test_a_picture_laid_over_itself_stays_where_it_is(kind: Blend, centre: tuple[int, int]) -> None:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    waves = 128 + 60 * np.sin(rows / 5) + 50 * np.cos(columns / 4)
    picture = np.repeat(waves.astype(np.uint8)[..., None], 3, axis=2)
    assert abs(blend(kind, picture, picture, disc(16, centre)).astype(int) - picture).max() <= 2


def test_poisson_takes_the_colour_of_the_ground() -> None:
    ground = np.full((*SHAPE, 3), 90, np.uint8)
    made = np.full((*SHAPE, 3), 200, np.uint8)
    assert abs(blend("poisson", ground, made, disc(16)).astype(int) - 90).max() <= 2


def test_a_pyramid_keeps_the_middle_and_softens_the_seam() -> None:
    ground, made = np.full((*SHAPE, 3), 50, np.uint8), np.full((*SHAPE, 3), 210, np.uint8)
    matte = np.zeros(SHAPE, np.float32)
    matte[:, 20:] = 1
    row = blend("laplacian", ground, made, matte)[30, :, 0].astype(int)
    assert row[80] >= 205 and row[21] < 190 and (np.diff(row[20:]) >= -1).all()
