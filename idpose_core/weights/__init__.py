"""Pretrained networks: where from, which sha256, which licence."""

from idpose_core.weights.registry import PretrainedNetwork, list_weights, network_named
from idpose_core.weights.store import (
    StoredWeights,
    fetch_weights,
    find_weights,
    import_weights,
    verify_weights,
)
from idpose_core.weights.tensors import read_tensors

__all__ = [
    "PretrainedNetwork",
    "StoredWeights",
    "fetch_weights",
    "find_weights",
    "import_weights",
    "list_weights",
    "network_named",
    "read_tensors",
    "verify_weights",
]
