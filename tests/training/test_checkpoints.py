"""Checkpoints are bit exact, whole or absent, and never code."""

from __future__ import annotations

import errno
import json
import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import nn

from idpose_core.training.averaging import MovingAverage
from idpose_core.training.checkpoints import (
    CheckpointError,
    Checkpoints,
    first_difference,
    is_pickle,
    random_state,
    safetensors_bytes,
    set_random_state,
)
from storage.digests import digest, sha256
from storage.objects import Store

CONFIG: dict[str, Any] = {"method": "ours", "training": {"steps": 9, "lr": 1e-4}, "seed": 0}


def checkpoints(root: Path | str, config: dict[str, Any] = CONFIG, keep: int = 3) -> Checkpoints:
    return Checkpoints(Store(root), "r1", config, keep=keep)


def folder(root: Path) -> Path:
    return root / "runs" / "r1" / "checkpoints"


def files(root: Path) -> list[str]:
    return sorted(path.name for path in folder(root).iterdir())


def equal(first: Any, second: Any) -> bool:
    """Equal in value, type and bits."""
    if type(first) is not type(second):
        return False
    if isinstance(first, torch.Tensor):
        same = first.dtype == second.dtype and first.shape == second.shape
        return same and torch.equal(
            *(each.contiguous().flatten().view(torch.uint8) for each in (first, second))
        )
    if isinstance(first, dict):
        keys = [*first] == [*second] and [*map(type, first)] == [*map(type, second)]
        return keys and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    return bool(first == second)


class Training:
    """A small one, with everything that a large one has."""

    def __init__(self, kind: type[torch.optim.Optimizer]) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3))
        self.network.to(memory_format=torch.channels_last)
        self.optimiser = kind(self.network.parameters(), lr=1e-3, betas=(0.5, 0.999))  # type: ignore[call-arg]
        self.average = MovingAverage(self.network)

    def step(self) -> None:
        self.optimiser.zero_grad()
        self.network(torch.randn(2, 3, 8, 8)).square().mean().backward()
        self.optimiser.step()
        self.average.update(self.network)

    def state(self) -> dict[str, Any]:
        return {
            "network": dict(self.network.state_dict()),
            "optimiser": self.optimiser.state_dict(),
            "average": {
                **self.average.state_dict(),
                "network": dict(self.average.network.state_dict()),
            },
            "random": random_state(cuda=False),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average.load_state_dict(state["average"])
        set_random_state(state["random"])


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_a_training_goes_on_bit_by_bit(tmp_path: Path, kind: type[torch.optim.Optimizer]) -> None:
    straight = Training(kind)
    for _ in range(3):
        straight.step()
    saved = straight.state()
    checkpoints(tmp_path).save(3, saved)
    for _ in range(3):
        straight.step()
    numbers = random.random(), np.random.rand()

    found = checkpoints(tmp_path).latest()
    assert found is not None
    assert (found.step, found.score, found.damaged) == (3, None, ())
    other = Training(kind)
    other.load(found.state)
    for _ in range(3):
        other.step()
    assert equal(other.state(), straight.state())
    assert (random.random(), np.random.rand()) == numbers


def test_what_was_loaded_is_what_was_saved(tmp_path: Path) -> None:
    training = Training(torch.optim.Adam)
    training.step()
    state = training.state()
    checkpoints(tmp_path).save(1, state)
    found = checkpoints(tmp_path).latest()
    assert found is not None
    assert equal(found.state, state)


TENSORS = st.sampled_from(
    [
        torch.tensor(1.5), torch.zeros(0, 3), torch.arange(6).view(2, 3).T, torch.tensor([True]),
        torch.tensor([float("nan"), -0.0, float("inf")]), torch.ones(2, dtype=torch.bfloat16),
        torch.tensor([1, 2], dtype=torch.uint8), torch.tensor(0.1, dtype=torch.float64),
        torch.ones(1).expand(3),
    ]
)  # fmt: skip
KEYS = st.one_of(st.sampled_from(["a", "b", "a.b", "$tensor", "0", ""]), st.integers(0, 2))
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(max_size=3), TENSORS,
        st.floats(allow_nan=False, allow_infinity=False),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=3),
    ),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=60)
