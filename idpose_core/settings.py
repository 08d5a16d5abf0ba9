"""Configurations as typed sections: reading, overriding, and messages that name the key.

A configuration is one model whose sections are models or plain dataclasses. Unknown keys are
refused, with the nearest known key named.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key and the remedy."""


class Section(BaseModel):
    """A configuration or a part of one. Plain dataclasses inside are as strict."""

    # What was typed may be a secret, and errors are logged.
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def _take_an_empty_section(cls, values: Any) -> Any:
        return {} if values is None else values


SectionT = TypeVar("SectionT", bound=Section)


def parse(model: type[SectionT], values: Mapping[str, Any]) -> SectionT:
    """Validate plain values.

    Raises:
        ConfigError: A key is unknown or a value is out of its range; every problem is named.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(model, e) for e in error.errors())) from None


def with_overrides(
    model: type[Section], values: Any, overrides: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Plain values with ``key.path: value`` overrides set.

    Raises:
        ConfigError: The values are no mapping, or a path leads through a key that is no section.
    """
    if not isinstance(values, dict):
        raise ConfigError("a configuration is a mapping of keys to values")
    for path, value in (overrides or {}).items():
        _set(model, values, path, value)
    return values


def parse_override(model: type[Section], text: str) -> tuple[str, Any]:
    """Split ``key.path=value``.

    Where the key takes text, the value is taken as it stands (nothing, or ``null``, is None where
    the key may be None). Elsewhere it is read as YAML, so that 3, true and [a, b] work.

    Raises:
        ConfigError: There is no ``=``, or the value is not YAML.
    """
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set takes key=value, not {text!r}")
    kind = dict(_keys(model)).get(path)
    if kind is str:
        return path, value
    if kind == str | None:
        return path, None if value in ("", "null") else value
    try:
        return path, read_yaml(value)
    except ConfigError as error:
        raise ConfigError(f"--set {path}: {error}") from error


def read_yaml(text: str) -> Any:
    """YAML as plain values. Raises ConfigError."""
    try:
        return yaml.safe_load(text)
    except RecursionError:
        raise ConfigError("not YAML: nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: such as a 13th month
        raise ConfigError(f"not YAML: {error}") from error


def read_text(path: Path) -> str:
    """A configuration file's text. Raises ConfigError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error


def over(base: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values with others set over them, key by key of their sections."""
    merged = dict(base)
    for key, value in above.items():
        below = merged.get(key)
        if isinstance(below, dict) and value is None:
            continue  # an empty section
        if isinstance(below, dict) and isinstance(value, Mapping):
            merged[key] = over(below, value)
        else:
            merged[key] = value
    return merged


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that looks most like this one."""
    return difflib.get_close_matches(word, list(known), n=1, cutoff=0.0)[0]


def _set(model: type[Section], values: dict[str, Any], path: str, value: Any) -> None:
    *sections, last = path.split(".")
    for section in sections:
        if values.get(section) is None:
            values[section] = {}
        values = values[section]
        if not isinstance(values, dict):
            known = path in dict(_keys(model))
            raise ConfigError(
                f"{section}: not a section of keys" if known else _unknown(model, path)
            )
    values[last] = value


def _explain(model: type[Section], error: Any) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return _unknown(model, path)
    if error["type"] == "value_error":  # one of the sections' own validators
        return ": ".join(filter(None, (path, str(error["ctx"]["error"]))))
    return f"{path}: {error['msg']} (got {reprlib.repr(error['input'])})"


def _unknown(model: type[Section], path: str) -> str:
    near = nearest(path, [known for known, _ in _keys(model)])
    return f"unknown key {path!r}; the nearest known key is {near!r}"


def keys_of(section: type) -> dict[str, Any]:
    """The keys of a section, a model or a dataclass, with their types."""
    if issubclass(section, BaseModel):
        return {name: field.annotation for name, field in section.model_fields.items()}
    return get_type_hints(section)


def is_section(kind: Any) -> bool:
    """Whether the values of this type are sections with keys of their own."""
    return isinstance(kind, type) and (issubclass(kind, BaseModel) or is_dataclass(kind))


def _keys(section: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its type."""
    for name, kind in keys_of(section).items():
        if is_section(kind):
            yield from _keys(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", kind
