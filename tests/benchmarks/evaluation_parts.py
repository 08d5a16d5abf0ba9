"""Where the time of an evaluation goes: a frozen set through ``idpose evaluate``, by part.

    python -m tests.benchmarks.evaluation_parts ROOT MODEL SET [--metric NAME]...
        [--training-steps N] [--out docs/results/evaluation-parts.json]

A part's seconds are its own, without those of parts within it, so that all together are the whole
run. Networks that are trained to measure should lie in ROOT already; else their training is a part.
``controls`` as MODEL measures without a model.
"""

from __future__ import annotations

import argparse
import pkgutil
import resource
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

import flows.evaluate
from idpose_core.evaluation.intervals import Estimate
from idpose_core.evaluation.results import Measurement, to_json

PARTS = {
    "flows.evaluate.load_subject": "model read",
    "flows.evaluate.read_set": "pictures read and decoded",
    "flows.evaluate.load_instruments": "networks read",
    "flows.evaluate._publish_sheet": "sheet of swaps",
    "idpose_core.evaluation.kept.train_score": "networks trained",
    "idpose_core.evaluation.kept.train_azimuth_judge": "networks trained",
    "idpose_core.evaluation.kept.train_identity_judge": "networks trained",
    "idpose_core.evaluation.evaluate.generated": "generator",
    "idpose_core.evaluation.evaluate.control_outputs": "controls",
    "idpose_core.evaluation.evaluate.pixel_distances": "pixel-l1",
    "idpose_core.evaluation.evaluate.chroma_errors": "chroma error",
    "idpose_core.evaluation.evaluate.lpips_distances": "{}",
    "idpose_core.evaluation.evaluate.extract": "{}: features",
    "idpose_core.evaluation.evaluate.gaussian": "FD",
    "idpose_core.evaluation.evaluate.frechet_distance": "FD",
    "idpose_core.evaluation.evaluate.kernel_distance": "KID and its interval",
    "idpose_core.evaluation.evaluate.precision_recall": "precision and recall",
    "idpose_core.evaluation.evaluate.affinity_scores": "{}",
    "idpose_core.evaluation.evaluate.masked": "pictures masked",
    "idpose_core.evaluation.judges.AzimuthJudge.azimuth": "judges",
    "idpose_core.evaluation.judges.IdentityJudge.rank": "judges",
    "idpose_core.evaluation.evaluate.measure_swap_score": "swap score",
    "idpose_core.evaluation.evaluate.estimate": "intervals",
    "idpose_core.evaluation.evaluate.paired_difference": "intervals",
    "storage.objects.Store.publish": "rows written",
    "storage.objects.Store.replace": "rows written",
}
"""What is timed, and as which part; ``{}`` is the name of the instrument that is handed to it."""


class Stopwatch:
    """Wall and CPU seconds of the innermost part that is open."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self._open, self._last = ["everything else"], (time.monotonic(), time.process_time())
        self._names: dict[int, str] = {}

    def tick(self) -> None:
        """Count what has passed until now."""
        now = (time.monotonic(), time.process_time())
        counted = self.seconds.setdefault(self._open[-1], [0.0, 0.0])
        for clock in range(2):
            counted[clock] += now[clock] - self._last[clock]
        self._last = now

    def timed(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        """The function, counted as a part."""

        def run(*given: Any, **named: Any) -> Any:
            name = label.format(self._names.get(id(given[0]))) if "{}" in label else label
            self.tick()
            self._open.append(name)
            try:
                return function(*given, **named)
            finally:
                self.tick()
                self._open.pop()

        return run

    def instruments(self, load: Callable[..., Any]) -> Callable[..., Any]:
        """The function that loads the instruments; what it gives is known by name from then on."""

        def run(*given: Any, **named: Any) -> Any:
            found, left_out = load(*given, **named)
            self._names |= {id(metric): name for name, metric in found.lpips.items()}
            self._names |= {id(network): network.name for network in found.features}
            self._names |= {id(network): name for name, (network, _) in found.scores.items()}
            return found, left_out

        return run


def main() -> None:
    """Measure, and write rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root")
    parser.add_argument("model")
    parser.add_argument("set")
    parser.add_argument("--metric", action="append", help="only this; may be repeated")
    parser.add_argument("--training-steps", type=int)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    watch = Stopwatch()
    with ExitStack() as stack:
        for path, label in PARTS.items():
            stack.enter_context(patch(path, watch.timed(pkgutil.resolve_name(path), label)))
        load = watch.instruments(flows.evaluate.load_instruments)
        stack.enter_context(patch("flows.evaluate.load_instruments", load))
        found = flows.evaluate.evaluate_model(
            asked.root, asked.model, evaluation_set=asked.set, metrics=asked.metric,
            training_steps=asked.training_steps, device="cpu",
        )  # fmt: skip
        watch.tick()
    first = found.rows[0]
    measurement = Measurement(
        dataset=first["dataset"],
        dataset_version=first["dataset_version"],
        model=None if asked.model == "controls" else found.model,
        seed=0,
        budget=f"{torch.get_num_threads()} threads, set {asked.set}",
        command=f"python -m tests.benchmarks.evaluation_parts ROOT {shlex.join(sys.argv[2:])}",
    )
    whole = [sum(column) for column in zip(*watch.seconds.values(), strict=True)]
    rows = []
    for part, spent in {**watch.seconds, "whole": whole}.items():
        print(f"{part:32} {spent[0]:9.2f} s {spent[1]:9.2f} s of CPU")
        for metric, value in zip(("seconds", "CPU seconds"), spent, strict=True):
            rows.append(measurement.row(part, metric, Estimate(value, None, None, first["n"], 1)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows.append(measurement.row("whole", "peak MB", Estimate(peak, None, None, first["n"], 1)))
    if asked.out:
        asked.out.write_text(to_json(rows), "utf-8")


if __name__ == "__main__":
    main()