@given(st.dictionaries(KEYS, VALUES, max_size=3))
def test_any_state_comes_back(state: dict[Any, Any]) -> None:
    store = checkpoints("memory://any-state")
    store.save(1, state)
    found = store.latest()
    assert found is not None
    assert equal(found.state, state)


WRONG = [
    {1, 2},
    float("nan"),
    np.zeros(2),
    {1.5: 0},
    {True: 0},
    torch.ones(2).to_sparse(),
    torch.ones(2, dtype=torch.complex64),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_a_checkpoint_cannot_keep_is_refused(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"the state's a\.0 "):
        checkpoints(tmp_path).save(1, {"a": [wrong]})
    assert not folder(tmp_path).exists()


def save_steps(root: Path, *steps: int, keep: int = 3) -> Checkpoints:
    saved = checkpoints(root, keep=keep)
    for step in steps:
        saved.save(step, {"weights": torch.full((5,), float(step))})
    return saved


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    saved = checkpoints(tmp_path, keep=2)
    for step, score in ((1, 0.5), (2, 0.1), (3, None), (4, 0.3), (5, float("nan")), (6, 0.2)):
        saved.save(step, {"weights": torch.full((5,), float(step))}, score)
    assert saved.steps() == [2, 5, 6]
    assert len(files(tmp_path)) == 6
    best = saved.best()
    assert best is not None
    assert (best.step, best.score, best.state["weights"][0]) == (2, 0.1, 2)


def test_there_may_be_none(tmp_path: Path) -> None:
    assert checkpoints(tmp_path).latest() is None
    assert checkpoints(tmp_path).best() is None


def damaged_file(root: Path, step: int, suffix: str) -> Path:
    return next(folder(root).glob(f"{step:09d}*{suffix}"))


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
@pytest.mark.parametrize("damage", ["empty", "cut", "altered", "missing"])
def test_a_damaged_one_gives_way_to_the_one_before(
    tmp_path: Path, suffix: str, damage: str
) -> None:
    saved = save_steps(tmp_path, 1, 2)
    file = damaged_file(tmp_path, 2, suffix)
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    else:
        content[len(content) // 2] ^= 1
        choices = {"empty": b"", "cut": bytes(content[:-20]), "altered": bytes(content)}
        file.write_bytes(choices[damage])
    found = saved.latest()
    assert found is not None
    assert (found.step, found.state["weights"][0]) == (1, 1)
    if damage == "missing" and suffix == ".json":
        assert found.damaged == ()  # it was never finished
    else:
        assert len(found.damaged) == 1
        assert file.name in found.damaged[0]
    saved.save(2, {"weights": torch.full((5,), 2.0)})  # the training comes there again
    found = saved.latest()
    assert found is not None
    assert (found.step, found.damaged) == (2, ())


def test_where_all_are_damaged_nothing_starts_afresh(tmp_path: Path) -> None:
    saved = save_steps(tmp_path, 1, 2)
    for file in folder(tmp_path).glob("*.safetensors"):
        file.write_bytes(b"x")
    before = files(tmp_path)
    with pytest.raises(CheckpointError, match="no whole checkpoint is left"):
        saved.latest()
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "drnet"}, 'method was "ours" and is "drnet" now'),
        ({"training": {"steps": 9, "lr": 2e-4}}, "training.lr was 0.0001 and is 0.0002 now"),
        ({"extra": 1}, "extra was absent and is 1 now"),
        ({"training": {"steps": 9}, "seed": 1}, "seed was 0 and is 1 now"),
    ],
)
def test_another_configurations_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    save_steps(tmp_path, 1)
    before = files(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        checkpoints(tmp_path, {**CONFIG, **change}).latest()
    assert files(tmp_path) == before


def test_the_first_differing_key() -> None:
    assert first_difference({"b": {"c": 1}, "a": {}}, {"b": {"c": 1.0}, "a": {}})[0] == "b.c"
    with pytest.raises(ValueError, match="equal"):
        first_difference(CONFIG, dict(CONFIG))


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["TEST_MARKER"],)


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
@pytest.mark.parametrize("honest", [False, True])
def test_a_pickle_in_its_place_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, honest: bool
) -> None:
    """Also where the digests were made to fit."""
    marker = tmp_path / "executed"
    monkeypatch.setenv("TEST_MARKER", str(marker))
    saved = save_steps(tmp_path / "root", 1, 2)
    data = pickle.dumps({"weights": Malicious()})
    damaged_file(tmp_path / "root", 2, suffix).write_bytes(data)
    if honest:
        forge(damaged_file(tmp_path / "root", 2, ".json"), data)
    if suffix == ".json" and honest:
        found = saved.latest()  # the forged document names tensors that are not there
        assert found is not None
        assert found.step == 1
    else:
        with pytest.raises(CheckpointError, match=r"000000002.* is a pickle, which can run code"):
            saved.latest()
    assert not marker.exists()


