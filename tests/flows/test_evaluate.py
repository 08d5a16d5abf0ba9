"""The commands evaluate, freeze and table, the whole way."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import save_file

from flows.evaluate import evaluate_model, export_set, freeze
from flows.train import train_dataset
from idpose_core.evaluation.exchange import Outputs
from idpose_core.evaluation.generators import load_subject
from idpose_core.evaluation.instruments import EvaluationError
from idpose_core.evaluation.pictures import generated
from idpose_core.evaluation.roles import RoleError
from idpose_core.evaluation.sets import freeze_set
from idpose_core.evaluation.truth import truth_triplets
from idpose_core.models.generator import Generator, GeneratorConfig
from idpose_core.pose.rotnet import initialise
from idpose_core.settings import ConfigError
from idpose_core.stages.crop import decode_png, encode_png
from idpose_core.training.config import resolve
from idpose_core.training.published import ModelError, promote, publish_model
from idpose_core.training.runs import describe_run, open_run
from idpose_core.weights import import_weights
from storage.datasets import Draft, commit, read_manifest, read_table
from storage.errors import DatasetError
from storage.objects import Store
from tests.evaluation.test_sets import world
from tests.flows.builds import run
from tests.training.tiny import SETTINGS

TINY = GeneratorConfig(size=32, n_down=2, width=4, n_blocks=1)


def publish(
    store: Store,
    dataset: str,
    steps: int = 5,
    run_id: str | None = None,
    generator: GeneratorConfig = TINY,
) -> str:
    name, _, version = dataset.partition("@")
    config = {
        "generator": asdict(generator), "steps": steps, "perceptual": {"kind": "st-vgg16"},
        "training": {"method": "identity-pose"}, **({"run": run_id} if run_id else {}),
    }  # fmt: skip
    model = publish_model(
        store, f"{name}-identity-pose", Generator(generator).state_dict(), config=config,
        dataset=(name, version), metrics={}, code_version="1", trained_on={}, licences={},
    )  # fmt: skip
    return f"{model.name}@{model.version}"


def test_evaluate_then_table(tmp_path: Path) -> None:
    store, dataset = world(tmp_path / "root")
    model = publish(store, dataset, run_id="0123456789ab")
    promote(store, *model.split("@"))
    root = ["--root", str(tmp_path / "root")]
    shown = run(
        ["evaluate", "cars-identity-pose", *root, "--triplets", "30", "--training-steps", "2",
         "--json"]
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout.splitlines()[-1])
    assert found["model"] == model
    assert found["path"].startswith("runs/0123456789ab/evaluation/")
    assert found["evaluation_set"] == dataset.replace("@", "-")
    assert "weights" in found["left_out"]["lpips-alex-v0.1"]
    written = json.loads(store.read(found["path"]))["rows"]
    assert written == found["rows"]
    metrics = {row["metric"] for row in written if row["method"] == "identity-pose"}
    trained = ("id-score-small", "pose-score-small", "azimuth-hit")
    assert {"pixel-l1", *(f"{name}-2-steps" for name in trained)} <= metrics
    assert any(path.endswith("-swaps.png") for path in store.list("runs"))

    table = run(["table", *root])
    assert table.returncode == 0, table.stderr
    assert f"cars@{dataset.partition('@')[2]} | ours | {model}" in table.stdout
    assert "ID: id-score-small-2-steps, n 30" in table.stdout
    wrong = run(["table", *root, "--format", "html"])
    assert wrong.returncode == 2 and "md, csv or json" in wrong.stderr
    wrong = run(["table", *root, "--dataset", "none"])
    assert wrong.returncode == 1 and "nothing was measured on none" in wrong.stderr


def test_two_models_are_compared_on_the_same_triplets(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    one = publish(store, dataset)
    other = publish(store, dataset, steps=6)
    asked = ["--root", str(tmp_path), "--triplets", "12", "--metric", "id-score-small"]
    shown = run(
        ["evaluate", one, "--beside", other, "--training-steps", "1", *asked, "--json"]
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    rows = json.loads(shown.stdout.splitlines()[-1])["rows"]
    whole = {row["model"]: row for row in rows if row["method"] == "identity-pose"
             and row["metric"] == "pixel-l1"}  # fmt: skip
    assert {model: row["budget"] for model, row in whole.items()} == {
        one: "5 steps", other: "6 steps"
    }  # fmt: skip
    (difference,) = (
        row for row in rows if row.get("against") == other and row["metric"] == "pixel-l1"
    )
    assert difference["method"] == "identity-pose - identity-pose"
    # Rows are rounded to six digits.
    expected = whole[one]["value"] - whole[other]["value"]
    assert difference["value"] == pytest.approx(expected, abs=2e-6)
    assert f"--beside {other}" in difference["command"]
    same = run(["evaluate", one, "--beside", one, *asked])
    assert same.returncode == 2 and "not compared with itself" in same.stderr
    both = run(["evaluate", one, "--dataset", "cars", "--set", "x", "--root", str(tmp_path)])
    assert both.returncode == 2 and "give --set or --dataset, not both" in both.stderr


def test_a_model_of_another_size_is_not_compared(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    model = publish(store, dataset)
    small = replace(TINY, size=16)
    other = publish(store, dataset, generator=small)
    with pytest.raises(EvaluationError, match="models of different sizes"):
        evaluate_model(str(tmp_path), model, beside=[other], triplets=6, device="cpu")


def test_a_run_is_evaluated_before_and_after_it_is_published(tmp_path: Path) -> None:
    root = str(tmp_path)
    _, dataset = world(tmp_path)
    store = Store(root)
    done = train_dataset(
        root, "cars", overrides={**SETTINGS, "run.samples": 16}, say=lambda _: None
    )
    assert done is not None and done.model is None
    early = load_subject(store, done.run)
    assert early.name == f"run {done.run}, step 4" and early.dataset == tuple(dataset.split("@"))
    found = evaluate_model(root, done.run, metrics=["id-score-small"], training_steps=1,
                           triplets=9, device="cpu", say=lambda _: None)  # fmt: skip
    assert found.path.startswith(f"runs/{done.run}/evaluation/")
    assert {row["model"] for row in found.rows} == {early.name, None}
    done = train_dataset(root, "cars", overrides=SETTINGS, say=lambda _: None)
    assert done is not None and done.model is not None
    whole = load_subject(store, done.run)
    assert whole.name == f"{done.model.name}@{done.model.version}" and whole.steps == 12
    assert whole.folder == early.folder


def test_a_run_without_anything(tmp_path: Path) -> None:
    _, dataset = world(tmp_path)
    run_ = open_run(Store(tmp_path), tuple(dataset.split("@")), resolve(overrides=SETTINGS), None)  # type: ignore[arg-type]
    describe_run(Store(tmp_path), run_)
    with pytest.raises(ModelError, match=f"run {run_.id} has no checkpoint yet"):
        load_subject(Store(tmp_path), run_.id)


def test_freeze(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    root = ["--root", str(tmp_path)]
    shown = run(["freeze", "cars", "--name", "mine", "--triplets", "7", *root, "--json"])
    assert shown.returncode == 0, shown.stderr
    info = json.loads(shown.stdout.splitlines()[-1])
    assert info["triplets"] == 7 and info["review"] == {"auto": 7, "reviewed": 0}
    other = run(["freeze", "cars", "--name", "mine", "--triplets", "8", *root])
    assert other.returncode == 1 and "never changed" in other.stderr
    assert read_manifest(store, dataset)["name"] == "cars"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "none"], "no version of model 'none' is promoted"),
        (["evaluate", "none"], "and no run has this id"),
        (["evaluate", "controls", "--dataset", "none"], "there are the sets none, for --set"),
        (["evaluate", "cars-identity-pose@x"], "no model cars-identity-pose@x"),
        (["freeze", "none"], "no dataset 'none'"),
    ],
)
def test_what_is_not_there(tmp_path: Path, words: list[str], message: str) -> None:
    shown = run([*words, "--root", str(tmp_path)])
    assert shown.returncode == 1 and message in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_missing_set_and_metric(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    model = publish(store, dataset)
    with pytest.raises(DatasetError, match="no evaluation set 'x'"):
        evaluate_model(str(tmp_path), model, evaluation_set="x", device="cpu")


def test_freeze_with_a_review_file(tmp_path: Path) -> None:
    _, dataset = world(tmp_path / "root")
    words = ["freeze", "cars", "--review", str(tmp_path / "r.csv"), "--triplets", "10"]
    words += ["--training-steps", "1", "--root", str(tmp_path / "root")]
    refused = run(words)
    assert refused.returncode == 2 and "--judge DATASET" in refused.stderr
    first = run([*words, "--judge", "cars", "--json"])
    assert first.returncode == 0, first.stderr
    told = json.loads(first.stdout.splitlines()[-1])
    assert told["file"] == str(tmp_path / "r.csv") and told["triplets"] == 10
    unfilled = run(words)
    assert unfilled.returncode == 1 and "nobody has chosen anything" in unfilled.stderr
    assert (tmp_path / "r.html").read_text("utf-8").count("<tr>") == 10
    lines = (tmp_path / "r.csv").read_text("utf-8").splitlines()
    place = lines[0].split(",").index("chosen")
    for number in range(1, 5):
        parts = lines[number].split(",")
        lines[number] = ",".join([*parts[:place], "2", *parts[place + 1 :]])
    (tmp_path / "r.csv").write_text("\n".join(lines) + "\n", "utf-8")
    second = run([*words, "--json"])
    assert second.returncode == 0, second.stderr
    info = json.loads(second.stdout.splitlines()[-1])
    assert info["review"]["reviewed"] == info["chosen_by"]["person"] == 4
    assert info["name"] == dataset.replace("@", "-")


def test_controls_of_a_dataset(tmp_path: Path) -> None:
    _, dataset = world(tmp_path)
    words = ["--root", str(tmp_path), "--triplets", "12", "--metric", "id-score-small"]
    refused = run(["evaluate", "controls", *words])
    assert refused.returncode == 2 and "Give --dataset or --set" in refused.stderr
    shown = run(
        ["evaluate", "controls", "--dataset", "cars", "--size", "40", "--training-steps", "1",
         *words, "--json"]
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout.splitlines()[-1])
    assert found["path"].startswith(f"evaluation-sets/{dataset.replace('@', '-')}/evaluation/")
    assert {row["model"] for row in found["rows"]} == {None}
    assert {row["command"] for row in found["rows"]} == {
        f"idpose evaluate controls --set {found['evaluation_set']} --metric id-score-small "
        "--size 40 --training-steps 1"
    }
    table = run(["table", "--root", str(tmp_path)])
    assert f"cars@{dataset.partition('@')[2]} | copy-id |" in table.stdout


def test_outputs_of_a_folder_are_measured_as_the_model_that_makes_them(tmp_path: Path) -> None:
    """Out with the export, through the model's own generator, in again: the same numbers."""
    root = tmp_path / "root"
    store, dataset = world(root, test_videos=6)
    model = publish(store, dataset)
    words = ["--root", str(root), "--json"]
    out = tmp_path / "out"
    frozen = run(
        ["freeze", "cars", "--name", "mine", "--triplets", "20", "--export", str(out),
         "--size", "32", *words]
    )  # fmt: skip
    assert frozen.returncode == 0, frozen.stderr
    told = json.loads(frozen.stdout.splitlines()[-1])
    assert told == json.loads((out / "export.json").read_text("utf-8"))
    assert (told["set"], told["size"], told["triplets"]) == ("mine", 32, 20)
    ids = sorted(path.name for path in (out / "id").iterdir())
    seen = {
        role: np.stack([decode_png((out / role / name).read_bytes()) for name in ids])
        for role in ("id", "pose")
    }
    made = generated(load_subject(store, model).generator, seen["id"], seen["pose"])
    outputs = tmp_path / "made"
    outputs.mkdir()
    for name, picture in zip(ids, made, strict=True):
        (outputs / name).write_bytes(encode_png(picture))
    (outputs / "notes.txt").write_text("mine")
    asked = ["--set", "mine", "--training-steps", "1", *words]
    own = run(["evaluate", model, *asked])
    assert own.returncode == 0, own.stderr
    given = run(
        ["evaluate", "--outputs", str(outputs), "--name", "editor", "--size", "32", *asked]
    )  # fmt: skip
    assert given.returncode == 0, given.stderr
    assert "1 names are of no triplet, as notes.txt" in given.stderr
    found = json.loads(given.stdout.splitlines()[-1])
    theirs = {r["metric"]: r for r in found["rows"] if r["method"] == "editor"}
    for ours in json.loads(own.stdout.splitlines()[-1])["rows"]:
        if ours["method"] == "identity-pose":
            numbers = [theirs[ours["metric"]][key] for key in ("value", "ci_low", "ci_high", "n")]
            assert numbers == [ours[key] for key in ("value", "ci_low", "ci_high", "n")]
    assert found["path"].startswith("evaluation-sets/mine/evaluation/")
    assert "other pairs" in found["left_out"]["swap-score"]
    assert found["model"] == "editor"
    row = theirs["pixel-l1"]
    assert row["model"].startswith("outputs of a folder@")
    assert "not known which networks served in the loss" in row["warning"]
    assert row["command"].startswith(
        f"idpose evaluate --outputs {outputs} --name editor --set mine --size 32"
    )
    table = run(["table", "--root", str(root)])
    assert f"cars@{dataset.partition('@')[2]} | editor | outputs of a folder@" in table.stdout

    again = tmp_path / "again"
    more = run(["freeze", "mine", "--export", str(again), "--size", "32", *words])
    assert more.returncode == 0, more.stderr
    targets = run(
        ["evaluate", "--outputs", str(again / "target-not-an-input"), "--name", "targets",
         "--beside", model, "--metric", "id-score-small", *asked]
    )  # fmt: skip
    assert targets.returncode == 0, targets.stderr
    value = {
        (r["method"], r["metric"]): r["value"]
        for r in json.loads(targets.stdout.splitlines()[-1])["rows"]
    }
    assert value["targets", "pixel-l1"] == value["targets", "chroma-error-whole-picture"] == 0
    score = "id-score-small-1-steps"
    assert value["targets", score] == value["real pairs (ceiling)", score]
    assert value["targets - identity-pose", "pixel-l1"] == -value["identity-pose", "pixel-l1"]


