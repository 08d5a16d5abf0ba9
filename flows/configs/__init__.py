"""The built-in configurations, by name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from idpose_core.config import BuildConfig, ConfigError, load_config, read_config_file


def built_in(kind: str = "") -> dict[str, str]:
    """The YAML text of every built-in configuration of a build, or of another folder of them."""
    folder = files(__package__).joinpath(kind)
    found = (entry for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    return {e.name.removesuffix(".yaml"): e.read_text("utf-8") for e in sorted(found, key=str)}


def find_config(name_or_file: str, overrides: Mapping[str, Any]) -> BuildConfig:
    """Load a built-in configuration by name, or a YAML file by path.

    Raises:
        ConfigError: There is neither, or the configuration is not valid.
    """
    known = built_in()
    if name_or_file in known:
        return load_config(known[name_or_file], overrides)
    path = Path(name_or_file)
    if not path.is_file():
        names = ", ".join(known)
        raise ConfigError(f"{name_or_file!r} is neither a file nor one of: {names}")
    return read_config_file(path, overrides)
