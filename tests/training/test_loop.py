"""The training loop: what it leaves behind, and that stopping and going on changes nothing."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from flows.train import train_dataset
from idpose_core.methods.identity_pose import VERSION
from idpose_core.settings import ConfigError
from idpose_core.training import journal, loop
from idpose_core.training.checkpoints import CheckpointError
from idpose_core.training.config import TrainingConfig, resolve
from idpose_core.training.data import EmptySplitError
from idpose_core.training.journal import read_metrics, status_line
from idpose_core.training.loop import Trained
from idpose_core.training.published import read_model
from idpose_core.training.runs import RunBusyError, held, open_run
from idpose_core.training.trainer import NonFiniteLossError
from storage.errors import DatasetError
from storage.objects import Store
from tests.training.tiny import SETTINGS
from tests.training.worlds import commit_world

TIMES = ("triplets_per_second", "seconds_per_step")


def run(root: Path | str, *, new: bool = False, **other: Any) -> Trained:
    keys = SETTINGS | {name.replace("__", "."): value for name, value in other.items()}
    done = train_dataset(str(root), "cars", overrides=keys, new=new, say=lambda line: None)
    assert done is not None
    return done


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Trained]:
    """A root in which the settings were trained in one go."""
    store = Store(tmp_path_factory.mktemp("undisturbed"))
    commit_world(store)
    return store, run(store.root)


def test_a_run_leaves_what_is_promised(undisturbed: tuple[Store, Trained]) -> None:
    store, done = undisturbed
    assert (done.steps, done.resumed_from, done.stopped) == (12, 0, None)
    folder = f"runs/{done.run}"
    written = store.list(folder)
    assert f"{folder}/samples/000000012.png" in written
    assert any("tensorboard/events" in path for path in written)
    config = json.loads(store.read(f"{folder}/config.json"))
    assert config["dataset"].startswith("cars@") and config["config"]["training"]["steps"] == 12

    rows = read_metrics(store, done.run)
    losses = {"D_real", "D_pair", "D_aux", "L1_dis", "L2_dis", "L_pv", "L_aux", "L_real", "L_pair"}
    lines = [row for row in rows if "L1_dis" in row]
    assert [row["step"] for row in lines] == [3, 6, 9, 12]
    assert all(losses <= row.keys() for row in lines)
    measured = next(row for row in rows if row["step"] == 6 and "gradient/L_pv" in row)
    assert measured["gradient/L1_dis"] > 0 and measured["pixels/effective_keys"] >= 1
    assert [row["step"] for row in rows if "held_out/d" in row] == [4, 8, 12]


def test_another_outcome_needs_another_version_of_the_method(
    undisturbed: tuple[Store, Trained],
) -> None:
    """Mean losses of the first three steps. Where they change, raise methods' VERSION and these."""
    assert VERSION == 4
    known = {
        "D_real": 0.90997, "D_aux": 2.04408, "D_pair": 0.92607, "L1_dis": 0.40568,
        "L2_dis": 0.79837, "L_pv": 0.22712, "L_real": 1.58276, "L_aux": 2.04634,
        "L_pair": 1.62145,
    }  # fmt: skip
    store, done = undisturbed
    found = next(row for row in read_metrics(store, done.run) if row["step"] == 3)
    assert {name: found[name] for name in known} == pytest.approx(known, rel=0.01)


def test_the_model_is_the_average_with_its_lineage(undisturbed: tuple[Store, Trained]) -> None:
    store, done = undisturbed
    model = read_model(store, "cars-identity-pose")  # the first of its name serves
    assert done.model is not None and model.version == done.model.version
    assert model.info["config"]["run"] == done.run and model.info["config"]["steps"] == 12
    assert model.info["licences"] == {"CC-BY-4.0": 6}
    measured = ("pixel-l1-distance", "mean-pixel-l1", "chroma")
    assert set(model.info["metrics"]) == {f"held-out-{name}-48" for name in measured}
    latest = _latest_state(store, done)
    average = latest["trainer"]["average"]["network"]
    weights = model.weights(store)
    assert weights.keys() == average.keys()
    assert all(torch.equal(weights[name], average[name]) for name in average)
    raw = latest["trainer"]["networks"]["generator"]
    assert any(not torch.equal(weights[name], raw[name]) for name in raw)


