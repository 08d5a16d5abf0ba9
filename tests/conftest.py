"""Fixtures that all tests share."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.storage.s3 import BUCKET, FaultyProxy, credentials, s3_server

# Machines are shared and noisy: time is measured in benchmarks, never asserted by chance.
settings.register_profile("idpose", deadline=None)
settings.load_profile("idpose")

# `nohup make test` ignores Ctrl-C, as a background job of a shell does: the programs under test
# would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real test data (videos, YTBB rows, ETH-80 photographs), or skip."""
    folder = os.environ.get("IDPOSE_REAL_DATA")
    if not folder:
        pytest.skip("IDPOSE_REAL_DATA is not set: real videos are not at hand")
    return Path(folder)


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of an S3 server on this machine."""
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def proxy(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A proxy before that server, to which every client of this process speaks."""
    from s3fs import S3FileSystem

    proxy = FaultyProxy(s3)
    with proxy.serving() as endpoint:
        for name, value in credentials(endpoint).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("IDPOSE_CACHE", str(tmp_path / "cache"))
        S3FileSystem.clear_instance_cache()  # which know the endpoint of another test
        yield proxy


@pytest.fixture
def s3_root(proxy: FaultyProxy) -> str:
    """A root at S3 that no other test knows."""
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"
