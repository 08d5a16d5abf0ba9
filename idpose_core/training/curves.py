"""The curves of a training as one picture.

``python -m idpose_core.training.curves RUN --root ROOT --out curves.png``
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from idpose_core.training.journal import read_metrics
from storage.objects import Store

Curves = dict[str, tuple[list[int], list[float]]]

# What belongs into one panel, by how the names of ``metrics.jsonl`` begin, and its scale.
_PANELS = {
    "Losses of the generator": ("L", "log"),
    "Losses of the discriminators": ("D_", "log"),
    "Distance on held-out triplets": ("held_out/", "linear"),
    "Gradient norms at the output": ("gradient/", "log"),
}


def curves_of(rows: Iterable[Mapping[str, Any]], beginning: str) -> Curves:
    """Steps and values of what begins so, named without what stands before a slash."""
    curves: Curves = {}
    for row in rows:
        for name, value in row.items():
            if name.startswith(beginning):
                steps, values = curves.setdefault(name.rpartition("/")[2], ([], []))
                steps.append(row["step"])
                values.append(value)
    return curves


def draw_curves(rows: Iterable[Mapping[str, Any]], title: str) -> bytes:
    """Draw one panel for each kind of quantity that was recorded.

    Args:
        rows: Of ``metrics.jsonl``.
        title: Above the picture.

    Returns:
        A PNG file.

    Raises:
        ValueError: Nothing that could be drawn is recorded.
    """
    rows = list(rows)
    panels = {name: curves_of(rows, beginning) for name, (beginning, _) in _PANELS.items()}
    panels = {name: curves for name, curves in panels.items() if curves}
    if not panels:
        raise ValueError("nothing is recorded yet: the first line comes after training.log_every")
    figure = Figure(figsize=(10, 3.4 * -(-len(panels) // 2)), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(-(-len(panels) // 2), 2, squeeze=False).flat
    # Panels first: zip would else take an axis more than it gives, and an empty one would stay.
    for (name, curves), axis in zip(panels.items(), axes, strict=False):
        for label, (steps, values) in curves.items():
            axis.plot(steps, values, label=label, marker="." if len(steps) < 30 else None)
        axis.set(title=name, xlabel="step", yscale=_PANELS[name][1])
        if axis.get_yscale() == "log":
            axis.yaxis.set_major_formatter(LogFormatter())
            axis.yaxis.set_minor_formatter(LogFormatter())
        axis.grid(alpha=0.3, which="both")
        axis.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    for axis in list(axes):
        axis.remove()
    file = BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return file.getvalue()


def main() -> None:
    """Draw the curves of one run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run")
    parser.add_argument("--root", default="idpose-data")
    parser.add_argument("--out", type=Path, default=Path("curves.png"))
    arguments = parser.parse_args()
    rows = read_metrics(Store(arguments.root), arguments.run)
    try:
        arguments.out.write_bytes(draw_curves(rows, arguments.run))
    except ValueError as error:
        parser.error(f"run {arguments.run}: {error}")


if __name__ == "__main__":
    main()
