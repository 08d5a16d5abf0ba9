"""Teaching the reader of views: repeatable, in balance, its mean of members, what it learns."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from idpose_core.pose.car_view import READ, Trunk, load_reader
from idpose_core.pose.car_view_training import (
    Lesson,
    Photograph,
    _member,
    _together,
    _weights,
    photograph_lesson,
    read_photographs,
    rendered_lesson,
    train_reader,
)
from idpose_core.pose.turning import readings_of

COLUMNS = "file,xmin,xmax,ymin,ymax,front,rear,left_side,right_side"


def easy_lesson(count: int, seed: int) -> Lesson:
    """What is seen depends on the reading by one direction each, beside noise."""
    readings = readings_of(np.random.default_rng(seed).uniform(0, 2 * np.pi, count))
    directions = np.random.default_rng(99).normal(0, 1, (3, READ))
    noise = np.random.default_rng([seed, 1]).normal(0, 1, (count, READ))
    return Lesson((5 + readings @ directions + noise).astype(np.float32), readings)


class SidesAlone(nn.Module):
    """Stands in for the trunk: how bright the left third is, the right third, and red and blue."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        left, right = x[..., :75].mean((1, 2, 3)), x[..., -75:].mean((1, 2, 3))
        return x, torch.stack([left, right, x[:, 0].mean((1, 2)), x[:, 2].mean((1, 2))], 1)


def sides_alone() -> Trunk:
    return cast(Trunk, SidesAlone())


