"""Reading detector weights: without unpickling, and with errors that name cause and remedy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from idpose_core.weights.tensors import load_tensors
from storage import digests


def unusable_weights(path: Path, cause: str) -> ValueError:
    """The error for a weights file that cannot be used: which file, why, and what to do."""
    return ValueError(
        f"detector weights {path}: {cause}. "
        "Import the right file with `idpose weights import NAME PATH`, or set detector.weights."
    )


def file_sha256(path: Path) -> str:
    """The file's sha256, in hexadecimal.

    Raises:
        ValueError: There is no such file, or it cannot be read.
    """
    if not path.exists():
        raise unusable_weights(path, "no such file")
    try:
        return digests.file_sha256(path)
    except OSError as error:
        raise unusable_weights(path, f"cannot be read ({error})") from error


def read_state(path: Path) -> dict[str, Tensor]:
    """Reads a state dictionary from ``.safetensors``, or from ``.pth``/``.pt`` without unpickling.

    A training checkpoint that holds the state under ``model`` or ``state_dict`` is accepted.

    Raises:
        ValueError: Another kind of file, a damaged one, or one that holds more than tensors.
    """
    if path.suffix not in {".safetensors", ".pth", ".pt"}:
        raise unusable_weights(
            path, f"{path.suffix or 'no suffix'} is not read (only .safetensors, .pth and .pt are)"
        )
    try:
        content: Mapping[str, Any] = load_tensors(path)
    except ValueError as error:
        raise unusable_weights(path, str(error)) from error
    for key in ("model", "state_dict"):
        if isinstance(content.get(key), Mapping):
            content = content[key]
    if not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise unusable_weights(path, "does not hold a state dictionary")
    return dict(content)


def load_into(model: nn.Module, path: Path, *, ignored: tuple[str, ...] = ()) -> str:
    """Loads weights into a model, every tensor of it and no other.

    Args:
        model: Its parameters and buffers are overwritten.
        path: Read by :func:`read_state`.
        ignored: Prefixes of names in the file that are constants of the architecture.

    Returns:
        The file's sha256.

    Raises:
        ValueError: The file is missing or damaged, or does not fit the architecture.
    """
    sha256 = file_sha256(path)
    state = {k: v for k, v in read_state(path).items() if not k.startswith(ignored or ("\0",))}
    wanted = model.state_dict()
    missing = sorted(wanted.keys() - state.keys())
    unknown = sorted(state.keys() - wanted.keys())
    resized = sorted(k for k in wanted.keys() & state.keys() if wanted[k].shape != state[k].shape)
    problems = [
        f"{len(names)} tensors {what}, the first is {names[0]}"
        for names, what in (
            (missing, "missing"),
            (unknown, "unknown"),
            (resized, "of another size"),
        )
        if names
    ]
    if problems:
        raise unusable_weights(path, "does not fit the network: " + "; ".join(problems))
    model.load_state_dict(state)
    return sha256
