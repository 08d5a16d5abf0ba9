"""Published models: averaged weights with all that says where they come from.

``models/<name>/<version>/`` holds ``model.safetensors`` and, written last, ``model.json``. A
version is named by its weights and configuration, is created if absent and never rewritten. Which
version serves is the last entry of ``models/<name>/promotions/``, to which entries are only added;
the file ``models/<name>/champion`` is a cache of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from storage import logs
from storage.digests import canonical, digest
from storage.errors import DamageError, ToldError
from storage.manifests import file_entry, read_checked
from storage.objects import Store

FORMAT = 1


class ModelError(ToldError):
    """A model is missing or cannot be published; the message names it and the remedy."""


@dataclass(frozen=True)
class Model:
    """A published version.

    Attributes:
        name, version: ``name@version`` names it everywhere.
        info: ``model.json``: name, version, config, dataset {name, version, config}, metrics,
            code_version, trained_on, licences, weights {path, bytes, sha256}, created_at.
    """

    name: str
    version: str
    info: Mapping[str, Any]

    def weights(self, store: Store) -> dict[str, Tensor]:
        """The averaged weights, a state dict on the CPU.

        Raises:
            DatasetError: The file is missing or is not the one that was published.
        """
        remedy = "put back a copy of the model, or train it again"
        return load(read_checked(store, self.info["weights"], remedy))


def publish_model(
    store: Store,
    name: str,
    weights: Mapping[str, Tensor],
    *,
    config: Mapping[str, Any],
    dataset: tuple[str, str],
    metrics: Mapping[str, float],
    code_version: str,
    trained_on: Mapping[str, str],
    licences: Mapping[str, int],
    dataset_config: Mapping[str, Any] | None = None,
) -> Model:
    """Publish weights, unless they are published already.

    Args:
        store: The root.
        name: Lower-case letters, digits, ``.``, ``_`` and ``-``.
        weights: State dict of the average.
        config: Everything that says how the network is built and was trained, plain values.
        dataset: Name and version of the dataset.
        metrics: Under names that carry their protocol.
        code_version: Version of idpose.
        trained_on: Device, precision and version of torch of the last step.
        licences: See :func:`storage.datasets.source_licences`.
        dataset_config: Of the dataset's build, so that a model that was moved knows how its
            pictures were cut.

    Returns:
        The version as it was published first: its metrics are not these if it existed.

    Raises:
        ModelError: The name is not one, or a file of this version holds something else.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise ModelError(f"{name!r} is no name of a model: use a-z, 0-9, '.', '_' and '-'")
    tensors = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    version = digest([weights_digest(tensors), config])[:12]
    folder = f"models/{name}/{version}"
    data = save(tensors)
    path = f"{folder}/model.safetensors"
    if not store.publish(path, data) and store.read(path) != data:
        raise ModelError(f"{path} is damaged: remove it and publish again")
    info = {
        "format": FORMAT,
        "name": name,
        "version": version,
        "config": config,
        "config_digest": digest(config),
        "dataset": {"name": dataset[0], "version": dataset[1], "config": dataset_config},
        "metrics": metrics,
        "code_version": code_version,
        "trained_on": trained_on,
        "licences": licences,
        "weights": file_entry(path, data),
        "created_at": _now(),
    }
    store.publish(f"{folder}/model.json", _pretty(info))
    return read_model(store, f"{name}@{version}")


