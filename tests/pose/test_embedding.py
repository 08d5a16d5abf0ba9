"""Embedders: independence of the batch, what masking removes, alignment, bad input."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import save_file

from idpose_core.pose.alignment import align, grey_out
from idpose_core.pose.embedding import (
    Embedder,
    EmbedderKind,
    Masking,
    embedder_kinds,
    load_embedder,
)
from idpose_core.pose.rotnet import IMAGENET_MEAN, IMAGENET_STD, random_rotnet
from idpose_core.pose.shift_tolerant import ShiftTolerantAlexNet

SIZE = 64
KINDS: tuple[EmbedderKind, ...] = (
    "rotnet",
    "st-alex",
    "random-alexnet",
    "grey-pixels",
    "silhouette",
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weights in the right form: narrow or random ones, which these tests do not mind."""
    folder = tmp_path_factory.mktemp("weights")
    save_file(random_rotnet(1, width=0.25).state_dict(), folder / "rotnet.safetensors")
    torch.manual_seed(0)
    save_file(ShiftTolerantAlexNet().state_dict(), folder / "st-alex.safetensors")
    return {kind: folder / f"{kind}.safetensors" for kind in ("rotnet", "st-alex")}


def pictures_and_masks(count: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    draws = np.random.default_rng(seed)
    pictures = draws.integers(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8)
    masks = np.zeros((count, SIZE, SIZE), bool)
    for mask in masks:
        top, left = draws.integers(4, 20, 2)
        mask[top : top + draws.integers(16, 40), left : left + draws.integers(16, 40)] = True
    return pictures, masks


@pytest.mark.parametrize("kind", KINDS)
def test_features_do_not_depend_on_the_batch(kind: EmbedderKind, files: dict[str, Path]) -> None:
    embedder = load_embedder(kind, files.get(kind), image_size=SIZE)
    pictures, masks = pictures_and_masks(5)
    together = embedder.embed(pictures, masks)
    assert together.dtype == np.float16
    assert together.shape == (5, embedder.dimension)
    np.testing.assert_allclose(np.linalg.norm(together.astype(np.float64), axis=1), 1, atol=2e-3)
    threads = torch.get_num_threads()
    try:
        for index in range(5):
            torch.set_num_threads(1 + index % 2)
            alone = embedder.embed(pictures[index : index + 1], masks[index : index + 1])
            assert alone.tobytes() == together[index : index + 1].tobytes()
    finally:
        torch.set_num_threads(threads)
    backwards = embedder.embed(pictures[::-1], masks[::-1])
    assert np.array_equal(backwards[::-1], together)
    assert embedder.embed(pictures[:0], masks[:0]).shape == (0, embedder.dimension)


@pytest.mark.parametrize("kind", KINDS)
def test_a_masked_feature_does_not_see_the_background(
    kind: EmbedderKind, files: dict[str, Path]
) -> None:
    embedder = load_embedder(kind, files.get(kind), image_size=SIZE)
    pictures, masks = pictures_and_masks(2)
    other, _ = pictures_and_masks(2, seed=7)
    swapped = np.where(masks[..., None], pictures, other)
    # Resampling mixes the pixels along the mask's edge, so the outermost ones stay.
    for index, mask in enumerate(masks):
        rows, columns = np.nonzero(mask)
        part = np.s_[rows.min() - 2 : rows.max() + 3, columns.min() - 2 : columns.max() + 3]
        swapped[index][part] = pictures[index][part]
    assert not np.array_equal(swapped, pictures)
    assert np.array_equal(embedder.embed(swapped, masks), embedder.embed(pictures, masks))


def test_the_papers_feature_is_conv4_flattened_and_scaled(files: dict[str, Path]) -> None:
    embedder = load_embedder(
        "random-alexnet", image_size=SIZE, masked=False, silhouette=False, seed=3
    )
    pictures, _ = pictures_and_masks(1)
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    x = torch.nn.functional.interpolate(x, (224, 224), mode="bilinear", antialias=True)
    x = (x - torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)) / torch.tensor(IMAGENET_STD).view(
        1, 3, 1, 1
    )
    with torch.no_grad():
        conv4 = random_rotnet(3)(x)[3].flatten().numpy()
    assert embedder.dimension == 256 * 13 * 13 == conv4.size
    expected = conv4 / np.linalg.norm(conv4)
    np.testing.assert_allclose(embedder.embed(pictures, None)[0], expected, atol=2e-4)


