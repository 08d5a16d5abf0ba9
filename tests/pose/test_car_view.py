"""car-view: its network against the package's, single pictures, mirrors, clips, wrong files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from idpose_core.pose.car_view import (
    DIRECTION_WEIGHT,
    READ,
    CarViewEmbedder,
    ViewReader,
    features_of,
    load_reader,
    load_trunk,
    network_picture,
    planes,
    witness_of,
)
from idpose_core.pose.embedding import load_embedder
from idpose_core.pose.rotnet import random_rotnet
from idpose_core.pose.turning import AZIMUTHS, DIRECTIONS, readings_of
from tests.pose.car_view_files import fields, random_network, save_reader, save_trunk

SIZE = 64


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("weights")
    return save_trunk(folder / "trunk.safetensors"), save_reader(folder / "reader.safetensors")


@pytest.fixture(scope="module")
def embedder(files: tuple[Path, Path]) -> CarViewEmbedder:
    return CarViewEmbedder(*files, image_size=SIZE)


@torch.inference_mode()
def test_the_trunk_is_the_packages_network_without_its_norms(files: tuple[Path, Path]) -> None:
    maps: dict[int, torch.Tensor] = {}

    def keep(number: int) -> Any:
        return lambda block, given, map_: maps.__setitem__(number, map_)

    network, trunk = random_network(), load_trunk(files[0])
    for number in (10, 11, 13):
        network._blocks[number].register_forward_hook(keep(number))
    pictures = planes(fields(2, 224, seed=5))
    network((pictures - 127) / 128)
    fine, read = trunk(pictures)
    cells = maps[10].unflatten(3, (7, 2)).unflatten(2, (7, 2)).mean((3, 5))
    assert float((fine - cells).norm() / cells.norm()) < 1e-4
    # 7 cells in 3: the first three, the middle three, the last three
    thirds = [
        torch.stack(
            [
                maps[number][:, :, top : top + 3, left : left + 3].mean((2, 3))
                for top in (0, 2, 4)
                for left in (0, 2, 4)
            ],
            dim=2,
        ).flatten(1)
        for number in (11, 13)
    ]
    expected = torch.cat(thirds, 1)
    assert float((read - expected).norm() / expected.norm()) < 1e-4
    assert not any(isinstance(module, nn.BatchNorm2d) for module in trunk.modules())


def test_a_row_depends_on_its_own_picture_alone(embedder: CarViewEmbedder) -> None:
    pictures = fields(3, SIZE)
    together = embedder.embed(pictures)
    assert (together.dtype, together.shape) == (np.float16, (3, embedder.dimension))
    np.testing.assert_allclose(np.linalg.norm(together.astype(np.float64), axis=1), 1, atol=1e-3)
    assert len({row.tobytes() for row in together}) == 3
    threads = torch.get_num_threads()
    try:
        for index in range(3):
            torch.set_num_threads(1 + index % 2)
            alone = embedder.embed(pictures[index : index + 1])
            assert alone.tobytes() == together[index : index + 1].tobytes()
    finally:
        torch.set_num_threads(threads)
    assert embedder.embed(pictures[::-1])[::-1].tobytes() == together.tobytes()


def test_no_pictures_have_no_features(embedder: CarViewEmbedder) -> None:
    nothing = np.zeros((0, SIZE, SIZE, 3), np.uint8)
    assert embedder.embed(nothing).shape == (0, embedder.dimension)
    features, readings = embedder.embed_clip(nothing, None, np.zeros(0, np.int64))
    assert readings is not None
    assert (features.shape, readings.shape) == ((0, embedder.dimension), (0, 3))


def test_a_clip_of_one_picture_is_that_picture(embedder: CarViewEmbedder) -> None:
    picture = fields(1, SIZE)
    features, readings = embedder.embed_clip(picture, None, np.array([400]))
    assert features.tobytes() == embedder.embed(picture).tobytes()
    assert readings is not None and readings.dtype == np.float32


def test_masks_are_not_looked_at(embedder: CarViewEmbedder) -> None:
    pictures = fields(1, SIZE)
    masked = embedder.embed(pictures, np.zeros((1, SIZE, SIZE), np.bool_))
    assert masked.tobytes() == embedder.embed(pictures).tobytes()


def test_the_pictures_of_a_clip_are_heard_together(embedder: CarViewEmbedder) -> None:
    pictures = fields(3, SIZE)
    near, _ = embedder.embed_clip(pictures, None, np.array([0, 100, 200]))
    far, _ = embedder.embed_clip(pictures, None, np.array([0, 10**9, 2 * 10**9]))
    assert not np.array_equal(near, far)
    assert np.array_equal(near[:, DIRECTIONS:], far[:, DIRECTIONS:])  # how they look stays
    np.testing.assert_allclose(far, embedder.embed(pictures), atol=2e-3)
    mixed = [2, 0, 1]
    again, _ = embedder.embed_clip(pictures[mixed], None, np.array([200, 0, 100]))
    np.testing.assert_allclose(again, near[mixed], atol=1e-3)


def test_a_mirrored_picture_is_read_at_minus_the_azimuth(embedder: CarViewEmbedder) -> None:
    pictures = fields(3, SIZE)
    _, there = embedder.look(pictures)
    _, back = embedder.look(np.ascontiguousarray(pictures[:, :, ::-1]))
    assert np.abs(there).max(axis=0).min() > 0.01
    np.testing.assert_allclose(back, there * (1, 1, -1), atol=1e-5)


def test_a_feature_is_the_directions_and_the_look_by_their_weights() -> None:
    """Of two pictures, one direction apart from certain and one look shared."""
    directions = np.zeros((2, DIRECTIONS))
    directions[0, 6], directions[1, 6], directions[1, 7] = 1, 0.25, 0.75
    looks = np.array([[1, 0], [0.6, 0.8]], np.float32)
    rows = features_of(directions, looks).astype(np.float64)
    square = DIRECTION_WEIGHT**2
    expected = (square * 0.5 + 0.6) / (square + 1)  # 0.5 is Bhattacharyya's coefficient
    assert float(rows[0] @ rows[1]) == pytest.approx(expected, abs=1e-3)
    np.testing.assert_allclose((rows**2).sum(axis=1), 1, atol=1e-3)


def test_a_perfect_reading_is_the_likeliest_at_its_direction() -> None:
    witnesses = witness_of(readings_of(AZIMUTHS))
    # Within a step: where an end begins to show, the front score outweighs the angle.
    off = witnesses.argmax(axis=1) - np.arange(DIRECTIONS)
    assert np.abs((off + DIRECTIONS // 2) % DIRECTIONS - DIRECTIONS // 2).max() <= 1
    # Opposite ends: front score and cosine are 1 and -1, at a deviation of 0.5.
    assert witnesses[0, 12] == pytest.approx(-2 / 0.5**2)
    assert not witness_of(np.zeros((1, 3))).any()  # who is unsure favours no direction


def test_pictures_of_any_size_are_seen_at_224() -> None:
    flat = np.full((32, 32, 3), (10, 20, 30), np.uint8)
    for side in (32, 224, 640):
        seen = network_picture(np.ascontiguousarray(np.resize(flat, (side, side, 3))))
        assert seen.shape == (224, 224, 3)
        assert np.unique(seen.reshape(-1, 3), axis=0).tolist() == [[10, 20, 30]]
    assert planes(flat[None])[0, :, 5, 7].tolist() == [10, 20, 30]


def test_name_dimension_and_digests(files: tuple[Path, Path]) -> None:
    embedder = load_embedder("car-view", files[0], azimuth=files[1], image_size=SIZE)
    assert (embedder.name, embedder.dimension) == ("car-view", 24 + 112 * 7 * 7)
    digests = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
    assert (embedder.weights_sha256, embedder.azimuth_sha256) == digests


def test_a_reader_in_half_precision_reads_in_full(files: tuple[Path, Path], tmp_path: Path) -> None:
    halves = {name: value.half() for name, value in load_file(files[1]).items()}
    save_file(halves, tmp_path / "half.safetensors")
    reader = load_reader(tmp_path / "half.safetensors")
    assert {value.dtype for value in reader.state_dict().values()} == {torch.float32}
    assert torch.equal(reader.out.weight, halves["out.weight"].float())
    assert not reader.training


@pytest.mark.parametrize("wrong", ["size", "type", "grey"])
def test_wrong_pictures_are_told(embedder: CarViewEmbedder, wrong: str) -> None:
    pictures: dict[str, NDArray[Any]] = {
        "size": fields(1, SIZE + 1), "type": fields(1, SIZE).astype(np.float32),
        "grey": fields(1, SIZE)[..., 0],
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"pictures must be uint8 \[N, 64, 64, 3\]"):
        embedder.embed(pictures[wrong])
    with pytest.raises(ValueError, match="pictures must be uint8"):
        embedder.embed_clip(pictures[wrong], None, np.zeros(1, np.int64))


def test_wrong_files_are_told(files: tuple[Path, Path], tmp_path: Path) -> None:
    trunk, reader = files
    other = tmp_path / "rotnet.safetensors"
    save_file(random_rotnet(0, width=0.25).state_dict(), other)
    for path in (reader, other):
        with pytest.raises(ValueError, match=f"{path.name} does not hold EfficientNet-Lite0"):
            load_trunk(path)
    for path in (trunk, other):
        with pytest.raises(ValueError, match=f"{path.name} does not hold a reader of views"):
            load_reader(path)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(trunk.read_bytes()[:5000])
    for load in (load_trunk, load_reader):
        with pytest.raises(ValueError, match="damaged"):
            load(damaged)
        with pytest.raises(ValueError, match="there is no weights file"):
            load(tmp_path / "absent.safetensors")


@pytest.mark.parametrize(
    "content",
    [
        {"epoch": 3, "state": torch.zeros(2)},
        {"hidden.weight": torch.tensor(1.0)},
        {**ViewReader(2).state_dict(), "out.weight": torch.zeros(4, 2)},
        {**ViewReader(2).state_dict(), "hidden.weight": torch.zeros(2, READ - 1)},
    ],
)
def test_what_is_no_reader_of_views_is_told(content: dict[str, Any], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "reader.pth")
    with pytest.raises(ValueError, match=r"reader\.pth does not hold a reader of views"):
        load_reader(tmp_path / "reader.pth")


def test_missing_weights_are_told_with_the_command(files: tuple[Path, Path]) -> None:
    for paths in ((None, None), (files[0], None), (None, files[1])):
        with pytest.raises(ValueError, match="`idpose weights fetch efficientnet-lite0`"):
            load_embedder("car-view", paths[0], azimuth=paths[1])