def lit_left(side: int = 224) -> NDArray[np.uint8]:
    picture = np.full((side, side, 3), 15, np.uint8)
    picture[:, : side // 2] = 235
    return picture


def test_the_seed_and_nothing_else_decides(tmp_path: Path) -> None:
    lesson, told = easy_lesson(16, 0), list[str]()

    def trained(seed: int) -> bytes:
        train_reader([lesson], tmp_path / "reader.safetensors", seed=seed, say=told.append)
        return (tmp_path / "reader.safetensors").read_bytes()

    before = torch.get_rng_state()
    first = trained(3)
    assert torch.equal(torch.get_rng_state(), before)  # nobody else's draws are changed
    torch.rand(1)
    assert trained(3) == first
    assert trained(4) != first
    assert told == [f"perceptron {n} of 5" for n in range(1, 6)] * 3


def test_together_is_the_mean_of_the_members() -> None:
    lesson = easy_lesson(16, 1)
    seen = torch.from_numpy(lesson.seen)
    mean, spread = seen.mean(0), seen.std(0)
    x, wanted = (seen - mean) / spread, torch.from_numpy(lesson.readings).float()
    weights = np.full(16, 1 / 16)
    members = []
    for seed in range(3):
        torch.manual_seed(seed)
        members.append(_member(x, wanted, weights, np.random.default_rng(seed)).eval())
    with torch.inference_mode():
        expected = torch.stack([member(x) for member in members])
        assert float((expected[0] - expected[1]).abs().max()) > 0.05
        found = _together(members, mean, spread)(seen)
        torch.testing.assert_close(found, expected.mean(0), atol=1e-5, rtol=1e-4)


def test_fronts_weigh_as_much_as_rears_and_lessons_as_much_as_each_other() -> None:
    few = readings_of(np.radians([0.0, 10, 20, 180]))
    many = readings_of(np.radians([30.0] * 3 + [200.0] * 17))
    chances = _weights([few, many])
    np.testing.assert_allclose(chances[:4], [1 / 12] * 3 + [1 / 4])
    np.testing.assert_allclose(chances[4:], [1 / 12] * 3 + [1 / 68] * 17)
    np.testing.assert_allclose(_weights([many[:3]]), 1 / 3)  # there are no rears


def test_an_easy_lesson_is_learnt_and_the_file_reads_like_the_network(tmp_path: Path) -> None:
    lessons = [easy_lesson(400, 2), easy_lesson(100, 3)]
    reader = train_reader(lessons, tmp_path / "reader.safetensors", seed=0)
    unseen = easy_lesson(200, 4)
    with torch.inference_mode():
        found = reader(torch.from_numpy(unseen.seen)).numpy()
        stored = load_reader(tmp_path / "reader.safetensors")(torch.from_numpy(unseen.seen))
    np.testing.assert_allclose(stored.numpy(), found, atol=0.02)
    clear = np.abs(unseen.readings) > 0.3
    assert (np.sign(found) == np.sign(unseen.readings))[clear].mean() > 0.99


def test_a_mirrored_picture_is_taught_at_minus_its_azimuth() -> None:
    """The side that is lit is on the left at 90 degrees, and on the right where mirrored."""
    draws = np.random.default_rng(0)
    lesson = rendered_lesson(sides_alone(), [(lit_left(), 90.0)] * 70, draws)
    assert lesson.seen.dtype == np.float32 and lesson.seen.shape == (70, 4)
    mirrored = lesson.readings[:, 2] < 0
    assert 20 < mirrored.sum() < 50
    np.testing.assert_allclose(np.abs(lesson.readings), [[0, 0, 1]] * 70, atol=1e-12)
    right_is_lit = lesson.seen[:, 1] > lesson.seen[:, 0]
    assert (right_is_lit == mirrored).mean() > 0.9


def test_every_photograph_is_shown_so_many_times_and_keeps_its_reading() -> None:
    front, rear = np.array([1.0, 0.8, 0.6]), np.array([-1.0, -1.0, 0.0])
    picture, box = lit_left(120), (20.0, 100.0, 20.0, 100.0)
    photographs = [Photograph(picture, box, front), Photograph(picture, box, rear)]
    lesson = photograph_lesson(sides_alone(), photographs, 3, np.random.default_rng(0))
    np.testing.assert_array_equal(lesson.readings[:, :2], [front[:2], rear[:2]] * 3)
    assert len({row.tobytes() for row in lesson.seen}) == 6  # never twice the same


def photographs_folder(folder: Path, *rows: str, columns: str = COLUMNS) -> Path:
    (folder / "photos").mkdir()
    picture = np.zeros((50, 100, 3), np.uint8)
    picture[..., 2] = 200  # blue, green, red
    cv2.imwrite(str(folder / "photos" / "a.png"), picture)
    (folder / "photos" / "text.png").write_text("not a picture")
    (folder / "labels.csv").write_text("\n".join([columns, *rows]) + "\n")
    return folder


def test_photographs_are_read_with_box_and_reading(tmp_path: Path) -> None:
    rows = ("a.png,0.1,0.9,0.2,1,0.4,0,0.3,0", "a.png,0,1,0,1,0,0.5,0,0", "a.png,0,1,0,1,0,0,0,0")
    first, rear, nothing = read_photographs(photographs_folder(tmp_path, *rows))
    np.testing.assert_allclose(first.box, [10, 90, 10, 50])
    assert first.picture[0, 0].tolist() == [200, 0, 0]
    np.testing.assert_allclose(first.reading, [1, 0.8, 0.6])  # nose to the left
    np.testing.assert_allclose(rear.reading, [-1, -1, 0])
    assert np.isfinite(nothing.reading).all()


@pytest.mark.parametrize("name", ["absent.png", "text.png"])
def test_a_photograph_that_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    folder = photographs_folder(tmp_path, "a.png,0,1,0,1,1,0,0,0", f"{name},0,1,0,1,1,0,0,0")
    with pytest.raises(ValueError, match=f"the photograph {name} cannot be read"):
        read_photographs(folder)


def test_columns_that_are_missing_are_named(tmp_path: Path) -> None:
    columns = "file,xmin,xmax,ymin,ymax,front,left_side,right_side"
    folder = photographs_folder(tmp_path, "a.png,0,1,0,1,1,0,0", columns=columns)
    with pytest.raises(ValueError, match=r"labels\.csv has no column rear"):
        read_photographs(folder)
