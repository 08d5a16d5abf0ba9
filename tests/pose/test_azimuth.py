"""Readings of azimuths: what they are compared by, mirrored pictures, learning, wrong files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from idpose_core.pose.azimuth import BINS, SIDE, AzimuthNetwork, azimuth_trunk
from idpose_core.pose.azimuth_training import changed, train_azimuth, wanted
from idpose_core.pose.embedding import Embedder, load_embedder
from idpose_core.pose.rotnet import random_rotnet


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights, which these tests do not mind."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "azimuth.safetensors"
    save_file(AzimuthNetwork().state_dict(), path)
    return path


def blocks(azimuths: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Grey blocks, upright from ahead and behind and lying from the sides, with a lamp to tell."""
    pictures = np.full((len(azimuths), SIDE, SIDE, 3), 90, np.uint8)
    masks = np.zeros((len(azimuths), SIDE, SIDE), np.uint8)
    for picture, mask, azimuth in zip(pictures, masks, np.radians(azimuths), strict=True):
        half = round(12 + 13 * abs(np.sin(azimuth)))
        mask[20:44, 32 - half : 32 + half] = 255
        across, down = round(32 - 0.7 * half * np.sin(azimuth)), round(32 - 8 * np.cos(azimuth))
        picture[down - 3 : down + 3, across - 3 : across + 3] = 250
    return pictures, masks


def test_what_shall_be_read_is_around_the_truth() -> None:
    truth = wanted(np.array([0.0, 30.0, 352.0]))
    assert truth.argmax(1).tolist() == [0, 2, 23]
    np.testing.assert_allclose(truth.sum(1), 1, atol=1e-6)
    # 0 is the neighbour of 23, and the likelihood falls off alike on both sides
    assert float(truth[0, 1]) == pytest.approx(float(truth[0, 23]), abs=1e-6)
    assert float(truth[0, 12]) < 1e-6


def test_a_mirrored_picture_is_read_at_minus_the_azimuth(weights: Path) -> None:
    read = azimuth_trunk(weights, device="cpu")
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 4)).astype(np.uint8)
    with torch.inference_mode():
        there = read(picture).flatten()
        back = read(np.ascontiguousarray(picture[:, ::-1])).flatten()
    np.testing.assert_allclose(back, there[(-torch.arange(BINS)) % BINS], atol=1e-5)
    assert float(there.square().sum()) == pytest.approx(1, abs=1e-5)


def test_changes_mirror_the_azimuth_with_the_picture() -> None:
    pictures, masks = blocks(np.array([60.0]))
    lamp_left = {True: [0, 0], False: [0, 0]}
    for seed in range(40):
        draws = np.random.default_rng(seed)
        seen, found, azimuth = changed(pictures[0], masks[0], 60.0, draws)
        assert azimuth in (60.0, -60.0) and seen.shape == (SIDE, SIDE, 3)
        assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
        brightest = (seen.mean(2) * found)[26:31].mean(0).argmax()
        left = bool(brightest < SIDE // 2)
        lamp_left[azimuth > 0][left] += 1
    assert lamp_left[True][True] > 2 * lamp_left[True][False]
    assert lamp_left[False][False] > 2 * lamp_left[False][True]


def test_it_learns_what_outlines_do_not_tell(tmp_path: Path) -> None:
    azimuths = np.tile(np.arange(0, 360, 15.0), 8)
    identities = np.repeat(np.arange(8), 24)
    pictures, masks = blocks(azimuths)
    losses: list[float] = []

    def trained(name: str) -> Path:
        made = train_azimuth(
            pictures, masks, azimuths, identities, tmp_path / name, steps=60, batch_size=16,
            held_out=2, on_step=lambda _, loss: losses.append(loss),
        )  # fmt: skip
        assert made.held_out == 48 and made.hit > 0.6 and made.confused < 0.2
        return made.path

    first = trained("first.safetensors")
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    assert first.read_bytes() == trained("second.safetensors").read_bytes()

    opposite, alpha = blocks(np.array([0.0, 180.0, 0.0]))
    plain = load_embedder("silhouette", image_size=SIDE)
    reading = load_embedder("silhouette", image_size=SIDE, azimuth=first)

    def likeness(embedder: Embedder) -> NDArray[np.float64]:
        rows = embedder.embed(opposite, alpha > 0).astype(np.float64)
        return np.asarray(rows[0] @ rows.T)

    np.testing.assert_allclose(likeness(plain), 1, atol=1e-2)  # one outline
    assert likeness(reading)[1] < likeness(reading)[2] - 0.1


def test_the_rest_of_a_feature_stays_as_it_is(weights: Path) -> None:
    pictures, masks = blocks(np.arange(0, 360, 90.0))
    plain = load_embedder("grey-pixels", image_size=SIDE)
    reading = load_embedder("grey-pixels", image_size=SIDE, azimuth=weights)
    assert reading.dimension == plain.dimension + BINS
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert (plain.azimuth_sha256, reading.azimuth_sha256) == (None, digest)
    rows, full = plain.embed(pictures, masks > 0), reading.embed(pictures, masks > 0)
    rest = full[:, BINS:].astype(np.float64)
    rest /= np.linalg.norm(rest, axis=1, keepdims=True)
    np.testing.assert_allclose(rest, rows.astype(np.float64), atol=2e-3)


def test_wrong_files_and_settings_are_told(weights: Path, tmp_path: Path) -> None:
    other = tmp_path / "rotnet.safetensors"
    save_file(random_rotnet(0, width=0.25).state_dict(), other)
    with pytest.raises(ValueError, match="reads azimuths"):
        azimuth_trunk(other, device="cpu")
    with pytest.raises(ValueError, match="aligned pictures"):
        load_embedder("grey-pixels", masked=False, silhouette=False, azimuth=weights)
    pictures, masks = blocks(np.array([0.0, 90.0]))
    arrays = (pictures, masks, np.array([0.0, 90.0]), np.array([0, 1]))
    with pytest.raises(ValueError, match="held_out"):
        train_azimuth(*arrays, tmp_path / "x.safetensors", steps=1, held_out=2)
    with pytest.raises(ValueError, match="steps"):
        train_azimuth(*arrays, tmp_path / "x.safetensors", steps=0, held_out=1)
