"""The parameters of the flows as forms of Prefect's page.

The page posts every default that it finds in a parameter's schema, so that a preset would have
nothing left to decide. The schema has none, therefore: what a person leaves empty stays unset, and
the help says what it will be. Sections are folded away until they are set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from griffe import Docstring, DocstringSectionKind
from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from flows.configs import built_in
from idpose_core.config import BuildConfig
from idpose_core.download.credentials import PATTERN
from idpose_core.settings import is_section, keys_of, over, read_yaml
from idpose_core.training.config import TrainingConfig, resolve

_EMPTY = {"type": "null", "title": "default"}


@dataclass(frozen=True, eq=False)
class Form:
    """Annotates a configuration whose empty fields are left out.

    Args:
        first: Keys that stand first.
        presets: By name, all values of a preset that decides what an empty field becomes.
        bases: By name, the YAML text of configurations of which ``base`` names the one to change.
    """

    first: tuple[str, ...] = ()
    presets: Mapping[str, Mapping[str, Any]] | None = None
    bases: Mapping[str, str] | None = None

    def __get_pydantic_core_schema__(self, kind: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Leave out what is empty, set the rest over the base, then validate."""
        return core_schema.no_info_before_validator_function(
            lambda values: self._based(without_empty(kind, values)), handler(kind)
        )

    def _based(self, values: Any) -> Any:
        if self.bases is None or not isinstance(values, Mapping) or "base" not in values:
            return values
        base, rest = values["base"], {k: v for k, v in values.items() if k != "base"}
        if base is None:
            return rest
        if base not in self.bases:
            raise ValueError(f"base: {base!r} is none of {', '.join(self.bases)}")
        return over(read_yaml(self.bases[base]), rest)

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The schema without defaults, with help for every field."""
        schema = handler(core)
        whole = handler.resolve_ref_schema(schema)
        _describe(whole, handler, self.presets or {}, self.first)
        whole["title"] = "Set"
        del whole["description"]  # that of the parameter is shown
        if self.bases is not None:
            whole["properties"]["base"] = {
                "title": "Base",
                "description": "Built-in configuration that says what is empty here",
                "anyOf": [{"type": "string", "enum": list(self.bases)}, _EMPTY],
                "default": None,
                "position": -1,
            }
            del whole["required"]  # the base has it
        return schema


def _describe(
    section: dict[str, Any],
    handler: GetJsonSchemaHandler,
    presets: Mapping[str, Mapping[str, Any]],
    first: tuple[str, ...] = (),
) -> None:
    summary, help_of = _read_docstring(section.get("description", ""))
    section["description"] = summary
    fields = section["properties"]
    for position, key in enumerate(dict.fromkeys([*first, *fields])):
        field, by_preset = fields[key], {name: p[key] for name, p in presets.items()}
        title = key.replace("_", " ").capitalize()
        shown = {"title": title, "position": position}
        if "$ref" in field:
            inner = handler.resolve_ref_schema({"$ref": field["$ref"]})
            _describe(inner, handler, by_preset)
            inner["title"] = "Set"
            shown["description"] = inner.pop("description")
            shown |= {"anyOf": [{"$ref": field["$ref"]}, _EMPTY], "default": None}
        elif key in section.get("required", ()):
            shown = field | shown
        else:
            shown = _empty(field, by_preset, help_of.get(key, "")) | shown
        for text in _texts(shown):
            text["pattern"] = PATTERN
        fields[key] = shown


def without_empty(kind: type, values: Any) -> Any:
    """Plain values without those that are null where the key takes no null."""
    if not isinstance(values, Mapping):
        return values
    kinds = keys_of(kind)
    return {
        key: without_empty(kinds[key], value) if is_section(kinds.get(key)) else value
        for key, value in values.items()
        if value is not None or key not in kinds or type(None) in get_args(kinds[key])
    }


def _empty(field: dict[str, Any], by_preset: Mapping[str, Any], help_: str) -> dict[str, Any]:
    """A field without its default, which the help names."""
    default = field.pop("default", None)
    told = field.pop("description", help_).replace("null =", "empty =")
    presets: dict[str, list[str]] = {}
    for name, value in by_preset.items():
        presets.setdefault(str(value), []).append(name)
    if len(presets) > 1:
        told += ". Empty = by preset: "
        told += ", ".join(f"{value} ({', '.join(names)})" for value, names in presets.items())
    elif default is not None:
        told += f". Empty = {default}"
    options: list[dict[str, Any]] = field.pop("anyOf", [field])
    kinds = [kind for kind in options if kind.get("type") != "null"]
    for kind in kinds:
        kind.pop("title", None)  # then its type is shown
    shown: dict[str, Any] = {"description": told.replace("..", ".").removeprefix(". ")}
    if len(kinds) > 1 or "enum" in kinds[0] or kinds[0].get("type") == "boolean":
        return shown | {"anyOf": [*kinds, _EMPTY], "default": None}
    return kinds[0] | shown


def _read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """What a section is, and what its attributes are."""
    summary: str = ""
    help_of: dict[str, str] = {}
    for part in Docstring(text).parse("google"):
        if part.kind is DocstringSectionKind.text and not summary:
            summary = part.value
        if part.kind is DocstringSectionKind.attributes:
            for attribute in part.value:
                help_of[attribute.name] = attribute.description
    return summary, help_of


def _texts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every free text of a schema."""
    if isinstance(schema, dict):
        if schema.get("type") == "string" and not {"enum", "const", "pattern"} & set(schema):
            yield schema
        for value in schema.values():
            yield from _texts(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _texts(value)


BuildForm = Annotated[
    BuildConfig,
    Form(
        ("name", "source", "classes", "image", "pose", "triplets", "detector", "embedder"),
        bases=built_in(),
    ),
]
"""A build: most of it is as a built-in configuration has it."""

TrainingForm = Annotated[
    TrainingConfig,
    Form(
        ("training", "run", "seed"),
        {
            name: over(
                resolve({"training": {"preset": name}}).model_dump(mode="json"),
                {"training": {"preset": None}},
            )
            for name in ("128", "64", "paper", "small")
        },
    ),
]
"""A training: a preset and a method say most of it."""

Root = Annotated[str | None, Field(json_schema_extra={"pattern": PATTERN})]
"""Where data lies."""
