"""Reading weights without ever unpickling code."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def file_sha256(path: Path) -> str:
    """The file's sha256 in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_tensors(path: Path) -> dict[str, Any]:
    """The state dict, or the checkpoint around one, that a file holds, on the CPU.

    ``.safetensors``, or whatever ``torch.load(weights_only=True)`` reads: zip files and the
    legacy format, files of PyTorch 0.2 written under Python 2 among them.

    Raises:
        ValueError: The file does not exist, is damaged, or holds more than tensors and plain
            containers (which would have to be executed).
    """
    if not path.is_file():
        raise ValueError(f"there is no weights file {path}")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is damaged, or holds more than tensors: {cause}") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a state dict")
    return dict(content)
