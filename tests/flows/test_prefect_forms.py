"""What Prefect's page posts from a form, and that a server never gets to store a credential."""

from __future__ import annotations

import functools
import json
import re
import urllib.error
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from prefect.utilities.callables import parameter_schema_from_entrypoint
from pydantic import TypeAdapter

from flows.configs import built_in
from flows.forms import BuildForm, TrainingForm
from idpose_core.config import load_config
from idpose_core.download.credentials import refuse_credentials
from idpose_core.settings import ConfigError, over
from idpose_core.training.config import TrainingConfig, resolve
from storage.datasets import read_manifest, read_table
from storage.objects import Store
from tests.download.server import Behaviour, LocalServer, answer, video
from tests.flows.network import invented, write_table
from tests.flows.prefect_server import REPOSITORY, get, post, run, server_alone, serving, wait_for
from tests.worlds.box_cars import write_box_car_videos

BUILD = "flows/prefect_flows.py:build_dataset"
TRAIN = "flows/prefect_training.py:train"
SECRET = "hunter2-planted"


@functools.cache
def form(entrypoint: str) -> dict[str, Any]:
    path, function = entrypoint.split(":")
    schema = parameter_schema_from_entrypoint(f"{REPOSITORY / path}:{function}")
    return schema.model_dump()


def posted(schema: dict[str, Any], part: dict[str, Any], values: Any = None) -> Any:
    """What the page posts of a part of the form, where a person has opened every section."""
    for kind in [part, *part.get("anyOf", [])]:
        if "$ref" in kind:
            part = schema["definitions"][kind["$ref"].rpartition("/")[2]]
    found = dict(values or {})
    for key, field in part["properties"].items():
        if any("$ref" in kind for kind in [field, *field.get("anyOf", [])]):
            found[key] = posted(schema, field, found.get(key))
        elif key not in found and "default" in field:
            found[key] = field["default"]
    return found


def fields(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{name}.{key}", field)
        for name, section in schema["definitions"].items()
        for key, field in section["properties"].items()
    ]


@pytest.mark.parametrize("preset", ["128", "64", "paper", "small"])
def test_what_the_form_posts_beside_a_preset_is_the_preset(preset: str) -> None:
    config = posted(form(TRAIN), form(TRAIN), {"config": {"training": {"preset": preset}}})
    made: TrainingConfig = TypeAdapter(TrainingForm).validate_python(config["config"])
    alone = resolve({"training": {"preset": preset}})
    assert resolve(made.asked()).model_dump() == alone.model_dump()


@pytest.mark.parametrize("name", built_in())
def test_what_the_form_posts_beside_a_base_is_the_base(name: str) -> None:
    config = posted(form(BUILD), form(BUILD), {"config": {"base": name}})["config"]
    made = TypeAdapter(BuildForm).validate_python(config)
    assert made == load_config(built_in()[name])


def test_what_is_set_stands_over_the_base() -> None:
    values = {"base": "rendered-cars", "name": "mine", "pose": {"clusters": 5, "space": None}}
    made = TypeAdapter(BuildForm).validate_python(values)
    base = load_config(built_in()["rendered-cars"])
    assert (made.name, made.pose.clusters, made.pose.space) == ("mine", 5, "fit")
    assert made.detector == base.detector and made.embedder == base.embedder


def test_a_null_that_means_something_is_kept() -> None:
    values = {"name": "mine", "triplets": {"clip_rows": None, "top_k": None}}
    made = TypeAdapter(BuildForm).validate_python(values)
    assert (made.triplets.clip_rows, made.triplets.top_k) == (None, 1)


@pytest.mark.parametrize("entrypoint", [BUILD, TRAIN])
def test_every_field_has_help_and_every_section_is_folded(entrypoint: str) -> None:
    schema = form(entrypoint)
    for name, field in fields(schema):
        assert field["title"] and field["description"].partition("Empty =")[0].strip(". "), name
        assert field.get("default") is None, name
    positions = {key: field["position"] for key, field in fields(schema)}
    assert positions.get("BuildConfig.base", -1) == -1


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("https://me:pw@host.example/{video_id}", True),
        ("https://pw@host.example/{video_id}", True),
        ("me:pw@proxy:3128", True),
        ("socks5://me:pw@proxy:3128", True),
        ("http://h.example/{video_id}.mp4?token=abc", True),
        ("http://h.example/{video_id}.mp4?a=1&X-Amz-Signature=abc", True),
        ("http://h.example/v?id={video_id}&Api_Key=abc", True),
        ("http://h.example/v?key=${KEY}x", True),
        ("s3://key:secret@bucket/videos", True),
        ("https://me:${PASSWORD}@host.example/{video_id}", False),
        ("https://${TOKEN}@host.example/{video_id}", False),
        ("http://h.example/v?id={video_id}&key=${KEY}&set=cars", False),
        ("http://h.example/v?key={video_id}", False),
        ("http://h.example/{video_id}.mp4?monkey=1&keyboard=2", False),
        ("http://[::1]:8080/{video_id}@2x.mp4", False),
        ("s3://bucket/a@b/c", False),
        ("/videos/a:b@c", False),
        ("C:/videos/a@b", False),
    ],
)
def test_credentials_in_addresses(text: str, holds: bool) -> None:
    schema = form(BUILD)
    pattern = schema["definitions"]["SourceConfig"]["properties"]["url_template"]["pattern"]
    assert (re.search(pattern, text) is None) == holds  # what the server does
    if not holds:
        return refuse_credentials({"source": {"url_template": text}})
    with pytest.raises(ConfigError, match=r"^source.url_template .*\$\{NAME\}") as error:
        refuse_credentials({"source": {"url_template": text}})
    assert "pw" not in str(error.value) and "abc" not in str(error.value)
    return None