def test_cells_are_normalised_and_weighted_by_the_mask(files: dict[str, Path]) -> None:
    """With the cells' channels scaled to 1, a cell's length is the mask's share of it."""
    embedder = load_embedder(
        "st-alex",
        files["st-alex"],
        image_size=SIZE,
        silhouette=False,
        masking=Masking(align=False, grey_background=False),
    )
    pictures, _ = pictures_and_masks(1)
    mask = np.zeros((1, SIZE, SIZE), bool)
    mask[:, :, : SIZE // 2] = True
    lengths = np.linalg.norm(
        embedder.embed(pictures, mask).astype(np.float32).reshape(256, 13, 13), axis=0
    )
    shares = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(mask).float(), 13)[0].numpy()
    np.testing.assert_allclose(lengths, shares / np.linalg.norm(shares), atol=1e-3)


def test_silhouette_is_set_beside_with_the_same_weight(files: dict[str, Path]) -> None:
    pictures, masks = pictures_and_masks(3)
    both = load_embedder("random-alexnet", image_size=SIZE).embed(pictures, masks)
    network = load_embedder("random-alexnet", image_size=SIZE, silhouette=False)
    silhouette = load_embedder("silhouette", image_size=SIZE)
    parts = np.hstack([network.embed(pictures, masks), silhouette.embed(pictures, masks)])
    np.testing.assert_allclose(both, parts.astype(np.float32) / np.sqrt(2), atol=1e-3)
    assert silhouette.dimension == 169


def test_silhouette_against_area_pooling() -> None:
    size = 13 * 8
    mask = np.zeros((1, size, size), bool)
    mask[0, 8:40, 16:64] = True
    embedder = load_embedder("silhouette", image_size=size, masking=Masking(align=False))
    expected = mask[0].reshape(13, 8, 13, 8).mean((1, 3)).ravel()
    got = embedder.embed(np.zeros((1, size, size, 3), np.uint8), mask)[0]
    np.testing.assert_allclose(got, expected / np.linalg.norm(expected), atol=1e-3)


def test_grey_pixels_against_area_pooling() -> None:
    pictures, _ = pictures_and_masks(1)
    embedder = load_embedder("grey-pixels", image_size=SIZE, masked=False, silhouette=False)
    grey = pictures[0] @ np.array([0.299, 0.587, 0.114])
    pooled = grey.reshape(32, 2, 32, 2).mean((1, 3)).ravel()
    pooled -= pooled.mean()
    got = embedder.embed(pictures, None)[0]
    np.testing.assert_allclose(got, pooled / np.linalg.norm(pooled), atol=2e-3)


@settings(max_examples=30, deadline=None)
@given(
    left=st.integers(0, 40),
    top=st.integers(0, 50),
    width=st.integers(8, 60),
    height=st.integers(4, 40),
)
def test_alignment_centres_the_mask_and_fixes_its_size(
    left: int, top: int, width: int, height: int
) -> None:
    mask = np.zeros((100, 100), bool)
    mask[top : top + height, left : left + width] = True
    rows, columns = np.nonzero(mask)
    longer = max(np.ptp(rows), np.ptp(columns)) + 1
    picture = np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * 255
    moved, opacity = align(picture, mask)
    assert moved.shape == picture.shape
    assert 0 <= opacity.min() <= opacity.max() <= 1
    weights = opacity / opacity.sum()
    centres = np.arange(100) + 0.5
    tolerance = 0.02 * 100 + 100 / longer / 2
    assert abs((weights.sum(0) * centres).sum() - 50) < tolerance
    assert abs((weights.sum(1) * centres).sum() - 50) < tolerance
    spans = [np.ptp(np.nonzero(opacity > 0.5)[axis]) + 1 for axis in (0, 1)]
    assert abs(max(spans) - 80) < 3 + 100 / longer
    # The picture moves with its mask.
    assert (moved[opacity > 0.99] > 245).all()


