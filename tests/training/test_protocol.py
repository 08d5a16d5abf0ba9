"""The pair protocol over 1,000 batches, and that breaking it is noticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from idpose_core.training import protocol
from idpose_core.training.augmentation import Augmentation, Batch, training_scale
from idpose_core.training.data import TripletData
from idpose_core.training.protocol import OWN_CROP, OWN_JITTER, ProtocolError, log_pairs
from idpose_core.training.sampling import Sampler
from storage.objects import Store
from tests.training.worlds import commit_world

SIZE = 16


@pytest.fixture(scope="module")
def data() -> TripletData:
    store = Store("memory://protocol")
    commit_world(store)
    return TripletData(store, "cars")


def test_a_thousand_batches(data: TripletData) -> None:
    batch = 4
    sampler = Sampler(len(data), batch, seed=1)
    logs = list(log_pairs(data, sampler, Augmentation(SIZE, seed=1), 0, 1000))
    assert [log.step for log in logs] == list(range(1000))
    for log in logs:
        for id_crop, target_crop in log.positives:  # train-v0-c1-2: video, clip, moment
            assert id_crop.rsplit("-", 1)[0] == target_crop.rsplit("-", 1)[0]
            assert id_crop != target_crop
        for id_crop, pose_crop in log.mismatches:
            assert id_crop.split("-")[1] != pose_crop.split("-")[1]
    rows = 1000 * batch
    room = (training_scale(SIZE) - SIZE + 1) ** 2
    by_chance = sum(len(log.crop[OWN_CROP[0]]) for log in logs)
    assert abs(by_chance - rows / room) < 5 * (rows / room) ** 0.5
    assert sum(len(log.jitter[OWN_JITTER[0]]) for log in logs) == 0


class OwnJitterForTarget(Augmentation):
    """Trap 16 of method.md."""

    def __call__(self, raw, device="cpu") -> Batch:  # type: ignore[no-untyped-def]
        batch, other = (
            super().__call__(raw, device),
            super().__call__(replace(raw, step=raw.step + 1)),
        )
        return replace(batch, target=other.target)


class OwnCropForPose(Augmentation):
    """Also trap 16."""

    def __call__(self, raw, device="cpu") -> Batch:  # type: ignore[no-untyped-def]
        batch, other = (
            super().__call__(raw, device),
            super().__call__(replace(raw, step=raw.step + 1)),
        )
        return replace(batch, pose=other.pose)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (OwnJitterForTarget, r"\('id', 'target'\) do not share their jitter"),
        (OwnCropForPose, r"\('target', 'pose'\) do not share their crop"),
    ],
)
def test_what_is_not_shared_is_noticed(
    data: TripletData, wrong: Callable[..., Augmentation], message: str
) -> None:
    with pytest.raises(ProtocolError, match=message):
        list(log_pairs(data, Sampler(len(data), 8, seed=1), wrong(SIZE, seed=1), 0, 3))


@pytest.mark.parametrize(
    ("column", "source", "message"),
    [
        ("target_ms", "id_ms", "ID and target are one"),
        ("target_crop", "id_crop", "ID and target are one"),
        ("pose_video_id", "video_id", "mismatch of one video"),
    ],
)
def test_wrong_pairs_are_noticed(
    data: TripletData, monkeypatch: pytest.MonkeyPatch, column: str, source: str, message: str
) -> None:
    table = data.triplets
    wrong = table.set_column(table.schema.get_field_index(column), column, table[source])
    monkeypatch.setattr(data, "triplets", wrong)
    with pytest.raises(ProtocolError, match=message):
        list(log_pairs(data, Sampler(len(data), 8, seed=1), Augmentation(SIZE, seed=1), 0, 1))


def test_charts_of_large_pictures_show_their_place() -> None:
    augmentation = Augmentation(256, seed=0)
    _, crop = protocol._observe(augmentation, 0, np.arange(2))
    assert torch.equal(crop["target"], crop["pose"])
    assert not torch.equal(crop["id"], crop["target"])
