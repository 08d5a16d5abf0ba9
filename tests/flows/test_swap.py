"""`idpose swap` and `idpose compose` of one's own pictures, through the command line."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from flows import swap as opening
from flows.cli import app
from idpose_core.composition.photographs import read_photograph
from idpose_core.instances.boxes import Box, Detection
from idpose_core.training.published import promote
from storage.objects import Store
from tests.flows.builds import run
from tests.flows.test_evaluate import publish
from tests.training.worlds import commit_world

SIZE = 32  # of the model's pictures
CAR = Box(0.25, 0.75, 0.3, 0.7)
PIXELS = "100,90,300,210"


class Detector:
    """Finds a car in the middle of whatever is not white."""

    name, weights_sha256 = "known", None

    def detect(self, images: list[np.ndarray]) -> list[tuple[Detection, ...]]:
        blank = [bool((image == 255).all()) for image in images]
        far = Detection("car", 0.92, Box(0.02, 0.2, 0.05, 0.2))
        return [() if white else (Detection("car", 0.95, CAR), far) for white in blank]


def idpose(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def answer(*words: str) -> dict[str, object]:
    done = idpose(*words, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a dataset and a model of it that serves."""
    folder = tmp_path_factory.mktemp("swap")
    store = Store(folder)
    model = publish(store, commit_world(store))
    promote(store, *model.split("@"))
    return folder


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    draws = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        frame = draws.integers(60, 120, (300, 400, 3), dtype=np.uint8)
        colour = tuple(int(c) for c in draws.integers(0, 256, 3))
        cv2.ellipse(frame, (200, 150), (95, 55), 0, 0, 360, colour, -1)
        Image.fromarray(frame).save(folder / f"{name}.png")
    Image.new("RGB", (400, 300), "white").save(folder / "blank.png")
    return folder


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "resolve_weights", lambda *_: ("weights", "sha"))
    monkeypatch.setattr(opening, "load_detector", lambda *_, **__: Detector())


@pytest.mark.usefixtures("detector")
def test_two_pictures_in_one_out(root: Path, photographs: Path, tmp_path: Path) -> None:
    a, b = (str(photographs / f"{name}.png") for name in "ab")
    out = tmp_path / "out.png"
    words = ("--root", str(root), "--model", "cars-identity-pose", "--id", a, "--pose", b)
    found = answer("swap", *words, "--out", str(out))
    assert found["size"] == SIZE and found["notes"] == []
    seen = [{"file": a, "class": "car", "score": 0.95, "box": [100, 90, 300, 210]}]
    assert found["ids"] == seen
    picture = np.asarray(Image.open(out))
    assert picture.shape == (SIZE, SIZE, 3)
    swapper = opening.open_swapper(str(root), "cars-identity-pose")
    views = [swapper.look(read_photograph(Path(path))).view for path in (a, b)]
    assert (swapper.swap(views[:1], views[1:])[0, 0] == picture).all()


@pytest.mark.usefixtures("detector")
def test_several_pictures_make_a_matrix_with_its_inputs_at_the_margins(
    root: Path, photographs: Path, tmp_path: Path
) -> None:
    files = [str(photographs / f"{name}.png") for name in "abc"]
    out = tmp_path / "out.png"
    answer(
        "swap", "--root", str(root), "--model", "cars-identity-pose", "--id", files[0],
        "--id", files[1], "--pose", files[2], "--pose", files[0], "--pose", files[1],
        "--out", str(out),
    )  # fmt: skip
    sheet, step = np.asarray(Image.open(out)), SIZE + 4
    assert sheet.shape == (3 * step - 4, 4 * step - 4, 3)
    swapper = opening.open_swapper(str(root), "cars-identity-pose")
    views = [swapper.look(read_photograph(Path(path))).view for path in files]

    def cell(row: int, column: int) -> np.ndarray:
        at = row * step, column * step
        return sheet[at[0] : at[0] + SIZE, at[1] : at[1] + SIZE]

    assert (cell(0, 0) == 255).all()
    assert (cell(1, 0) == views[0]).all() and (cell(0, 1) == views[2]).all()
    made = swapper.swap([views[1]], [views[0]])[0, 0]
    assert (abs(cell(2, 2).astype(int) - made) <= 1).all()  # another batch, the last bit


def test_crops_and_marked_objects_need_no_detector(
    root: Path, photographs: Path, tmp_path: Path
) -> None:
    a, b = (photographs / f"{name}.png" for name in "ab")
    square = tmp_path / "crop.png"
    Image.open(a).crop((0, 0, 300, 300)).save(square)
    out = str(tmp_path / "out.png")
    words = ("swap", "--root", str(root), "--model", "cars-identity-pose", "--out", out)
    found = answer(*words, "--id", str(square), "--pose", str(square), "--crops")
    assert found["ids"] == [{"file": str(square)}]
    boxes = ("--box", PIXELS, "--box", PIXELS)
    found = answer(*words, "--id", str(a), "--pose", str(b), *boxes)
    assert found["poses"] == [
        {"file": str(b), "class": "marked", "score": 1.0, "box": [100, 90, 300, 210]}
    ]


