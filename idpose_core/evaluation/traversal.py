"""Figure 11: the dimension of a FactorVAE's code that has most to do with pose, traversed.

``python -m idpose_core.evaluation.traversal MODEL DATASET --root ROOT --out FOLDER``

The paper chose the dimension "with manual inspection"; here a number chooses it: the multiple
correlation of its mean with the azimuth, or, where azimuths are not known, its mutual information
with the pose cluster. Nothing else of this project applies to a FactorVAE, which swaps nothing.
"""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from idpose_core.evaluation.generators import Subject, load_subject
from idpose_core.evaluation.intervals import Estimate, estimate
from idpose_core.evaluation.pictures import Pictures, at_size, full_precision, to_bytes, to_network
from idpose_core.evaluation.results import Measurement, to_json
from idpose_core.evaluation.views import LabelledViews, Rows, read_views
from idpose_core.models.factor_vae import VariationalAutoencoder
from idpose_core.stages.crop import encode_png
from idpose_core.training.published import ModelError
from idpose_core.training.samples import tiled
from storage.datasets import read_manifest, read_table
from storage.errors import DatasetError
from storage.objects import Store

Criterion = Literal["azimuth-r2", "pose-cluster-information"]
Values = NDArray[np.float64]

STEPS = {3: 10, 2: 9}
"""Columns by how far a traversal goes: -3 to 3 in steps of 2/3, or -2 to 2 in steps of 0.5, as the
published implementation (1Konny/FactorVAE) does for 3D Chairs."""
FEWEST_PICTURES = 12
"""Below it the best of ten dimensions fits an ellipse of azimuths, or a few clusters, by chance."""
ACTIVE = 0.01
"""Variance of a dimension's mean from which it is in use (Burda et al., "Importance Weighted
Autoencoders", 2016)."""
_BINS, _PICTURES_PER_BIN = 20, 5
_BATCH = 64


@dataclass(frozen=True, eq=False)
class Posed:
    """Pictures, and what is known of their pose.

    Attributes:
        views: The pictures; their azimuths count where ``cluster`` is None.
        cluster: Pose cluster of each, int64 [N]; None where azimuths are known.
    """

    views: LabelledViews
    cluster: Rows | None = None


@dataclass(frozen=True, eq=False)
class Traversal:
    """What was found.

    Attributes:
        criterion: By which the dimension was chosen.
        dimension: The chosen one.
        scores: Of every dimension, float64 [Z].
        variances: Of every dimension's mean over the pictures, float64 [Z]; about 0 where the
            network does not use it.
        chance: What one dimension would score on average if poses were dealt at random.
        distance: Of reconstructions from their pictures: mean absolute difference, grey levels
            of 255, with an interval by identity.
        pictures: How many there were.
        identities: How many they show.
        values: What the chosen dimension was set to, column by column.
        sheet: uint8 [H, W, 3]. A row is a picture, its reconstruction, and the traversal.
    """

    criterion: Criterion
    dimension: int
    scores: Values
    variances: Values
    chance: float
    distance: Estimate
    pictures: int
    identities: int
    values: tuple[float, ...]
    sheet: Pictures

    def rows(self, measurement: Measurement, method: str) -> list[dict[str, Any]]:
        """In the form of docs/results."""
        best = float(self.scores[self.dimension])
        found = Estimate(best, None, None, self.pictures, self.identities)
        more = {
            "dimension": self.dimension,
            "chance": round(self.chance, 6),
            "scores": [round(score, 6) for score in self.scores.tolist()],
            "variances": [round(variance, 6) for variance in self.variances.tolist()],
            "values": [round(value, 6) for value in self.values],
        }
        return [
            measurement.row(method, self.criterion, found, **more),
            measurement.row(method, "reconstruction-l1", self.distance),
        ]


def read_posed(store: Store, dataset: str, split: str) -> Posed:
    """The pictures of a split whose azimuth is known or, if there are none, those of its triplets.

    Raises:
        DatasetError: There is no such dataset, or nothing is known of any pose.
    """
    manifest = read_manifest(store, dataset)
    whole = f"{manifest['name']}@{manifest['version']}"
    crops = read_table(store, manifest, "crops", split=split).sort_by("crop_id")
    if pc.sum(pc.is_valid(crops["azimuth_deg"])).as_py():
        return Posed(read_views(store, whole, split))
    clusters = _clusters(read_table(store, manifest, "triplets", split=split))
    found = [clusters.get(crop, -1) for crop in crops["crop_id"].to_pylist()]
    cluster = np.array(found, np.int64)
    if not (cluster >= 0).any():
        raise DatasetError(f"{whole}:{split} knows neither azimuths nor pose clusters")
    views = read_views(store, whole, split, known_azimuth=False)  # in the order of the crops
    return Posed(views.select(cluster >= 0), cluster[cluster >= 0])


