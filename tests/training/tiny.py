"""A training small enough for tests: a second or less for ten steps."""

from __future__ import annotations

from typing import Any

SETTINGS: dict[str, Any] = {
    "training.preset": "paper",
    "training.learning_rate": 2e-4,
    "training.steps": 12,
    "training.batch_size": 4,
    "training.checkpoint_every": 4,
    "training.sample_every": 6,
    "training.log_every": 3,
    "training.measure_every": 6,
    "generator.size": 32,
    "generator.n_down": 2,
    "generator.width": 4,
    "generator.n_blocks": 1,
    "generator.decoder_norm": "layer",
    "discriminator.width": 4,
    "perceptual.kind": "pixel-l1",
    "run.device": "cpu",
}


def set_options(**other: Any) -> list[str]:
    """The settings, and others with ``__`` for a dot, as options of the command line."""
    keys = SETTINGS | {name.replace("__", "."): value for name, value in other.items()}
    return [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
