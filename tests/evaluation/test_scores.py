from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from idpose_core.evaluation.pictures import full_precision
from idpose_core.evaluation.scores import (
    ID_RESNET50,
    ID_SMALL,
    POSE_SMALL,
    ScoreNetwork,
    ScoreTraining,
    TripletRule,
    affinity_scores,
    azimuth_bin,
    masked,
    real_pairs,
    train_score,
    triplet_margin_loss,
)
from tests.evaluation.worlds import pointers

LOW, HIGH = 1 / (1 + np.e), 1 / (1 + 1 / np.e)


def noise(count: int, side: int = 64, seed: int = 0) -> np.ndarray:
    draws = np.random.default_rng(seed)
    return draws.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_equal_pictures_have_the_highest_score() -> None:
    torch.manual_seed(0)
    network = ScoreNetwork("small").eval()
    pictures = noise(5)
    (found,) = affinity_scores(network, [pictures], pictures)
    np.testing.assert_allclose(found, 0.7310586, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_all_scores_lie_within_their_bounds(seed: int) -> None:
    torch.manual_seed(seed)
    network = ScoreNetwork("small").eval()
    (found,) = affinity_scores(network, [noise(3, seed=seed)], noise(3, seed=seed + 1))
    assert (found >= LOW - 1e-9).all() and (found <= HIGH + 1e-9).all()


def test_opposite_features_have_the_lowest_score() -> None:
    class Sign(ScoreNetwork):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.normalize(x.mean((2, 3)), dim=1)

    white, black = np.full((1, 8, 8, 3), 255, np.uint8), np.zeros((1, 8, 8, 3), np.uint8)
    network = Sign("small").eval()
    (found,) = affinity_scores(network, [white], black)
    assert found[0] == pytest.approx(0.2689414, abs=1e-6)


def test_equal_pictures_are_seen_once_and_company_changes_nothing() -> None:
    class Counting(ScoreNetwork):
        seen = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen += len(x)
            return super().forward(x)

    torch.manual_seed(0)
    network = Counting("small").eval()
    own, other = noise(4, 16)[[0, 1, 0, 2]], noise(3, 16, seed=1)[[0, 1, 2, 2]]
    found = affinity_scores(network, [own, other], own, batch_size=4)
    assert network.seen == 6
    for together, one in zip(found, (own, other), strict=True):
        alone = [affinity_scores(network, [one[[i]]], own[[i]])[0][0] for i in range(4)]
        np.testing.assert_allclose(together, alone, atol=1e-6)


def test_the_loss_by_hand() -> None:
    unit = torch.eye(3)
    x1, x2, y = unit[[0, 0]], unit[[0, 1]], unit[[1, 0]]
    # 0 - 1 + 0.3 < 0, and 1 - 0 + 0.3.
    assert float(triplet_margin_loss(x1, x2, y, 0.3)) == pytest.approx(1.3 / 2)


def test_triplets_follow_their_rule() -> None:
    clip = np.repeat(np.arange(6), 4)
    video = clip // 2
    x1, x2, y = TripletRule.identity(clip, video).draw(300, np.random.default_rng(0))
    assert (clip[x1] == clip[x2]).all() and (x1 != x2).all() and (video[x1] != video[y]).all()
    azimuth, car = np.tile(np.arange(8) * 45.0, 3), np.repeat(np.arange(3), 8)
    x1, x2, y = TripletRule.pose(azimuth, car, bins=8).draw(300, np.random.default_rng(0))
    assert (azimuth[x1] == azimuth[x2]).all() and (car[x1] != car[x2]).all()
    assert (azimuth[x1] != azimuth[y]).all()


def test_bins_are_centred_on_the_front() -> None:
    angles = np.array([0.0, 11.2, 11.3, 348.7, 348.8, 359.9, 180.0])
    assert azimuth_bin(angles).tolist() == [0, 0, 1, 15, 0, 0, 8]


@pytest.fixture(scope="module")
def identity() -> ScoreNetwork:
    views = pointers(6)
    rule = TripletRule.identity(views.identity, views.identity)
    return train_score(views.pictures, rule, replace(ID_SMALL, steps=80, batch_size=12))


def test_the_id_score_knows_objects_that_it_was_not_trained_on(identity: ScoreNetwork) -> None:
    held = pointers(5, first=0.1)
    rule = TripletRule.identity(held.identity, held.identity)
    same, other = real_pairs(rule, 200)
    ceiling, floor = (
        affinity_scores(identity, [held.pictures[a]], held.pictures[b])[0].mean()
        for a, b in (same, other)
    )
    assert ceiling > 0.68 and floor < ceiling - 0.08


def test_the_pose_score_knows_poses_of_objects_that_it_was_not_trained_on() -> None:
    views, held = pointers(6), pointers(5, first=0.1)
    rule = TripletRule.pose(views.azimuth_deg, views.identity, bins=12)
    network = train_score(views.pictures, rule, replace(POSE_SMALL, steps=120, batch_size=12))
    same, other = real_pairs(TripletRule.pose(held.azimuth_deg, held.identity, bins=12), 200)
    ceiling, floor = (
        affinity_scores(network, [held.pictures[a]], held.pictures[b])[0].mean()
        for a, b in (same, other)
    )
    assert ceiling > floor + 0.06


def test_the_same_seed_gives_the_same_network() -> None:
    views = pointers(3)
    rule = TripletRule.identity(views.identity, views.identity)
    how = replace(ID_SMALL, steps=2, batch_size=4)
    one, two = (train_score(views.pictures, rule, how).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_resnet50_starts_from_the_given_weights() -> None:
    from torchvision.models import resnet50

    torch.manual_seed(0)
    published = resnet50(weights=None)
    network = ScoreNetwork("resnet50", published.state_dict()).eval()
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    published.eval().fc = torch.nn.Identity()
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    with torch.no_grad():
        expected = F.normalize(published(((x + 1) / 2 - mean) / std), dim=1)
        assert expected.shape == (1, 2048)
        torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="not the weights of ResNet-50"):
        ScoreNetwork("resnet50", {"fc.weight": torch.zeros(2)})


def test_a_masked_background_cannot_help(identity: ScoreNetwork) -> None:
    pictures = noise(2, 8)
    masks = np.zeros((2, 8, 8), bool)
    masks[:, 2:5, 2:5] = True
    found = masked(pictures, masks)
    assert np.array_equal(found[:, 2:5, 2:5], pictures[:, 2:5, 2:5])
    assert (found[:, 5:] == 127).all() and (found[:, :2] == 127).all()
    with pytest.raises(ValueError, match="with masks"):
        masked(pictures, masks[:1])


def test_what_cannot_be_trained_or_measured(identity: ScoreNetwork) -> None:
    lonely = TripletRule.identity(np.arange(3), np.arange(3))
    with pytest.raises(ValueError, match="no training triplets"):
        train_score(noise(3), lonely, replace(ID_SMALL, steps=1))
    with pytest.raises(ValueError, match="not pairs"):
        affinity_scores(identity, [noise(2)], noise(3))
    with pytest.raises(ValueError, match="margin"):
        ScoreTraining(margin=0)
    with pytest.raises(ValueError, match="known azimuths"):
        azimuth_bin(np.array([np.nan]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("how", [ID_SMALL, ID_RESNET50])
def test_a_gpu_trains_and_scores_as_a_cpu_does(how: ScoreTraining) -> None:
    views, how = pointers(3), replace(how, steps=2, batch_size=2)
    rule = TripletRule.identity(views.identity, views.video)
    with full_precision():
        found = [
            affinity_scores(
                train_score(views.pictures, rule, how, device=device),
                [views.pictures[::-1]], views.pictures, side=how.side,
            )[0]
            for device in ("cpu", "cuda")
        ]  # fmt: skip
    np.testing.assert_allclose(*found, atol=1e-3)
