"""DINOv2's patches: a second implementation, both ways to name its weights, other files."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from idpose_core.evaluation.roles import networks_used
from idpose_core.pose.embedding import load_embedder
from idpose_core.pose.rotnet import IMAGENET_MEAN, IMAGENET_STD, random_rotnet
from idpose_core.weights import fetch_weights, find_weights, import_weights

SIZE = 160
PLAIN = {"masked": False, "silhouette": False, "image_size": SIZE}
MODELS = {False: "vit_small_patch14_dinov2", True: "vit_small_patch14_reg4_dinov2"}


def with_timms_names(registers: bool) -> dict[str, Tensor]:
    timm = pytest.importorskip("timm")
    network = timm.create_model(MODELS[registers], pretrained=False, num_classes=0)
    draws = torch.Generator().manual_seed(int(registers))
    for parameter in network.parameters():  # its own start has blocks that do next to nothing
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=draws)
    return dict(network.state_dict())


def with_metas_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {**tensors, "mask_token": torch.zeros(1, 384)}
    if "reg_token" in found:
        place = torch.randn(1, 1, 384, generator=torch.Generator().manual_seed(2))
        found["register_tokens"] = found.pop("reg_token")
        found["cls_token"] = found["cls_token"] - place
        found["pos_embed"] = torch.cat([place, found["pos_embed"]], dim=1)
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, bool], Path]]:
    folder = tmp_path_factory.mktemp("dinov2")
    found = {}
    for registers in (False, True):
        tensors = with_timms_names(registers)
        found["timm", registers] = folder / f"timm-{registers}.safetensors"
        found["meta", registers] = folder / f"meta-{registers}.pth"
        save_file(tensors, found["timm", registers])
        torch.save(with_metas_names(tensors), found["meta", registers])
    yield found
    shutil.rmtree(folder)  # a third of a gigabyte


def pictures(count: int) -> NDArray[np.uint8]:
    draws = np.random.default_rng(0)
    coarse = draws.integers(0, 256, (count, 20, 20, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def plainly(tensors: dict[str, Tensor], picture: NDArray[np.uint8], blocks: int) -> Tensor:
    """The patches [384, 13, 13] after so many blocks, from Meta's names and the paper."""
    x = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    x = F.interpolate(x, (182, 182), mode="bicubic", antialias=True).clamp(0, 255) / 255
    x = (x - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)
    patches = x.unfold(2, 14, 14).unfold(3, 14, 14).permute(0, 2, 3, 1, 4, 5).reshape(169, -1)
    kernel = tensors["patch_embed.proj.weight"].reshape(384, -1)
    patches = patches @ kernel.T + tensors["patch_embed.proj.bias"]
    places = tensors["pos_embed"][0, 1:].T.reshape(1, 384, 37, 37)
    places = F.interpolate(places, (13, 13), mode="bicubic", antialias=True)
    patches = patches + places.reshape(384, 169).T
    first = tensors["cls_token"][0] + tensors["pos_embed"][0, :1]
    registers = tensors.get("register_tokens", torch.empty(1, 0, 384))[0]
    x = torch.cat([first, registers, patches])

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (384,), tensors[f"{name}.weight"], tensors[f"{name}.bias"], 1e-6)

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    for at in (f"blocks.{number}" for number in range(blocks)):
        q, k, v = linear(f"{at}.attn.qkv", norm(f"{at}.norm1", x)).view(-1, 3, 6, 64).unbind(1)
        weights = torch.einsum("qhc,khc->hqk", q, k).div(8).softmax(-1)
        mixed = torch.einsum("hqk,khc->qhc", weights, v).reshape(-1, 384)
        x = x + tensors[f"{at}.ls1.gamma"] * linear(f"{at}.attn.proj", mixed)
        inner = F.gelu(linear(f"{at}.mlp.fc1", norm(f"{at}.norm2", x)))
        x = x + tensors[f"{at}.ls2.gamma"] * linear(f"{at}.mlp.fc2", inner)
    return norm("norm", x)[-169:].T.reshape(384, 13, 13)


@pytest.mark.parametrize("registers", [False, True])
@pytest.mark.parametrize(("layer", "blocks"), [(None, 9), ("block1", 1), ("block12", 12)])
def test_the_patches_of_a_block(
    files: dict[tuple[str, bool], Path], registers: bool, layer: str | None, blocks: int
) -> None:
    embedder = load_embedder("dinov2", files["meta", registers], layer=layer, **PLAIN)  # type: ignore[arg-type]
    assert embedder.name == f"dinov2/block{blocks}"
    assert embedder.dimension == 384 * 13 * 13
    (found,) = embedder.embed(pictures(1), None)
    tensors = torch.load(files["meta", registers], weights_only=True)
    expected = F.normalize(plainly(tensors, pictures(1)[0], blocks).flatten(), dim=0).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.01 * np.abs(expected).max())


