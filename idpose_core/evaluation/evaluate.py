"""Generators on a frozen evaluation set: every metric, beside the control rows (section 4).

Each metric's name carries its protocol. What a network that served in retrieval or loss would have
to measure is left out, and so is what weights are missing for: both with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from idpose_core.evaluation.distributions import kernel_distance, precision_recall
from idpose_core.evaluation.features import FeatureNetwork, extract
from idpose_core.evaluation.frechet import few_samples, frechet_distance, gaussian
from idpose_core.evaluation.intervals import Estimate, estimate, paired_difference
from idpose_core.evaluation.judges import azimuth_error, judged
from idpose_core.evaluation.kept import Judges
from idpose_core.evaluation.lpips import Lpips, lpips_distances
from idpose_core.evaluation.pictures import Pictures, distinct, generated
from idpose_core.evaluation.results import Measurement
from idpose_core.evaluation.scores import ScoreNetwork, affinity_scores, masked
from idpose_core.evaluation.sets import EvaluationSet
from idpose_core.evaluation.swap_score import measure_swap_score
from idpose_core.evaluation.swaps import CONTROLS
from idpose_core.evaluation.views import Rows
from idpose_core.training.samples import Generate

CEILING, FLOOR = "real pairs (ceiling)", "other objects (floor)"
_MINUS = " - "
Finding = tuple[str, str, Estimate, dict[str, Any]]
"""Method, metric, number, further columns."""
Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Instruments:
    """What to measure with.

    Attributes:
        lpips: Distances by name.
        features: Networks over which sets of pictures are compared.
        scores: ID and pose scores by name (``id-score-...``, ``pose-score-...``), with the side
            of their input.
        judges: Of azimuth and identity; None where the set has no azimuths.
        swap_score: Whether to measure it; it needs azimuths as well.
    """

    lpips: Mapping[str, Lpips] = field(default_factory=dict)
    features: tuple[FeatureNetwork, ...] = ()
    scores: Mapping[str, tuple[ScoreNetwork, int]] = field(default_factory=dict)
    judges: Judges | None = None
    swap_score: bool = False


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was found.

    Attributes:
        rows: In the form of docs/results.
        seconds: By part.
        outputs: By generator its pictures uint8 [N, R, R, 3], in the order of the set.
    """

    rows: list[dict[str, Any]]
    seconds: dict[str, float]
    outputs: dict[str, Pictures]