def traverse(
    network: VariationalAutoencoder,
    posed: Posed,
    *,
    reach: int = 3,
    rows: int = 6,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Traversal:
    """Choose the dimension by all pictures, and traverse it from a few of them.

    Args:
        network: The averaged one, in evaluation mode.
        posed: Pictures, best of a test split.
        reach: One of ``STEPS``.
        rows: Pictures that are traversed, each of another identity as far as there are so many.
        seed: Of the choice of these.
        device: Where the network is.

    Raises:
        ValueError: Fewer than ``FEWEST_PICTURES``, another reach, or no rows.
    """
    views = posed.views
    if len(views) < FEWEST_PICTURES:
        raise ValueError(f"{len(views)} pictures cannot tell: use {FEWEST_PICTURES} or more")
    if reach not in STEPS or rows < 1:
        raise ValueError(
            f"{rows} rows to {reach}: use 1 or more, to {' or '.join(map(str, STEPS))}"
        )
    pictures = at_size(views.pictures, network.size)
    codes, distances = _encoded(network, pictures, device)
    variances = codes.var(axis=0)
    criterion: Criterion = "azimuth-r2"
    if posed.cluster is None:
        scores = azimuth_r2(codes, views.azimuth_deg)
        chance = 2 / (len(views) - 1)  # mean of R^2 of two regressors that say nothing
    else:
        criterion = "pose-cluster-information"
        scores = cluster_information(codes, posed.cluster)
        dealt = np.random.default_rng(seed).permutation(posed.cluster)
        chance = float(cluster_information(codes, dealt).mean())
    dimension = chosen_dimension(scores, variances)
    values = tuple(np.linspace(-reach, reach, STEPS[reach]).tolist())
    shown = _different(views.identity, rows, seed)
    return Traversal(
        criterion, dimension, scores, variances, chance, estimate(distances, views.identity),
        len(views), len(np.unique(views.identity)), values,
        draw_traversal(network, pictures[shown], dimension, values, device=device),
    )  # fmt: skip


def azimuth_r2(codes: Values, azimuth_deg: Values) -> Values:
    """Squared multiple correlation of each dimension with (cos, sin) of the azimuth.

    Args:
        codes: float64 [N, Z].
        azimuth_deg: [N], all known.

    Returns:
        float64 [Z] in [0, 1]; 0 for a dimension that is constant.
    """
    angle = np.radians(azimuth_deg)
    known = np.stack([np.ones_like(angle), np.cos(angle), np.sin(angle)], axis=1)
    weights, *_ = np.linalg.lstsq(known, codes, rcond=None)
    left = np.square(codes - known @ weights).sum(axis=0)
    whole = np.square(codes - codes.mean(axis=0)).sum(axis=0)
    varies = np.ptp(codes, axis=0) > 0
    share = np.divide(left, whole, out=np.ones_like(left), where=varies)
    return np.asarray(np.clip(1 - share, 0, 1), np.float64)


def cluster_information(codes: Values, cluster: Rows) -> Values:
    """Mutual information of each dimension with the pose cluster, in nats.

    A dimension is cut into bins of equally many pictures: 20, as disentanglement_lib does, or fewer
    where pictures are few. Few pictures make the estimate too large, by about the same for every
    dimension, because the bins are equally full.

    Args:
        codes: float64 [N, Z].
        cluster: int64 [N].

    Returns:
        float64 [Z].
    """
    count = len(codes)
    bins = max(2, min(_BINS, count // _PICTURES_PER_BIN))
    _, group = np.unique(cluster, return_inverse=True)
    found = np.zeros(codes.shape[1])
    for place, values in enumerate(codes.T):
        # Equal values fall into one bin, so that a constant dimension knows nothing.
        first = np.searchsorted(np.sort(values), values)
        together = np.zeros((bins, int(group.max()) + 1))
        np.add.at(together, (first * bins // count, group), 1 / count)
        apart = together.sum(1, keepdims=True) * together.sum(0, keepdims=True)
        some = together > 0
        found[place] = np.sum(together[some] * np.log(together[some] / apart[some]))
    return found


def chosen_dimension(scores: Values, variances: Values) -> int:
    """The dimension of the highest score among those that the network uses.

    Scores do not see how far a dimension moves: one that the VAE has switched off may follow the
    azimuth by a hair's breadth, and to traverse it would change nothing. If all are, all count.
    """
    used = variances > ACTIVE
    return int(np.argmax(np.where(used, scores, -1.0) if used.any() else scores))


@torch.no_grad()
def draw_traversal(
    network: VariationalAutoencoder,
    pictures: Pictures,
    dimension: int,
    values: tuple[float, ...],
    *,
    device: torch.device | str = "cpu",
) -> Pictures:
    """The figure uint8 [H, W, 3]: each row a picture, its reconstruction, and its traversal.

    Args:
        network: In evaluation mode.
        pictures: uint8 [K, R, R, 3].
        dimension: Which one takes the values; the others stay as they are in the picture's code.
        values: Of the columns.
        device: Where the network is.
    """
    lines = []
    for picture in to_network(pictures, device):
        own = network.encode(picture[None]).mean
        codes = own.repeat(1 + len(values), 1)
        codes[1:, dimension] = torch.tensor(values, dtype=codes.dtype, device=codes.device)
        lines.append(torch.cat([picture[None], network.draw(codes)]).float().cpu())
    return tiled(torch.stack(lines))


@torch.no_grad()
def _encoded(
    network: VariationalAutoencoder, pictures: Pictures, device: torch.device | str
) -> tuple[Values, Values]:
    """Means of the codes float64 [N, Z], and distances of the reconstructions float64 [N]."""
    codes, distances = [], []
    for at in range(0, len(pictures), _BATCH):
        some = pictures[at : at + _BATCH]
        mean = network.encode(to_network(some, device)).mean
        again = to_bytes(network.draw(mean))
        codes.append(mean.double().cpu().numpy())
        distances.append(np.abs(again.astype(np.float64) - some).mean(axis=(1, 2, 3)))
    return np.concatenate(codes), np.concatenate(distances)


def _clusters(triplets: pa.Table) -> dict[str, int]:
    """Pose cluster by crop id, of the ID and pose pictures of triplets."""
    found: dict[str, int] = {}
    for role in ("id", "pose"):
        crops, clusters = triplets[f"{role}_crop"], triplets[f"{role}_cluster"]
        found |= dict(zip(crops.to_pylist(), clusters.to_pylist(), strict=True))
    return found


def _different(identity: Rows, count: int, seed: int) -> Rows:
    """Rows in an order that the seed decides, first one of every identity; so many of them."""
    order = np.random.default_rng(seed).permutation(len(identity))
    _, first = np.unique(identity[order], return_index=True)
    ahead = order[np.sort(first)]
    return np.concatenate([ahead, order[~np.isin(order, ahead)]])[:count]


def load_vae(
    store: Store, run_or_model: str, device: torch.device | str = "cpu"
) -> tuple[VariationalAutoencoder, Subject]:
    """The averaged network of a FactorVAE, and where it comes from.

    Raises:
        ModelError: There is no such model or run, or it is of another method.
    """
    subject = load_subject(store, run_or_model, device=device)
    if not isinstance(subject.generator, VariationalAutoencoder):
        raise ModelError(
            f"{subject.name} is of the method {subject.method!r}, which has no code to traverse: "
            "name a model that was trained with factor-vae"
        )
    return subject.generator, subject


def main() -> None:
    """Traverse a published model; write ``traversal.json`` and ``traversal.png``."""
    parser = argparse.ArgumentParser(description="The dimension of a FactorVAE that is pose")
    parser.add_argument("model", help="id of a run, NAME or NAME@VERSION")
    parser.add_argument("dataset", help="NAME or NAME@VERSION")
    parser.add_argument("--root", default="idpose-data")
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", type=Path, default=Path("traversal"))
    parser.add_argument("--reach", type=int, choices=sorted(STEPS), default=3)
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()

    store = Store(asked.root)
    network, subject = load_vae(store, asked.model, asked.device)
    posed = read_posed(store, asked.dataset, asked.split)
    with full_precision():
        found = traverse(
            network, posed, reach=asked.reach, rows=asked.rows, seed=asked.seed,
            device=asked.device,
        )  # fmt: skip
    dataset, _, version = posed.views.source.partition(":")[0].partition("@")
    measurement = Measurement(
        dataset=dataset,
        dataset_version=version,
        model=subject.name,
        seed=asked.seed,
        budget=f"{subject.steps} steps",
        command=shlex.join(
            ["python", "-m", "idpose_core.evaluation.traversal", asked.model, asked.dataset]
            + (["--split", asked.split] if asked.split != "test" else [])
            + (["--reach", str(asked.reach)] if asked.reach != 3 else [])
            + (["--rows", str(asked.rows)] if asked.rows != 6 else [])
            + (["--seed", str(asked.seed)] if asked.seed else [])
        ),
        device=asked.device,
    )
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "traversal.json").write_text(
        to_json(found.rows(measurement, subject.method)), "utf-8"
    )
    (asked.out / "traversal.png").write_bytes(encode_png(found.sheet))
    print(
        f"dimension {found.dimension}: {found.criterion} {found.scores[found.dimension]:.2f} "
        f"(chance {found.chance:.2f}) of {found.pictures} pictures; reconstructions differ by "
        f"{found.distance.value:.1f} grey levels; wrote {asked.out}"
    )


if __name__ == "__main__":
    main()