def test_alignment_undoes_a_shifted_crop() -> None:
    """Two crops of one object whose boxes differ give nearly the same aligned picture."""
    rows, columns = np.mgrid[:160, :160]
    wave = (np.sin(rows / 9) * np.cos(columns / 7) * 100 + 128).astype(np.uint8)
    picture = np.repeat(wave[..., None], 3, axis=2)
    mask = (columns - 80) ** 2 / 50**2 + (rows - 80) ** 2 / 25**2 < 1
    first, opacity = align(picture[10:140, 10:140], mask[10:140, 10:140])
    second, _ = align(picture[22:152, 24:154], mask[22:152, 24:154])
    difference = np.abs(first.astype(int) - second.astype(int))[opacity > 0.99]
    assert difference.max() <= 2


def test_grey_out_blends() -> None:
    picture = np.full((2, 2, 3), 200, np.uint8)
    opacity = np.array([[1, 0], [0.5, 0.25]], np.float32)
    assert grey_out(picture, opacity)[..., 0].tolist() == [[200, 128], [164, 146]]


def test_names_dimensions_and_digests(files: dict[str, Path]) -> None:
    def facts(embedder: Embedder) -> tuple[str, int, bool]:
        return embedder.name, embedder.dimension, embedder.weights_sha256 is not None

    assert facts(load_embedder("st-alex", files["st-alex"], image_size=SIZE)) == (
        "st-alex/conv4",
        256 * 169 + 169,
        True,
    )
    second = load_embedder("st-alex", files["st-alex"], layer="conv2", silhouette=False)
    assert facts(second) == ("st-alex/conv2", 192 * 169, True)
    assert facts(load_embedder("silhouette")) == ("silhouette", 169, False)
    assert facts(load_embedder("grey-pixels", silhouette=False)) == ("grey-pixels", 1024, False)
    digest = hashlib.sha256(files["rotnet"].read_bytes()).hexdigest()
    assert load_embedder("rotnet", files["rotnet"]).weights_sha256 == digest
    # which test_dinov2 and test_car_view test
    assert set(embedder_kinds()) == {*KINDS, "dinov2", "car-view"}


def test_contradicting_or_incomplete_options(files: dict[str, Path]) -> None:
    for kind in ("rotnet", "st-alex"):
        with pytest.raises(ValueError, match="idpose weights import"):
            load_embedder(kind)
    with pytest.raises(ValueError, match="needs masks"):
        load_embedder("silhouette", masked=False, silhouette=False)
    with pytest.raises(ValueError, match="needs masks"):
        load_embedder("random-alexnet", masked=False)
    with pytest.raises(ValueError, match="masked is off"):
        load_embedder("random-alexnet", masked=False, silhouette=False, masking=Masking())
    with pytest.raises(ValueError, match="unknown layer 'conv9'"):
        load_embedder("random-alexnet", layer="conv9")
    with pytest.raises(ValueError, match="unknown embedder"):
        load_embedder("alexnet")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has no weights"):
        load_embedder("silhouette", files["rotnet"])
    with pytest.raises(ValueError, match="blur kernel"):
        load_embedder("st-alex", files["rotnet"])
    with pytest.raises(ValueError, match="is missing"):
        load_embedder("rotnet", files["st-alex"])
    with pytest.raises(ValueError, match="there is no weights file"):
        load_embedder("rotnet", files["rotnet"].with_name("absent.pth"))


def test_bad_pictures_and_masks() -> None:
    embedder = load_embedder("grey-pixels", image_size=SIZE)
    pictures, masks = pictures_and_masks(2)
    with pytest.raises(ValueError, match="pictures must be uint8"):
        embedder.embed(pictures.astype(np.float32), masks)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[N, 64, 64, 3\]"):
        embedder.embed(pictures[:, :32], masks)
    with pytest.raises(ValueError, match="needs masks"):
        embedder.embed(pictures, None)
    with pytest.raises(ValueError, match="masks must be bool"):
        embedder.embed(pictures, masks[:1])
    with pytest.raises(ValueError, match="masks must be bool"):
        embedder.embed(pictures, masks.astype(np.uint8))  # type: ignore[arg-type]
    masks[1] = False
    with pytest.raises(ValueError, match=r"empty: \[1\]"):
        embedder.embed(pictures, masks)
