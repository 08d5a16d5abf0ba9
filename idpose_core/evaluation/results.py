"""Rows of measured tables, in the form of ``docs/results/*.json``."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch

from idpose_core.evaluation.intervals import Estimate

_DIGITS = 6


@dataclass(frozen=True)
class Measurement:
    """What all rows of one measurement have in common.

    Attributes:
        dataset, dataset_version: What was measured on.
        model: ``name@version``; None where no trained model takes part.
        seed: Of the measurement's own choices.
        budget: What it cost or was allowed.
        command: That gives these rows again.
        device: What computed them, a torch device.
    """

    dataset: str
    dataset_version: str
    model: str | None
    seed: int
    budget: str
    command: str
    device: str = "cpu"

    def row(self, method: str, metric: str, found: Estimate, **more: Any) -> dict[str, Any]:
        """One row.

        Args:
            method: What was measured: the model's method, a control, a ceiling.
            metric: Its name carries its protocol.
            found: The number.
            more: Further columns, such as a warning.
        """
        now = datetime.now(UTC)

        def rounded(value: float | None) -> float | None:
            return None if value is None else round(value, _DIGITS)

        return {
            "dataset": self.dataset,
            "dataset_version": self.dataset_version,
            "method": method,
            "model": self.model,
            "seed": self.seed,
            "metric": metric,
            "value": rounded(found.value),
            "ci_low": rounded(found.low),
            "ci_high": rounded(found.high),
            "n": found.n,
            "identities": found.identities,
            "budget": self.budget,
            "machine": machine(self.device),
            "date": now.date().isoformat(),
            "time": now.time().isoformat("seconds"),
            "command": self.command,
            **more,
        }


def machine(device: str) -> str:
    """This machine in words, with the torch device that it computed on."""
    name = "the CPU" if device == "cpu" else torch.cuda.get_device_name(device)
    return f"{platform.machine()}, {os.cpu_count()} CPU cores, computed on {name}"


def to_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """The text of a file of rows."""
    return json.dumps({"rows": list(rows)}, indent=1, allow_nan=False) + "\n"