def test_the_grid_shows_every_identity_with_every_pose(undisturbed: tuple[Store, Trained]) -> None:
    store, done = undisturbed
    data = np.frombuffer(store.read(f"runs/{done.run}/samples/000000012.png"), np.uint8)
    sheet = cv2.imdecode(data, cv2.IMREAD_COLOR)
    # Four held-out clips and four pose clusters, and their own pictures before them.
    assert sheet.shape == (5 * 36 - 4, 5 * 36 - 4, 3)
    assert (sheet[:32, :32] == 255).all()
    cells = [sheet[r * 36 : r * 36 + 32, c * 36 : c * 36 + 32] for r in range(5) for c in range(5)]
    assert len({cell.tobytes() for cell in cells}) == 25


@pytest.mark.parametrize("slice_", [4, 12, 20])
def test_slices_give_the_undisturbed_weights_and_record(
    slice_: int, undisturbed: tuple[Store, Trained], tmp_path: Path
) -> None:
    """4 triplets: a stop after every step, at checkpoints and between them."""
    store, whole = undisturbed
    commit_world(Store(tmp_path))
    done, calls = run(tmp_path, run__samples=slice_), 1
    while done.model is None:
        assert done.stopped == f"{slice_} triplets are done" and not done.interrupted
        before = done.steps
        done, calls = run(tmp_path, run__samples=slice_), calls + 1
        assert done.resumed_from == before
    assert whole.model is not None
    assert calls == -(-12 * 4 // slice_)
    assert done.model.version == whole.model.version and done.run == whole.run
    held_out = ("held_out/d",)  # a stop is a checkpoint, and a checkpoint is scored
    mine = [row for row in read_metrics(Store(tmp_path), done.run) if held_out[0] not in row]
    theirs = [row for row in read_metrics(store, whole.run) if held_out[0] not in row]
    assert without_times(mine) == without_times(theirs)


def test_asked_to_stop_it_ends_with_a_checkpoint(tmp_path: Path) -> None:
    from idpose_core.training.loop import train

    store = Store(tmp_path)
    name, version = commit_world(store).split("@")
    stop = threading.Event()
    stop.set()
    training = open_run(store, (name, version), resolve(overrides=SETTINGS), None)
    done = train(
        store, training, None, device=torch.device("cpu"), stop=stop, say=lambda line: None
    )
    assert (done.steps, done.interrupted, done.model) == (1, True, None)
    assert run(tmp_path).resumed_from == 1


def test_what_is_done_is_done_and_more_steps_go_on(tmp_path: Path) -> None:
    commit_world(Store(tmp_path))
    first = run(tmp_path, training__steps=4)
    again = run(tmp_path, training__steps=4)
    assert (again.resumed_from, again.model) == (4, first.model)
    longer = run(tmp_path)
    assert (longer.run, longer.resumed_from, longer.steps) == (first.run, 4, 12)


def test_new_starts_beside_what_there_is(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit_world(store)
    first = run(tmp_path, training__steps=4)
    second = run(tmp_path, training__steps=4, new=True)
    assert second.run == f"{first.run}-2" and second.resumed_from == 0
    assert run(tmp_path, training__steps=4).run == second.run  # the last one started goes on
    assert store.list(f"runs/{first.run}/checkpoints")


def test_another_seed_method_or_dataset_is_another_run(tmp_path: Path) -> None:
    config = resolve(overrides=SETTINGS)
    store = Store(tmp_path)

    def name(config: TrainingConfig, version: str = "v") -> str:
        return open_run(store, ("cars", version), config, None).id

    others = [
        name(config),
        name(resolve(overrides=SETTINGS | {"seed": 1})),
        name(resolve(overrides=SETTINGS | {"training.method": "without-pv"})),
        name(resolve(overrides=SETTINGS | {"weights.gan": 0.5})),
        name(config, "w"),
    ]
    assert len(set(others)) == len(others)
    assert name(resolve(overrides=SETTINGS | {"training.log_every": 1})) == others[0]
    assert name(resolve(overrides=SETTINGS | {"run.loader_threads": 0})) == others[0]


def test_a_run_has_one_process(tmp_path: Path) -> None:
    commit_world(Store(tmp_path))
    done = run(tmp_path, training__steps=1)
    with held(Store(tmp_path), done.run), pytest.raises(RunBusyError, match=r"process \d+"):
        run(tmp_path, training__steps=2)
    assert run(tmp_path, training__steps=2).steps == 2


def test_a_remote_root_is_trained_on_as_well() -> None:
    store = Store("memory://training")
    commit_world(store)
    done = run("memory://training")
    assert done.model is not None and read_metrics(store, done.run)


def test_a_slice_smaller_than_a_step_is_refused(tmp_path: Path) -> None:
    commit_world(Store(tmp_path))
    with pytest.raises(ValueError, match="3 is less than a step, which takes 4"):
        run(tmp_path, run__samples=3)


def test_a_batch_larger_than_the_data_is_refused(tmp_path: Path) -> None:
    commit_world(Store(tmp_path))
    with pytest.raises(ValueError, match="97 is larger than the 96 triplets"):
        run(tmp_path, training__batch_size=97)
    assert not Store(tmp_path).list("models")


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    commit_world(Store(tmp_path), train_videos=0)
    with pytest.raises(EmptySplitError, match="no triplets in its split 'train'"):
        run(tmp_path)


def test_without_held_out_triplets_the_grid_is_of_train(tmp_path: Path) -> None:
    commit_world(Store(tmp_path), test_videos=0)
    done = run(tmp_path)
    assert done.model is not None and not done.model.info["metrics"]
    assert f"runs/{done.run}/samples/000000012.png" in Store(tmp_path).list("runs")


@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_a_damaged_shard_is_found_before_the_first_step(damage: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit_world(store)
    path = next(p for p in store.list("shards"))
    if damage == "missing":
        store.delete(path)
    else:
        data = bytearray(store.read(path))
        data[len(data) // 2] ^= 1
        store.replace(path, bytes(data))
    with pytest.raises(DatasetError, match="shards/crop"):
        run(tmp_path)
    assert not store.list("models")


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit_world(store)
    mine, other = run(tmp_path, training__steps=4), run(tmp_path, training__steps=4, seed=1)
    for path in store.list(f"runs/{other.run}/checkpoints"):
        store.replace(path.replace(other.run, mine.run), store.read(path))
    before = {path: store.read(path) for path in store.list(f"runs/{mine.run}/checkpoints")}
    with pytest.raises(CheckpointError, match="seed was 1 and is 0"):
        run(tmp_path)
    assert before == {path: store.read(path) for path in before}


def test_a_pickle_in_the_place_of_a_checkpoint_is_never_read(tmp_path: Path) -> None:
    import os
    import pickle

    class Bomb:
        def __reduce__(self) -> tuple[Any, Any]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    store = Store(tmp_path)
    commit_world(store)
    done = run(tmp_path, training__steps=4)
    tensors = next(p for p in store.list(f"runs/{done.run}") if p.endswith("4-" + p[-28:]))
    store.replace(tensors, pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match="pickle"):
        run(tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_a_loss_that_is_not_finite_stops_and_names_the_last_good_state(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit_world(store)
    good = run(tmp_path, training__steps=4)
    _poison(store, good.run)
    with pytest.raises(
        NonFiniteLossError, match=r"step 5: .*L1_dis.*; the checkpoint of step 4 is good"
    ):
        run(tmp_path)
    assert len(store.list("models/cars-identity-pose")) == 4  # nothing new was published


def test_weights_that_are_not_finite_are_never_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The losses of step 8 are finite, its gradient is not: a checkpoint of it would be useless."""
    from idpose_core.training.trainer import Trainer

    store = Store(tmp_path)
    commit_world(store)
    step = Trainer.train_step

    def poisoned(self: Trainer, *arguments: Any, **named: Any) -> Any:
        found = step(self, *arguments, **named)
        if self.step == 8:
            with torch.no_grad():
                next(self.method.generator.parameters())[0] = float("nan")
        return found

    monkeypatch.setattr(Trainer, "train_step", poisoned)
    with pytest.raises(NonFiniteLossError, match=r"weights by step 8 .* step 4 is good"):
        run(tmp_path)
    monkeypatch.undo()
    done = run(tmp_path)
    assert done.resumed_from == 4 and done.model is not None


def test_what_cannot_be_drawn_or_recorded_does_not_end_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: tuple[Store, Trained]
) -> None:
    commit_world(Store(tmp_path))
    replace = Store.replace

    def full(self: Store, path: str, data: bytes) -> None:
        if "samples" in path or path.endswith("metrics.jsonl"):
            raise OSError(28, "No space left on device", path)
        replace(self, path, data)

    monkeypatch.setattr(Store, "replace", full)
    monkeypatch.setattr(journal, "_SECONDS_BETWEEN_WRITES", -1.0)  # as on a slow machine
    said: list[str] = []
    done = train_dataset(str(tmp_path), "cars", overrides=SETTINGS, say=said.append)
    assert done is not None and done.model is not None and undisturbed[1].model is not None
    assert done.model.version == undisturbed[1].model.version
    assert any("not written" in line and "samples" in line for line in said)


def test_memory_that_runs_out_is_told_on_the_cpu_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from idpose_core.training.loop import OutOfMemoryError
    from idpose_core.training.trainer import Trainer

    commit_world(Store(tmp_path))
    for hungry in (lambda *_, **__: torch.empty(2**60), lambda *_, **__: np.empty(2**58)):
        for name in ("__init__", "train_step"):
            with monkeypatch.context() as patch:
                patch.setattr(Trainer, name, hungry)
                with pytest.raises(OutOfMemoryError, match=r"too small .*: lower training\.batch"):
                    run(tmp_path)
    with monkeypatch.context() as patch:  # and nothing else is taken for it
        patch.setattr(Trainer, "train_step", lambda *_, **__: torch.ones(2) @ torch.ones(3))
        with pytest.raises(RuntimeError, match="size"):
            run(tmp_path)


def test_a_new_run_that_cannot_begin_does_not_hide_the_one_before(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit_world(store)
    first = run(tmp_path, training__steps=4)
    path = next(p for p in store.list("shards"))
    data = store.read(path)
    store.delete(path)
    with pytest.raises(DatasetError):
        run(tmp_path, training__steps=8, new=True)
    store.replace(path, data)
    again = run(tmp_path, training__steps=8)
    assert (again.run, again.resumed_from) == (first.run, 4)


def test_what_was_asked_for_is_known_apart_from_defaults() -> None:
    """A flow's parameters name one key of a section: the preset keeps the others."""
    asked = {"training": {"preset": "small"}, "generator": {"width": 24}, "seed": 3}
    through_the_flow = resolve(TrainingConfig.model_validate(asked).asked())
    assert through_the_flow == resolve(asked)
    assert (through_the_flow.generator.size, through_the_flow.generator.n_blocks) == (64, 6)


def test_a_machine_with_gpus_takes_the_papers_size_unless_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.train import configure

    store = Store(tmp_path)
    commit_world(store)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)

    def preset(**other: Any) -> str | None:
        keys = {name.replace("__", "."): value for name, value in other.items()}
        return configure(store, "cars", overrides=keys)[0].training.preset

    assert preset() == "64"
    assert preset(run__device="cpu") == "small"
    assert preset(training__preset="small") == "small"


def test_a_status_line_keeps_its_columns() -> None:
    lines = [
        status_line(step, 2000, {"L_pv": value}, triplets=rate, seconds=1.0)
        for step, value, rate in ((5, 0.5, 9.0), (1000, 12.0, 120.0))
    ]
    assert len({len(line) for line in lines}) == 1
    assert lines[1] == "step 1000 of 2000   120.0 triplets/s   0:16:40 left  L_pv 12.000"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("training.stepz", 3, "nearest known key is 'training.steps'"),
        ("generator.widht", 3, "nearest known key is 'generator.width'"),
        ("training.method", "ours", "no method 'ours'"),
        ("training.preset", "256", "training.preset is one of 128, 64, paper, small"),
        ("training.betas", [0.5, 1.0], "betas lie in"),
        ("training.steps", 0, "training.steps"),
    ],
)
def test_wrong_settings_are_named(key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(overrides={key: value})


def test_a_preset_gives_way_to_what_is_set() -> None:
    config = resolve({"generator": {"width": 8}, "training": None}, default_preset="small")
    assert (config.generator.width, config.generator.n_blocks) == (8, 6)
    assert config.training.batch_size == 2 and config.training.preset == "small"
    assert resolve({"training": {"preset": "64"}}).training.steps == 50_000


@pytest.mark.parametrize(
    ("weights", "gone"),
    [
        ({"pv": 0}, {"pv"}),
        ({"aux": 0}, {"aux"}),
        ({"gan": 0}, {"pair"}),  # the identity head lives on D_real
        ({"gan": 0, "aux": 0}, {"pair", "real", "aux"}),
        ({"dis": 0}, {"dis2"}),
        ({"dis2": 0}, {"dis2"}),
    ],
)
def test_a_loss_that_weighs_nothing_is_not_computed(weights: Any, gone: set[str]) -> None:
    terms = asdict(resolve({"weights": weights}).method().active_terms())
    assert {name for name, there in terms.items() if not there} == gone


def test_without_a_compiler_a_training_on_cuda_goes_on_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[str] = []
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    monkeypatch.setattr(loop.shutil, "which", lambda name: None)
    assert not loop._compiles(None, cuda, lines.append) and "install gcc" in lines[0]
    assert not loop._compiles(False, cuda, lines.append) and len(lines) == 1
    monkeypatch.setattr(loop.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert loop._compiles(None, cuda, lines.append) and not loop._compiles(None, cpu, lines.append)


def _latest_state(store: Store, done: Trained) -> dict[str, Any]:
    from idpose_core.training.checkpoints import Checkpoints

    document = next(p for p in store.list(f"runs/{done.run}") if p.endswith("0012.json"))
    config = json.loads(store.read(document))["config"]
    latest = Checkpoints(store, done.run, config).latest()
    assert latest is not None
    return latest.state


def _poison(store: Store, run_id: str) -> None:
    """Put a NaN into the generator of the latest checkpoint, under a digest that fits."""
    from idpose_core.training.checkpoints import Checkpoints

    document = next(p for p in store.list(f"runs/{run_id}") if p.endswith("0004.json"))
    config = json.loads(store.read(document))["config"]
    checkpoints = Checkpoints(store, run_id, config)
    latest = checkpoints.latest()
    assert latest is not None
    state = latest.state
    state["trainer"]["networks"]["generator"]["decoder.head.bias"][0] = float("nan")
    checkpoints.save(4, state)


@pytest.mark.slow
def test_compiled_networks_train_to_nearly_the_same(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit_world(store)
    plain, compiled = (
        run(tmp_path, training__steps=6, run__compile=compiled, new=True)
        for compiled in (False, True)
    )
    assert plain.model is not None and compiled.model is not None
    one, two = plain.model.info["metrics"], compiled.model.info["metrics"]
    assert one == pytest.approx(two, rel=1e-2)
    assert plain.model.weights(store).keys() == compiled.model.weights(store).keys()