def evaluate(
    generators: Mapping[str, Generate],
    frozen: EvaluationSet,
    instruments: Instruments,
    measurement: Measurement,
    *,
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Measure generators and the controls on the same triplets.

    Args:
        generators: By the name that they have in the rows: ``(id, pose) -> picture``, averaged
            ones in evaluation mode. The first one is compared with all others and the controls.
            None at all measures the controls and ceilings of the data.
        frozen: At the generators' size.
        instruments: What to measure with.
        measurement: What all rows have in common; its model belongs to the generators' rows.
        device: Where the generators are and networks are put.
        say: Told what is going on.

    Raises:
        ValueError: A generator gives no pictures of this size.
    """
    seconds: dict[str, float] = {}
    started = time.monotonic()
    ids, poses = frozen.role("id"), frozen.role("pose")
    made: dict[str, Pictures] = {}
    for name, generator in generators.items():
        made[name] = generated(generator, ids, poses, device=device)
        if made[name].shape != ids.shape:
            raise ValueError(f"{name} gives {made[name].shape}, the set wants {ids.shape}")
    outputs = {**made, **control_outputs(frozen)}
    seconds["generate"] = time.monotonic() - started
    rows: list[dict[str, Any]] = []
    of_data = replace(measurement, model=None)
    for part, findings in {
        "pixels": _pixels(outputs, frozen),
        "lpips": _lpips(outputs, frozen, instruments, device),
        "features": _sets(outputs, frozen, instruments, device),
        "scores": _scores(outputs, frozen, instruments),
        "judges": _judged(outputs, frozen, instruments),
        "swap score": _swap_score(generators, frozen, instruments, measurement, device),
    }.items():
        started = time.monotonic()
        for name, metric, found, more in findings:
            own = name.partition(_MINUS)[0] in generators
            rows.append((measurement if own else of_data).row(name, metric, found, **more))
            if name in generators or not generators:
                say(f"{name:22} {metric:28} {_told(found)}{_warned(more)}")
        seconds[part] = time.monotonic() - started
    return Evaluation(rows, seconds, made)


def control_outputs(frozen: EvaluationSet) -> dict[str, Pictures]:
    """What the controls give, uint8 [N, R, R, 3], in the order of ``CONTROLS``.

    Copies of the ID and of the pose picture; the mean picture of the set; and the oracle, that
    frame of the ID's clip that is nearest to the target, other than the target itself: in the
    direction that it is seen from where that is known, in time elsewhere and among equals.
    """
    average = np.rint(frozen.pictures.mean(0, dtype=np.float64)).astype(np.uint8)
    matrices = (
        frozen.role("id"),
        frozen.role("pose"),
        np.broadcast_to(average, frozen.role("id").shape),
        frozen.pictures[_oracle(frozen)],
    )
    return dict(zip(CONTROLS, matrices, strict=True))


def _oracle(frozen: EvaluationSet) -> Rows:
    views = frozen.views
    times = frozen.crops["timestamp_ms"].to_numpy()
    # What is not known counts for nothing: it is the same for all.
    azimuth, height = (
        np.radians(np.nan_to_num(angle)) for angle in (views.azimuth_deg, views.elevation_deg)
    )
    level = np.cos(height)
    seen_from = np.stack([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(height)], 1)
    found: dict[int, int] = {}
    for target in np.unique(frozen.rows[2]):
        own = np.flatnonzero(views.identity == views.identity[target])
        own = own[own != target]
        alike = np.round(seen_from[own] @ seen_from[target], 6)
        order = np.lexsort((np.abs(times[own] - times[target]), -alike))
        found[int(target)] = int(own[order[0]])
    return np.array([found[int(target)] for target in frozen.rows[2]], np.int64)


def _by_row(metric: str, values: Mapping[str, Values], frozen: EvaluationSet) -> Iterator[Finding]:
    """A metric of single triplets: each method, then the first generator less each other."""
    for name, found in values.items():
        yield name, metric, estimate(found, frozen.identity), {}
    ours, *others = [name for name in values if name not in (CEILING, FLOOR)] or [""]
    for other in others if ours not in CONTROLS else ():
        difference = paired_difference(values[ours], values[other], frozen.identity)
        yield f"{ours}{_MINUS}{other}", metric, difference, {}


def _pixels(outputs: Mapping[str, Pictures], frozen: EvaluationSet) -> Iterator[Finding]:
    target = frozen.role("target")
    values = {method: pixel_distances(pictures, target) for method, pictures in outputs.items()}
    yield from _by_row("pixel-l1", values, frozen)


def pixel_distances(pictures: Pictures, targets: Pictures) -> Values:
    """Mean absolute difference [N] of pairs of pictures uint8 [N, R, R, 3], taken as in [-1, 1]."""
    pairs = zip(pictures, targets, strict=True)
    return np.array([np.abs(one.astype(np.float64) - true).mean() / 127.5 for one, true in pairs])


def _lpips(
    outputs: Mapping[str, Pictures], frozen: EvaluationSet, instruments: Instruments, device: str
) -> Iterator[Finding]:
    pictures, target = np.stack(list(outputs.values())), frozen.role("target")
    for name, metric in instruments.lpips.items():
        found = lpips_distances(metric, pictures, target, device=device)
        yield from _by_row(name, dict(zip(outputs, found, strict=True)), frozen)


def _sets(
    outputs: Mapping[str, Pictures], frozen: EvaluationSet, instruments: Instruments, device: str
) -> Iterator[Finding]:
    # The copies and the oracle show pictures that are targets as well: each is seen once.
    pictures, (targets, *places) = distinct(frozen.role("target"), *outputs.values())
    for network in instruments.features:
        features = extract(network, pictures, device=device)
        real = features[targets]
        truth, n = gaussian(real), len(real)
        count = f"{n // 1000}k" if n % 1000 == 0 else str(n)
        inception = network.name == "inception"
        frechet = f"fid-inception-{count}" if inception else f"fd-{network.name}"
        for method, place in zip(outputs, places, strict=True):
            found = features[place]
            ours = gaussian(found)
            warning = few_samples(ours, truth)
            value = Estimate(
                frechet_distance(ours, truth), None, None, n, len(set(frozen.identity))
            )
            yield method, frechet, value, {"warning": warning} if warning else {}
            yield method, f"kid-{network.name}", kernel_distance(found, real, frozen.identity), {}
            if n > 3:
                covered = precision_recall(found, real)
                for what, share in (("precision", covered.precise), ("recall", covered.recalled)):
                    yield method, f"{what}-{network.name}-k3", estimate(share, frozen.identity), {}


def _scores(
    outputs: Mapping[str, Pictures], frozen: EvaluationSet, instruments: Instruments
) -> Iterator[Finding]:
    ids, poses, target = (frozen.role(name) for name in ("id", "pose", "target"))
    for name, (network, side) in instruments.scores.items():
        # ID score: with the ID picture; other objects are the pose pictures'. Pose score: with
        # the pose picture; what should not agree with it is the ID picture, in another pose.
        partner, stranger = (ids, poses) if name.startswith("id-") else (poses, ids)
        pairs = {**outputs, CEILING: target, FLOOR: stranger}
        found = affinity_scores(network, list(pairs.values()), partner, side=side)
        yield from _by_row(name, dict(zip(pairs, found, strict=True)), frozen)
        id_mask, target_mask = frozen.masks_of("id"), frozen.masks_of("target")
        if name.startswith("id-") and id_mask is not None and target_mask is not None:
            # The output should show the object where the target does.
            hidden = {
                method: masked(pictures, target_mask)
                for method, pictures in pairs.items()
                if method not in (*CONTROLS, FLOOR)
            }
            found = affinity_scores(network, list(hidden.values()), masked(ids, id_mask), side=side)
            yield from _by_row(f"{name}-masked", dict(zip(hidden, found, strict=True)), frozen)


def _judged(
    outputs: Mapping[str, Pictures], frozen: EvaluationSet, instruments: Instruments
) -> Iterator[Finding]:
    judges = instruments.judges
    if judges is None:
        return
    target, pose = frozen.rows[2], frozen.rows[1]
    true, identity = frozen.views.azimuth_deg[pose], frozen.views.identity[target]
    chance = {"identity_chance": judges.identity.chance}
    for metric, found in judges.ceilings.items():
        yield CEILING, metric, found, chance
    for method, pictures in outputs.items():
        error = azimuth_error(judges.azimuth.azimuth(pictures), true)
        rank = judges.identity.rank(pictures, identity)
        for metric, found in judged(error, rank, identity, frozen.views.identity[pose]).items():
            yield method, metric, found, chance


def _swap_score(
    generators: Mapping[str, Generate],
    frozen: EvaluationSet,
    instruments: Instruments,
    measurement: Measurement,
    device: str,
) -> Iterator[Finding]:
    if not instruments.swap_score:
        return
    copies: dict[str, Generate] = {
        "copy-id": lambda identity, pose: identity,
        "copy-pose": lambda identity, pose: pose,
    }
    for name, one in {**generators, **copies}.items():
        found = measure_swap_score(
            one, frozen.views, frozen.size, seed=measurement.seed, device=device
        )
        yield name, "swap-score-pixels", found, {}


def _told(found: Estimate) -> str:
    interval = f" ({found.low:.4g} to {found.high:.4g})" if found.low is not None else ""
    return f"{found.value:.4g}{interval}"


def _warned(more: Mapping[str, Any]) -> str:
    return f"  warning: {more['warning']}" if "warning" in more else ""
