"""Evaluation of generators whose behaviour is known, on a frozen set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from idpose_core.evaluation.evaluate import (
    CEILING,
    FLOOR,
    Contender,
    Evaluation,
    Instruments,
    chroma_errors,
    control_outputs,
    evaluate,
)
from idpose_core.evaluation.features import FeatureNetwork
from idpose_core.evaluation.frechet import frechet_distance, gaussian
from idpose_core.evaluation.instruments import EvaluationError, load_instruments
from idpose_core.evaluation.judges import AZIMUTH, IDENTITY
from idpose_core.evaluation.kept import judges_of, score_network
from idpose_core.evaluation.lpips import Lpips, lpips_distances
from idpose_core.evaluation.pictures import to_bytes, to_network
from idpose_core.evaluation.results import Measurement
from idpose_core.evaluation.roles import RoleError
from idpose_core.evaluation.scores import ID_SMALL, ScoreNetwork
from idpose_core.evaluation.sets import EvaluationSet, freeze_set, read_set
from idpose_core.evaluation.swaps import CONTROLS
from idpose_core.evaluation.truth import truth_triplets
from idpose_core.evaluation.views import read_views
from idpose_core.settings import ConfigError
from idpose_core.training.samples import Generate
from storage.datasets import read_manifest, read_table
from storage.objects import Store
from tests.evaluation.test_sets import SIZE, world
from tests.evaluation.test_swaps import perfect

OF_DATA = Measurement("cars", "1", None, 0, "none", "pytest")
ALWAYS = {"pixel-l1", "chroma-error-whole-picture"}


def contender(generate: Generate, model: str = "m@1") -> Contender:
    return Contender(generate, replace(OF_DATA, model=model))


class Means(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


class Pixels(nn.Module):
    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [torch.cat([x, torch.ones_like(x[:, :1])], 1)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str]:
    store, dataset = world(tmp_path_factory.mktemp("root"), test_videos=6)
    manifest = read_manifest(store, dataset)
    crops, clips = (read_table(store, manifest, name, split="test") for name in ("crops", "clips"))
    triplets = truth_triplets(crops, clips, count=120)
    freeze_set(store, "pointers", manifest, "test", triplets, 0)
    return store, dataset


@pytest.fixture(scope="module")
def frozen(root: tuple[Store, str]) -> EvaluationSet:
    return read_set(root[0], "pointers", SIZE)


@pytest.fixture(scope="module")
def found(root: tuple[Store, str], frozen: EvaluationSet) -> Evaluation:
    store, dataset = root
    training = read_views(store, dataset, "train")
    quick = {"steps": 60, "batch_size": 12}
    judges = judges_of(
        store, training, frozen.views, SIZE,
        azimuth=replace(AZIMUTH, width=8, **quick), identity=replace(IDENTITY, width=8, **quick),
    )  # fmt: skip
    score = score_network(store, "id", training, replace(ID_SMALL, steps=40, batch_size=8))
    assert judges.suffix == "-60-steps"
    instruments = Instruments(
        lpips={"lpips-pixels": Lpips(Pixels(), [torch.ones(4)])},
        features=(FeatureNetwork("means", Means(), 3),),
        scores={"id-score-small": (score, 64)},
        judges=judges,
    )
    return evaluate({"perfect": contender(perfect)}, frozen, instruments, OF_DATA)


def values(found: Evaluation) -> dict[tuple[str, str], float]:
    return {(row["method"], row["metric"]): row["value"] for row in found.rows}


def test_a_perfect_generator_beats_every_control(found: Evaluation) -> None:
    value = values(found)
    for metric in ("pixel-l1", "lpips-pixels", "copy-index-id-lpips-pixels"):
        for control in ("copy-id", "copy-pose", "mean-picture"):
            assert value["perfect", metric] < value[control, metric], (metric, control)
    assert value["perfect", "id-score-small"] > value["copy-pose", "id-score-small"]
    assert value[CEILING, "id-score-small"] > value[FLOOR, "id-score-small"]
    assert value["copy-id", "id-score-small"] == pytest.approx(0.731059, abs=1e-5)


def test_paired_differences_are_the_differences(found: Evaluation) -> None:
    value = values(found)
    for metric in ("pixel-l1", "lpips-pixels", "id-score-small"):
        for control in ("copy-id", "copy-pose", "mean-picture", "oracle-frame"):
            expected = value["perfect", metric] - value[control, metric]
            assert value[f"perfect - {control}", metric] == pytest.approx(expected, abs=3e-6)


def test_two_generators_are_compared_on_the_same_triplets(frozen: EvaluationSet) -> None:
    copies = contender(lambda i, p: p, "copies@2")
    found = evaluate(
        {"perfect": contender(perfect), "copies": copies}, frozen, Instruments(), OF_DATA
    )
    rows = {row["method"]: row for row in found.rows if row["metric"] == "pixel-l1"}
    assert rows["copies"]["value"] == rows["copy-pose"]["value"]
    difference = rows["perfect - copies"]
    assert difference["ci_high"] < 0
    assert (difference["model"], difference["against"]) == ("m@1", "copies@2")
    assert rows["perfect - copy-id"]["against"] is None
    assert rows["copies"]["model"] == "copies@2" and "against" not in rows["copies"]
    assert rows["copies"]["identities"] == 6  # videos: which objects they show is not known
    assert set(found.outputs) == {"perfect", "copies"}


def test_everything_is_compared_with_its_interval(found: Evaluation) -> None:
    """Not only what is a mean over triplets: also KID, precision, and what the judges say."""
    value, rows = values(found), {(row["method"], row["metric"]): row for row in found.rows}
    for metric in (
        "kid-means", "precision-means-k3", "recall-means-k3", "azimuth-hit-60-steps",
        "azimuth-opposite-60-steps", "identity-first-60-steps", "identity-rank-60-steps",
    ):  # fmt: skip
        for control in CONTROLS:
            row = rows[f"perfect - {control}", metric]
            expected = value["perfect", metric] - value[control, metric]
            assert row["value"] == pytest.approx(expected, abs=3e-6), metric
            assert row["ci_low"] <= row["value"] <= row["ci_high"]
    assert not [name for name in value if "azimuth-error-median" in name[1] and " - " in name[0]]


def test_where_all_rows_agree_the_rate_is_not_sure(found: Evaluation) -> None:
    """Six videos: nothing is said of what one in three of them might do."""
    rows = {(row["method"], row["metric"]): row for row in found.rows}
    exact = rows["copy-id", "precision-means-k3"]
    assert exact["value"] == 1 and exact["ci_high"] == 1
    assert exact["ci_low"] == pytest.approx(0.025 ** (1 / 6), abs=1e-6)


def test_two_triplets_that_share_an_object_give_no_kid(frozen: EvaluationSet) -> None:
    one = frozen.objects[:, 0]
    shared = np.flatnonzero((frozen.objects == one[0]).any(0))
    few = replace(frozen, rows=frozen.rows[:, shared], triplets=frozen.triplets.take(shared))
    means = Instruments(features=(FeatureNetwork("means", Means(), 3),))
    said: list[str] = []
    rows = evaluate({"perfect": contender(perfect)}, few, means, OF_DATA, say=said.append).rows
    assert "fd-means" in {row["metric"] for row in rows}
    assert "kid-means" not in {row["metric"] for row in rows}
    assert "KID: left out, every two triplets share an object" in said


def test_a_single_triplet_is_measured_as_far_as_it_can_be(frozen: EvaluationSet) -> None:
    single = replace(frozen, rows=frozen.rows[:, :1], triplets=frozen.triplets.slice(0, 1))
    means = Instruments(features=(FeatureNetwork("means", Means(), 3),))
    rows = evaluate({"perfect": contender(perfect)}, single, means, OF_DATA).rows
    assert {row["metric"] for row in rows} == ALWAYS


def test_controls_alone(frozen: EvaluationSet) -> None:
    rows = evaluate({}, frozen, Instruments(), OF_DATA).rows
    assert {row["method"] for row in rows} == set(CONTROLS)
    assert all(row["model"] is None for row in rows)


def test_few_samples_are_a_warning_in_the_result_itself(frozen: EvaluationSet) -> None:
    class Wide(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, :100]

    wide = Instruments(features=(FeatureNetwork("wide", Wide(), 100),))
    rows = evaluate({"perfect": contender(perfect)}, frozen, wide, OF_DATA).rows
    warnings = {row["method"]: row.get("warning") for row in rows if row["metric"] == "fd-wide"}
    assert "different samples for 100 dimensions" in str(warnings["perfect"])
    assert "1 different samples for 100 dimensions" in str(warnings["mean-picture"])
    assert all(warnings.values())


def test_the_distance_of_sets_is_that_of_generated_and_targets(
    found: Evaluation, frozen: EvaluationSet
) -> None:
    pose, target = (
        gaussian(frozen.role(role).reshape(len(frozen), -1, 3).mean(1) / 255)
        for role in ("pose", "target")
    )
    expected = frechet_distance(pose, target)
    assert values(found)["copy-pose", "fd-means"] == pytest.approx(expected, abs=1e-6)


def test_pixels_by_hand(found: Evaluation, frozen: EvaluationSet) -> None:
    target, pose = frozen.role("target").astype(float), frozen.role("pose").astype(float)
    expected = np.abs(pose - target).mean() / 127.5
    assert values(found)["copy-pose", "pixel-l1"] == pytest.approx(expected, abs=1e-5)


def test_the_oracle_is_the_nearest_other_frame_of_the_clip(frozen: EvaluationSet) -> None:
    oracle = control_outputs(frozen)["oracle-frame"]
    views = frozen.views
    for place in range(len(frozen)):
        target = frozen.rows[2][place]
        same = [
            row for row in range(len(views))
            if np.array_equal(frozen.pictures[row], oracle[place])
            and views.identity[row] == views.identity[target]
        ]  # fmt: skip
        assert same and target not in same
        turn = (views.azimuth_deg[same] - views.azimuth_deg[target]) % 360
        assert np.minimum(turn, 360 - turn).min() == 90


def test_the_oracle_prefers_a_small_turn_to_another_height(frozen: EvaluationSet) -> None:
    """A view of the same azimuth but 120 degrees lower is no near one."""
    views = frozen.views
    height = np.where(views.azimuth_deg == 0, -60.0, 60.0)
    azimuth = np.where(views.azimuth_deg == 0, 90.0, views.azimuth_deg)
    tilted = replace(frozen, views=replace(views, azimuth_deg=azimuth, elevation_deg=height))
    oracle = control_outputs(tilted)["oracle-frame"]
    checked = 0
    for place, target in enumerate(frozen.rows[2]):
        if views.azimuth_deg[target] == 90:
            raised = (views.azimuth_deg == 0) & (views.identity == views.identity[target])
            assert not (frozen.pictures[raised] == oracle[place]).all((1, 2, 3)).any()
            checked += 1
    assert checked


def test_rows_are_complete(found: Evaluation, frozen: EvaluationSet) -> None:
    assert len({(row["method"], row["metric"]) for row in found.rows}) == len(found.rows)
    assert {row["n"] for row in found.rows if row["metric"] == "pixel-l1"} == {len(frozen)}
    assert all(row["command"] == "pytest" for row in found.rows)
    for row in found.rows:  # what belongs to the data belongs to no model
        assert row["model"] == ("m@1" if row["method"].startswith("perfect") else None)
    assert set(found.seconds) == {
        "generate", "pixels", "lpips", "features", "scores", "judges", "swap score"
    }  # fmt: skip


def test_a_model_of_another_size_is_refused(frozen: EvaluationSet) -> None:
    with pytest.raises(ValueError, match="small gives"):
        small = contender(lambda i, p: i[..., ::2, ::2])
        evaluate({"small": small}, frozen, Instruments(), OF_DATA)


def nothing(name: str) -> Path:
    raise ValueError(f"the weights of {name} are not here: run `idpose weights fetch {name}`")


def test_what_is_not_possible_is_left_out_with_its_reason(
    root: tuple[Store, str], frozen: EvaluationSet
) -> None:
    used = {"retrieval": ["rotnet"], "training loss": ["st-vgg16"]}
    instruments, left_out = load_instruments(root[0], frozen, [used], nothing, training_steps=2)
    assert "idpose weights fetch alexnet" in left_out["lpips-alex-v0.1"]
    assert "serves as training loss and as metric" in left_out["lpips-st-vgg16"]
    assert "inception" in left_out and "id-score-resnet50" in left_out
    assert set(instruments.scores) == {"id-score-small-2-steps", "pose-score-small-2-steps"}
    assert instruments.judges is not None
    assert "seen all around" in left_out["swap-score"] and not instruments.swap_score


def test_what_was_asked_for_by_name_must_be_possible(
    root: tuple[Store, str], frozen: EvaluationSet
) -> None:
    used = {"retrieval": ["rotnet"], "training loss": ["st-vgg16"]}
    with pytest.raises(RoleError, match="st-vgg16 serves as training loss"):
        load_instruments(root[0], frozen, [used], nothing, asked=["lpips-st-vgg16"])
    with pytest.raises(EvaluationError, match="idpose weights fetch inception-fid"):
        load_instruments(root[0], frozen, [used], nothing, asked=["inception"])
    with pytest.raises(ConfigError, match="the nearest is 'swap-score'"):
        load_instruments(root[0], frozen, [used], nothing, asked=["swapscore"])
    only, left_out = load_instruments(
        root[0], frozen, [used], nothing, asked=["id-score-small"], training_steps=1
    )
    assert list(only.scores) == ["id-score-small-1-steps"] and only.judges is None and not left_out


def test_without_azimuths_no_pose_is_measured(
    root: tuple[Store, str], frozen: EvaluationSet
) -> None:
    blind = replace(
        frozen, views=replace(frozen.views, azimuth_deg=np.full(len(frozen.views), np.nan))
    )
    instruments, left_out = load_instruments(root[0], blind, [], nothing, training_steps=2)
    for name in ("judges", "swap-score", "pose-score-small"):
        assert "unknown azimuth" in left_out[name]
    assert set(instruments.scores) == {"id-score-small-2-steps"}
    rows = evaluate({"copy": contender(lambda i, p: i)}, blind, Instruments(), OF_DATA).rows
    assert {row["metric"] for row in rows} == ALWAYS


def test_poses_of_a_set_without_azimuths_are_scored_by_a_network_learned_elsewhere(
    root: tuple[Store, str], frozen: EvaluationSet
) -> None:
    store, dataset = root
    blind = replace(
        frozen, views=replace(frozen.views, azimuth_deg=np.full(len(frozen.views), np.nan))
    )
    instruments, left_out = load_instruments(
        store, blind, [], nothing, pose_data="cars", training_steps=2
    )
    elsewhere = f"pose-score-small-from-{dataset}-2-steps"
    assert set(instruments.scores) == {"id-score-small-2-steps", elsewhere}
    assert {"judges", "swap-score"} <= set(left_out)
    rows = evaluate({"copy": contender(lambda i, p: p)}, blind, instruments, OF_DATA).rows
    found = {(row["method"], row["metric"]): row["value"] for row in rows}
    assert found["copy", elsewhere] == pytest.approx(0.731059, abs=1e-5)


class PixelScore(ScoreNetwork):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(x.flatten(1), dim=1)


def test_a_masked_background_does_not_count(frozen: EvaluationSet) -> None:
    """Outputs that differ from the target where no object is have its score."""
    score = PixelScore("small").eval()
    middle = np.zeros((len(frozen.views), SIZE, SIZE), bool)
    middle[:, 8:24, 8:24] = True
    masked = replace(frozen, masks=middle)
    targets: dict[bytes, np.ndarray] = {}

    def noisy(ids: torch.Tensor, poses: torch.Tensor) -> torch.Tensor:
        made = []
        for one in to_bytes(ids):
            painted = np.random.default_rng(0).integers(0, 256, one.shape, dtype=np.uint8)
            painted[8:24, 8:24] = targets[one.tobytes()][8:24, 8:24]
            made.append(painted)
        return to_network(np.stack(made))

    one_target = replace(
        masked,
        rows=masked.rows[:, _first_of_each(masked.rows[0])],
        triplets=masked.triplets.take(_first_of_each(masked.rows[0])),
    )
    pairs = zip(one_target.role("id"), one_target.role("target"), strict=True)
    targets.update({one.tobytes(): target for one, target in pairs})
    instruments = Instruments(scores={"id-score-small": (score, SIZE)})
    found = values(evaluate({"noisy": contender(noisy)}, one_target, instruments, OF_DATA))
    assert found["noisy", "id-score-small-masked"] == pytest.approx(
        found[CEILING, "id-score-small-masked"], abs=1e-6
    )
    shown = [
        to_network(np.where(one_target.masks_of(role)[..., None], one_target.role(role), 127)  # type: ignore[index]
        .astype(np.uint8)).double().flatten(1)
        for role in ("id", "pose")
    ]  # fmt: skip
    floor = torch.sigmoid(nn.functional.cosine_similarity(*shown)).mean()
    assert found[FLOOR, "id-score-small-masked"] == pytest.approx(float(floor), abs=1e-5)
    assert found["copy-pose", "id-score-small-masked"] == found[FLOOR, "id-score-small-masked"]
    assert found["copy-id", "id-score-small-masked"] == pytest.approx(0.731059, abs=1e-5)
    assert found["noisy", "id-score-small"] != pytest.approx(
        found[CEILING, "id-score-small"], abs=1e-3
    )


def test_the_copy_index_of_copies_and_of_targets(found: Evaluation, frozen: EvaluationSet) -> None:
    value, rows = values(found), {(row["method"], row["metric"]): row for row in found.rows}
    for role in ("id", "pose"):
        assert value[f"copy-{role}", f"copy-index-{role}-lpips-pixels"] == 1
        row = rows["perfect - oracle-frame", f"copy-index-{role}-lpips-pixels"]
        assert row["ci_low"] <= row["value"] <= row["ci_high"]
    pixels = Instruments(lpips={"lpips-pixels": Lpips(Pixels(), [torch.ones(4)])})
    targets = {"targets": Contender(frozen.role("target"), OF_DATA)}
    exact = values(evaluate(targets, frozen, pixels, OF_DATA))
    for role in ("id", "pose"):
        assert exact["targets", f"copy-index-{role}-lpips-pixels"] == -1
    away = [
        lpips_distances(pixels.lpips["lpips-pixels"], frozen.role("pose"), frozen.role(role))
        for role in ("target", "id")
    ]
    expected = np.mean([(t - i) / (t + i) for t, i in zip(*away, strict=True)])
    assert value["copy-pose", "copy-index-id-lpips-pixels"] == pytest.approx(expected, abs=2e-6)


def test_pictures_are_measured_as_the_generator_that_makes_them(frozen: EvaluationSet) -> None:
    pixels = Instruments(lpips={"lpips-pixels": Lpips(Pixels(), [torch.ones(4)])})
    made = evaluate({"perfect": contender(perfect)}, frozen, pixels, OF_DATA)
    given = Contender(made.outputs["perfect"], replace(OF_DATA, model="m@1"), warning="of a folder")
    again = evaluate({"perfect": given}, frozen, pixels, OF_DATA)
    assert values(again) == values(made)
    for row in again.rows:
        assert row.get("warning") == ("of a folder" if "perfect" in row["method"] else None)


def test_chroma_by_hand() -> None:
    """Pixel by pixel; brightness alone is no error, and outside of the mask nothing counts."""
    draws = np.random.default_rng(0)
    ours, targets = draws.integers(0, 256, (2, 3, 6, 6, 3), dtype=np.uint8)
    masks = draws.random((3, 6, 6)) > 0.6
    masks[2] = False  # an object of which nothing is seen: the whole picture
    expected = []
    for one, target, mask in zip(ours / 255, targets / 255, masks, strict=True):
        means = np.zeros((2, 2))
        places = [p for p in np.ndindex(6, 6) if mask[p] or not mask.any()]
        for number, picture in enumerate((one, target)):
            for place in places:
                red, green, blue = picture[place]
                means[number] += [red - green, (red + green) / 2 - blue]
        expected.append(np.hypot(*(means[0] - means[1]) / len(places)))
    np.testing.assert_allclose(chroma_errors(ours, targets, masks), expected, rtol=1e-12)
    whole = chroma_errors(ours, targets, np.ones_like(masks))
    np.testing.assert_allclose(chroma_errors(ours, targets), whole, rtol=1e-12)
    half = np.full((1, 4, 4, 3), 100, np.uint8)
    red = half.copy()
    red[..., 0] += 51
    assert chroma_errors(half + 51, half)[0] == pytest.approx(0, abs=1e-12)
    assert chroma_errors(red, half)[0] == pytest.approx(np.hypot(0.2, 0.1))


def test_where_the_target_has_a_mask_the_object_is_measured_alone(frozen: EvaluationSet) -> None:
    pixels = Instruments(lpips={"lpips-pixels": Lpips(Pixels(), [torch.ones(4)])})
    full = replace(frozen, masks=np.ones((len(frozen.views), SIZE, SIZE), bool))
    whole = values(evaluate({}, full, pixels, OF_DATA))
    bare = values(evaluate({}, frozen, pixels, OF_DATA))
    for control in CONTROLS:
        assert whole[control, "lpips-pixels-masked"] == whole[control, "lpips-pixels"]
        chroma = bare[control, "chroma-error-whole-picture"]
        assert whole[control, "chroma-error-masked"] == pytest.approx(chroma, abs=1e-6)
        assert (control, "lpips-pixels-masked") not in bare
    middle = np.zeros((len(frozen.views), SIZE, SIZE), bool)
    middle[:, 8:24, 8:24] = True
    some = replace(frozen, masks=middle)
    for rim, differs in ((1, False), (0, True)):  # the rim of a pixel counts, what lies beyond not
        outputs = np.zeros_like(frozen.role("target"))
        inner = slice(8 - rim, 24 + rim)
        outputs[:, inner, inner] = frozen.role("target")[:, inner, inner]
        found = values(evaluate({"o": Contender(outputs, OF_DATA)}, some, pixels, OF_DATA))
        assert (found["o", "lpips-pixels-masked"] > 0) == differs
        assert found["o", "chroma-error-masked"] == 0 and found["o", "lpips-pixels"] > 0


def _first_of_each(numbers: np.ndarray) -> np.ndarray:
    return np.sort(np.unique(numbers, return_index=True)[1])
