"""The commands for one's own pictures: swap and compose."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from flows.messages import visible
from flows.options import JsonOption, RootOption, console, failures, find_root, print_json
from idpose_core.composition.blending import BLENDS
from idpose_core.composition.objects import NoObjectError, corners
from idpose_core.composition.photographs import read_photograph
from idpose_core.settings import ConfigError

if TYPE_CHECKING:  # it imports torch
    from idpose_core.composition.photographs import Picture
    from idpose_core.composition.swapper import Instance, Swapper

ModelOption = Annotated[
    str, typer.Option(help="NAME (serving), NAME@VERSION, a model's folder or .safetensors file")
]
OutOption = Annotated[Path, typer.Option(help="PNG file to write")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or cuda:N")]
Corners = tuple[float, ...]
Found = TypeVar("Found")
_FOUND = "auto"


def swap(
    model: ModelOption,
    ids: Annotated[list[Path], typer.Option("--id", help="Whose identity; may be repeated")],
    poses: Annotated[list[Path], typer.Option("--pose", help="Whose pose; may be repeated")],
    out: OutOption,
    boxes: Annotated[
        list[str] | None,
        typer.Option(
            "--box",
            metavar="X0,Y0,X1,Y1",
            help="The object in pixels; repeated: of the pictures in order, IDs first; auto = find",
        ),
    ] = None,
    crops: Annotated[bool, typer.Option("--crops", help="The pictures are cut already")] = False,
    device: DeviceOption = "cpu",
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a picture of one object in the pose of another; several give a matrix."""
    with failures():
        files = [*ids, *poses]
        marks = [_corners(text) for text in boxes or []]
        if len(marks) > len(files) or (marks and crops):
            raise ConfigError("--box marks one object a picture, and none with --crops")
        marks += [None] * (len(files) - len(marks))
        _check_out(out)
        pictures = [read_photograph(path) for path in files]
        from flows.swap import open_swapper
        from idpose_core.composition.swapper import drawn

        detect = not crops and None in marks
        swapper = open_swapper(find_root(root), model, device=device, detect=detect)
        _tell(swapper.notes)
        told: list[dict[str, Any]] = [{"file": str(path)} for path in files]
        if crops:
            views = [swapper.view_of_crop(picture) for picture in pictures]
        else:
            seen = list(map(_seen, [swapper] * len(files), files, pictures, marks))
            views = [one.view for one in seen]
            told = [{**what, **_described(one)} for what, one in zip(told, seen, strict=True)]
        lines, columns = views[: len(ids)], views[len(ids) :]
        _write(out, drawn(lines, columns, swapper.swap(lines, columns)))
        if as_json:
            found = {"ids": told[: len(ids)], "poses": told[len(ids) :], "size": swapper.size}
            print_json(_result(swapper, out, found))


def compose(
    model: ModelOption,
    scene: Annotated[Path, typer.Option(help="In which an object is replaced")],
    identity: Annotated[Path, typer.Option("--id", help="Whose identity it gets")],
    out: OutOption,
    blend: Annotated[str, typer.Option(help=", ".join(BLENDS))] = "alpha",
    boxes: Annotated[
        list[str] | None,
        typer.Option(
            "--box", metavar="X0,Y0,X1,Y1", help="An object of the scene; may be repeated"
        ),
    ] = None,
    id_box: Annotated[
        str, typer.Option("--id-box", metavar="X0,Y0,X1,Y1", help="The object of --id")
    ] = _FOUND,
    everything: Annotated[bool, typer.Option("--all", help="Replace every object")] = False,
    device: DeviceOption = "cpu",
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace an object of a scene by another identity in the same pose."""
    with failures():
        kind = next((one for one in BLENDS if one == blend), None)
        if kind is None:
            raise ConfigError(f"--blend takes {', '.join(BLENDS)}, not {blend!r}")
        if boxes and everything:
            raise ConfigError("--all finds the objects, and --box marks them: give one of them")
        marks, id_mark = [_corners(text) for text in boxes or [_FOUND]], _corners(id_box)
        _check_out(out)
        picture, of_identity = read_photograph(scene), read_photograph(identity)
        from flows.swap import open_swapper
        from idpose_core.composition.compose import compose as compose_scene

        detect = None in (*marks, id_mark)
        swapper = open_swapper(find_root(root), model, device=device, detect=detect)
        _tell(swapper.notes)
        whose = _seen(swapper, identity, of_identity, id_mark)
        if everything:
            objects = _naming(scene, swapper.look_at_all, picture)
        else:
            objects = [_seen(swapper, scene, picture, mark) for mark in marks]
        result, replaced = compose_scene(swapper, picture, objects, whose.view, kind=kind)
        _write(out, result)
        told = []
        for one in replaced:
            what = _described(one.instance)
            told.append({**what, "mask": one.mask_from, "uncovered": round(one.uncovered, 4)})
            if one.uncovered >= _WORTH_TELLING:
                box = ",".join(map(str, what["box"]))
                _tell([f"{one.uncovered:.0%} of the old object at {box} still shows"])
        if as_json:
            found = {"id": _described(whose), "objects": told, "blend": kind}
            print_json(_result(swapper, out, found))


_WORTH_TELLING = 0.02


def _seen(swapper: Swapper, path: Path, picture: Picture, mark: Corners | None) -> Instance:
    seen = _naming(path, swapper.look, picture, mark)
    what = _described(seen)
    box = ",".join(map(str, what["box"]))
    console.print(visible(f"{path}: {what['class']} {what['score']:.2f} at {box}"))
    return seen


def _naming(path: Path, look: Callable[..., Found], *arguments: Any) -> Found:
    """What a look at the picture of a file gives; what it fails with names the file."""
    try:
        return look(*arguments)
    except NoObjectError as error:
        raise NoObjectError(f"{path}: {error}") from error


def _described(seen: Instance) -> dict[str, Any]:
    found = seen.found
    box = corners(found.box, seen.photograph)
    return {"class": found.class_name, "score": round(found.score, 4), "box": box}


def _corners(text: str) -> Corners | None:
    """x0,y0,x1,y1 as it was written; None for what is to be found."""
    if text == _FOUND:
        return None
    try:
        x0, y0, x1, y1 = map(float, text.split(","))
    except ValueError as error:
        raise ConfigError(f"--box takes x0,y0,x1,y1 in pixels, not {text!r}") from error
    return x0, y0, x1, y1


def _check_out(out: Path) -> None:
    """Before the work, not after it."""
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out takes a file that ends in .png, not {out}")
    if not out.parent.is_dir():
        raise ConfigError(f"--out: there is no folder {out.parent}: create it")


def _write(out: Path, picture: Picture) -> None:
    from idpose_core.stages.crop import encode_png

    out.write_bytes(encode_png(picture))
    console.print(visible(f"wrote {out}"))


def _tell(notes: Iterable[str]) -> None:
    for note in notes:
        console.print(visible(f"note: {note}"))


def _result(swapper: Swapper, out: Path, found: dict[str, Any]) -> dict[str, Any]:
    about = {"model": swapper.subject.name, "path": str(out), "notes": swapper.notes}
    return {**about, **found}
