"""Attrition: how many videos came how far."""

from __future__ import annotations

from typing import Any

import pytest

from idpose_core.reports import attrition
from storage.reasons import Status


def test_each_step_counts_those_that_came_so_far() -> None:
    counts = {"ok": 5, "too_few_crops": 4, "no_detection": 3, "decode_failed": 2, "private": 1}
    assert attrition.steps(counts) == {
        "requested": 15, "available": 14, "decoded": 12, "detected": 9, "kept": 5,
    }  # fmt: skip


@pytest.mark.parametrize("status", Status)
def test_every_reason_belongs_to_one_step(status: Status) -> None:
    groups = (attrition._NOT_DECODED, attrition._NOT_DETECTED, attrition._NOT_KEPT)
    assert sum(status in group for group in groups) <= 1
    found = list(attrition.steps({status.value: 1}).values())
    assert found == sorted(found, reverse=True)
    assert found[0] == 1


def test_clips_stand_beside_the_papers() -> None:
    def clip(split: str, status: str = "ok", name: str = "car") -> dict[str, Any]:
        return {"split": split, "status": status, "class_name": name}

    clips = [clip("train"), clip("train", "blurred"), clip("test"), clip("train", name="dog")]
    config = {"classes": ["car", "dog"], "source": {"kind": "youtube", "annotated": True}}
    assert attrition.clips_beside_the_paper(clips, config) == {
        "car": {"train": 1, "test": 1, "paper_train": 2233, "paper_test": 186}
    }
    for other in ({"kind": "youtube", "annotated": False}, {"kind": "rendered", "annotated": True}):
        assert attrition.clips_beside_the_paper(clips, {**config, "source": other}) == {}
