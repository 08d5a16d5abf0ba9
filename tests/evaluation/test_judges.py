from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from idpose_core.evaluation import kept
from idpose_core.evaluation.judges import (
    AzimuthJudge,
    IdentityJudge,
    JudgeNetwork,
    JudgeTraining,
    azimuth_error,
    judged,
    train_azimuth_judge,
    train_identity_judge,
)
from idpose_core.evaluation.kept import Judges, judges_of
from idpose_core.evaluation.pictures import full_precision
from idpose_core.evaluation.views import alternate_azimuths
from storage.objects import Store
from tests.evaluation.worlds import pointer, pointers

QUICK = JudgeTraining(steps=150, batch_size=24, width=8)


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Judges:
    store = Store(tmp_path_factory.mktemp("judges"))
    training, held = pointers(6), pointers(5, first=0.1)
    how = replace(QUICK, grey=0.3)
    return judges_of(store, training, held, 40, azimuth=how, identity=QUICK)


def test_angles_go_around() -> None:
    found = azimuth_error(
        np.array([350.0, 10.0, 0.0, 180.0, 90.0]), np.array([10.0, 350, 180, 0, 90])
    )
    assert found.tolist() == [20, 20, 180, 180, 0]


def test_they_know_pictures_that_they_have_not_seen(judges: Judges) -> None:
    found = judges.ceilings
    assert found["azimuth-error-median"].value < 12
    assert found["azimuth-hit"].value > 0.85
    assert found["identity-first"].value > 0.9
    assert judges.identity.chance == 1 / 5


def test_equal_pictures_are_judged_once(judges: Judges) -> None:
    class Counting(JudgeNetwork):
        seen = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen += len(x)
            return super().forward(x)

    network = Counting(2, 8)
    network.load_state_dict(judges.azimuth.network.state_dict())
    pictures = pointers(2).pictures[:5]
    found = AzimuthJudge(network.eval()).azimuth(pictures[[0, 3, 0, 4, 3]])
    assert network.seen == 3
    expected = judges.azimuth.azimuth(pictures)[[0, 3, 0, 4, 3]]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_another_colour_is_no_other_azimuth_and_another_azimuth_no_other_identity(
    judges: Judges,
) -> None:
    held = pointers(5, first=0.1)
    for true in (30.0, 210.0):
        hues = np.stack([pointer(hue, true) for hue in np.linspace(0, 0.9, 10)])
        assert np.median(azimuth_error(judges.azimuth.azimuth(hues), np.full(10, true))) < 15
    turned = held.pictures[held.identity == 2]
    assert (judges.identity.rank(turned, np.full(len(turned), 2)) == 1).mean() > 0.8


def test_a_picture_is_judged_alike_in_whatever_company(judges: Judges) -> None:
    pictures = pointers(5, first=0.1).pictures
    alone = [judges.azimuth.azimuth(picture[None])[0] for picture in pictures[:5]]
    np.testing.assert_allclose(judges.azimuth.azimuth(pictures)[:5], alone, atol=1e-3)