def read_model(store: Store, model: str) -> Model:
    """The version ``name@version``, or the champion of ``name``.

    Raises:
        ModelError: There is no such version, or none was promoted.
        DamageError: Its ``model.json`` or the log cannot be used.
    """
    name, _, version = model.partition("@")
    if not version:
        version = champion(store, name) or ""
        if not version:
            published = ", ".join(f"{name}@{v}" for v in versions(store, name)) or "none"
            raise ModelError(
                f"no version of model {name!r} is promoted in {store.root}; published are "
                f"{published}"
            )
    path = f"models/{name}/{version}/model.json"
    try:
        text = store.read(path)
    except FileNotFoundError as error:
        published = ", ".join(f"{name}@{v}" for v in versions(store, name)) or "none"
        raise ModelError(
            f"no model {name}@{version} in {store.root}; published are {published}"
        ) from error
    try:
        info = json.loads(text)
        if info["version"] != version or info["format"] != FORMAT:
            raise ValueError(f"it is of version {info['version']}, format {info['format']}")
        _ = info["weights"]["path"], info["weights"]["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise DamageError(f"{path} cannot be used ({error}): put back a copy of it") from error
    return Model(name, version, info)


def names(store: Store) -> list[str]:
    """The names of all published models, sorted."""
    paths = (path.split("/") for path in store.list("models"))
    return sorted({parts[1] for parts in paths if len(parts) == 4 and parts[3] == "model.json"})


def versions(store: Store, name: str) -> list[str]:
    """The published versions of a model, sorted by name."""
    paths = (path.split("/") for path in store.list(f"models/{name}"))
    return [parts[2] for parts in paths if len(parts) == 4 and parts[3] == "model.json"]


def champion(store: Store, name: str) -> str | None:
    """The version that serves, or None where none was promoted.

    Raises:
        DamageError: The last entry of the log names no version.
    """
    entry = logs.last_entry(store, f"models/{name}/promotions")
    return entry["version"] if entry is not None else None


def promote(
    store: Store,
    name: str,
    version: str,
    reason: str = "",
    *,
    action: str = "promote",
    over: str | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> None:
    """Let a version serve.

    Args:
        store: The root.
        name: Name of the model.
        version: Which one.
        reason: Kept in the log.
        action: ``promote``, or ``force`` where the gate did not let it through.
        over: The version that it was measured against: promoted only while that one serves.
        evidence: What else is kept in the log.

    Raises:
        ModelError: It is not published, or another version than ``over`` serves.
    """
    if not version:
        published = ", ".join(f"{name}@{v}" for v in versions(store, name)) or "none"
        raise ModelError(f"name the version to promote; published are {published}")
    read_model(store, f"{name}@{version}")
    log = f"models/{name}/promotions"
    number = logs.last_number(store, log)
    entry = _entry(version, action, reason, **(evidence or {}))
    if over is None:
        logs.append_entry(store, log, entry)
    elif champion(store, name) != over or not logs.append_after(store, log, number, entry):
        raise ModelError(
            f"{name}@{over} does not serve any more, over which {name}@{version} was to be "
            "promoted: retrain again, which measures it against the one that serves"
        )
    logs.point(store, log, f"models/{name}/champion")


def rollback(store: Store, name: str, version: str | None = None, reason: str = "") -> str:
    """Let an earlier version serve again, by a new entry of the log. Returns it.

    Args:
        store: The root.
        name: Name of the model.
        version: Which one; by default the one that served before the current one was promoted,
            so that rolling back twice goes back two versions.
        reason: Kept in the log.

    Raises:
        ModelError: There is none to go back to, or it is not published.
    """
    if version is None:
        served = logs.serving(promotions(store, name))
        if len(served) < 2:
            raise ModelError(f"no version of model {name!r} served before this one: name one")
        version = served[-2]
    if not version:
        raise ModelError("name the version to go back to")
    read_model(store, f"{name}@{version}")
    log = f"models/{name}/promotions"
    logs.append_entry(store, log, _entry(version, "rollback", reason))
    logs.point(store, log, f"models/{name}/champion")
    return version


def promotions(store: Store, name: str) -> list[dict[str, Any]]:
    """The promotion log, oldest first: version, action (promote, force, rollback), reason."""
    return logs.entries(store, f"models/{name}/promotions")


def rounds(store: Store, name: str) -> list[dict[str, Any]]:
    """The rounds of retraining, oldest first: challenger and champion, decision, reasons, rows."""
    return logs.entries(store, f"models/{name}/rounds")


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Digest of names, types, shapes and values; not of how a file lays them out."""
    total = hashlib.blake2b(digest_size=16)
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        total.update(canonical([name, str(tensor.dtype), list(tensor.shape)]))
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _entry(version: str, action: str, reason: str, **more: Any) -> dict[str, Any]:
    return {**more, "version": version, "action": action, "reason": reason, "created_at": _now()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _pretty(value: Mapping[str, Any]) -> bytes:
    plain = json.loads(canonical(value))
    return json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"
