"""Which dimension is pose, on codes whose answer is known; and the command on a toy VAE."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from idpose_core.evaluation import traversal
from idpose_core.evaluation.generators import Subject
from idpose_core.evaluation.pictures import at_size, to_network
from idpose_core.evaluation.traversal import (
    Posed,
    azimuth_r2,
    chosen_dimension,
    cluster_information,
    draw_traversal,
    load_vae,
    main,
    read_posed,
    traverse,
)
from idpose_core.models.factor_vae import Code, VariationalAutoencoder
from idpose_core.stages.crop import decode_png
from idpose_core.training.published import ModelError
from storage.errors import DatasetError
from storage.objects import Store
from tests.evaluation.worlds import STEPS, pointers
from tests.training.worlds import commit_world

SIZE = 16


class Reader(VariationalAutoencoder):
    """A code that reads a pointer's direction from where it is dark, and draws what it is asked.

    Dimension 0 is the hue (red against blue), 1 and 2 are the direction (1 a thousandth of 2), 3
    is constant. A picture of the code has the grey level of dimension 2.
    """

    def __init__(self) -> None:
        super().__init__(SIZE, 4, 2)

    def encode(self, pictures: Tensor) -> Code:
        dark = (0.6 - pictures.mean(1)).clamp(min=0)  # the ground is lighter
        across = (dark * torch.linspace(-1, 1, SIZE)).sum((1, 2)) / dark.sum((1, 2))
        hue = (pictures[:, 0] - pictures[:, 2]).mean((1, 2))
        mean = torch.stack([hue, 0.03 * across, 30 * across, torch.ones(len(hue))], dim=1)
        return Code(mean, torch.zeros_like(mean))

    def draw(self, z: Tensor) -> Tensor:
        return (z[:, 2] / 10)[:, None, None, None].expand(-1, 3, SIZE, SIZE)


# Scores


def test_r2_of_known_codes() -> None:
    azimuth = np.arange(0, 360, 15.0)
    angle = np.radians(azimuth)
    noise = np.cos(5 * angle)  # orthogonal to cos and sin on these azimuths
    codes = np.stack(
        [
            np.cos(angle - 1) * 7 + 2,
            np.sin(angle) + noise,
            noise,
            2 * np.sin(angle) - np.cos(angle) + 2 * noise,
            np.full(len(angle), 0.1),
        ],
        axis=1,
    )
    np.testing.assert_allclose(azimuth_r2(codes, azimuth), [1, 1 / 2, 0, 5 / 9, 0], atol=1e-12)


def test_r2_is_the_squared_correlation_with_the_best_combination() -> None:
    draws = np.random.default_rng(0)
    azimuth = draws.uniform(0, 360, 200)
    angle = np.radians(azimuth)
    codes = np.cos(angle)[:, None] * [1, 0.2, 0] + draws.normal(size=(200, 3))
    regressors = np.stack([np.cos(angle), np.sin(angle)], 1)
    for code, found in zip(codes.T, azimuth_r2(codes, azimuth), strict=True):
        correlations = np.corrcoef(regressors.T, code)
        own, among = correlations[:2, 2], correlations[:2, :2]
        assert found == pytest.approx(own @ np.linalg.inv(among) @ own)
    assert azimuth_r2(1e-6 * codes + 5, azimuth) == pytest.approx(azimuth_r2(codes, azimuth))


def test_information_of_known_codes() -> None:
    cluster = np.repeat([3, 8], 500)
    draws = np.random.default_rng(0)
    tells = np.where(cluster == 3, -1.0, 1.0) + draws.uniform(-0.5, 0.5, 1000)
    folded = np.abs(tells)  # both clusters look the same
    constant = np.ones(1000)
    found = cluster_information(np.stack([tells, folded, constant], 1), cluster)
    assert found[0] == pytest.approx(np.log(2))
    assert 0 <= found[1] < 0.03 and found[2] == pytest.approx(0)
    shifted = cluster_information(np.stack([np.exp(tells)], 1), cluster)
    assert shifted[0] == found[0]  # only the order counts


def test_information_of_few_pictures_uses_few_bins() -> None:
    cluster = np.tile([0, 1], 6)
    codes = np.arange(12.0)[:, None]  # one bin a picture would "know" the cluster
    assert cluster_information(codes, cluster)[0] == pytest.approx(0)


def test_a_dimension_that_is_switched_off_is_not_chosen() -> None:
    scores, variances = np.array([0.2, 0.9, 0.5]), np.array([1.0, 1e-4, 0.8])
    assert chosen_dimension(scores, variances) == 2
    assert chosen_dimension(scores, np.full(3, 1e-4)) == 1


# The figure


def test_the_direction_of_pointers_is_found_and_traversed() -> None:
    views = pointers(5)
    found = traverse(Reader(), Posed(views), rows=3)
    assert (found.criterion, found.dimension) == ("azimuth-r2", 2)
    assert found.scores[2] > 0.9 and found.scores[0] < 0.1 and found.scores[3] == 0
    assert found.scores[1] == pytest.approx(found.scores[2], abs=1e-4)
    assert found.variances[1] < 0.01 < found.variances[2]
    assert found.chance == pytest.approx(2 / (5 * STEPS - 1))
    assert found.pictures == found.distance.n == 5 * STEPS and found.identities == 5
    assert found.values == pytest.approx([-3 + 2 / 3 * step for step in range(10)])
    # The first reconstruction is grey as dimension 2 says; distances are of 255 levels.
    pictures = at_size(views.pictures, SIZE)
    across = Reader().encode(to_network(pictures)).mean[:, 2].numpy()
    grey = np.rint((across / 10 + 1) * 127.5)[:, None, None, None]
    assert found.distance.value == pytest.approx(np.abs(pictures - grey).mean(), rel=1e-6)
    assert found.sheet.shape == (3 * (SIZE + 4) - 4, 12 * (SIZE + 4) - 4, 3)


def test_the_narrow_traversal_goes_by_halves() -> None:
    found = traverse(Reader(), Posed(pointers(2)), reach=2, rows=1)
    assert found.values == pytest.approx(np.arange(-2, 2.1, 0.5))


def test_where_azimuths_are_unknown_pose_clusters_choose() -> None:
    views = pointers(8)
    clusters = np.digitize(np.cos(np.radians(views.azimuth_deg)), [-0.6, 0.6])
    found = traverse(Reader(), Posed(views, clusters))
    assert (found.criterion, found.dimension) == ("pose-cluster-information", 2)
    assert found.scores[2] > 3 * found.chance > found.scores[3]


def test_a_row_is_a_picture_its_reconstruction_and_the_values_of_one_dimension() -> None:
    pictures = at_size(pointers(1).pictures, SIZE)[:2]
    torch.manual_seed(0)
    network = VariationalAutoencoder(SIZE, 3, 2).eval()
    for weights in network.parameters():
        if weights.ndim > 1:
            nn.init.kaiming_normal_(weights)
    sheet = draw_traversal(network, pictures, 1, (-3.0, 2.0))
    wide = SIZE + 4
    cells = [[sheet[r * wide :, c * wide :][:SIZE, :SIZE] for c in range(4)] for r in range(2)]
    for row, picture in zip(cells, pictures, strict=True):
        assert np.array_equal(row[0], picture)
        with torch.no_grad():
            code = network.encode(to_network(picture[None])).mean
            for cell, value in zip(row[1:], (None, -3.0, 2.0), strict=True):
                z = code.clone()
                if value is not None:
                    z[:, 1] = value
                share = network.decode(z).sigmoid()[0].permute(1, 2, 0).numpy()
                assert np.abs(cell / 255 - share).max() < 0.003
        assert not np.array_equal(row[2], row[3])


def test_rows_show_different_identities_first() -> None:
    identity = np.repeat([0, 1, 2], 10)
    chosen = traversal._different(identity, 5, seed=0)
    assert sorted(identity[chosen[:3]]) == [0, 1, 2] and len(set(chosen)) == 5
    assert not np.array_equal(chosen, traversal._different(identity, 5, seed=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"reach": 4}, "use 1 or more, to 3 or 2"), ({"rows": 0}, "0 rows")],
)
def test_what_cannot_be_traversed(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        traverse(Reader(), Posed(pointers(2)), **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="11 pictures cannot tell"):
        traverse(Reader(), Posed(pointers(1).select(np.arange(11))))


# The command


def test_pictures_of_a_dataset_by_azimuth_or_else_by_pose_cluster(tmp_path: Path) -> None:
    store = Store(tmp_path / "known")
    known = read_posed(store, commit_world(store, azimuths=True), "test")
    assert known.cluster is None and len(known.views) == 16
    store = Store(tmp_path / "unknown")
    unknown = read_posed(store, commit_world(store), "test")
    assert unknown.cluster is not None and len(unknown.views) == 16
    # In that world the cluster of a crop is its place in the clip, and the crops of a clip turn.
    assert unknown.cluster.tolist() == [0, 1, 2, 3] * 4
    assert np.array_equal(unknown.views.pictures, known.views.pictures)


def test_a_dataset_that_knows_no_pose_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    dataset = commit_world(store, test_videos=1, change=lambda row: row.update(split="train"))
    with pytest.raises(DatasetError, match="knows neither azimuths nor pose clusters"):
        read_posed(store, dataset, "test")


def subject(generator: nn.Module) -> Subject:
    config = {"training": {"method": "factor-vae"}}
    return Subject("cars-vae@1", generator.eval(), config, ("cars", "1"), 7, "models/cars-vae/1")


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commit_world(Store(tmp_path / "root"), azimuths=True)
    torch.manual_seed(0)
    made = subject(VariationalAutoencoder(SIZE, 3, 2))
    monkeypatch.setattr(traversal, "load_subject", lambda *_, **__: made)
    out = tmp_path / "out"
    words = ["cars-vae", "cars", "--root", str(tmp_path / "root"), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["traversal", *words, "--reach", "2", "--rows", "2"])
    main()
    pose, again = json.loads((out / "traversal.json").read_text("utf-8"))["rows"]
    assert (pose["metric"], again["metric"]) == ("azimuth-r2", "reconstruction-l1")
    assert pose["model"] == "cars-vae@1" and pose["method"] == "factor-vae"
    assert pose["n"] == again["n"] == 16 and len(pose["scores"]) == len(pose["variances"]) == 3
    assert pose["value"] == pose["scores"][pose["dimension"]]
    assert pose["values"] == [-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2]
    assert pose["budget"] == "7 steps" and pose["command"] == (
        "python -m idpose_core.evaluation.traversal cars-vae cars --reach 2 --rows 2"
    )
    sheet = decode_png((out / "traversal.png").read_bytes())
    assert sheet.shape == (2 * (SIZE + 4) - 4, 11 * (SIZE + 4) - 4, 3)
    assert f"dimension {pose['dimension']}: azimuth-r2" in capsys.readouterr().out


def test_a_model_of_another_method_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traversal, "load_subject", lambda *_, **__: subject(nn.Identity()))
    with pytest.raises(ModelError, match="no code to traverse"):
        load_vae(Store(tmp_path), "cars-vae")
