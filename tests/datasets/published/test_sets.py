"""Published sets in small: which objects there are, and what each view is."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from idpose_core.datasets.published.splits import drawn_splits, splits_of
from idpose_core.datasets.views import View, ViewedObject, ViewSet
from storage.reasons import Unusable
from tests.worlds.published import (
    CHAIR_SCALE,
    EPFL_FRAMES,
    EPFL_SIZE,
    ETH80_VIEWS,
    HIGH,
    SETS,
    WIDE,
    colour,
    corner,
    epfl_times,
    numbers,
)


def small(name: str, folder: Path, train: int = 1) -> tuple[ViewSet, int]:
    """A set with one object of each split, and the number of the first of training."""
    objects = [*numbers(name, "train", train), *numbers(name, "test", 1)]
    loader, write = SETS[name]
    write(folder, objects)
    return loader(str(folder)), objects[0]


def views_of(found: ViewSet, at: int = 0) -> tuple[View, ...]:
    there = [o for o in found.objects() if complete(found, o)]
    return tuple(found.views(there[at].name, there[at].location))


def complete(found: ViewSet, viewed: ViewedObject) -> bool:
    try:
        found.views(viewed.name, viewed.location)
    except Unusable:
        return False
    return True


def check(view: View, number: int, step: int, row: int, tolerance: int = 0, scale: int = 1) -> None:
    """The rectangle is where its view and of the colour of its object."""
    height, width = view.image.shape[:2]
    left, top, wide, high = (scale * length for length in (*corner(step, row), WIDE, HIGH))
    edges = (view.box.xmin * width, view.box.xmax * width)
    assert edges == pytest.approx((left, left + wide))
    edges = (view.box.ymin * height, view.box.ymax * height)
    assert edges == pytest.approx((top, top + high))
    inside = view.image[top + 2 : top + high - 2, left + 2 : left + wide - 2]
    assert np.abs(inside.astype(int) - colour(number)).max() <= tolerance
    if view.mask is not None:
        assert view.mask.sum() == wide * high
        assert view.mask[top : top + high, left : left + wide].all()


def test_3d_cars(tmp_path: Path) -> None:
    found, number = small("cars3d", tmp_path)
    objects = found.objects()
    assert Counter(o.split for o in objects) == {"train": 100, "test": 42}
    assert {o.views for o in objects} == {96}
    views = views_of(found)
    assert len(views) == 96
    for index, view in enumerate(views):
        elevation, azimuth = divmod(index, 24)
        check(view, number, azimuth, elevation)
        assert (view.azimuth_deg, view.elevation_deg) == (15.0 * azimuth, None)


def test_3d_chairs(tmp_path: Path) -> None:
    found, number = small("chairs3d", tmp_path)
    objects = found.objects()
    assert Counter(o.split for o in objects) == {"train": 1184, "test": 209}
    views = views_of(found)
    assert len(views) == 62
    for index, view in enumerate(views):
        row, step = divmod(index, 31)
        check(view, number, step, row, scale=CHAIR_SCALE)
        assert view.azimuth_deg == pytest.approx(360 * step / 31)
        assert view.elevation_deg == (20.0, 30.0)[row]


def test_eth80(tmp_path: Path) -> None:
    found, number = small("eth80", tmp_path)
    assert [(o.name, o.split) for o in found.objects()] == [
        ("eth80-car1", "train"), ("eth80-car2", "test"),
    ]  # fmt: skip
    views = views_of(found)
    assert len(views) == 41
    for index, view in enumerate(views):
        check(view, number, index, 0)
    told = dict(zip(sorted(ETH80_VIEWS), views, strict=True))

    def pose(polar: int, azimuth: int) -> tuple[float | None, float | None]:
        return told[polar, azimuth].azimuth_deg, told[polar, azimuth].elevation_deg

    # The front at 90 of the set, the right side at 0, the left side at 180.
    assert pose(90, 90) == (0.0, 0.0)
    assert pose(90, 180) == (90.0, 0.0)
    assert pose(90, 0) == (270.0, 0.0)
    # Of multiples of 22.5 degrees the names drop the half; the others are whole.
    assert pose(90, 112) == (22.5, 0.0)
    assert pose(90, 68) == (337.5, 0.0)
    assert pose(68, 90) == (0.0, 22.5)
    assert pose(66, 27) == (297.0, 24.0)
    assert pose(35, 45) == (315.0, 55.0)


def test_epfl_cars(tmp_path: Path) -> None:
    found, number = small("epfl-cars", tmp_path)
    objects = found.objects()
    assert [o.name for o in objects if o.split == "train"][-1] == "tripod_seq_10"
    assert Counter(o.split for o in objects) == {"train": 10, "test": 10}
    views = views_of(found)
    assert len(views) == EPFL_FRAMES
    for frame, view in enumerate(views):
        check(view, number, frame, 2, tolerance=12)
        assert view.image.shape == (EPFL_SIZE[1], EPFL_SIZE[0], 3)
        assert view.mask is None
    # By the seconds, not by the frames: 80 of them a turn, the front after 16.
    expected = [(360 * (second - 16) / 80) % 360 for second in epfl_times(1)]
    assert [view.azimuth_deg for view in views] == pytest.approx(expected)
    assert expected[7] == 216.0  # by frames it would be 200


def test_a_car_that_turns_the_other_way_shows_its_right_side_first(tmp_path: Path) -> None:
    found = SETS["epfl-cars"][0](str(SETS["epfl-cars"][1](tmp_path, [1, 2])))
    clockwise, other = (views_of(found, at) for at in (0, 1))
    turned = [(a.azimuth_deg, b.azimuth_deg) for a, b in zip(clockwise, other, strict=True)]
    assert turned[2] == (0.0, 0.0)
    assert turned[3] == (36.0, 324.0)
    assert all((a + b) % 360 == pytest.approx(0, abs=1e-9) for a, b in turned)


def test_the_photographs_go_round_in_another_form_too(tmp_path: Path) -> None:
    published, _ = small("eth80", tmp_path / "published")
    other = tmp_path / "other"
    for car in (tmp_path / "published" / "eth80-cropped256").iterdir():
        place = other / f"car0{car.name[3:]}"
        place.mkdir(parents=True)
        for path in car.glob("*.png"):
            name, polar, azimuth = path.stem.split("-")
            stem = f"car0{name[3:]}_pol{polar}_az{azimuth}"
            shutil.copy(path, place / f"{stem}.png")
            shutil.copy(car / "maps" / f"{path.stem}-map.png", place / f"{stem}_mask.png")
    renamed = SETS["eth80"][0](str(other))
    assert [o.name for o in renamed.objects()] == [o.name for o in published.objects()]
    for a, b in zip(views_of(published), views_of(renamed), strict=True):
        assert np.array_equal(a.image, b.image)
        assert (a.azimuth_deg, a.elevation_deg) == (b.azimuth_deg, b.elevation_deg)


@pytest.mark.parametrize("name", SETS)
def test_the_path_may_lead_to_the_archive_or_into_it(name: str, tmp_path: Path) -> None:
    loader, write = SETS[name]
    inner = write(tmp_path, numbers(name, "train", 1))
    outside, inside = (loader(str(path)).objects() for path in (tmp_path, inner))
    assert [(o.name, o.sha256) for o in outside] == [(o.name, o.sha256) for o in inside]


@pytest.mark.parametrize("name", SETS)
def test_a_digest_names_the_bytes_of_one_object_wherever_it_lies(name: str, tmp_path: Path) -> None:
    found, _ = small(name, tmp_path / "here")
    before = {o.name: o.sha256 for o in found.objects()}
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    there = SETS[name][0](str(tmp_path / "there"))
    assert {o.name: o.sha256 for o in there.objects()} == before
    first, second = (o for o in there.objects() if complete(there, o))
    assert first.sha256 != second.sha256
    kinds = {".mat", ".png", ".jpg"}
    files = sorted(p for p in (tmp_path / "there").rglob("*") if p.suffix in kinds)
    changed = next(p for p in files if "all_chair_names" not in p.name)
    changed.write_bytes(changed.read_bytes() + b"x")
    after = {o.name: o.sha256 for o in there.objects()}
    assert [o for o in before if before[o] != after[o]] == [first.name]


def test_the_splits_are_those_that_were_drawn() -> None:
    rows = [(name, number, word) for name in SETS for number, word in splits_of(name).items()]
    assert sorted(rows) == drawn_splits()
    counts = {name: Counter(splits_of(name).values()) for name in SETS}
    assert counts == {
        "cars3d": {"train": 100, "validation": 41, "test": 42},
        "chairs3d": {"train": 1184, "test": 209},
        "eth80": {"train": 7, "test": 3},
        "epfl-cars": {"train": 10, "test": 10},
    }
    assert set(splits_of("eth80")) == {1, 2, 3, 5, 6, 7, 9, 11, 12, 14}


def test_the_real_photographs(real_data: Path) -> None:
    """41 views of each car, 16 of them at eye level; from the side it is wider than from ahead."""
    found = SETS["eth80"][0](str(real_data / "eth80_cars"))
    objects = found.objects()
    assert [(o.name, o.split) for o in objects] == [
        (f"eth80-car{n}", "test" if n in (2, 7) else "train") for n in (1, 2, 3, 5, 6, 7, 9)
    ]
    for viewed in objects:
        views = found.views(viewed.name, viewed.location)
        assert len({(v.azimuth_deg, v.elevation_deg) for v in views}) == 41
        level = {v.azimuth_deg: v for v in views if v.elevation_deg == 0}
        assert sorted(level) == [22.5 * step for step in range(16)]  # type: ignore[type-var]
        wide = {a: v.box.width / v.box.height for a, v in level.items()}
        assert min(wide[90.0], wide[270.0]) > 1.5 * max(wide[0.0], wide[180.0])