def test_a_model_by_itself_says_what_is_missing_and_gives_the_same(
    root: Path, photographs: Path, tmp_path: Path
) -> None:
    (folder,) = (path.parent for path in root.glob("models/*/*/model.json"))
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    a, b = (str(photographs / f"{name}.png") for name in "ab")
    pictures = ("--id", a, "--pose", b, "--box", PIXELS, "--box", PIXELS)
    made = []
    version = json.loads((moved / "model.json").read_text())["version"]
    here = ("cars-identity-pose", f"cars-identity-pose@{version}")
    alone = (str(moved), str(moved / "model.safetensors"))
    for model, where in [*((m, root) for m in here), *((m, tmp_path / "none") for m in alone)]:
        out = tmp_path / "out.png"
        found = answer("swap", "--root", str(where), "--model", model, *pictures, "--out", str(out))
        assert ("is not in" in str(found["notes"])) == (model in alone)
        assert found["model"] == f"cars-identity-pose@{version}"
        made.append(out.read_bytes())
    assert len(set(made)) == 1


@pytest.mark.usefixtures("detector")
def test_compose_replaces_the_scenes_object_and_nothing_else(
    root: Path, photographs: Path, tmp_path: Path
) -> None:
    scene, out = photographs / "a.png", tmp_path / "out.png"
    words = ("--root", str(root), "--model", "cars-identity-pose", "--scene", str(scene))
    found = answer("compose", *words, "--id", str(photographs / "b.png"), "--out", str(out))
    (what,) = found["objects"]  # type: ignore[misc]
    assert what["box"] == [100, 90, 300, 210] and 0 <= what["uncovered"] <= 1
    before, after = (np.asarray(Image.open(path)) for path in (scene, out))
    changed = (before != after).any(axis=2)
    assert changed[150, 200] and not changed[:60].any() and not changed[:, :60].any()
    found = answer(
        "compose", *words, "--id", str(photographs / "b.png"), "--out", str(out), "--all",
        "--blend", "laplacian",
    )  # fmt: skip
    assert len(found["objects"]) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--pose", "{a}", "--model", "none"), 1, "no version of model 'none' is promoted"),
        (("--pose", "{a}", "--out", "x.jpg"), 2, "ends in .png"),
        (("--pose", "{a}", "--out", "no/x.png"), 2, "there is no folder no: create it"),
        (("--pose", "{a}", "--box", "1,2,3"), 2, "takes x0,y0,x1,y1 in pixels, not '1,2,3'"),
        (("--pose", "{a}", "--box", "5,5,2,9", "--box", PIXELS), 1, "a.png: the box 5,5,2,9 is n"),
        (("--pose", "{a}", "--crops"), 1, "a crop is square, not 400 x 300 pixels"),
        (("--pose", "{a}", "--crops", "--box", PIXELS), 2, "none with --crops"),
        (("--pose", "{a}"), 1, "no detector's weights are here"),
        (("--pose", "gone.png"), 1, "gone.png is not there"),
        (("--pose", "{a}", "--model", "gone.safetensors"), 1, "has no model.json: copy the whole"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_has_one_message(
    root: Path,
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IDPOSE_WEIGHTS", str(tmp_path))
    given = [word.format(a=photographs / "a.png") for word in words]
    plain = ["--root", str(root), "--id", str(photographs / "a.png")]
    for option, value in (("--model", "cars-identity-pose"), ("--out", "x.png")):
        plain += [] if option in given else [option, value]
    done = idpose("swap", *plain, *given)
    assert done.exit_code == code and message in done.output, done.output
    assert len(done.output.strip().splitlines()) == 1
    assert not (tmp_path / "x.png").exists()


@pytest.mark.usefixtures("detector")
def test_no_object_names_the_file_and_the_remedy(
    root: Path, photographs: Path, tmp_path: Path
) -> None:
    blank = str(photographs / "blank.png")
    words = ("--root", str(root), "--model", "cars-identity-pose", "--out", str(tmp_path / "x.png"))
    done = idpose("swap", *words, "--id", blank, "--pose", blank)
    assert done.exit_code == 1
    assert f"{blank}: no car is found" in done.output and "mark it with --box" in done.output


@pytest.mark.skipif("IDPOSE_REAL_DATA" not in os.environ, reason="IDPOSE_REAL_DATA is not set")
@pytest.mark.slow
def test_photographs_with_a_real_detector_in_a_process_of_its_own(
    root: Path, tmp_path: Path
) -> None:
    data = Path(os.environ["IDPOSE_REAL_DATA"])
    env = {"IDPOSE_WEIGHTS": str(tmp_path)}
    network = str(data / "detector" / "yolox_nano.onnx")
    assert run(["weights", "import", "yolox-nano", network], env).returncode == 0
    scene, car = data / "stills/000000005037.jpg", data / "spins/renault_kadjar_red/000.jpg"
    out = tmp_path / "out.png"
    words = ["--root", str(root), "--model", "cars-identity-pose", "--out", str(out), "--json"]
    done = run(["swap", *words, "--id", str(car), "--pose", str(scene)], env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["ids"][0]["class"] == "car"
    done = run(["compose", *words, "--id", str(car), "--scene", str(scene)], env)
    assert done.returncode == 0, done.stderr
    assert Image.open(out).size == Image.open(scene).size
