"""Fixtures that all tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

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
