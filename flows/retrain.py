"""Retrain: build what is new, train a challenger, and let it serve if the gate lets it through.

A round is a function of what is stored: run again after a crash it goes on where it was, and with
nothing new it ends after the build. Every round that was judged is an entry of the log
``models/<name>/rounds/``; the promotion, if any, an entry of ``models/<name>/promotions/``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field

from flows.build_dataset import build_locally
from flows.configs import built_in, find_config
from flows.evaluate import dataset_set, evaluate_model
from flows.train import configure, train_dataset
from idpose_core import settings
from idpose_core.config import BuildConfig
from idpose_core.evaluation.gate import Decision, GateConfig, decide
from idpose_core.evaluation.sets import set_names
from idpose_core.methods.registry import METHODS, PAPER
from idpose_core.pose.drift import drift
from idpose_core.settings import ConfigError, Section
from idpose_core.training.config import TrainingConfig, resolve
from idpose_core.training.published import champion, promote, promotions, read_model, rounds
from storage import logs
from storage.datasets import DatasetError, content_columns, read_manifest, read_table
from storage.digests import content_digest, digest
from storage.errors import ToldError
from storage.objects import Store
from storage.versions import versions, without_space

Say = Callable[[str], None]


class RetrainConfig(Section):
    """A round of retraining, from the build to the promotion."""

    build: str = Field(description="Configuration of the build: a built-in name or a file")
    build_settings: dict[str, Any] = Field({}, description="key.path: value, over that file")
    method: str = Field(PAPER, description="Of `idpose train --method`")
    training_settings: dict[str, Any] = Field(
        {}, description="key.path: value, as `idpose train --set`"
    )
    start: Literal["scratch", "champion"] = Field(
        "scratch", description="With which weights the challenger's generator begins"
    )
    max_drift: float = Field(
        0.25,
        ge=0,
        le=1,
        description="Share of the crops that may be in other pose clusters than when the "
        "champion's pose space was fitted; above it the space is fitted anew; 0 = always",
    )
    evaluation_set: str | None = Field(
        None,
        description="Frozen set on which both models are measured; null = that of the last "
        "round, at first the dataset's own, frozen by exact truth",
    )
    metrics: list[str] | None = Field(None, description="Only these; null = all that are possible")
    pose_data: str | None = Field(None, description="As `idpose evaluate --pose-data`")
    training_steps: int | None = Field(
        None, ge=1, description="Of the networks trained to measure; null = their own numbers"
    )
    gate: GateConfig = GateConfig()


@dataclass(frozen=True)
class Retrained:
    """What a round did.

    Attributes:
        dataset: ``name@version`` that was built.
        drift: Of its crops in the champion's pose space; None where the space was fitted.
        challenger: ``name@version``; None where there was nothing new to train on.
        champion: What served when the round was judged; None in the first round.
        decision: ``first``, ``skipped``, or the gate's.
        reasons: Why.
        gains: Of the challenger over the champion.
        round: Its number in the log; None where it was skipped.
        path: Of the rows of the evaluation.
    """

    dataset: str
    drift: float | None
    challenger: str | None
    champion: str | None
    decision: Decision | Literal["first", "skipped"]
    reasons: list[str] = field(default_factory=list)
    gains: list[dict[str, Any]] = field(default_factory=list)
    round: int | None = None
    path: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


class Steps(Protocol):
    """The three parts of a round, as they are carried out: in this process, or by Prefect."""

    def build(self, config: BuildConfig) -> str:
        """Returns the version."""

    def train(self, dataset: str, values: Mapping[str, Any]) -> str | None:
        """Returns ``name@version``, or None where it was stopped before its end."""

    def evaluate(self, challenger: str, champion: str, name: str, config: RetrainConfig) -> str:
        """Returns the path of the rows, below the root."""


class InterruptedRoundError(ToldError):
    """The training was stopped before its end."""


@dataclass(frozen=True)
class LocalSteps:
    """One after the other in this process.

    Attributes:
        root: Where data lies.
        say: Told how it goes.
    """

    root: str
    say: Say

    def build(self, config: BuildConfig) -> str:
        """See Steps."""
        return str(build_locally(config, self.root)["version"])

    def train(self, dataset: str, values: Mapping[str, Any]) -> str | None:
        """See Steps."""
        done = train_dataset(self.root, dataset, values, say=self.say)
        return f"{done.model.name}@{done.model.version}" if done and done.model else None

    def evaluate(self, challenger: str, champion: str, name: str, config: RetrainConfig) -> str:
        """See Steps."""
        found = evaluate_model(
            self.root, challenger, beside=[champion], evaluation_set=name, metrics=config.metrics,
            pose_data=config.pose_data, training_steps=config.training_steps, say=self.say,
        )  # fmt: skip
        return found.path


def read_retraining(name_or_file: str, overrides: Mapping[str, Any]) -> RetrainConfig:
    """The round that a built-in configuration or a file describes.

    Raises:
        ConfigError: There is neither, or it cannot be used.
    """
    known, path = built_in("retraining"), Path(name_or_file)
    if name_or_file not in known and not path.is_file():
        raise ConfigError(f"{name_or_file!r} is neither a file nor one of: {', '.join(known)}")
    values = settings.read_yaml(known.get(name_or_file) or settings.read_text(path))
    return settings.parse(RetrainConfig, settings.with_overrides(RetrainConfig, values, overrides))


def retrain(root: str, config: RetrainConfig, steps: Steps, say: Say = print) -> Retrained:
    """Carry out a round.

    Args:
        root: Where data lies.
        config: The round.
        steps: What carries out its parts.
        say: Told how it goes.

    Raises:
        ConfigError: A setting cannot be used.
        ToldError: A part failed, the training was stopped, or another version was promoted
            meanwhile. What is stored stays; the same call goes on.
    """
    store = Store(root)
    build, values = _checked(store, config)
    model = f"{build.name}-{config.method}"
    version, moved = _build(store, build, config.max_drift, steps, model, say)
    dataset = f"{build.name}@{version}"

    new = _digest(store, dataset, values)
    judged = [entry for entry in rounds(store, model) if entry["new"] == new]
    serving = champion(store, model)
    if judged and (unfinished := _unpromoted(store, model, judged[-1])):
        return _finish(store, model, unfinished, say)
    if any(f"{model}@{serving}" in (one["challenger"], one["champion"]) for one in judged):
        return _skipped(dataset, moved, model, serving, "nothing is new since it was judged", say)

    frozen = _evaluation_set(store, config, model, dataset, say)
    if serving is not None and config.start == "champion":
        start = {"training.start": f"{model}@{serving}"}
        values = settings.with_overrides(TrainingConfig, values, start)
    challenger = steps.train(dataset, values)
    if challenger is None:
        raise InterruptedRoundError(
            "the training was stopped before its end: retrain again, which goes on with it"
        )
    if challenger == f"{model}@{serving}":
        return _skipped(dataset, moved, model, serving, "the training gave what serves", say)
    entry: dict[str, Any] = {
        "version": challenger.partition("@")[2], "challenger": challenger, "champion": None,
        "dataset": dataset, "drift": moved, "new": new, "evaluation_set": frozen,
        "decision": "first", "reasons": ["there was none before"], "gains": [], "path": None,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    if serving is not None:
        entry |= _judge(store, config, challenger, f"{model}@{serving}", frozen, steps)
    number = logs.append_entry(store, f"models/{model}/rounds", entry)
    return _finish(store, model, {**entry, "number": number}, say)


def _checked(store: Store, config: RetrainConfig) -> tuple[BuildConfig, dict[str, Any]]:
    """The configuration of the build and the values of the training; wrong ones end it here."""
    build = find_config(config.build, config.build_settings)
    if config.method not in METHODS or not METHODS[config.method].swaps:
        near = settings.nearest(config.method, [name for name in METHODS if METHODS[name].swaps])
        raise ConfigError(f"method: {config.method!r} swaps nothing; the nearest is {near!r}")
    keys = {**config.training_settings, "training.method": config.method}
    values = settings.with_overrides(TrainingConfig, {}, keys)
    resolve(values)
    if config.evaluation_set is not None and config.evaluation_set not in set_names(store):
        known = ", ".join(set_names(store)) or "none"
        raise ConfigError(
            f"evaluation_set: no set {config.evaluation_set!r} in {store.root}; there are {known}"
        )
    return build, values


def _build(
    store: Store, build: BuildConfig, max_drift: float, steps: Steps, model: str, say: Say
) -> tuple[str, float | None]:
    """Build in the champion's pose space while it fits. Returns the version, and the drift."""
    fitted = _fitted(store, build, model) if max_drift and build.pose.space == "fit" else None
    if fitted is None:
        return steps.build(build), None
    pose = build.pose.model_copy(update={"space": fitted["pose_space"]})
    version = steps.build(build.model_copy(update={"pose": pose}))
    built = read_manifest(store, f"{build.name}@{version}")
    moved = drift(*(one["statistics"]["cluster_sizes"]["train"] for one in (fitted, built)))
    if moved > max_drift:
        say(f"{moved:.0%} of the crops are in other clusters: the pose space is fitted anew")
        version = steps.build(build)
    return version, moved


