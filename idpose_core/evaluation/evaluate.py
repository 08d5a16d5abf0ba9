"""Generators, or outputs of any, on a frozen set: every metric, beside the controls (section 4).

Each metric's name carries its protocol. What a network that served in retrieval or loss would have
to measure is left out, and so is what weights are missing for: both with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from idpose_core.evaluation.distributions import kernel_distance, precision_recall
from idpose_core.evaluation.features import FeatureNetwork, extract
from idpose_core.evaluation.frechet import few_samples, frechet_distance, gaussian
from idpose_core.evaluation.intervals import (
    Estimate,
    Jackknife,
    estimate,
    fewest_units,
    median,
    paired_difference,
)
from idpose_core.evaluation.judges import azimuth_error, verdicts
from idpose_core.evaluation.kept import Judges
from idpose_core.evaluation.lpips import Lpips, copy_index, lpips_distances
from idpose_core.evaluation.pictures import Pictures, distinct, generated
from idpose_core.evaluation.results import Measurement
from idpose_core.evaluation.scores import ScoreNetwork, affinity_scores, masked
from idpose_core.evaluation.sets import EvaluationSet
from idpose_core.evaluation.swap_score import measure_swap_score, uneven_directions
from idpose_core.evaluation.swaps import CONTROLS
from idpose_core.evaluation.views import Rows, nearest_others
from idpose_core.training.samples import Generate

CEILING, FLOOR = "real pairs (ceiling)", "other objects (floor)"
_MINUS = " - "
_OPPONENT = np.array([[1, -1, 0], [0.5, 0.5, -1]])  # red - green, yellow - blue
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
class Contender:
    """A generator that is measured, or its outputs.

    Attributes:
        outputs: ``(id, pose) -> picture``, averaged weights in evaluation mode; or pictures uint8
            [N, R, R, 3] in the order of the set, which have no swap score: it compares others.
        measurement: What all its rows have in common.
        method: Its name in the rows; None for its key. Two models of one method share it.
        warning: That all its rows carry.
    """

    outputs: Generate | Pictures
    measurement: Measurement
    method: str | None = None
    warning: str | None = None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was found.

    Attributes:
        rows: In the form of docs/results.
        seconds: By part.
        outputs: By contender its pictures uint8 [N, R, R, 3], in the order of the set.
    """

    rows: list[dict[str, Any]]
    seconds: dict[str, float]
    outputs: dict[str, Pictures]