def for_the_token(behave: Behaviour) -> Behaviour:
    """The behaviour for whoever has the token; others are refused."""

    def checked(handler: BaseHTTPRequestHandler) -> None:
        (behave if handler.path.endswith(f"?token={SECRET}") else answer(403))(handler)

    return checked


@pytest.mark.slow
def test_a_credential_is_used_and_kept_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos, root = tmp_path / "videos", tmp_path / "root"
    write_box_car_videos(videos, videos=3, seconds=3.0)
    table = (videos / "annotations.csv").read_text()
    missing = write_table(tmp_path / "missing.csv", invented("refused_aaa")).read_text()
    (tmp_path / "annotations.csv").write_text(table + missing)

    def files(folder: Path) -> bytes:
        return b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())

    monkeypatch.setenv("VIDEO_TOKEN", SECRET)
    with LocalServer() as source, serving(tmp_path) as (env, _):
        for file in videos.glob("*.mp4"):
            source.routes[f"/{file.name}"] = for_the_token(video(file.read_bytes()))
        assert run(env, "--no-prompt", "deploy", "-n", "build-dataset/folder").returncode == 0
        deployment = get(env, "deployments/name/build-dataset/folder")

        def ask(token: str) -> dict[str, Any]:
            template = source.url(f"/{{video_id}}.mp4?token={token}")
            config = {
                "base": "folder", "name": "guarded", "classes": ["car"],
                "source": {
                    "kind": "http", "url_template": template, "allow_private": True,
                    "annotations": str(tmp_path / "annotations.csv"),
                },
                "download": {"backoff_seconds": 0.05, "pause_seconds": 0.2, "tries": 2},
                "detector": {"kind": "annotations"}, "sampling": {"fps": 3},
                "clips": {"min_side": 48, "min_sharpness": 10},
                "embedder": {"kind": "grey-pixels", "masks": "grabcut"},
                "pose": {"clusters": 2}, "test_share": 0.0, "run": {"workers": 1},
            }  # fmt: skip
            body = {
                "parameters": {"config": config, "root": str(root)},
                "state": {"type": "SCHEDULED"},
            }
            found: dict[str, Any] = post(
                env, f"deployments/{deployment['id']}/create_flow_run", body
            )
            return found

        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(SECRET)
        assert refused.value.code == 409
        assert "write ${NAME} in its place" in json.load(refused.value)["detail"]

        made = ask("${VIDEO_TOKEN}")

        def state() -> str:
            return str(get(env, f"flow_runs/{made['id']}")["state_type"])

        wait_for(lambda: state() in ("COMPLETED", "FAILED", "CRASHED"), 400)
        assert state() == "COMPLETED"
        artifacts = {a["key"]: a for a in post(env, "artifacts/filter", {"limit": 50})}
        tasks = [t["name"] for t in post(env, "task_runs/filter", {"limit": 50})]
    picture = artifacts["guarded-triplets"]
    assert picture["type"] == "image" and picture["data"].startswith("data:image/jpeg;base64,")
    assert 1000 < len(picture["data"]) <= 200_000
    assert any(name.startswith("download-00000 ") and " more" in name for name in tasks), tasks
    manifest = read_manifest(Store(root), "guarded")
    assert manifest["statistics"]["attrition"]["videos"]["ok"] == 3
    uris = read_table(Store(root), manifest, "videos")["source_uri"].to_pylist()
    assert all("token" not in uri for uri in uris)
    everything = files(root) + files(tmp_path / "prefect")
    assert b"${VIDEO_TOKEN}" in everything and b"guarded-triplets" in everything
    assert SECRET.encode() not in everything


@pytest.mark.slow
def test_a_server_takes_what_its_forms_post(tmp_path: Path) -> None:
    with server_alone(tmp_path) as (env, _):
        deployed = run(env, "--no-prompt", "deploy", "--all")
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr

        def submitted(deployment: str, changes: dict[str, Any]) -> Any:
            """The configuration of a flow run whose form a person has opened and changed."""
            found = get(env, f"deployments/name/{deployment}")
            schema, values = found["parameter_openapi_schema"], found["parameters"]
            body = {"parameters": posted(schema, schema, over(values, changes))}
            made = post(env, f"deployments/{found['id']}/create_flow_run", body)
            return get(env, f"flow_runs/{made['id']}")["parameters"]["config"]

        for name, text in built_in().items():
            config = submitted(f"build-dataset/{name}", {})
            assert TypeAdapter(BuildForm).validate_python(config) == load_config(text), name
        config = submitted("train/gpu", {"config": {"training": {"preset": "small"}}})
    made = TypeAdapter(TrainingForm).validate_python(config)
    alone = resolve({"training": {"preset": "small"}})
    assert resolve(made.asked()).model_dump() == alone.model_dump()