def _fitted(store: Store, build: BuildConfig, model: str) -> dict[str, Any] | None:
    """The manifest that the champion's pose space was fitted for.

    None where there is no champion, its data was withdrawn, or is of another configuration.
    """
    serving = champion(store, model)
    if serving is None:
        return None
    data = read_model(store, f"{model}@{serving}").info["dataset"]
    try:
        own = read_manifest(store, f"{data['name']}@{data['version']}")
    except DatasetError:
        return None
    if without_space(own["config"]) != without_space(build.identity()):
        return None
    found = [read_manifest(store, f"{build.name}@{one}") for one in versions(store, build.name)]
    fits = [
        one
        for one in found
        if one["pose_space"] == own["pose_space"] and one["config"]["pose"]["space"] == "fit"
    ]
    return min(fits, key=lambda one: str(one["created_at"]), default=own)


def _digest(store: Store, dataset: str, values: Mapping[str, Any]) -> str:
    """What makes a challenger new: the triplets, and the training apart from where it starts."""
    config, manifest = configure(store, dataset, values)
    triplets = read_table(store, manifest, "triplets", split="train")
    way = config.identity()
    way["training"] = {k: v for k, v in way["training"].items() if k != "start"}
    columns = {"triplets": content_columns("triplets", triplets)}
    rows = content_digest({"triplets": triplets}, columns)
    return digest([rows, way, config.training.steps])


