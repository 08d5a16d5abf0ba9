"""Checkpoints: all of a training, whole or not at all, and never code.

Tensors lie in safetensors, everything else (steps, hyperparameters, configuration) in JSON. The
tensors' file carries their digest in its name and is written first; the JSON names it and is
written last, each by temporary file, fsync, rename and fsync of the folder. So a kill or a full
disk at any moment leaves every earlier checkpoint whole, and no later one half.
"""

from __future__ import annotations

import contextlib
import json
import math
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from storage.digests import canonical, digest, sha256
from storage.errors import StoreError, ToldError
from storage.objects import Store

FORMAT = 1
_KEPT = 3


class CheckpointError(ToldError):
    """A checkpoint cannot be used or written; the message names it and the remedy."""


@dataclass(frozen=True)
class Checkpoint:
    """What a training goes on from.

    Attributes:
        step: Number of finished steps.
        state: As it was saved, tensors on the CPU.
        score: What it was ranked by, lower is better; None if it was not.
        damaged: What is wrong with each newer checkpoint that could not be used.
    """

    step: int
    state: dict[str, Any]
    score: float | None
    damaged: tuple[str, ...]


class Checkpoints:
    """The checkpoints of one run, in ``runs/<run>/checkpoints/``.

    Args:
        store: The root.
        run: Id of the run.
        config: The run's configuration, plain values; a checkpoint of another one is refused.
        keep: How many of the newest are kept, beside the one with the best score. With one, a
            damaged file would leave nothing to fall back to.
    """

    def __init__(
        self, store: Store, run: str, config: Mapping[str, Any], *, keep: int = _KEPT
    ) -> None:
        if keep < 1:
            raise ValueError(f"at least one checkpoint is kept, not {keep}")
        self.folder = f"runs/{run}/checkpoints"
        self.config = json.loads(canonical(config))
        self._store = store
        self._keep = keep

    def save(self, step: int, state: Mapping[str, Any], score: float | None = None) -> None:
        """Write a checkpoint, then remove those that are no longer wanted.

        Args:
            step: Number of finished steps.
            state: Mappings (keys: text or integers), lists and tuples of tensors, text, numbers,
                booleans and None, such as state dicts of networks and optimisers.
            score: Ranks the checkpoint; lower is better.

        Raises:
            CheckpointError: It could not be written; every earlier one stands.
            TypeError: The state holds something else.
        """
        tensors: dict[str, Tensor] = {}
        plain = _to_plain(state, "", tensors)
        data = safetensors_bytes(tensors)
        checksum = sha256(data)
        content = {
            "format": FORMAT,
            "step": step,
            "score": score if score is not None and math.isfinite(score) else None,
            "config": self.config,
            "config_digest": digest(self.config),
            "tensors": {
                "path": f"{self.folder}/{step:09d}-{checksum[:16]}.safetensors",
                "bytes": len(data),
                "sha256": checksum,
            },
            "state": plain,
        }
        try:
            self._store.replace(content["tensors"]["path"], data)
            # Not the canonical text, which would sort the keys of the state.
            text = json.dumps({**content, "digest": digest(content)}, allow_nan=False)
            self._store.replace(self._document(step), text.encode() + b"\n")
        except OSError as error:
            raise CheckpointError(
                f"the checkpoint of step {step} could not be written ({error}): make room; the "
                "checkpoints before it are whole, and the same command goes on from the last"
            ) from error
        self._remove_unwanted()

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, whole or damaged, in order."""
        pattern = re.compile(re.escape(self.folder) + r"/(\d{9,})\.json")
        found = (pattern.fullmatch(path) for path in self._store.list(self.folder))
        return sorted(int(match[1]) for match in found if match)

    def latest(self) -> Checkpoint | None:
        """The newest whole checkpoint, or None where there is none at all.

        Raises:
            CheckpointError: A checkpoint is of another configuration or format, a pickle lies in
                its place, or all are damaged. Nothing is removed then.
        """
        damaged: list[str] = []
        for step in reversed(self.steps()):
            try:
                return self._load(step, tuple(damaged))
            except _DamagedError as error:
                damaged.append(str(error))
        if damaged:
            raise CheckpointError(
                "; ".join(damaged) + ": no whole checkpoint is left; put back a copy, or start "
                "afresh with --new"
            )
        return None

    def best(self) -> Checkpoint | None:
        """The whole checkpoint with the lowest score, or None where none has one.

        Raises:
            CheckpointError: As for :meth:`latest`, but a damaged one is left out.
        """
        scored = [(s, step) for step in self.steps() if (s := self._score(step)) is not None]
        damaged: list[str] = []
        for _, step in sorted(scored):
            try:
                return self._load(step, tuple(damaged))
            except _DamagedError as error:
                damaged.append(str(error))
        return None

    def _document(self, step: int) -> str:
        return f"{self.folder}/{step:09d}.json"

    def _load(self, step: int, damaged: tuple[str, ...]) -> Checkpoint:
        document = self._read_document(step)
        if digest(document["config"]) != digest(self.config):
            key, saved, wanted = first_difference(document["config"], self.config)
            raise CheckpointError(
                f"{self._document(step)} is of another configuration: {key} was {saved} and is "
                f"{wanted} now; set it back, or start a new run"
            )
        path = document["tensors"]["path"]
        data = self._read(path)
        if sha256(data) != document["tensors"]["sha256"]:
            raise _DamagedError(f"{path} is damaged")
        try:
            state = _from_plain(document["state"], load(data))
        except (SafetensorError, KeyError) as error:
            raise _DamagedError(
                f"{path} does not hold the tensors of its step ({error})"
            ) from error
        return Checkpoint(step, state, document["score"], damaged)

    def _read_document(self, step: int) -> dict[str, Any]:
        path = self._document(step)
        text = self._read(path)
        try:
            document = json.loads(text)
            claimed = document.pop("digest")
            intact = claimed == digest(document) and document["step"] == step
            intact &= document.keys() >= {"format", "score", "config", "tensors", "state"}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _DamagedError(f"{path} is damaged ({error})") from error
        if not intact:
            raise _DamagedError(f"{path} is damaged")
        if document["format"] != FORMAT:
            raise CheckpointError(
                f"{path} has format {document['format']}, this idpose reads {FORMAT}: use the "
                "idpose that wrote it, or start a new run"
            )
        return dict(document)

    def _read(self, path: str) -> bytes:
        try:
            data = self._store.read(path)
        except FileNotFoundError as error:
            raise _DamagedError(f"{path} is missing") from error
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error
        if is_pickle(data):
            raise CheckpointError(
                f"{path} is a pickle, which can run code when it is read: it was not written by "
                "idpose and is not read; remove it if you know where it came from"
            )
        return data

    def _score(self, step: int) -> float | None:
        try:
            score = self._read_document(step)["score"]
        except (_DamagedError, CheckpointError):
            return None
        return float(score) if score is not None else None

    def _remove_unwanted(self) -> None:
        """Keep the newest and the best; failing to remove is no failure to save."""
        steps = self.steps()
        wanted = set(steps[-self._keep :])
        scored = [(s, step) for step in steps if (s := self._score(step)) is not None]
        wanted |= {step for _, step in sorted(scored)[:1]}
        with contextlib.suppress(OSError, StoreError):
            for step in steps:
                if step not in wanted:
                    self._store.delete(self._document(step))
            self._remove_tensors_without_document(wanted)

    def _remove_tensors_without_document(self, wanted: set[int]) -> None:
        named = set()
        for step in wanted:
            try:
                named.add(self._read_document(step)["tensors"]["path"])
            except (_DamagedError, CheckpointError):
                return  # it cannot say which tensors are its own
        # Newer ones may be about to get theirs, from a process that was thought dead.
        newest = f"{self.folder}/{max(wanted):09d}"
        for path in self._store.list(self.folder):
            if path.endswith(".safetensors") and path < newest and path not in named:
                self._store.delete(path)


_TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def safetensors_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """The tensors as one safetensors file, on any device, also where names share memory.

    ``safetensors.torch.save`` does the same with three more copies: of the 9 seconds that a
    checkpoint of 0.8 GB took it had 6, and it takes 2.6 so. The format: length of the JSON head
    (8 bytes), head, values.
    """
    head: dict[str, Any] = {}
    parts: list[Any] = []
    end = 0
    # The widest types first, so that every value is aligned.
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])):
        flat = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        start, end = end, end + flat.numel()
        head[name] = {
            "dtype": _TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
        parts.append(flat.numpy())
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


class _DamagedError(Exception):
    """A checkpoint is not what was written."""


def random_state(*, cuda: bool) -> dict[str, Any]:
    """The states of the generators that libraries share, for a checkpoint.

    Sampling and augmentation need none of them: their draws are functions of the step.

    Args:
        cuda: Those of CUDA too, which looking at would otherwise start.
    """
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (str(name), [int(key) for key in keys], *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if cuda else [],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Go on from :func:`random_state`; on another number of GPUs theirs are left alone."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def first_difference(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[str, str, str]:
    """The first key, in order of names, in which two configurations differ, and both its values."""
    old, new = (dict(_leaves(config)) for config in (saved, wanted))
    for key in sorted(old.keys() | new.keys()):
        first, second = (json.dumps(c[key]) if key in c else "absent" for c in (old, new))
        if first != second:
            return key, first, second
    raise ValueError("the configurations are equal")


def is_pickle(data: bytes) -> bool:
    """Whether bytes look like a pickle or a zip archive, as ``torch.save`` writes them.

    A pickle of a protocol before 2 begins with no mark; it is refused as damaged.
    """
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= len(data) - 8:
        return False  # safetensors: the length of a JSON head, which may begin with any byte
    return data.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"))


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


# Plain JSON keeps neither tensors nor tuples nor integer keys: they are written as a mapping with
# one of these keys.
_TENSOR, _TUPLE, _ITEMS = "$tensor", "$tuple", "$items"


def _to_plain(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"the state's {path} is {value}: a checkpoint keeps finite numbers")
        return value
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.dtype not in _TYPES:
            raise TypeError(f"the state's {path} is a tensor of {value.layout}, {value.dtype}")
        while path in tensors:  # {"a.b": ...} beside {"a": {"b": ...}}
            path += "'"
        tensors[path] = value
        return {_TENSOR: path}
    if isinstance(value, Mapping):
        return _mapping_to_plain(value, path, tensors)
    if isinstance(value, list | tuple):
        items = [_to_plain(v, f"{path}.{i}", tensors) for i, v in enumerate(value)]
        return {_TUPLE: items} if isinstance(value, tuple) else items
    raise TypeError(f"the state's {path} is a {type(value).__name__}: a checkpoint keeps none")


def _mapping_to_plain(value: Mapping[Any, Any], path: str, tensors: dict[str, Tensor]) -> Any:
    for key in value:
        if isinstance(key, bool) or not isinstance(key, str | int):
            raise TypeError(f"the state's {path} has the key {key!r}: keys are text or integers")
    items = [
        (key, _to_plain(item, f"{path}.{key}" if path else str(key), tensors))
        for key, item in value.items()
    ]
    if all(isinstance(key, str) and not key.startswith("$") for key, _ in items):
        return dict(items)
    return {_ITEMS: [list(item) for item in items]}


def _from_plain(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_from_plain(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        return tensors[value[_TENSOR]]
    if _TUPLE in value:
        return tuple(_from_plain(item, tensors) for item in value[_TUPLE])
    if _ITEMS in value:
        return {key: _from_plain(item, tensors) for key, item in value[_ITEMS]}
    return {key: _from_plain(item, tensors) for key, item in value.items()}