def test_outputs_that_are_none(tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    world(tmp_path / "root")
    freeze(root, "cars", "mine", triplets=3)
    nameless = run(["evaluate", "--outputs", "x", "--root", root])
    assert nameless.returncode == 2 and "--outputs FOLDER --name NAME" in nameless.stderr
    for name in ("copy-id", "controls", "a - b", "m@1", ""):
        with pytest.raises(ConfigError, match="no name for outputs"):
            Outputs(tmp_path, name)
    nowhere = Outputs(tmp_path / "x", "editor")
    for model, outputs in ((None, None), ("controls", nowhere)):
        with pytest.raises(ConfigError, match="either a model is measured or --outputs"):
            evaluate_model(root, model, "cars", outputs=outputs, device="cpu")
    with pytest.raises(ConfigError, match="Give --dataset or --set"):
        evaluate_model(root, None, outputs=nowhere, device="cpu")
    with pytest.raises(EvaluationError, match="there is no folder"):
        evaluate_model(root, None, outputs=nowhere, evaluation_set="mine", device="cpu")
    export_set(root, "mine", tmp_path / "out")
    poses = Outputs(tmp_path / "out/pose", "poses")
    with pytest.raises(EvaluationError, match="swap-score cannot be measured: it needs outputs of"):
        evaluate_model(
            root, None, outputs=poses, evaluation_set="mine", metrics=["swap-score"], device="cpu"
        )
    with pytest.raises(EvaluationError, match="lies in the root"):
        export_set(root, "mine", tmp_path / "root/x")
    assert not (tmp_path / "root/x").exists()


def test_a_review_overwrites_nothing(tmp_path: Path) -> None:
    world(tmp_path / "root")
    (tmp_path / "r.html").write_text("mine")
    words = ["freeze", "cars", "--judge", "cars", "--root", str(tmp_path / "root")]
    for file in ("r.csv", "page.html", "nowhere/r.csv"):
        refused = run([*words, "--review", str(tmp_path / file)])
        assert refused.returncode == 2 and "needs a new file and" in refused.stderr
    assert (tmp_path / "r.html").read_text() == "mine" and not (tmp_path / "page.html").exists()


def test_a_set_is_named_when_asked_for_another(tmp_path: Path) -> None:
    world(tmp_path)
    said: list[str] = []

    def measured(**options: object) -> None:
        said.clear()
        evaluate_model(str(tmp_path), "controls", "cars", metrics=["id-score-small"],
                       training_steps=1, device="cpu", say=said.append, **options)  # type: ignore[arg-type]  # fmt: skip

    measured(triplets=12)
    assert not [line for line in said if "never changed" in line]
    measured()
    assert not [line for line in said if "never changed" in line]
    for other in ({"triplets": 20}, {"seed": 3}):
        measured(**other)
        assert [line for line in said if "never changed" in line and "--set NAME" in line]


def test_a_wrong_name_freezes_nothing(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    model = publish(store, dataset)
    wrong = run(["evaluate", model, "--metric", "swapscore", "--root", str(tmp_path)])
    assert wrong.returncode == 2 and "the nearest is 'swap-score'" in wrong.stderr
    assert not store.list("evaluation-sets")


def test_a_set_outlives_its_dataset(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    model = publish(store, dataset)
    freeze(str(tmp_path), "cars", triplets=9)
    for path in store.list("datasets"):
        store.delete(path)
    found = evaluate_model(str(tmp_path), model, device="cpu", say=lambda _: None)
    assert found.evaluation_set == dataset.replace("@", "-")
    assert {row["metric"] for row in found.rows} >= {"pixel-l1"}


def test_videos_that_were_trained_on_are_no_test(tmp_path: Path) -> None:
    store, dataset = world(tmp_path)
    model = publish(store, dataset)
    turned = {"train": "test", "test": "train"}
    manifest = read_manifest(store, dataset)
    names = ("videos", "clips", "crops", "triplets")
    tables = {name: read_table(store, manifest, name) for name in names}
    for name, table in tables.items():
        place = table.schema.get_field_index("split")
        swapped = pa.array([turned[word] for word in table["split"].to_pylist()])
        tables[name] = table.set_column(place, table.schema.field("split"), swapped)
    other = commit(store, Draft(
        name="turned", config=manifest["config"], tables=tables,
        pictures=[entry["path"] for entry in manifest["tables"]["pictures"]],
        pose_space=manifest["pose_space"], statistics={}, stages={}, environment={}, lineage={},
    ))  # fmt: skip
    with pytest.raises(EvaluationError, match="was trained on 3 videos of the set turned-"):
        evaluate_model(
            str(tmp_path), model, f"turned@{other.version}", device="cpu", say=lambda _: None
        )


def test_a_reviewed_set_is_not_measured_with_the_network_that_proposed_it(tmp_path: Path) -> None:
    """Also where the model, or no model at all, was trained on other data."""
    store, dataset = world(tmp_path, embedder="st-alex")
    manifest = read_manifest(store, dataset)
    crops, clips = (read_table(store, manifest, t, split="test") for t in ("crops", "clips"))
    triplets = truth_triplets(crops, clips, count=9)
    for name, word in (("true", "truth"), ("seen", "person")):
        place = triplets.schema.get_field_index("chosen_by")
        chosen = pa.array([word] * 9, pa.string())
        marked = triplets.set_column(place, triplets.schema.field(place), chosen)
        freeze_set(store, name, manifest, "test", marked, 0)
    asked = {"metrics": ["lpips-st-alex"], "device": "cpu", "say": lambda _: None}
    with pytest.raises(RoleError, match="st-alex serves as retrieval and as metric"):
        evaluate_model(str(tmp_path), "controls", evaluation_set="seen", **asked)  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match="weights fetch st-alex"):  # its role is no hindrance
        evaluate_model(str(tmp_path), "controls", evaluation_set="true", **asked)  # type: ignore[arg-type]


def test_pairs_that_views_of_cars_chose_are_measured_by_another_network(tmp_path: Path) -> None:
    store, dataset = world(tmp_path, embedder="car-view")
    network = EfficientNet.from_name("efficientnet-lite2")
    initialise(network, torch.Generator().manual_seed(0))
    save_file(network.state_dict(), tmp_path / "lite2.safetensors")
    import_weights(tmp_path / "lite2.safetensors", "efficientnet-lite2", tmp_path)
    found = evaluate_model(
        str(tmp_path), publish(store, dataset), metrics=["efficientnet-lite2"], triplets=6,
        device="cpu", say=lambda _: None,
    )  # fmt: skip
    assert found.left_out == {}
    values = {row["metric"]: row["value"] for row in found.rows if row["method"] == "copy-pose"}
    names = ("fd-{}", "precision-{}-k3", "recall-{}-k3")
    measured = [values[name.format("efficientnet-lite2")] for name in names]
    assert np.isfinite(measured).all() and measured[0] > 0
