"""Published models: named by their content, never rewritten, pointed to by a log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import Tensor

from idpose_core.training.published import (
    Model,
    ModelError,
    champion,
    promote,
    publish_model,
    read_model,
    rollback,
    versions,
    weights_digest,
)
from storage.datasets import source_licences
from storage.errors import DatasetError
from storage.objects import Store


def weights(value: float = 1.0) -> dict[str, Tensor]:
    return {"b": torch.full((2, 3), value), "a": torch.tensor(2.0)}


def publish(store: Store, value: float = 1.0, **changes: Any) -> Model:
    arguments: dict[str, Any] = {
        "config": {"method": "ours", "size": 64},
        "dataset": ("cars", "0123456789ab"),
        "metrics": {"l1": 0.1},
        "code_version": "0.1.0",
        "trained_on": {"device": "cpu"},
        "dataset_config": {"classes": ["car"]},
        "licences": {"CC-BY-4.0": 4},
    }
    return publish_model(store, "cars-64", weights(value), **{**arguments, **changes})


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(tmp_path if request.param == "local" else f"memory://{tmp_path.name}")


def test_what_is_published_can_be_read(store: Store) -> None:
    model = publish(store)
    assert store.list("models") == [
        f"models/cars-64/{model.version}/model.json",
        f"models/cars-64/{model.version}/model.safetensors",
    ]
    found = read_model(store, f"cars-64@{model.version}")
    assert found.info["dataset"] == {
        "name": "cars", "version": "0123456789ab", "config": {"classes": ["car"]},
    }  # fmt: skip
    assert found.info["metrics"] == {"l1": 0.1}
    assert found.info["licences"] == {"CC-BY-4.0": 4}
    assert found.info["weights"]["path"] == f"models/cars-64/{model.version}/model.safetensors"
    read = found.weights(store)
    assert all(torch.equal(read[name], value) for name, value in weights().items())


def test_a_version_is_weights_and_configuration(store: Store) -> None:
    first = publish(store)
    again = publish(store, metrics={"l1": 9.0})
    assert again == first  # the first stands
    assert publish(store, 2.0).version != first.version
    assert publish(store, config={"method": "ours", "size": 32}).version != first.version
    assert len(versions(store, "cars-64")) == 3


def test_the_digest_of_weights() -> None:
    same = {name: weights()[name] for name in sorted(weights())}
    assert weights_digest(weights()) == weights_digest(same)
    others = [
        {**weights(), "b": torch.ones(3, 2)},
        {**weights(), "b": torch.ones(2, 3).double()},
        {"b": weights()["b"], "c": torch.tensor(2.0)},
        {**weights(), "a": torch.tensor(-2.0)},
        {"b": weights()["b"]},
    ]
    assert len({weights_digest(each) for each in [weights(), *others]}) == 6
    transposed = torch.arange(6.0).view(2, 3).T
    assert weights_digest({"a": transposed}) == weights_digest({"a": transposed.contiguous()})


def test_the_champion_is_the_last_entry(store: Store) -> None:
    assert champion(store, "cars-64") is None
    a, b, c = (publish(store, value).version for value in (1.0, 2.0, 3.0))
    with pytest.raises(ModelError, match=f"no version .* is promoted .* published are .*{a}"):
        read_model(store, "cars-64")
    for version in (a, b, c):
        promote(store, "cars-64", version, "better")
        assert read_model(store, "cars-64").version == version
    assert rollback(store, "cars-64") == b
    assert rollback(store, "cars-64", reason="worse on vans") == a
    with pytest.raises(ModelError, match="served before"):
        rollback(store, "cars-64")
    promote(store, "cars-64", c)
    assert rollback(store, "cars-64") == a
    assert rollback(store, "cars-64", b) == b
    assert champion(store, "cars-64") == b
    assert store.read("models/cars-64/champion") == f"{b}\n".encode()
    assert len(store.list("models/cars-64/promotions")) == 8


def test_only_what_is_published_is_promoted(store: Store) -> None:
    known = publish(store).version
    with pytest.raises(ModelError, match=f"no model cars-64@000000000000 .*cars-64@{known}"):
        promote(store, "cars-64", "000000000000")
    assert champion(store, "cars-64") is None


def test_damage_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path)
    model = publish(store)
    folder = tmp_path / "models" / "cars-64" / model.version
    (folder / "model.safetensors").write_bytes(b"x")
    with pytest.raises(
        DatasetError, match=r"model.safetensors is damaged: put back a copy of the model"
    ):
        model.weights(store)
    with pytest.raises(ModelError, match=r"model.safetensors is damaged"):
        publish(store)
    for text in ("{", "[]", "{}"):
        (folder / "model.json").write_text(text)
        with pytest.raises(DatasetError, match=r"model.json cannot be used"):
            read_model(store, f"cars-64@{model.version}")


@pytest.mark.parametrize("name", ["", "../x", "A", "a/b", ".a"])
def test_a_name_is_a_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="no name of a model"):
        publish_model(
            Store(tmp_path), name, weights(), config={}, dataset=("d", "v"), metrics={},
            code_version="0", trained_on={}, licences={},
        )  # fmt: skip


def test_licences_of_the_sources() -> None:
    videos = pa.table(
        {"status": ["ok", "ok", "ok", "empty_file"], "licence": ["B", None, "B", "A"]},
    )
    assert source_licences(videos) == {"B": 2, "unknown": 1}
