"""Which metrics can be measured here: weights at hand, azimuths known, no network in two roles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from idpose_core.evaluation.evaluate import Instruments
from idpose_core.evaluation.features import FEATURE_NETWORKS, load_features
from idpose_core.evaluation.judges import AZIMUTH, IDENTITY
from idpose_core.evaluation.kept import judges_of, score_network, steps_suffix
from idpose_core.evaluation.lpips import LPIPS_NETWORKS, load_lpips
from idpose_core.evaluation.roles import check_roles, network_of
from idpose_core.evaluation.scores import ID_RESNET50, ID_SMALL, POSE_RESNET50, POSE_SMALL
from idpose_core.evaluation.sets import EvaluationSet
from idpose_core.evaluation.swap_score import pose_grid
from idpose_core.evaluation.views import LabelledViews, read_views
from idpose_core.settings import ConfigError, nearest
from idpose_core.weights.tensors import read_tensors
from storage.digests import file_sha256
from storage.errors import ToldError
from storage.objects import Store

SCORES = {
    "id-score-resnet50": ID_RESNET50,
    "id-score-small": ID_SMALL,
    "pose-score-resnet50": POSE_RESNET50,
    "pose-score-small": POSE_SMALL,
}
INSTRUMENTS = (*LPIPS_NETWORKS, *FEATURE_NETWORKS, *SCORES, "judges", "swap-score")
"""What can be asked for by name."""
_POSE_SCORES = {name for name in SCORES if name.startswith("pose-")}
_NEED_AZIMUTH = {*_POSE_SCORES, "judges", "swap-score"}
_WEIGHTS = {
    **LPIPS_NETWORKS, "inception": "inception-fid", "efficientnet-lite2": "efficientnet-lite2",
    "id-score-resnet50": "resnet50", "pose-score-resnet50": "resnet50",
}  # fmt: skip


class EvaluationError(ToldError):
    """Something that was asked for cannot be measured; the message says why."""


def load_instruments(
    store: Store,
    frozen: EvaluationSet,
    used: Sequence[Mapping[str, Sequence[str]]],
    find: Callable[[str], Path],
    *,
    asked: Sequence[str] | None = None,
    impossible: Mapping[str, str] | None = None,
    pose_data: str | None = None,
    training_steps: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Instruments, dict[str, str]]:
    """Load what can be measured with.

    Args:
        store: The root; networks that were trained to measure are kept there.
        frozen: The set.
        used: Networks of the other roles, one mapping for each model that is measured; see
            ``roles.networks_used``.
        find: Gives the file of a pretrained network, or raises ValueError with the remedy.
        asked: Names of ``INSTRUMENTS``; None for all that are possible.
        impossible: Names of those that what is measured rules out, with the reason.
        pose_data: Dataset with known azimuths, ``name`` or ``name@version``, from whose training
            split the pose scores are learned; the names of the scores then end in it. None for
            the set's own dataset, which then has to know its azimuths.
        training_steps: Of judges and scores; None for their own numbers.
        seed: Of the swap score's pictures.
        device: Where judges and scores are trained and measure.
        say: Told what is going on.

    Returns:
        The instruments, and for each one left out the reason.

    Raises:
        ConfigError: An unknown name.
        EvaluationError: One that was asked for by name is not possible.
        RoleError: One that was asked for by name served in another role.
    """
    check_names(asked or ())
    wanted = list(dict.fromkeys(asked or INSTRUMENTS))
    left_out: dict[str, str] = {}
    paths: dict[str, Path] = {}
    for name in wanted:
        with _reason(left_out, name, raising=asked is not None):
            if impossible and name in impossible:
                raise EvaluationError(f"{name} cannot be measured: {impossible[name]}")
            network = network_of(name)
            for roles in used or [{}]:
                check_roles({**roles, **({"metric": [network]} if network else {})})
            elsewhere = pose_data is not None and name in _POSE_SCORES
            if (
                name in _NEED_AZIMUTH
                and not elsewhere
                and not np.isfinite(frozen.views.azimuth_deg).all()
            ):
                remedy = ": learn it elsewhere, --pose-data DATASET" if name in _POSE_SCORES else ""
                raise EvaluationError(
                    f"{name} cannot be measured: the set has pictures of unknown azimuth{remedy}"
                )
            if name == "swap-score":
                pose_grid(frozen.views, seed=seed)
            if name in _WEIGHTS:
                paths[name] = find(_WEIGHTS[name])
    steps = training_steps
    own = "@".join(frozen.dataset)

    @cache
    def pictures(dataset: str) -> LabelledViews:
        return read_views(store, dataset, "train", known_azimuth=False)

    def training(dataset: str, known_azimuth: bool) -> LabelledViews:
        """Pictures of a training split; they can be gigabytes, so they are read once."""
        views = pictures(dataset)
        known = np.isfinite(views.azimuth_deg)
        return views.select(known) if known_azimuth and not known.all() else views

    def possible(names: Sequence[str]) -> Iterator[str]:
        yield from (name for name in names if name in wanted and name not in left_out)

    lpips = {name: load_lpips(name, paths[name]) for name in possible(list(LPIPS_NETWORKS))}
    features = [load_features(name, paths[name]) for name in possible(FEATURE_NETWORKS)]
    scores = {}
    for name in possible(list(SCORES)):
        elsewhere = pose_data is not None and name in _POSE_SCORES
        with _reason(left_out, name, raising=asked is not None or elsewhere):
            own_way = SCORES[name]
            how = replace(own_way, steps=steps or own_way.steps)
            imagenet = _imagenet(paths[name]) if name in paths else None
            what: Literal["id", "pose"] = "pose" if name in _POSE_SCORES else "id"
            views = training((elsewhere and pose_data) or own, what == "pose")
            trained = score_network(
                store, what, views, how, imagenet=imagenet, device=device, say=say
            )
            source = views.source.partition(":")[0]
            called = f"{name}-from-{source}" if elsewhere else name
            scores[called + steps_suffix(how.steps, own_way.steps)] = (trained, how.side)
    judges = None
    for name in possible(["judges"]):
        with _reason(left_out, name, raising=asked is not None):
            judges = judges_of(
                store, training(own, True), frozen.views, frozen.size, device=device, say=say,
                azimuth=replace(AZIMUTH, steps=steps or AZIMUTH.steps),
                identity=replace(IDENTITY, steps=steps or IDENTITY.steps),
            )  # fmt: skip
    swap_score = "swap-score" in possible(["swap-score"])
    return Instruments(lpips, tuple(features), scores, judges, swap_score), left_out


def check_names(asked: Sequence[str]) -> None:
    """Refuse what nothing is measured as.

    Raises:
        ConfigError: Names the nearest of ``INSTRUMENTS``.
    """
    for name in asked:
        if name not in INSTRUMENTS:
            raise ConfigError(
                f"nothing is measured as {name!r}; the nearest is {nearest(name, INSTRUMENTS)!r} "
                f"of {', '.join(INSTRUMENTS)} (pixel-l1 and the chroma error always are)"
            )


@contextmanager
def _reason(left_out: dict[str, str], name: str, *, raising: bool) -> Iterator[None]:
    """What cannot be measured is left out with its reason, unless it was asked for by name."""
    try:
        yield
    except (ToldError, ValueError) as error:
        if raising:
            if isinstance(error, ToldError):
                raise
            raise EvaluationError(f"{name} cannot be measured: {error}") from error
        left_out[name] = str(error)


def _imagenet(path: Path) -> tuple[str, Mapping[str, Any]]:
    return file_sha256(path), read_tensors(path)
