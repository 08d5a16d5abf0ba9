from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from idpose_core.evaluation.judges import JudgeTraining, azimuth_error
from idpose_core.evaluation.pictures import at_size, to_network
from idpose_core.evaluation.results import Measurement, to_json
from idpose_core.evaluation.swap_report import SwapReport, report_swaps
from idpose_core.evaluation.swaps import (
    CONTROLS,
    choose_swaps,
    control_swaps,
    draw_swaps,
    generate_swaps,
)
from storage.objects import Store
from tests.evaluation.worlds import STEPS, pointer, pointers

SIZE = 40
QUICK = JudgeTraining(steps=150, batch_size=24, width=8)
HELD = pointers(6, first=0.08, source="pointers@1:test")


def test_lines_and_columns_are_of_disjoint_objects_and_all_around() -> None:
    swaps = choose_swaps(HELD, SIZE, ids=3, poses=STEPS, seed=4)
    own, others = HELD.identity[swaps.ids], HELD.identity[swaps.poses]
    assert len(set(own)) == 3 and not set(own) & set(others)
    assert sorted(HELD.azimuth_deg[swaps.poses]) == [30.0 * step for step in range(STEPS)]
    assert np.array_equal(swaps.pictures, at_size(HELD.pictures, SIZE))
    again = choose_swaps(HELD, SIZE, ids=3, poses=STEPS, seed=4)
    assert np.array_equal(swaps.ids, again.ids) and np.array_equal(swaps.poses, again.poses)


def test_the_oracle_is_the_own_objects_frame_nearest_to_the_pose() -> None:
    swaps = choose_swaps(HELD, SIZE, ids=3, poses=5)
    for line, id_row in enumerate(swaps.ids):
        for column, pose_row in enumerate(swaps.poses):
            oracle = swaps.oracle[line, column]
            own = np.flatnonzero(HELD.identity == HELD.identity[id_row])
            own = own[own != id_row]
            far = azimuth_error(HELD.azimuth_deg[own], HELD.azimuth_deg[[pose_row] * len(own)])
            assert oracle in own
            assert (
                azimuth_error(HELD.azimuth_deg[[oracle]], HELD.azimuth_deg[[pose_row]])[0]
                == far.min()
            )


def test_elevation_decides_between_equal_azimuths() -> None:
    twice = pointers(2)
    high = replace(
        twice,
        pictures=np.concatenate([twice.pictures] * 2),
        identity=np.tile(twice.identity, 2),
        video=np.tile(twice.video, 2),
        azimuth_deg=np.tile(twice.azimuth_deg, 2),
        elevation_deg=np.repeat([0.0, 20.0], len(twice)),
    )
    swaps = choose_swaps(high, SIZE, ids=1, poses=STEPS)
    same = high.azimuth_deg[swaps.oracle[0]] == high.azimuth_deg[swaps.poses]
    level = high.elevation_deg[swaps.oracle[0]] == high.elevation_deg[swaps.poses]
    assert same.sum() >= STEPS - 1  # the ID picture itself is no oracle
    assert level[same].sum() >= STEPS - 1


def test_controls_and_matrices() -> None:
    swaps = choose_swaps(HELD, SIZE, ids=2, poses=3)
    controls = dict(control_swaps(swaps))
    assert tuple(controls) == CONTROLS
    copies = generate_swaps(swaps, lambda i, p: i), generate_swaps(swaps, lambda i, p: p)
    assert np.array_equal(controls["copy-id"], copies[0])
    assert np.array_equal(controls["copy-pose"], copies[1])
    assert np.array_equal(controls["oracle-frame"][1, 2], swaps.pictures[swaps.oracle[1, 2]])
    mean = swaps.pictures.astype(float).mean(0)
    assert np.abs(controls["mean-picture"][0, 0] - mean).max() <= 0.5
    sheet = draw_swaps(swaps, controls["copy-id"])
    assert sheet.shape == (3 * SIZE + 2 * 4, 4 * SIZE + 3 * 4, 3)
    assert np.array_equal(sheet[-SIZE:, -SIZE:], swaps.pictures[swaps.ids[1]])
    assert np.array_equal(sheet[:SIZE, -SIZE:], swaps.pictures[swaps.poses[2]])


def perfect(ids: torch.Tensor, poses: torch.Tensor) -> torch.Tensor:
    """Paints the pose picture's shape in the ID picture's colour: what a generator should do."""
    shape = ((poses - poses[:, :, :1, :1]).abs().sum(1, keepdim=True) / 1.4).clamp(0, 1)
    ground = ids[:, :, :1, :1]
    far = (ids - ground).abs().sum(1)
    place = far.flatten(1).argmax(1)
    colour = torch.stack([one.flatten(1)[:, at] for one, at in zip(ids, place, strict=True)])
    return ground + shape * (colour[:, :, None, None] - ground)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> SwapReport:
    store = Store(tmp_path_factory.mktemp("swaps"))
    measurement = Measurement("pointers", "1", None, 0, "none", "pytest")
    return report_swaps(
        store, {"perfect": perfect}, pointers(7), HELD, measurement, size=SIZE, ids=3, poses=12,
        azimuth=replace(QUICK, grey=0.3), identity=QUICK,
    )  # fmt: skip


def test_a_perfect_generator_is_told_from_every_control(report: SwapReport) -> None:
    found = {(row["method"], row["metric"]): row["value"] for row in report.rows}
    assert found["perfect", "azimuth-error-median"] < 20
    assert found["perfect", "identity-first"] > 0.8
    assert found["copy-id", "identity-first"] > 0.8
    assert found["copy-id", "azimuth-error-median"] > 45
    assert found["copy-pose", "azimuth-error-median"] < 20
    assert found["copy-pose", "identity-first"] < 0.3
    assert found["mean-picture", "azimuth-error-median"] > 45
    assert found["oracle-frame", "azimuth-hit"] > 0.8
    assert found["oracle-frame", "identity-first"] > 0.8
    assert found["oracle-frame", "distance-to-oracle"] == 0
    assert found["perfect", "distance-to-oracle"] < 0.5 * found["copy-pose", "distance-to-oracle"]
    assert found["real pairs (ceiling)", "azimuth-hit"] > 0.8


def test_rows_have_the_form_of_the_results(report: SwapReport) -> None:
    rows = json.loads(to_json([*report.rows]))["rows"]
    documented = Path(__file__).parents[2] / "docs/results/retrieval-rendered.json"
    wanted = set(json.loads(documented.read_text("utf-8"))["rows"][0])
    assert all(wanted <= set(row) for row in rows)
    assert {row["identity_chance"] for row in rows} == {1 / 6}
    assert set(report.sheets) == {"perfect", *CONTROLS}


def test_wrong_sets_are_refused() -> None:
    with pytest.raises(ValueError, match="two objects"):
        choose_swaps(pointers(1), SIZE)
    with pytest.raises(ValueError, match="lines and columns"):
        choose_swaps(HELD, SIZE, poses=0)


def test_the_perfect_generator_of_these_tests_is_one() -> None:
    ids = to_network(np.stack([pointer(0.0, 0), pointer(0.3, 90)]))
    poses = to_network(np.stack([pointer(0.6, 120), pointer(0.9, 240)]))
    made = perfect(ids, poses)
    wanted = to_network(np.stack([pointer(0.0, 120), pointer(0.3, 240)]))
    assert (made - wanted).abs().mean() < 0.25 * (poses - wanted).abs().mean()