def test_the_same_seed_gives_the_same_judge() -> None:
    views = pointers(3)
    how = replace(QUICK, steps=4)
    one, two = (train_azimuth_judge(views, how).network.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = train_azimuth_judge(views, replace(how, seed=1)).network.state_dict()
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_training_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_identity_judge(pointers(2), replace(QUICK, steps=1))
    assert torch.equal(torch.rand(3), expected)


def test_ranks_count_ties_against_the_picture() -> None:
    network = JudgeNetwork(4, 4)
    torch.nn.init.zeros_(network.head.weight)
    network.head.bias.data = torch.tensor([3.0, 1.0, 1.0, 0.0])
    judge = IdentityJudge(network.eval(), ("a", "b", "c", "d"))
    picture = np.zeros((4, 64, 64, 3), np.uint8)
    assert judge.rank(picture, np.array([0, 1, 2, 3])).tolist() == [1, 3, 3, 4]


def test_cosine_and_sine_become_an_azimuth() -> None:
    network = JudgeNetwork(2, 4)
    torch.nn.init.zeros_(network.head.weight)
    picture = np.zeros((1, 64, 64, 3), np.uint8)
    for true in (0.0, 45.0, 200.0, 359.0):
        angle = np.radians(true)
        network.head.bias.data = torch.tensor([np.cos(angle), np.sin(angle)]).float() / 3
        found = AzimuthJudge(network.eval()).azimuth(picture)
        assert azimuth_error(found, np.array([true]))[0] < 1e-3


def test_figures_of_known_answers() -> None:
    error = np.array([0.0, 22.5, 23.0, 157.5, 180.0])
    rank = np.array([1, 1, 2, 3, 3])
    found = judged(error, rank, np.arange(5))
    values = {name: figure.value for name, figure in found.items()}
    assert values == {
        "azimuth-error-median": 23.0,
        "azimuth-hit": 0.4,
        "azimuth-opposite": 0.4,
        "identity-first": 0.4,
        "identity-rank": 2.0,
    }


def test_a_judge_is_trained_once(tmp_path: object) -> None:
    store = Store(str(tmp_path))
    training, held = pointers(3), pointers(3, first=0.2)
    how = replace(QUICK, steps=3)
    said: list[str] = []
    first = judges_of(store, training, held, 40, azimuth=how, identity=how, say=said.append)
    assert said and len(store.list("judges")) == 2
    said.clear()
    again = judges_of(store, training, held, 40, azimuth=how, identity=how, say=said.append)
    assert not said
    pictures = held.pictures
    assert np.array_equal(first.azimuth.azimuth(pictures), again.azimuth.azimuth(pictures))
    # Other pictures under the same source are other judges.
    changed = replace(training, pictures=255 - training.pictures)
    judges_of(store, changed, held, 40, azimuth=how, identity=how)
    assert len(store.list("judges")) == 3


def test_the_identity_judge_is_tested_on_azimuths_that_it_has_not_seen() -> None:
    views = pointers(2)
    learn, test = alternate_azimuths(views)
    assert sorted([*learn, *test]) == list(range(len(views)))
    assert set(views.azimuth_deg[learn]).isdisjoint(views.azimuth_deg[test])
    assert set(views.identity[test]) == {0, 1}


def test_views_that_teach_nothing_are_refused() -> None:
    views = pointers(2)
    with pytest.raises(ValueError, match="azimuth is known"):
        train_azimuth_judge(replace(views, azimuth_deg=np.full(len(views), np.nan)), QUICK)
    with pytest.raises(ValueError, match="two identities"):
        train_identity_judge(pointers(1), QUICK)
    with pytest.raises(ValueError, match="none of pointer-1"):
        train_identity_judge(views.select(views.identity == 0), QUICK)
    with pytest.raises(ValueError, match="one azimuth only"):
        alternate_azimuths(views.select(views.azimuth_deg == 0))
    with pytest.raises(ValueError, match="positive"):
        JudgeTraining(steps=0)


def test_what_a_gpu_trained_is_kept_under_another_key(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for device in ("cpu", "cuda:0", "cuda:1"):
        kept._kept(store, ["judge"], device, lambda: torch.nn.Linear(1, 1))
    assert len(store.list("judges")) == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_trains_and_judges_as_a_cpu_does() -> None:
    views, how = pointers(4), replace(QUICK, steps=3)
    with full_precision():
        one = train_azimuth_judge(views, how)
        two = train_azimuth_judge(views, how, device="cuda")
        far = np.abs(one.azimuth(views.pictures) - two.azimuth(views.pictures)) % 360
        assert np.minimum(far, 360 - far).max() < 1
        identity = train_identity_judge(views, how, device="cuda")
        ranks = identity.rank(views.pictures, views.identity)
    assert two.network.head.weight.device.type == "cuda" and ranks.min() >= 1
