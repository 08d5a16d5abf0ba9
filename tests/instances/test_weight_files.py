from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from idpose_core.instances.detectors import load_detector
from idpose_core.instances.model_zoo_pickle import convert
from idpose_core.instances.weight_files import load_into


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


@pytest.mark.parametrize("form", ["safetensors", "pth", "checkpoint"])
def test_weights_are_loaded_and_named_by_their_digest(tmp_path: Path, form: str) -> None:
    state = network(0).state_dict()
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save(state if form == "pth" else {"model": state, "iteration": 3}, path)
    other = network(1)
    sha256 = load_into(other, path)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    for name, value in other.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)


def test_constants_of_the_architecture_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({**network(0).state_dict(), "pixel_mean": torch.zeros(3)}, path)
    load_into(network(1), path, ignored=("pixel_mean",))
    with pytest.raises(ValueError, match="1 tensors unknown, the first is pixel_mean"):
        load_into(network(1), path)


class Explosive:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise AssertionError('the file ran code')",)


def write_bad(path: Path, kind: str) -> None:
    state = network(0).state_dict()
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "noise":
            path.write_bytes(bytes(range(256)) * 8)
        case "truncated":
            torch.save(state, path)
            path.write_bytes(path.read_bytes()[:-200])
        case "code":
            torch.save({"0.weight": Explosive()}, path)
        case "list":
            torch.save([1, 2], path)
        case "missing tensor":
            torch.save({k: v for k, v in state.items() if k != "0.bias"}, path)
        case "wrong size":
            torch.save({**state, "0.bias": torch.zeros(5)}, path)


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("absent", "no such file"),
        ("empty", "damaged"),
        ("noise", "damaged"),
        ("truncated", "damaged"),
        ("code", "not tensors only"),
        ("list", "state dictionary"),
        ("missing tensor", "missing, the first is 0.bias"),
        ("wrong size", "of another size, the first is 0.bias"),
    ],
)
def test_bad_files_name_file_cause_and_remedy(tmp_path: Path, kind: str, cause: str) -> None:
    path = tmp_path / "w.pth"
    write_bad(path, kind)
    with pytest.raises(ValueError, match=cause) as error:
        load_into(network(1), path)
    assert str(path) in str(error.value)
    assert "idpose weights import" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\xff" * 64])
def test_damaged_safetensors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        load_into(network(0), path)


def test_a_folder_is_no_weights_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        load_into(network(0), tmp_path)


def test_another_kind_of_file(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    path.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"\.h5 is not read"):
        load_into(network(0), path)


@pytest.mark.parametrize("kind", ["torchvision", "detectron2", "yolox"])
def test_a_detector_without_weights(kind: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="idpose weights import"):
        load_detector(kind, None)
    if kind != "detectron2":  # which needs its package first
        with pytest.raises(ValueError, match="no such file"):
            load_detector(kind, tmp_path / "absent.pth")


def test_unknown_detectors_and_devices(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown detector kind 'ssd'"):
        load_detector("ssd", tmp_path / "w.pth")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="CPU only"):
        load_detector("yolox", tmp_path / "w.onnx", device="cuda")


def test_a_model_zoo_pickle_is_refused_and_names_the_converter(tmp_path: Path) -> None:
    path = tmp_path / "model_final_280758.pkl"
    path.write_bytes(pickle.dumps({"model": {}}))
    with pytest.raises(ValueError, match=r"model_zoo_pickle\.convert"):
        load_detector("detectron2", path)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_model_zoo_pickle_is_converted(tmp_path: Path, protocol: int) -> None:
    arrays = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(1)}
    source, destination = tmp_path / "zoo.pkl", tmp_path / "zoo.safetensors"
    content = {"model": arrays, "__author__": "someone", "step": np.float64(3)}
    source.write_bytes(pickle.dumps(content, protocol=protocol))
    convert(source, destination)
    converted = load_file(destination)
    assert converted.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(converted[name].numpy(), array)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (pickle.dumps({"model": {"w": Explosive()}}), r"names builtins\.exec"),
        (pickle.dumps({"model": {"w": [1, 2]}}), "does not hold"),
        (pickle.dumps([1]), "does not hold"),
        (pickle.dumps({"model": {"w": np.ones(3)}})[:-20], "not a pickle of arrays"),
        (b"", "not a pickle of arrays"),
        (b"\x80\x05garbage", "not a pickle of arrays"),
    ],
)
def test_other_pickles_are_not_converted(tmp_path: Path, content: bytes, cause: str) -> None:
    source, destination = tmp_path / "zoo.pkl", tmp_path / "zoo.safetensors"
    source.write_bytes(content)
    with pytest.raises(ValueError, match=cause):
        convert(source, destination)
    assert not destination.exists()


def test_an_object_array_does_not_smuggle_code(tmp_path: Path) -> None:
    source = tmp_path / "zoo.pkl"
    source.write_bytes(pickle.dumps({"model": {"w": np.array([Explosive()], dtype=object)}}))
    with pytest.raises(ValueError, match=r"names builtins\.exec"):
        convert(source, tmp_path / "zoo.safetensors")
