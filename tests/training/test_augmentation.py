"""Jitter and crops: known answers, what is shared, and draws that depend on nothing else."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import functional as reference

from idpose_core.training.augmentation import (
    Augmentation,
    Batch,
    Jitter,
    centre_crop,
    evaluation_batch,
    training_scale,
)
from idpose_core.training.data import RawBatch

SIZE = 16
SCALE = training_scale(SIZE)
ROLES = ("id", "pose", "target", "mismatch")
SEEDS = st.integers(0, 2**64 - 1)
STEPS = st.integers(0, 2**40)


def raw_batch(pictures: Tensor, step: int = 0, slots: list[int] | None = None) -> RawBatch:
    rows = pictures.shape[1]
    clip = torch.arange(rows)
    return RawBatch(step, np.array(slots or range(rows)), pictures, clip, clip + rows, clip)


def noise(rows: int, side: int = SCALE, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, rows, side, side, 3), dtype=torch.uint8, generator=generator)


def same_everywhere(rows: int) -> Tensor:
    """One picture in all three roles."""
    return noise(rows)[:1].expand(3, -1, -1, -1, -1)


def jitter(*blends: tuple[float, float, float]) -> Jitter:
    return Jitter(torch.tensor(blends)[:, :, None])


IDENTITY = (1.0, 0.0, 0.0)


def test_one_pixel_by_hand() -> None:
    """Brightness 0.5, then contrast 1.4 around 0.5, then saturation 0.6."""
    pixel = torch.tensor([0.8, 0.4, 0.2]).view(1, 3, 1, 1)
    got = jitter((0.5, 0, 0), (1.4, 0, 0.5), (0.6, 1, 0))(pixel).flatten()
    dark = torch.tensor([0.4, 0.2, 0.1])
    contrasted = 1.4 * dark - 0.4 * 0.5  # 0.36, 0.08, -0.06: clipped to 0
    contrasted[2] = 0
    grey = 0.2989 * 0.36 + 0.587 * 0.08
    assert torch.allclose(got, 0.6 * contrasted + 0.4 * grey, atol=1e-6)


@pytest.mark.parametrize("factor", [0.6, 0.93, 1.4])
def test_brightness_and_saturation_are_torchvisions(factor: float) -> None:
    pictures = noise(2)[0].permute(0, 3, 1, 2) / 255
    both = Jitter(torch.tensor([[[factor] * 2, [0.0] * 2, [0.0] * 2]]))
    assert torch.allclose(both(pictures), reference.adjust_brightness(pictures, factor), atol=1e-6)
    both = Jitter(torch.tensor([[[factor] * 2, [1.0] * 2, [0.0] * 2]]))
    assert torch.allclose(both(pictures), reference.adjust_saturation(pictures, factor), atol=1e-6)


def test_contrast_turns_around_one_grey_for_all() -> None:
    dark, light = torch.full((1, 3, 1, 1), 0.2), torch.full((1, 3, 1, 1), 0.7)
    contrast = jitter((0.6, 0, 0.5))
    assert torch.allclose(contrast(dark), torch.tensor(0.32))
    assert torch.allclose(contrast(light), torch.tensor(0.62))


def test_scale() -> None:
    """As method.md says: 143 for 128, 72 for 64."""
    assert (training_scale(128), training_scale(64)) == (143, 72)


@given(SEEDS, STEPS, st.integers(0, 1000))
def test_draws_stay_in_their_ranges(seed: int, step: int, slot: int) -> None:
    draws = Augmentation(64, seed).draw(step, np.array([slot]))
    for drawn in (draws.id_jitter, draws.pose_jitter):
        factor, own, level = drawn.blends[:, :, 0].T
        assert ((factor >= 0.6) & (factor <= 1.4)).all()
        assert sorted(zip(own.tolist(), level.tolist(), strict=True)) == [(0, 0), (0, 0.5), (1, 0)]
    for offset in (draws.id_offset, draws.offset):
        assert ((offset >= 0) & (offset <= 72 - 64)).all()


def test_draws_are_uniform() -> None:
    draws = Augmentation(64, seed=5).draw(0, np.arange(6000))
    factors = torch.cat([draws.id_jitter.blends[:, 0], draws.pose_jitter.blends[:, 0]]).flatten()
    assert abs(factors.mean() - 1) < 0.01
    assert abs(factors.std() - 0.8 / 12**0.5) < 0.01
    kinds = draws.id_jitter.blends[:, 1:].permute(2, 0, 1).flatten(1)
    _, counts = torch.unique(kinds, dim=0, return_counts=True)
    assert len(counts) == len(list(permutations(range(3))))
    assert (counts - 1000).abs().max() < 150  # 5 standard deviations
    for offsets in (draws.id_offset, draws.offset):
        _, counts = torch.unique(offsets, dim=0, return_counts=True)
        assert len(counts) == 81
        assert (counts - 6000 / 81).abs().max() < 45
    assert abs(draws.flip.float().mean() - 0.5) < 0.04
    together = torch.stack([draws.id_jitter.blends[0, 0], draws.pose_jitter.blends[0, 0]])
    assert torch.corrcoef(together)[0, 1].abs() < 0.06


def test_draws_known_answer() -> None:
    """Other draws would be another training."""
    draws = Augmentation(64, seed=11).draw(3, np.array([2]))
    assert draws.id_jitter.blends[:, :, 0].tolist() == KNOWN_JITTER
    assert (draws.id_offset.tolist(), draws.offset.tolist()) == KNOWN_OFFSETS


KNOWN_JITTER = [
    pytest.approx([0.7084664, 1.0, 0.0]),
    pytest.approx([0.8561730, 0.0, 0.0]),
    pytest.approx([0.8046132, 0.0, 0.5]),
]
KNOWN_OFFSETS = ([[8, 6]], [[1, 8]])


@settings(max_examples=20)
@given(SEEDS, STEPS, st.booleans())
def test_what_is_shared(seed: int, step: int, flip: bool) -> None:
    """With one picture in all roles, pictures differ only in what they do not share."""
    augmentation = Augmentation(SIZE, seed, flip=flip)
    batch = augmentation(raw_batch(same_everywhere(4), step))
    assert torch.equal(batch.mismatch, batch.target)  # jitter of ID, crop of target and pose
    plain = replace(augmentation, strength=0.0)(raw_batch(same_everywhere(4), step))
    assert torch.equal(plain.pose, plain.target)
    draws = augmentation.draw(step, np.arange(4))
    for name, drawn in (("id", draws.id_jitter), ("target", draws.id_jitter)):
        unit = (getattr(plain, name) + 1) / 2
        assert torch.allclose(getattr(batch, name), drawn(unit) * 2 - 1, atol=1e-5)
    assert torch.allclose(batch.pose, draws.pose_jitter((plain.pose + 1) / 2) * 2 - 1, atol=1e-5)


def test_crops_are_cut_where_the_draws_say() -> None:
    pictures = noise(5)
    augmentation = Augmentation(SIZE, seed=1, strength=0.0)
    batch = augmentation(raw_batch(pictures, step=9))
    draws = augmentation.draw(9, np.arange(5))
    for role, name in enumerate(("id", "pose", "target")):
        for row, (top, left) in enumerate(draws.id_offset if name == "id" else draws.offset):
            cut = pictures[role, row, top : top + SIZE, left : left + SIZE].permute(2, 0, 1)
            assert torch.allclose(getattr(batch, name)[row], cut / 127.5 - 1, atol=1e-6)


def test_a_flip_mirrors_all_pictures_of_a_row() -> None:
    augmentation = Augmentation(SIZE, seed=1, flip=True)
    flipped = augmentation.draw(0, np.arange(8)).flip
    assert 0 < flipped.sum() < 8
    with_flip, without = (
        augmentation(raw_batch(noise(8))),
        replace(augmentation, flip=False)(raw_batch(noise(8))),
    )
    for name in ROLES:
        for row in range(8):
            plain = getattr(without, name)[row]
            expected = plain.flip(2) if flipped[row] else plain
            assert torch.equal(getattr(with_flip, name)[row], expected)


@settings(max_examples=20)
@given(SEEDS, STEPS, st.permutations(range(6)))
def test_a_row_does_not_depend_on_its_company(seed: int, step: int, order: list[int]) -> None:
    augmentation = Augmentation(SIZE, seed)
    whole = augmentation(raw_batch(noise(6), step))
    part = augmentation(raw_batch(noise(6)[:, order[:4]], step, slots=order[:4]))
    for name in ROLES:
        assert torch.equal(getattr(part, name), getattr(whole, name)[order[:4]])


@pytest.mark.parametrize("side", [20, SCALE, 40])
def test_ranges_and_shapes(side: int) -> None:
    pictures = noise(3, side)
    for batch in (
        Augmentation(SIZE, 0)(raw_batch(pictures)),
        evaluation_batch(raw_batch(pictures), SIZE),
    ):
        check_batch(batch, rows=3)


def check_batch(batch: Batch, rows: int) -> None:
    for name in ROLES:
        picture = getattr(batch, name)
        assert (picture.shape, picture.dtype) == ((rows, 3, SIZE, SIZE), torch.float32)
        assert picture.min() >= -1
        assert picture.max() <= 1
    assert batch.clip.tolist() == list(range(rows))
    assert batch.pose_clip.tolist() == list(range(rows, 2 * rows))


def test_evaluation_is_the_middle_without_jitter() -> None:
    pictures = noise(2)
    margin = (SCALE - SIZE) // 2
    middle = pictures[0, :, margin : margin + SIZE, margin : margin + SIZE].permute(0, 3, 1, 2)
    assert torch.allclose(centre_crop(pictures[0], SIZE), middle / 127.5 - 1, atol=1e-6)
    batch = evaluation_batch(raw_batch(pictures), SIZE)
    assert torch.equal(batch.id, centre_crop(pictures[0], SIZE))
    assert torch.equal(batch.mismatch, batch.pose)


def test_resizing_keeps_a_mean_and_does_not_alias() -> None:
    """A checkerboard twice as fine as the output is grey."""
    side = 2 * SCALE
    board = torch.tensor([[0, 255], [255, 0]], dtype=torch.uint8).repeat(SCALE, SCALE)
    pictures = board[None, :, :, None].expand(1, side, side, 3)
    assert centre_crop(pictures, SIZE).abs().max() < 0.02


@pytest.mark.parametrize("wrong", [noise(2).float(), noise(2)[0], noise(2)[..., :2]])
def test_other_pictures_are_refused(wrong: Tensor) -> None:
    with pytest.raises(ValueError, match="pictures are uint8"):
        Augmentation(SIZE, 0)(RawBatch(0, np.arange(2), wrong, *torch.zeros(3, 2)))


@pytest.mark.parametrize("arguments", [(0, 1), (16, 1, 1.1), (16, 1, -0.1)])
def test_wrong_settings_are_refused(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="not"):
        Augmentation(*arguments)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same() -> None:
    augmentation = Augmentation(SIZE, seed=2, flip=True)
    here, there = (augmentation(raw_batch(noise(4, 40)), device) for device in ("cpu", "cuda"))
    for name in ROLES:
        assert torch.allclose(getattr(here, name), getattr(there, name).cpu(), atol=1e-5)