def evaluate(
    contenders: Mapping[str, Contender],
    frozen: EvaluationSet,
    instruments: Instruments,
    of_data: Measurement,
    *,
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Measure generators and the controls on the same triplets.

    Args:
        contenders: By name. Each is compared with those that come after it and with the controls,
            in rows ``method - other`` that name the other's model. None at all measures the
            controls and ceilings of the data.
        frozen: At the generators' size.
        instruments: What to measure with.
        of_data: What the rows of controls, ceilings and floors have in common.
        device: Where the generators are and networks are put.
        say: Told what is going on.

    Raises:
        ValueError: A generator gives no pictures of this size.
    """
    seconds: dict[str, float] = {}
    started = time.monotonic()
    ids, poses = frozen.role("id"), frozen.role("pose")
    made: dict[str, Pictures] = {}
    for name, contender in contenders.items():
        given = contender.outputs
        made[name] = (
            given if isinstance(given, np.ndarray) else generated(given, ids, poses, device=device)
        )
        if made[name].shape != ids.shape:
            raise ValueError(f"{name} gives {made[name].shape}, the set wants {ids.shape}")
    outputs = {**made, **control_outputs(frozen)}
    seconds["generate"] = time.monotonic() - started
    rows: list[dict[str, Any]] = []
    for part, findings in {
        "pixels": _pixels(outputs, frozen),
        "lpips": _lpips(outputs, frozen, instruments, device),
        "features": _sets(outputs, frozen, instruments, device),
        "scores": _scores(outputs, frozen, instruments),
        "judges": _judged(outputs, frozen, instruments),
        "swap score": _swap_score(contenders, frozen, instruments, of_data.seed, device),
    }.items():
        started = time.monotonic()
        for name, metric, found, more in findings:
            rows.append(_row(name, metric, found, more, contenders, of_data))
            if name in contenders or not contenders:
                say(f"{name:22} {metric:28} {_told(found)}{_warned(more)}")
        seconds[part] = time.monotonic() - started
    if instruments.features and not any(row["metric"].startswith("kid-") for row in rows):
        say("KID: left out, every two triplets share an object")
    return Evaluation(rows, seconds, made)


def _row(
    name: str,
    metric: str,
    found: Estimate,
    more: dict[str, Any],
    contenders: Mapping[str, Contender],
    of_data: Measurement,
) -> dict[str, Any]:
    """A row under the names of its methods; a difference also names the other's model."""
    measurements, methods = [], []
    warnings = [more["warning"]] if "warning" in more else []
    for part in name.split(_MINUS):
        contender = contenders.get(part)
        measurements.append(contender.measurement if contender else of_data)
        methods.append((contender.method if contender else None) or part)
        warnings += [contender.warning] if contender and contender.warning else []
    more = {**more, **({"warning": "; ".join(warnings)} if warnings else {})}
    against = {"against": measurements[1].model} if measurements[1:] else {}
    return measurements[0].row(_MINUS.join(methods), metric, found, **more, **against)


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
    views, targets = frozen.views, frozen.rows[2]
    different, places = np.unique(targets, return_inverse=True)
    found = nearest_others(
        different, views.identity, frozen.crops["timestamp_ms"].to_numpy(), views.azimuth_deg,
        views.elevation_deg,
    )  # fmt: skip
    return found[places]


def _by_row(
    metric: str, values: Mapping[str, NDArray[Any]], frozen: EvaluationSet
) -> Iterator[Finding]:
    """A metric of single triplets: each method, then each generator less what comes after it."""
    objects = frozen.objects
    for name, found in values.items():
        yield name, metric, estimate(found, objects), {}
    for ours, other in _compared(values):
        difference = paired_difference(values[ours], values[other], objects)
        yield f"{ours}{_MINUS}{other}", metric, difference, {}


def _left_out(metric: str, values: Mapping[str, Jackknife]) -> Iterator[Finding]:
    """A metric of all triplets together: the same."""
    for name, found in values.items():
        yield name, metric, found.estimate(), {}
    for ours, other in _compared(values):
        yield f"{ours}{_MINUS}{other}", metric, values[ours].minus(values[other]).estimate(), {}


def _compared(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each generator with all methods after it; controls are not compared with each other."""
    pairs = combinations([name for name in names if name not in (CEILING, FLOOR)], 2)
    yield from ((ours, other) for ours, other in pairs if ours not in CONTROLS)


def _pixels(outputs: Mapping[str, Pictures], frozen: EvaluationSet) -> Iterator[Finding]:
    target = frozen.role("target")
    values = {method: pixel_distances(pictures, target) for method, pictures in outputs.items()}
    yield from _by_row("pixel-l1", values, frozen)
    masks = frozen.masks_of("target")
    errors = {m: chroma_errors(pictures, target, masks) for m, pictures in outputs.items()}
    where = "whole-picture" if masks is None else "masked"
    yield from _by_row(f"chroma-error-{where}", errors, frozen)


def pixel_distances(pictures: Pictures, targets: Pictures) -> Values:
    """Mean absolute difference [N] of pairs of pictures uint8 [N, R, R, 3], taken as in [-1, 1]."""
    pairs = zip(pictures, targets, strict=True)
    return np.array([np.abs(one.astype(np.float64) - true).mean() / 127.5 for one, true in pairs])


def chroma_errors(
    pictures: Pictures, targets: Pictures, masks: NDArray[np.bool_] | None = None
) -> Values:
    """Distance [N] of the mean colours of pairs of pictures uint8 [N, R, R, 3], brightness apart.

    Args:
        pictures: Outputs.
        targets: Beside them.
        masks: Where the target's object is, bool [N, R, R], in both pictures; None, and an empty
            mask, for the whole picture.

    Returns:
        The Euclidean distance of the means of (R - G, (R + G) / 2 - B), colours in [0, 1].
    """
    shown = np.ones(targets.shape[:3], bool) if masks is None else masks

    def colours(many: Pictures) -> Values:
        pairs = zip(many, shown, strict=True)
        means = [one[mask if mask.any() else ~mask].mean(0) for one, mask in pairs]
        return np.asarray(means, np.float64)

    apart = (colours(pictures) - colours(targets)) / 255
    return np.asarray(np.linalg.norm(apart @ _OPPONENT.T, axis=1), np.float64)


def _lpips(
    outputs: Mapping[str, Pictures], frozen: EvaluationSet, instruments: Instruments, device: str
) -> Iterator[Finding]:
    if not instruments.lpips:
        return
    pictures = np.stack(list(outputs.values()))
    others = np.stack([frozen.role(name) for name in ("target", "id", "pose")])
    masks = frozen.masks_of("target")
    near = None if masks is None else _widened(masks)
    for name, metric in instruments.lpips.items():
        to_target, *to_inputs = lpips_distances(metric, pictures, others, device=device)
        yield from _by_row(name, dict(zip(outputs, to_target, strict=True)), frozen)
        for role, found in zip(("id", "pose"), to_inputs, strict=True):
            copies = dict(zip(outputs, copy_index(to_target, found), strict=True))
            yield from _by_row(f"copy-index-{role}-{name}", copies, frozen)
        if near is not None:
            hidden = np.stack([masked(one, near) for one in pictures])
            found = lpips_distances(metric, hidden, masked(others[0], near), device=device)
            yield from _by_row(f"{name}-masked", dict(zip(outputs, found, strict=True)), frozen)


def _widened(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Masks [N, R, R] with a rim of a 64th of the side: the outline itself is to be seen."""
    rim = 2 * max(1, round(masks.shape[1] / 64)) + 1
    wide = [cv2.dilate(mask.astype(np.uint8), np.ones((rim, rim), np.uint8)) for mask in masks]
    return np.array(wide, bool)


def _sets(
    outputs: Mapping[str, Pictures], frozen: EvaluationSet, instruments: Instruments, device: str
) -> Iterator[Finding]:
    if len(frozen) < 2:
        return
    # The copies and the oracle show pictures that are targets as well: each is seen once.
    pictures, (targets, *places) = distinct(frozen.role("target"), *outputs.values())
    for network in instruments.features:
        features = extract(network, pictures, device=device)
        real = features[targets]
        truth, n = gaussian(real), len(real)
        count = f"{n // 1000}k" if n % 1000 == 0 else str(n)
        inception = network.name == "inception"
        frechet = f"fid-inception-{count}" if inception else f"fd-{network.name}"
        made = {method: features[place] for method, place in zip(outputs, places, strict=True)}
        for method, found in made.items():
            ours = gaussian(found)
            warning = few_samples(ours, truth)
            value = Estimate(
                frechet_distance(ours, truth), None, None, n, fewest_units(frozen.objects)
            )
            yield method, frechet, value, {"warning": warning} if warning else {}
        kids = {m: kernel_distance(found, real, frozen.objects) for m, found in made.items()}
        distances = {method: kid for method, kid in kids.items() if kid is not None}
        yield from _left_out(f"kid-{network.name}", distances)
        if n > 3:
            covered = {method: precision_recall(found, real) for method, found in made.items()}
            precise = {method: found.precise for method, found in covered.items()}
            recalled = {method: found.recalled for method, found in covered.items()}
            yield from _by_row(f"precision-{network.name}-k3", precise, frozen)
            yield from _by_row(f"recall-{network.name}-k3", recalled, frozen)


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
        id_mask, pose_mask = frozen.masks_of("id"), frozen.masks_of("pose")
        target_mask = frozen.masks_of("target")
        if not name.startswith("id-"):
            continue
        if id_mask is not None and pose_mask is not None and target_mask is not None:
            # The output should show the object where the target does.
            shown = {"copy-id": id_mask, "copy-pose": pose_mask, FLOOR: pose_mask}
            hidden = {
                method: masked(pictures, shown.get(method, target_mask))
                for method, pictures in pairs.items()
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
        yield CEILING, metric + judges.suffix, found, chance
    errors = {
        method: azimuth_error(judges.azimuth.azimuth(pictures), true)
        for method, pictures in outputs.items()
    }
    ranks = {
        method: judges.identity.rank(pictures, identity) for method, pictures in outputs.items()
    }
    for method, error in errors.items():
        middle = estimate(error, frozen.objects, median)
        yield method, f"azimuth-error-median{judges.suffix}", middle, chance
    said = {method: verdicts(error, ranks[method]) for method, error in errors.items()}
    for metric in next(iter(said.values())):
        by_method = {method: found[metric] for method, found in said.items()}
        for name, _, number, _ in _by_row(metric, by_method, frozen):
            yield name, metric + judges.suffix, number, chance


def _swap_score(
    contenders: Mapping[str, Contender],
    frozen: EvaluationSet,
    instruments: Instruments,
    seed: int,
    device: str,
) -> Iterator[Finding]:
    if not instruments.swap_score:
        return
    copies: dict[str, Generate] = {
        "copy-id": lambda identity, pose: identity,
        "copy-pose": lambda identity, pose: pose,
    }
    warning = uneven_directions(frozen.views, seed=seed)
    more = {"warning": warning} if warning else {}
    made = {
        name: contender.outputs
        for name, contender in contenders.items()
        if not isinstance(contender.outputs, np.ndarray)
    }
    scores = {
        name: measure_swap_score(one, frozen.views, frozen.size, seed=seed, device=device)
        for name, one in {**made, **copies}.items()
    }
    for name, metric, found, _ in _left_out("swap-score-pixels", scores):
        yield name, metric, found, more


def _told(found: Estimate) -> str:
    interval = f" ({found.low:.4g} to {found.high:.4g})" if found.low is not None else ""
    return f"{found.value:.4g}{interval}"


def _warned(more: Mapping[str, Any]) -> str:
    return f"  warning: {more['warning']}" if "warning" in more else ""