def _evaluation_set(store: Store, config: RetrainConfig, model: str, dataset: str, say: Say) -> str:
    """The set that both models are measured on: the same from round to round."""
    if config.evaluation_set is not None:
        return config.evaluation_set
    sets = set_names(store)
    used = [entry["evaluation_set"] for entry in rounds(store, model)]
    kept = [name for name in used if name in sets]
    return kept[-1] if kept else dataset_set(store, dataset, say)


def _judge(
    store: Store, config: RetrainConfig, challenger: str, serving: str, frozen: str, steps: Steps
) -> dict[str, Any]:
    """Measure both, and decide. Returns what the log keeps of it."""
    path = steps.evaluate(challenger, serving, frozen, config)
    rows = json.loads(store.read(path))["rows"]
    verdict = decide(rows, challenger, serving, config.gate)
    return {
        "champion": serving,
        "decision": verdict.decision,
        "reasons": verdict.reasons,
        "gains": [asdict(gain) for gain in verdict.gains],
        "gate": config.gate.model_dump(mode="json"),
        "path": path,
    }


def _unpromoted(store: Store, model: str, entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The entry, where its promotion was cut off: the same champion serves, and none followed."""
    followed = any(one.get("round") == entry["number"] for one in promotions(store, model))
    same = entry["champion"] == f"{model}@{champion(store, model)}"
    return entry if entry["decision"] == "promoted" and same and not followed else None


def _finish(store: Store, model: str, entry: Mapping[str, Any], say: Say) -> Retrained:
    """Do what was decided."""
    if entry["decision"] == "promoted":
        over = entry["champion"].partition("@")[2]
        number = entry["number"]
        promote(
            store, model, entry["version"], f"by the gate, round {number}", over=over,
            evidence={"round": number},
        )  # fmt: skip
    say(f"round {entry['number']}: {entry['challenger']} {_TOLD[entry['decision']]}")
    for reason in entry["reasons"]:
        say(f"  {reason}")
    names = {one.name for one in fields(Retrained)}
    return Retrained(
        **{name: value for name, value in entry.items() if name in names}, round=entry["number"]
    )


_TOLD = {
    "first": "serves, the first of its name",
    "promoted": "serves from now on",
    "refused": "is refused; the champion serves on",
    "undecided": "cannot be judged; the champion serves on",
}


def _skipped(
    dataset: str, moved: float | None, model: str, serving: str | None, why: str, say: Say
) -> Retrained:
    say(f"skipped: {why}")
    return Retrained(dataset, moved, None, f"{model}@{serving}", "skipped", [why])
