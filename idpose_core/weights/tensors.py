"""Reading weights without ever unpickling code."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_tensors(path: Path) -> dict[str, Any]:
    """The state dict, or the checkpoint around one, that a file holds, on the CPU.

    ``.safetensors``, or whatever ``torch.load(weights_only=True)`` reads: zip files and the
    legacy format, files of PyTorch 0.2 written under Python 2 among them.

    Raises:
        ValueError: The file does not exist, is damaged, or holds more than tensors and plain
            containers (which would have to be executed). The message names cause and file.
    """
    if not path.is_file():
        raise ValueError(f"there is no weights file {path}")
    try:
        return load_tensors(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def load_tensors(path: Path) -> dict[str, Any]:
    """As :func:`read_tensors`, with the bare cause as the message, for callers that name the file.

    Raises:
        ValueError: See :func:`read_tensors`.
    """
    import torch  # here, so that what only looks for files starts fast and small

    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except (SafetensorError, OSError) as error:
            raise ValueError(f"damaged, not a whole safetensors file ({error})") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"damaged, or not tensors only ({cause})") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"a {type(content).__name__}, does not hold a state dictionary")
    return dict(content)
