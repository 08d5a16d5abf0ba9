"""What a batch must be, told before the first step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from idpose_core.methods.batches import TripletBatch, check_batch, derangement
from tests.methods.worlds import CLIPS, batch


def test_a_good_batch_passes() -> None:
    check_batch(batch(3), size=16, clips=CLIPS)


def test_the_augmentation_gives_such_batches() -> None:
    from idpose_core.training.augmentation import Batch

    names = {name for name in vars(TripletBatch) if not name.startswith("_")}
    assert names == {"id", "pose", "target", "mismatch", "clip", "weight", "video", "key"}
    assert names <= set(Batch.__dataclass_fields__)


@pytest.mark.parametrize("name", ["id", "pose", "target", "mismatch"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.01, -2.0])
def test_values_that_no_picture_has_are_refused(name: str, value: float) -> None:
    good = batch()
    getattr(good, name)[1, 2, 3, 4] = value
    with pytest.raises(ValueError, match=f"the {name} pictures hold"):
        check_batch(good, size=16, clips=CLIPS)


def test_other_shapes_are_refused() -> None:
    good = batch()
    with pytest.raises(ValueError, match="the id pictures are"):
        check_batch(good, size=32, clips=CLIPS)
    with pytest.raises(ValueError, match="the pose pictures are"):
        check_batch(replace(good, pose=good.pose[:1]), size=16, clips=CLIPS)
    with pytest.raises(ValueError, match="clips are"):
        check_batch(replace(good, clip=good.clip.int()), size=16, clips=CLIPS)
    with pytest.raises(ValueError, match="clips are"):
        check_batch(replace(good, clip=good.clip[:1]), size=16, clips=CLIPS)


@pytest.mark.parametrize("clip", [-1, CLIPS])
def test_only_training_clips_are_classes(clip: int) -> None:
    wrong = replace(batch(), clip=torch.tensor([0, clip]))
    with pytest.raises(ValueError, match=f"none of the {CLIPS} training clips"):
        check_batch(wrong, size=16, clips=CLIPS)
    check_batch(wrong, size=16, clips=0)  # where L_aux takes no part, nobody asks


def test_equal_frames_of_a_parked_car_are_a_batch() -> None:
    """Whether two moments are one is seen in the table: pixels may agree at any step of a run."""
    good = batch()
    good.target[1] = good.id[1]
    check_batch(good, size=16, clips=CLIPS)


@given(
    st.lists(st.integers(0, 5), min_size=2, max_size=40).filter(
        lambda codes: 2 * max(map(codes.count, codes)) <= len(codes)
    ),
    st.integers(0, 2**64 - 1),
)
def test_a_derangement_meets_another_video_in_every_row(codes: list[int], key: int) -> None:
    video = torch.tensor(codes)
    met = derangement(video, key)
    assert sorted(met.tolist()) == list(range(len(codes)))
    assert bool((video[met] != video).all())
    torch.testing.assert_close(derangement(video, key), met)


def test_rows_of_one_video_meet_each_other_only_where_they_must() -> None:
    met = derangement(torch.tensor([1, 1, 1, 0]), 0)
    assert sorted(met.tolist()) == [0, 1, 2, 3]
    assert not bool((met == torch.arange(4)).any()) and int(met[3]) != 3
    with pytest.raises(ValueError, match=r"raise training\.batch_size"):
        derangement(torch.tensor([1]), 0)
