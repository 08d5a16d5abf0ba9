"""From the table of neighbours to triplets: options, trust, limits of clips, and the report."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from idpose_core.assembly.retrieval import RETRIEVAL, Embedded, retrieve
from idpose_core.assembly.sampling import Sample, draw_triplets, report
from idpose_core.config import TripletsConfig
from idpose_core.pose.space import fit_pose_space
from idpose_core.pose.triplets import BalanceRule
from idpose_core.pose.trust import FEATURES, TrustModel
from idpose_core.reports.sampling import sampling_lines

CLUSTERS = 2
NEAR = TrustModel(2.0, {**dict.fromkeys(FEATURES, 0.0), "angle": -12.0})
"""A placeholder of a model of trust: the nearer the directions, the surer."""


def world(read: bool = True) -> tuple[list[dict[str, Any]], pa.Table]:
    """A clip that turns by 20 degrees a second and one that stays at the front, eight crops each.

    Of four pose pictures p0 and p1 face front, p2 the left, p3 the rear. Each crop's neighbours are
    a wrong one, that faces the rear, then one that is right where there is a right one.
    """
    crops = []
    for clip, speed in (("s", 0.0), ("t", 20.0)):
        crops += [
            {"crop_id": f"{clip}{i}", "clip_id": clip, "video_id": clip,
             "timestamp_ms": 1000 * i, "azimuth_deg": speed * i}
            for i in range(8)
        ]  # fmt: skip
    crops += [
        {"crop_id": f"p{i}", "clip_id": f"p{i}", "video_id": f"p{i}", "timestamp_ms": 0,
         "azimuth_deg": azimuth}
        for i, azimuth in enumerate((0.0, 0.0, 90.0, 180.0))
    ]  # fmt: skip
    crops.sort(key=lambda crop: crop["crop_id"])

    def nearest(crop: dict[str, Any]) -> list[str]:
        if crop["crop_id"].startswith("p"):
            return []
        if crop["azimuth_deg"] > 45:
            return ["p3", "p2"]
        return ["p3", f"p{crop['timestamp_ms'] // 1000 % 2}"]

    rows = [
        {
            "crop_id": crop["crop_id"],
            "pose_cluster": int(crop["azimuth_deg"] > 60),
            "neighbours": nearest(crop),
            "similarities": [0.9, 0.8][: len(nearest(crop))],
            "trusts": [0.25, 0.75][: len(nearest(crop))] if read else None,
            "read_azimuth_deg": crop["azimuth_deg"] if read else None,
            "certainty": 1.0 if read else None,
        }
        for crop in crops
    ]
    return crops, pa.Table.from_pylist(rows, schema=RETRIEVAL)


def draw(
    crops: list[dict[str, Any]], retrieval: pa.Table, rows: int = 1000, **options: Any
) -> Sample:
    config = TripletsConfig(**{"top_k": 2, **options})
    return draw_triplets(crops, retrieval, config, clusters=CLUSTERS, rows=rows, seed=0)


def rows_of(sample: Sample, clip: str) -> int:
    return int(np.sum(sample.crops.clip_id[sample.triplets.id_index] == clip))


def test_the_sampler_goes_on_to_the_neighbour_that_agrees() -> None:
    crops, retrieval = world()
    sample = draw(crops, retrieval)
    poses = sample.crops.crop_id[sample.triplets.pose_index].tolist()
    targets = sample.triplets.target_index
    # At 140 degrees the pose picture at the rear is the one that agrees.
    far = sample.directions.true_deg[targets] >= 140
    assert set(np.asarray(poses)[far]) == {"p3"}
    assert set(np.asarray(poses)[~far]) <= {"p0", "p1", "p2"}
    expected = np.where(far, 0.25, 0.75).astype(np.float32)
    np.testing.assert_array_equal(sample.trust, expected)
    first = draw(*world(), top_k=2, balance="paper")
    assert first.triplets.similarity[0] == np.float32(0.9)


def test_a_clip_that_stays_still_gives_few_rows() -> None:
    crops, retrieval = world()
    sample = draw(crops, retrieval, clip_rows=3)
    # One view: of its 3 rows half may stand still, and all do. 140 degrees: 4 views, 3 * 4 * 4 = 48
    # of its 56 pairs, less the reuse cap, and of its 14 pairs that are 20 degrees apart only 1.
    assert rows_of(sample, "s") == 1
    assert 12 < rows_of(sample, "t") <= 48
    turned = sample.directions.true_deg[sample.triplets.id_index]
    turned = np.abs(turned - sample.directions.true_deg[sample.triplets.target_index])
    of_t = sample.crops.clip_id[sample.triplets.id_index] == "t"
    assert np.sum(of_t & (turned <= 30)) <= 1
    assert sample.left_out["turns_little"] >= 56 - 1 + 56 - 48
    assert rows_of(draw(crops, retrieval, clip_rows=None), "s") > 20
    unknown = [{**crop, "azimuth_deg": None} for crop in crops]
    assert rows_of(draw(unknown, retrieval, clip_rows=3), "s") == 1  # as read
    neither = draw(unknown, world(read=False)[1], clip_rows=6)
    assert rows_of(neither, "s") == 3  # one cluster
    assert rows_of(neither, "t") == 24  # two clusters


def test_pairs_below_the_least_trust_are_left_out_and_counted() -> None:
    crops, retrieval = world()
    for rule in ("target", "paper"):
        sample = draw(crops, retrieval, min_trust=0.5, balance=rule, clip_rows=None)
        assert (sample.trust >= 0.5).all()
    sample = draw(crops, retrieval, min_trust=0.5, clip_rows=None)
    # The target at 140 degrees: p3 agrees and is not trusted, p2 is 50 degrees away.
    assert sample.left_out["low_trust"] == 7
    nothing = draw(crops, retrieval, min_trust=0.9, clip_rows=None, balance="paper")
    assert len(nothing.triplets) == 0 and nothing.left_out["low_trust"] == 2 * 56
    unread = [draw(crops, world(read=False)[1], min_trust=least) for least in (0.5, None)]
    assert unread[0].triplets.triplet_id.tolist() == unread[1].triplets.triplet_id.tolist()
    empty = draw([], RETRIEVAL.empty_table(), min_trust=0.5)
    assert len(empty.triplets) == 0 and empty.left_out == {}


def both(crops: list[dict[str, Any]], retrieval: pa.Table) -> dict[BalanceRule, Sample]:
    rules: tuple[BalanceRule, ...] = ("target", "paper")
    return {rule: draw(crops, retrieval, balance=rule) for rule in rules}


def test_the_report_shows_for_both_rules_what_share_is_right() -> None:
    samples = both(*world())
    found = report(samples, "target", CLUSTERS, None)
    assert found["few"] and found["rows"] == len(samples["target"].triplets)
    target, paper = found["changes"]["target"], found["changes"]["paper"]
    assert target["by_truth"] == target["pose_by_truth"] == target["pose_right"] == target["rows"]
    assert target["pose_opposite"] == 0
    assert paper["pose_opposite"] > 0 and paper["pose_right"] < paper["rows"]
    assert found["missing_poses"] == {
        "by": "as read", "poses": ["rear", "rear-right", "right", "front-right"]
    }  # fmt: skip
    lines = list(sampling_lines("train", found))
    assert lines[0].startswith("train, triplets.balance=target: ")
    assert "by truth within 45 degrees in 100.0%, opposite in 0.0%" in lines[0]
    assert "paper; not used, to compare" in lines[1]
    assert any("no target shows these poses, as read: rear, rear-right" in line for line in lines)
    assert "so would a higher triplets.clip_rows" in lines[-1]
    assert not report(samples, "target", CLUSTERS, 3)["few"]


def test_changes_as_read_are_named_so() -> None:
    crops, retrieval = world()
    unknown = [{**crop, "azimuth_deg": None} for crop in crops]
    [line, *_] = sampling_lines("test", report(both(unknown, retrieval), "paper", CLUSTERS, 9))
    assert "as read" in line and "by truth" not in line
    [line, *_] = sampling_lines(
        "test", report(both(unknown, world(read=False)[1]), "paper", CLUSTERS, 9)
    )
    assert line.endswith("no direction is known or read, so that changes of pose cannot be told")


def embedded(read: bool) -> Embedded:
    """Thirty crops of ten clips around the compass; features of a mirror: front is like rear."""
    rng = np.random.default_rng(0)
    angle = np.radians(np.arange(30) * 12.0)
    shape = np.stack([np.cos(2 * angle), np.sin(2 * angle), 0.1 * np.cos(angle)], axis=1)
    features = shape @ rng.normal(size=(3, 20))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    readings = np.stack([np.cos(angle), np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    readings[7] = np.nan
    clips = [f"c{i % 10}" for i in range(30)]
    return Embedded(
        [f"{i:02d}" for i in range(30)], clips, clips, [None] * 30,
        [1000 * (i // 10) for i in range(30)], features.astype(np.float16),
        readings if read else None,
    )  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"top_k": 4}, {"top_k": 4, "mutual": True},
                                     {"top_k": 3, "min_similarity": 0.9}])  # fmt: skip
def test_what_is_read_is_kept_beside_the_neighbours_and_does_not_change_them(
    options: dict[str, Any],
) -> None:
    config = TripletsConfig(**options)
    space = fit_pose_space(
        embedded(True).features, embedded(True).crop_ids, clusters=3, dimensions=3, seed=0
    )
    plain = retrieve(space, embedded(False), config, NEAR)
    without_model = retrieve(space, embedded(True), config)
    full = retrieve(space, embedded(True), config, NEAR)
    for name in ("crop_id", "pose_cluster", "neighbours", "similarities"):
        assert plain[name].equals(full[name]) and plain[name].equals(without_model[name])
    assert plain["trusts"].null_count == plain["read_azimuth_deg"].null_count == 30
    assert without_model["trusts"].null_count == 30
    azimuth = full["read_azimuth_deg"].to_pylist()
    assert azimuth == [None if i == 7 else 12.0 * i for i in range(30)]
    assert full["certainty"].to_pylist() == [None if i == 7 else 1.0 for i in range(30)]
    for row in full.to_pylist():
        assert len(row["trusts"]) == len(row["neighbours"])
        for neighbour, trust in zip(row["neighbours"], row["trusts"], strict=True):
            known = azimuth[int(neighbour)] is not None and row["read_azimuth_deg"] is not None
            assert (trust is not None) == known
            if known:
                apart = abs((azimuth[int(neighbour)] - row["read_azimuth_deg"] + 180) % 360 - 180)
                expected = 1 / (1 + np.exp(-(2 - 12 * apart / 180)))
                assert trust == pytest.approx(expected, abs=1e-4)
                assert trust == np.float32(round(trust, 4))
