"""Converts detectron2's model-zoo files, which are pickles of numpy arrays, without trusting them.

An unpickler calls whatever the file names. This one knows the few names that arrays consist of
and refuses every other, so that a file can hold arrays or nothing.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import _reconstruct, scalar

from idpose_core.instances.weight_files import file_sha256, unusable_weights


def _latin1(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes; stands for ``codecs.encode``, which knows other codecs too."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes to {encoding}")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _latin1,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{
        (f"numpy.{core}.multiarray", function.__name__): function
        for core in ("core", "_core")
        for function in (_reconstruct, scalar)
    },
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None


def convert(source: Path, destination: Path) -> None:
    """Rewrites a model-zoo ``.pkl`` as ``.safetensors``.

    Args:
        source: A pickle of {"model": {name: array}, ...}, as in detectron2's model zoo.
        destination: The ``.safetensors`` file to write.

    Raises:
        ValueError: The file is missing or damaged, or holds anything but arrays.
    """
    from safetensors.torch import save_file

    file_sha256(source)  # a missing file is named as such
    with source.open("rb") as stream:
        try:
            # Python 2 wrote some of these files, hence the encoding
            content = _ArrayUnpickler(stream, encoding="latin1").load()
        except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError) as error:
            raise unusable_weights(source, f"not a pickle of arrays ({error})") from error
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, np.ndarray) for v in state.values()):
        raise unusable_weights(source, "does not hold {'model': {name: array}}")
    tensors = {str(k): torch.from_numpy(np.ascontiguousarray(v)) for k, v in state.items()}
    save_file(tensors, destination)
