"""Does it swap? The judged ID x pose matrix of a model, or of a run's average, on a dataset.

``python -m idpose_core.evaluation.swap_report MODEL DATASET --root ROOT --out FOLDER``
"""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from idpose_core.evaluation.evaluate import CEILING
from idpose_core.evaluation.generators import load_swapper
from idpose_core.evaluation.judges import AZIMUTH, IDENTITY, JudgeTraining
from idpose_core.evaluation.kept import judges_of
from idpose_core.evaluation.pictures import Pictures, full_precision
from idpose_core.evaluation.results import Measurement, to_json
from idpose_core.evaluation.swaps import (
    choose_swaps,
    control_swaps,
    draw_swaps,
    generate_swaps,
    judge_swaps,
    summarise,
)
from idpose_core.evaluation.views import LabelledViews, read_views
from idpose_core.stages.crop import encode_png
from idpose_core.training.samples import Generate
from storage.objects import Store

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class SwapReport:
    """What was found.

    Attributes:
        rows: In the form of docs/results.
        sheets: By method the matrix as one picture uint8 [H, W, 3].
    """

    rows: list[dict[str, Any]]
    sheets: dict[str, Pictures]


def report_swaps(
    store: Store,
    generators: dict[str, Generate],
    training: LabelledViews,
    held_out: LabelledViews,
    measurement: Measurement,
    *,
    size: int,
    ids: int = 16,
    poses: int = 24,
    device: str = "cpu",
    azimuth: JudgeTraining = AZIMUTH,
    identity: JudgeTraining = IDENTITY,
    say: Say = lambda line: None,
) -> SwapReport:
    """Judge the matrices of generators and of the controls on the same ID and pose pictures.

    Args:
        store: The root; the judges are kept there.
        generators: By name; each takes ID and pose pictures.
        training: Views of training identities, for the azimuth judge.
        held_out: Views of identities that no generator was trained on.
        measurement: What the rows have in common; its seed chooses the pictures.
        size: R, side of the generators' pictures.
        ids: Lines of the matrix.
        poses: Columns of the matrix.
        device: Where the generators are, and the judges.
        azimuth: How the azimuth judge is trained.
        identity: How the identity judge is trained.
        say: Told what is going on.

    Raises:
        ValueError: Views with which nothing can be measured.
    """
    judges = judges_of(
        store, training, held_out, size, azimuth=azimuth, identity=identity, device=device, say=say
    )
    swaps = choose_swaps(held_out, size, ids=ids, poses=poses, seed=measurement.seed)
    chance = {"identity_chance": judges.identity.chance}
    of_data = replace(measurement, model=None)
    rows = [
        of_data.row(CEILING, metric, found, **chance) for metric, found in judges.ceilings.items()
    ]
    matrices = {
        name: generate_swaps(swaps, generator, device=device)
        for name, generator in generators.items()
    } | dict(control_swaps(swaps))
    sheets = {}
    for name, outputs in matrices.items():
        found = judge_swaps(name, outputs, swaps, judges.azimuth, judges.identity)
        figures = summarise(found, swaps)
        whose = measurement if name in generators else of_data
        rows += [whose.row(name, metric, what, **chance) for metric, what in figures.items()]
        sheets[name] = draw_swaps(swaps, outputs)
        say(
            f"{name:20} azimuth error {figures['azimuth-error-median'].value:5.1f} deg (median), "
            f"hit {figures['azimuth-hit'].value:.0%}, opposite "
            f"{figures['azimuth-opposite'].value:.0%}; right identity first "
            f"{figures['identity-first'].value:.0%} (chance {judges.identity.chance:.0%}), rank "
            f"{figures['identity-rank'].value:.1f} of {len(judges.identity.names)}; distance "
            f"{figures['distance-to-oracle'].value:.1f}"
        )
    return SwapReport(rows, sheets)


def main() -> None:
    """Measure a published model; write ``swaps.json`` and one picture a method."""
    parser = argparse.ArgumentParser(description="The judged ID x pose matrix of a model")
    parser.add_argument("model", help="id of a run, NAME or NAME@VERSION")
    parser.add_argument("dataset", help="NAME or NAME@VERSION, with known azimuths")
    parser.add_argument("--root", default="idpose-data")
    parser.add_argument("--split", default="test", help="of the pictures that are swapped")
    parser.add_argument("--out", type=Path, default=Path("swaps"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--judge-steps", type=int, default=AZIMUTH.steps)
    asked = parser.parse_args()

    def say(line: str) -> None:
        print(line, flush=True)

    started, steps = time.monotonic(), asked.judge_steps
    store = Store(asked.root)
    subject = load_swapper(store, asked.model, device=asked.device)
    training = read_views(store, asked.dataset, "train")
    held_out = read_views(store, asked.dataset, asked.split)
    name, _, version = held_out.source.partition(":")[0].partition("@")
    measurement = Measurement(
        dataset=name,
        dataset_version=version,
        model=subject.name,
        seed=asked.seed,
        budget=f"{subject.steps} steps",
        command=shlex.join(
            ["python", "-m", "idpose_core.evaluation.swap_report", asked.model, asked.dataset]
            + (["--split", asked.split] if asked.split != "test" else [])
            + (["--seed", str(asked.seed)] if asked.seed else [])
            + (["--judge-steps", str(steps)] if steps != AZIMUTH.steps else [])
        ),
        device=asked.device,
    )
    with full_precision():
        found = report_swaps(
            store, {subject.method: subject.generator}, training, held_out, measurement,
            size=subject.size, device=asked.device, say=say,
            azimuth=replace(AZIMUTH, steps=steps), identity=replace(IDENTITY, steps=steps),
        )  # fmt: skip
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "swaps.json").write_text(to_json([*found.rows]), "utf-8")
    for method, sheet in found.sheets.items():
        (asked.out / f"swaps-{method}.png").write_bytes(encode_png(sheet))
    say(f"wrote {asked.out} in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