@pytest.mark.parametrize("registers", [False, True])
def test_a_row_depends_on_its_own_picture_and_on_nothing_else(
    files: dict[tuple[str, bool], Path], registers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    embedder = load_embedder("dinov2", files["meta", registers], **PLAIN)  # type: ignore[arg-type]
    together = embedder.embed(pictures(3), None)
    assert together.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(together.astype(np.float64), axis=1), 1, atol=2e-3)
    alone = [embedder.embed(picture[None], None)[0] for picture in pictures(3)[::-1]]
    assert np.stack(alone[::-1]).tobytes() == together.tobytes()
    again = load_embedder("dinov2", files["timm", registers], **PLAIN)  # type: ignore[arg-type]
    np.testing.assert_allclose(again.embed(pictures(3), None), together, rtol=0, atol=1e-4)
    if not registers:  # with them one sum is rounded on the way from one file to the other
        assert again.embed(pictures(3), None).tobytes() == together.tobytes()


def test_the_background_is_masked_as_for_any_network(
    files: dict[tuple[str, bool], Path],
) -> None:
    embedder = load_embedder("dinov2", files["timm", False], image_size=SIZE)
    assert embedder.dimension == 385 * 13 * 13
    mask = np.zeros((1, SIZE, SIZE), bool)
    mask[:, 40:120, 30:130] = True
    picture = pictures(1)
    other = picture.copy()
    other[:, :36] = 255 - other[:, :36]
    assert np.array_equal(embedder.embed(other, mask), embedder.embed(picture, mask))


def test_another_file_is_refused(files: dict[tuple[str, bool], Path], tmp_path: Path) -> None:
    tensors = torch.load(files["meta", False], weights_only=True)
    wrong = {
        "rotnet": (
            dict(random_rotnet(0).state_dict()),
            "not DINOv2's ViT-S/14: the tensor cls_tok",
        ),
        "base": (
            {**tensors, "cls_token": torch.zeros(1, 1, 768)},
            r"not DINOv2's ViT-S/14: cls_token is \(1, 1, 768\), expected \(1, 1, 384\)",
        ),
        "more": ({**tensors, "head.weight": torch.zeros(2, 384)}, "Unexpected key.*head.weight"),
    }
    for name, (content, message) in wrong.items():
        torch.save(content, tmp_path / f"{name}.pth")
        with pytest.raises(ValueError, match=rf"{name}\.pth: .*{message}"):
            load_embedder("dinov2", tmp_path / f"{name}.pth")
    with pytest.raises(ValueError, match=r"unknown layer 'conv4': choose from \['block1'"):
        load_embedder("dinov2", files["meta", False], layer="conv4")
    with pytest.raises(ValueError, match="idpose weights import dinov2_vits14 PATH"):
        load_embedder("dinov2")


def test_files_are_imported_under_their_own_name(
    files: dict[tuple[str, bool], Path], tmp_path: Path
) -> None:
    for writer in ("meta", "timm"):
        with pytest.raises(ValueError, match="ViT-S/14 without registers"):
            import_weights(files[writer, False], "dinov2_vits14_reg4", tmp_path)
        with pytest.raises(ValueError, match="ViT-S/14 with registers"):
            import_weights(files[writer, True], "dinov2_vits14", tmp_path)
    stored = import_weights(files["meta", False], "dinov2_vits14", tmp_path)
    assert find_weights("dinov2_vits14", tmp_path) == stored
    stored.unlink()
    with pytest.raises(ValueError, match=r"no digest .* import dinov2_vits14_reg4 PATH"):
        fetch_weights("dinov2_vits14_reg4", tmp_path)


def test_without_timm_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = {
        "cls_token": (1, 1, 384), "pos_embed": (1, 1370, 384), "norm.weight": (384,),
        "patch_embed.proj.weight": (384, 3, 14, 14), "blocks.11.ls2.gamma": (384,),
    }  # fmt: skip
    path = tmp_path / "dinov2.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, path)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"pip install 'idpose\[dinov2\]'"):
        load_embedder("dinov2", path)


def test_what_it_chose_is_not_measured_with_it() -> None:
    assert networks_used({"embedder": {"kind": "dinov2"}}, {}) == {"retrieval": ["dinov2"]}
