"""Configurations: what --set takes, empty sections, and what is refused by which words."""

from __future__ import annotations

from typing import Any

import pytest

from flows.configs import find_config
from idpose_core.config import (
    ConfigError,
    EmbedderConfig,
    load_config,
    parse_config,
    parse_override,
)
from storage.digests import digest

DEEP = "[" * 20_000
WHICH_CROPS = {
    "sampling": ("cut_contrast", "dissolve_error", "max_bar"),
    "clips": (
        "max_fill", "min_part", "max_padding", "min_brightness", "min_contrast",
        "max_appearance_jump",
    ),
}  # fmt: skip
"""Keys that came after the balance; they change which crops there are, so they are in the names."""


def test_the_papers_own_rules() -> None:
    """Sections 3.2 and 4, whatever the defaults become."""
    config = find_config("paper", {})
    embedder, triplets = config.embedder, config.triplets
    assert (config.detector.kind, config.detector.threshold) == ("torchvision", 0.9)
    assert (embedder.kind, embedder.weights, embedder.azimuth) == ("rotnet", None, None)
    assert (embedder.masks, embedder.silhouette) == ("none", False)
    assert (triplets.top_k, triplets.window_ms, triplets.min_similarity) == (1, 0, None)
    assert not triplets.mutual and not triplets.exclude_diagonal


@pytest.mark.parametrize(
    "text", ["x #y", "2024", "2024-01-01", "yes", "[v]", "a: b", "~", " x ", "a=b", "[/b]", '"x"']
)
def test_text_is_taken_as_it_stands(text: str) -> None:
    config = load_config("name: a", dict([parse_override(f"source.path={text}")]))
    assert config.source.path == text


@pytest.mark.parametrize("text", ["", "null"])
def test_nothing_unsets_an_optional_text(text: str) -> None:
    assert parse_override(f"source.licence={text}") == ("source.licence", None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name=2024", ("name", "2024")),
        ("detector.device=null", ("detector.device", "null")),
        ("seed=3", ("seed", 3)),
        ("triplets.mutual=yes", ("triplets.mutual", True)),
        ("classes=[car, bus]", ("classes", ["car", "bus"])),
        ("triplets.train=null", ("triplets.train", None)),
        ("source={path: v}", ("source", {"path": "v"})),
    ],
)
def test_the_type_of_the_key_says_how_a_value_is_read(text: str, expected: tuple[str, Any]) -> None:
    assert parse_override(text) == expected


