"""RotNet's AlexNet and the converter, on a file of exactly the published form."""

from __future__ import annotations

import io
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from idpose_core.pose.rotnet import (
    RotNetAlexNet,
    convert_checkpoint,
    random_rotnet,
    width_of,
)
from idpose_core.weights.tensors import read_tensors

BLOCKS = {"conv1": 0, "conv2": 2, "conv3": 4, "conv4": 5, "conv5": 6}


def published_form(network: RotNetAlexNet) -> dict[str, Any]:
    """The nesting and names of ImageNet_RotNet_AlexNet: blocks by index, classifier included."""
    tensors: OrderedDict[str, Tensor] = OrderedDict()
    for layer, index in BLOCKS.items():
        own = getattr(network, layer).state_dict()
        for name in ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"):
            tensors[f"_feature_blocks.{index}.{name}"] = own[name]
    tensors["_feature_blocks.9.0.weight"] = torch.ones(4, 8)  # parts that are not kept
    tensors["_feature_blocks.9.0.bias"] = torch.ones(4)
    return {"epoch": 50, "network": tensors}


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Pickles as PyTorch 0.2 did under Python 2: byte strings, ``_rebuild_tensor``, storages."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def __init__(self, stream: io.BytesIO, storages: dict[str, Tensor]) -> None:
        super().__init__(stream, protocol=2)
        self.storages = storages

    def save_str(self, text: str) -> None:
        data = text.encode()
        self.write(pickle.SHORT_BINSTRING + struct.pack("<B", len(data)) + data)
        self.memoize(text)

    dispatch[str] = save_str

    def save_tensor(self, tensor: Tensor) -> None:
        key = str(len(self.storages))
        self.storages[key] = tensor
        self.write(pickle.GLOBAL + b"torch._utils\n_rebuild_tensor\n")
        self.write(pickle.MARK)
        self.write(pickle.MARK)
        self.save("storage")
        self.write(pickle.GLOBAL + b"torch.cuda\nFloatStorage\n")
        for entry in (key, "cuda:0", tensor.numel(), None):
            self.save(entry)
        self.write(pickle.TUPLE + pickle.BINPERSID)
        for entry in (0, tuple(tensor.shape), tuple(tensor.stride())):
            self.save(entry)
        self.write(pickle.TUPLE + pickle.REDUCE)

    dispatch[Tensor] = save_tensor


def write_like_pytorch_02(checkpoint: dict[str, Any], path: Path) -> None:
    """Magic number, protocol, system, object, storage keys, then raw storages."""
    with path.open("wb") as stream:
        pickle.dump(0x1950A86A20F9469CFC6C, stream, protocol=2)
        pickle.dump(1001, stream, protocol=2)
        sizes = {"short": 2, "int": 4, "long": 4}
        pickle.dump(
            {"protocol_version": 1001, "little_endian": True, "type_sizes": sizes},
            stream,
            protocol=2,
        )
        storages: dict[str, Tensor] = {}
        body = io.BytesIO()
        Python2Pickler(body, storages).dump(checkpoint)
        stream.write(body.getvalue())
        pickle.dump(sorted(storages), stream, protocol=2)
        for key in sorted(storages):
            values = storages[key].contiguous()
            stream.write(struct.pack("<q", values.numel()) + values.numpy().tobytes())


def assert_same(converted: dict[str, Tensor], network: RotNetAlexNet) -> None:
    expected = network.state_dict()
    assert set(converted) == set(expected)
    for name, value in expected.items():
        assert torch.equal(converted[name], value), name


def trained_looking(seed: int) -> RotNetAlexNet:
    network = random_rotnet(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2, generator=generator)  # type: ignore[union-attr]
    return network


def test_grid_is_13_by_13_for_224_and_227() -> None:
    network = random_rotnet(0)
    with torch.no_grad():
        for side in (224, 227):
            shapes = [tuple(f.shape[1:]) for f in network(torch.zeros(1, 3, side, side))]
            assert shapes[3] == (256, 13, 13)
        assert [shape[0] for shape in shapes] == [64, 192, 384, 256, 256]


def test_conv4_against_the_layers_applied_one_by_one() -> None:
    network = trained_looking(3)
    x = torch.rand(1, 3, 99, 99, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = x
        for layer, pooled in (("conv1", True), ("conv2", True), ("conv3", False), ("conv4", False)):
            conv, norm = getattr(network, layer)[0], getattr(network, layer)[1]
            y = nn.functional.conv2d(y, conv.weight, conv.bias, conv.stride, conv.padding)
            scale = norm.weight / torch.sqrt(norm.running_var + 1e-5)
            y = (y - norm.running_mean.view(1, -1, 1, 1)) * scale.view(1, -1, 1, 1)
            y = (y + norm.bias.view(1, -1, 1, 1)).clamp(min=0)
            if pooled:
                y = nn.functional.max_pool2d(y, 3, 2)
        torch.testing.assert_close(network(x)[3], y, rtol=1e-4, atol=1e-4)


def test_published_checkpoint_of_pytorch_02_under_python_2(tmp_path: Path) -> None:
    network = trained_looking(0)
    path = tmp_path / "model_net_epoch50"
    write_like_pytorch_02(published_form(network), path)
    converted = convert_checkpoint(read_tensors(path))
    assert_same(converted, network)
    RotNetAlexNet().load_state_dict(converted)


@pytest.mark.parametrize("zipped", [True, False])
def test_published_checkpoint_saved_anew(tmp_path: Path, zipped: bool) -> None:
    network = trained_looking(1)
    path = tmp_path / "saved.pth"
    torch.save(published_form(network), path, _use_new_zipfile_serialization=zipped)
    assert_same(convert_checkpoint(read_tensors(path)), network)


def test_bare_and_data_parallel_state_dicts() -> None:
    network = trained_looking(2)
    assert_same(convert_checkpoint(network.state_dict()), network)
    wrapped = {f"module.{k}": v for k, v in published_form(network)["network"].items()}
    assert_same(convert_checkpoint(wrapped), network)
    assert width_of(network.state_dict()) == 1


def test_other_networks_are_refused() -> None:
    tensors = dict(published_form(random_rotnet(0))["network"])
    missing = {k: v for k, v in tensors.items() if k != "_feature_blocks.5.1.running_var"}
    with pytest.raises(ValueError, match=r"_feature_blocks\.5\.1\.running_var is missing"):
        convert_checkpoint(missing)
    reshaped = tensors | {"_feature_blocks.0.0.weight": torch.zeros(64, 3, 7, 7)}
    with pytest.raises(ValueError, match=r"conv1\.0\.weight is \(64, 3, 7, 7\)"):
        convert_checkpoint({"network": reshaped})
    with pytest.raises(ValueError, match="no state dict"):
        convert_checkpoint({"network": 3})
    with pytest.raises(ValueError, match="width must be positive"):
        RotNetAlexNet(0)


def test_random_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(11)
    first = random_rotnet(5).state_dict()
    torch.manual_seed(12)
    assert_same(dict(first), random_rotnet(5))
    assert not torch.equal(first["conv1.0.weight"], random_rotnet(6).state_dict()["conv1.0.weight"])
