"""Views become crops: the same columns, way back and masks, wherever the set comes from."""

from __future__ import annotations

import numpy as np
import pytest

from idpose_core.instances.cropping import CropTransform
from idpose_core.stages.crop import CropInstances, box_in_crop, decode_png
from idpose_core.stages.views import CropViews
from storage.reasons import Unusable
from tests.worlds.discs import RADIUS, SIDE, VIEWS, Discs, disc_at


def crops(name: str = "disc-1", *, size: int = SIDE, whole: bool = True, masks: bool = True):
    return CropViews(Discs(whole, masks), size, 1.25).compute({"object": name}, {})


def test_a_view_has_the_columns_of_a_crop_and_its_truth() -> None:
    rows = crops()
    assert [row["timestamp_ms"] for row in rows] == [1000 * i for i in range(VIEWS)]
    assert [row["azimuth_deg"] for row in rows] == [45.0 * i for i in range(VIEWS)]
    for row in rows:
        assert set(row) == set(CropViews.columns.names) > set(CropInstances.columns.names)
        assert (row["detector"], row["score"], row["elevation_deg"]) == ("drawn", 1.0, 10.0)
    assert len({row["crop_id"] for row in rows}) == VIEWS
    assert len({row["clip_id"] for row in rows}) == 1
    assert rows[0]["clip_id"] != crops("disc-2")[0]["clip_id"]


def test_a_whole_view_is_taken_as_it_is() -> None:
    expected = Discs(whole=True).views("disc-1", {})
    for row, view in zip(crops(), expected, strict=True):
        assert np.array_equal(decode_png(row["image"]["bytes"]), view.image)
        assert np.array_equal(decode_png(row["mask"]) > 0, view.mask)
        assert (row["transform"], row["frame_width"]) == ([0, 0, SIDE, SIDE], SIDE)


@pytest.mark.parametrize("size", [40, 64])
@pytest.mark.parametrize("whole", [True, False])
def test_box_and_mask_lie_where_the_transform_says(whole: bool, size: int) -> None:
    for row in crops(size=size, whole=whole):
        picture, mask = decode_png(row["image"]["bytes"]), decode_png(row["mask"]) > 0
        assert picture.shape == (size, size, 3)
        assert mask.shape == (size, size)
        transform = CropTransform(*(int(value) for value in row["transform"]))
        [[x, y]] = transform.to_crop(np.array([disc_at(row["azimuth_deg"])]))
        radius = RADIUS * size / transform.side
        rows, columns = np.mgrid[:size, :size] + 0.5
        distance = np.hypot(columns - x, rows - y)
        assert mask[distance < radius - 1].all()
        assert not mask[distance > radius + 1].any()
        xmin, xmax, ymin, ymax = box_in_crop(row)
        assert (xmin, xmax) == pytest.approx((x - radius, x + radius), abs=1)
        assert (ymin, ymax) == pytest.approx((y - radius, y + radius), abs=1)
        if not whole:
            assert transform.side == round(1.25 * 2 * RADIUS)
            assert (x, y) == pytest.approx((size / 2, size / 2), abs=1)


def test_without_masks_the_column_is_null() -> None:
    assert {row["mask"] for row in crops(masks=False)} == {None}


def test_what_an_object_cannot_give_is_a_status() -> None:
    with pytest.raises(Unusable, match="no such disc"):
        crops("disc-0")


def test_an_object_that_vanishes_at_the_size_of_the_crops_is_a_status() -> None:
    with pytest.raises(Unusable, match=r"too_small: view 0 "):
        crops(size=1)


def test_geometry_and_set_enter_the_key() -> None:
    def key(whole: bool, size: int, scale: float, row: dict[str, str]) -> str:
        return CropViews(Discs(whole), size, scale).key(row)

    row = {"object": "disc-1"}
    assert key(True, 64, 1.25, row) == key(True, 64, 1.5, row)  # no box, no scale
    assert len({
        key(True, 64, 1.25, row), key(True, 72, 1.25, row), key(False, 64, 1.25, row),
        key(False, 64, 1.5, row), key(True, 64, 1.25, {"object": "disc-2"}),
    }) == 5  # fmt: skip