def test_an_empty_section_has_the_default_values() -> None:
    text = "name: a\nsource:\nclips:\n"
    assert load_config(text) == load_config("name: a")
    assert load_config(text, {"source.path": "v"}).source.path == "v"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a mapping of keys"),
        (f"name: {DEEP}", "nested too deeply"),
        ("name: a\nseed: 2024-13-45", "month must be in"),
        ("name: a\nclips: {min_sharpness: .inf}", r"clips\.min_sharpness: .* finite"),
        ("name: a\nsampling: {fps: .nan}", r"sampling\.fps: "),
        ("name: a\nclips: {min_aspect: 5}", "clips: min_aspect 5.0 is above max_aspect 4.0"),
        ("name: a\nclasses: [cars]", "classes: no detector knows 'cars'; .* 'car'"),
        ("name: a\nclasses: [chair, Bus]", "'Bus'; the nearest known class is 'bus'"),
        ("name: a\nsources: {path: v}", "unknown key 'sources'; .* 'source.path'"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(text)


def test_an_override_below_something_else_is_refused() -> None:
    with pytest.raises(ConfigError, match="source: not a section"):
        load_config("name: a\nsource: [v]", {"source.path": "v"})
    with pytest.raises(ConfigError, match=r"unknown key 'seed\.path'"):
        load_config("name: a\nseed: 3", {"seed.path": "v"})


@pytest.mark.parametrize("text", [f"seed={DEEP}", "seed=2024-13-45", "seed=[", "seed", "=3"])
def test_an_override_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        parse_override(text)


def test_without_a_detector_any_class_may_be_annotated() -> None:
    config = load_config("name: a\nclasses: [tractor]\ndetector: {kind: annotations}")
    assert config.classes == ("tractor",)


def test_versions_that_read_no_azimuth_keep_their_names() -> None:
    config = load_config("name: a", {"embedder.kind": "st-alex"})
    assert "azimuth" not in config.identity()["embedder"]
    reading = load_config("name: a", {"embedder.azimuth": "car-azimuth"})
    assert reading.identity()["embedder"] == {
        **config.identity()["embedder"],
        "reads_azimuth": True,
    }
    with pytest.raises(ConfigError, match="azimuth"):
        load_config("name: a", {"embedder.azimuth": "car-azimuth", "embedder.masks": "none"})


def test_versions_without_windows_keep_their_names() -> None:
    config = load_config("name: a")
    assert "window_ms" not in config.identity()["triplets"]
    windowed = load_config("name: a", {"triplets.window_ms": 1000})
    assert windowed.identity()["triplets"]["window_ms"] == 1000
    with pytest.raises(ConfigError, match="window_ms"):
        load_config("name: a", {"triplets.window_ms": -1})


def test_versions_balanced_as_in_the_paper_keep_their_names() -> None:
    """The digest is that of the configuration before there was another balance."""
    wanted = {"triplets.balance": "paper", "embedder.kind": "st-alex"}
    paper = load_config("name: x", wanted).identity()
    unused = {**wanted, "triplets.clip_rows": 3, "triplets.max_turn_deg": 10}
    assert load_config("name: x", unused).identity() == paper
    for section, keys in WHICH_CROPS.items():
        for key in keys:
            del paper[section][key]
    assert digest(paper) == "4f94a5ab280a97006c48f3778bf4783b"
    now = load_config("name: x").identity()["triplets"]
    assert (now["balance"], now["clip_rows"], now["max_turn_deg"]) == ("target", 8, 45)
    assert "min_trust" not in now
    trusted = load_config("name: x", {"triplets.min_trust": 0.5})
    assert trusted.identity()["triplets"]["min_trust"] == 0.5


@pytest.mark.parametrize(
    ("classes", "asked", "chosen"),
    [
        (["car"], {}, ("car-view", "none")),
        (["car", "truck", "bus"], {"masks": "none"}, ("car-view", "none")),
        # it is at chance on buses and lorries
        (["truck", "bus"], {}, ("st-alex", "grabcut")),
        (["person"], {}, ("st-alex", "grabcut")),
        (["car", "person"], {}, ("st-alex", "grabcut")),
        (["person"], {"masks": "none"}, ("st-alex", "none")),
        # who asks for masks or for the azimuth of a masked picture gets them
        (["car"], {"masks": "grabcut"}, ("st-alex", "grabcut")),
        (["car"], {"azimuth": "car-azimuth"}, ("st-alex", "grabcut")),
        # who names a kind gets it
        (["car"], {"kind": "rotnet"}, ("rotnet", "grabcut")),
        (["car"], {"kind": "rotnet", "masks": "none"}, ("rotnet", "none")),
        (["person"], {"kind": "car-view"}, ("car-view", "none")),
        (["car"], {"kind": "car-view", "azimuth": "own.safetensors"}, ("car-view", "none")),
    ],
)
def test_the_embedder_is_chosen_by_the_classes(
    classes: list[str], asked: dict[str, str], chosen: tuple[str, str]
) -> None:
    config = parse_config({"name": "a", "classes": classes, "embedder": asked})
    assert (config.embedder.kind, config.embedder.masks) == chosen
    named = config.identity()["embedder"]
    assert (named["kind"], named["masks"]) == chosen
    assert parse_config(config.model_dump()) == config  # as a flow's parameters carry it
    rest = config.embedder.model_dump(exclude={"kind", "masks"})
    assert rest == EmbedderConfig.model_validate(asked).model_dump(exclude={"kind", "masks"})


def test_masks_that_the_data_brings_are_used() -> None:
    config = load_config("name: a", {"source.kind": "rendered", "embedder.masks": "source"})
    assert (config.embedder.kind, config.embedder.masks) == ("st-alex", "source")


@pytest.mark.parametrize("masks", ["grabcut", "source"])
def test_car_view_is_not_given_masks(masks: str) -> None:
    asked = {"embedder.kind": "car-view", "embedder.masks": masks, "source.kind": "rendered"}
    with pytest.raises(ConfigError, match=f"car-view looks at no masks: leave masks={masks} out"):
        load_config("name: a", asked)