def forge(file: Path, data: bytes) -> None:
    try:
        document = json.loads(file.read_bytes())
    except ValueError:
        document = {"step": 2, "format": 1, "score": None, "config": CONFIG, "state": {}}
        document["tensors"] = {"path": "runs/r1/checkpoints/none.safetensors"}
    document.pop("digest", None)
    document["tensors"]["sha256"] = sha256(data)
    file.write_text(json.dumps({**document, "digest": digest(document)}))


def test_the_file_is_the_librarys() -> None:
    tensors = {
        "b": torch.randn(3, 5),
        "é": torch.arange(7),
        "empty": torch.zeros(0, 2),
        "a": torch.tensor([True, False, True]),
        "half": torch.randn(3).bfloat16(),
    }
    ours, theirs = load(safetensors_bytes(tensors)), load(save(tensors))
    assert ours.keys() == theirs.keys()
    assert all(equal(ours[name], theirs[name]) for name in theirs)
    values = 8 + int.from_bytes(safetensors_bytes(tensors)[:8], "little")
    assert values % 8 == 0
    assert safetensors_bytes({"a": tensors["b"]}) == save({"a": tensors["b"]})


def test_pickles_and_zips_are_told_from_safetensors(tmp_path: Path) -> None:
    archive = tmp_path / "a.pt"
    torch.save({"a": torch.ones(1)}, archive)
    assert is_pickle(archive.read_bytes())
    for protocol in range(2, 6):
        assert is_pickle(pickle.dumps([1] * 9, protocol))
    for length in range(1, 40):  # some heads are 0x280 bytes long and begin as a pickle does
        assert not is_pickle(save({f"{name:020d}": torch.ones(1) for name in range(length)}))


def test_a_full_disk_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = save_steps(tmp_path, 1)
    before = {name: (folder(tmp_path) / name).read_bytes() for name in files(tmp_path)}
    sync = os.fsync
    for writes in range(2):  # of the tensors, then of the document
        left = [writes * 2]  # each write syncs its file and its folder

        def full(descriptor: int, left: list[int] = left) -> None:
            if not left[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            left[0] -= 1
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(CheckpointError, match=r"step 2 could not be written .*No space left"):
            saved.save(2, {"weights": torch.zeros(5)})
        monkeypatch.setattr(os, "fsync", sync)
        found = saved.latest()
        assert found is not None
        assert (found.step, found.damaged) == (1, ())
        assert {name: (folder(tmp_path) / name).read_bytes() for name in before} == before
    assert [name for name in files(tmp_path) if "tmp" in name] == []
    saved.save(3, {"weights": torch.zeros(5)})
    assert saved.steps() == [1, 3]
    assert len(files(tmp_path)) == 4  # what the failed step 2 left is gone


def test_a_remote_root(tmp_path: Path) -> None:
    saved = checkpoints("memory://remote-checkpoints")
    saved.save(4, {"weights": torch.arange(3)})
    found = checkpoints("memory://remote-checkpoints").latest()
    assert found is not None
    assert found.state["weights"].tolist() == [0, 1, 2]
