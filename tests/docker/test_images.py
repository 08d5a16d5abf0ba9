"""The image and the compose file, as far as they can be checked without a container engine."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = [
    yaml.safe_load((REPOSITORY / f"docker/{name}.yaml").read_text())
    for name in ("compose", "compose.store")
]


def merged(first: Any, second: Any) -> Any:
    """Two files as Compose merges them, as far as these need it."""
    if isinstance(first, dict):
        return first | {k: merged(first[k], v) if k in first else v for k, v in second.items()}
    return second


COMPOSE = merged(*FILES)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (REPOSITORY / "docker/Dockerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, comments out and continued lines joined."""
    kept = [line for line in DOCKERFILE.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(kept).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line]


def copied() -> list[str]:
    return [
        source
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from=")
        for source in rest.split()[:-1]
    ]


def test_every_source_of_a_copy_exists_and_is_not_ignored() -> None:
    ignore = (REPOSITORY / ".dockerignore").read_text().split("\n")
    kept = {line[1:] for line in ignore if line.startswith("!")}
    assert "*" in ignore
    for source in copied():
        assert (REPOSITORY / source).exists(), source
        assert source in kept, f"{source} is not in .dockerignore"
    assert kept == set(copied()), "what is sent to the builder is what is copied"


def test_every_file_that_the_program_needs_is_copied() -> None:
    sources = copied()
    assert {"prefect.yaml", "pyproject.toml", "constraints.txt"} <= set(sources)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]:
        assert any(fnmatch.fnmatch(source, pattern) for source in sources), pattern
    deployments = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"]
    for entry in deployments:
        file = entry["entrypoint"].split(":")[0]
        assert (REPOSITORY / file).is_file()
        assert any(file.startswith(f"{source}/") for source in sources), file


def test_every_data_file_of_the_packages_is_package_data() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    data = project["tool"]["setuptools"]["package-data"]
    listed = subprocess.run(
        ["git", "ls-files", *data], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for file in listed:
        package, _, inside = file.partition("/")
        patterns = [pattern.replace("**/", "*") for pattern in data[package]]
        found = any(fnmatch.fnmatch(inside, pattern) for pattern in patterns)
        assert file.endswith(".py") or found, f"{file} would not be installed"


def test_the_image_does_not_run_as_root_and_keeps_its_data_in_a_volume() -> None:
    last = dict(instructions())
    assert last["USER"] == "1000:1000"
    assert last["VOLUME"] == "/data"
    assert last["ENTRYPOINT"] == '["idpose"]'
    assert "IDPOSE_ROOT=/data" in last["ENV"]


def test_the_optional_parts_of_the_image_exist() -> None:
    arguments = dict(rest.split("=", 1) for name, rest in instructions() if name == "ARG")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert set(arguments["EXTRAS"].split(",")) <= set(project["optional-dependencies"])


def test_the_image_has_only_the_headless_opencv() -> None:
    """Opencv-python writes over the headless build and does not load without libGL and libxcb."""
    run = next(rest for name, rest in instructions() if name == "RUN")
    commands = [shlex.split(command) for command in run.split("&&")]
    verbs = [command[1] for command in commands if command[0] == "pip"]
    assert verbs == ["install", "install", "uninstall", "install", "install"]
    assert "opencv-python" in commands[-3]
    assert {"opencv-python-headless", "--no-deps", "--force-reinstall"} <= set(commands[-2])


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_waits_for_what_its_dependencies_can_become(service: str) -> None:
    for name, wanted in SERVICES[service].get("depends_on", {}).items():
        dependency = SERVICES[name]
        if wanted["condition"] == "service_healthy":
            assert "healthcheck" in dependency
        else:
            assert wanted["condition"] == "service_completed_successfully"
            assert "restart" not in dependency, f"{name} would never be completed"


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_runs_for_good_and_is_watched_or_ends(service: str) -> None:
    described = SERVICES[service]
    assert ("healthcheck" in described) == (described.get("restart") == "unless-stopped")
    for part in described.get("volumes", []):
        source = part.split(":")[0]
        assert source in COMPOSE["volumes"] or source.startswith("${IDPOSE_VIDEOS")


def test_one_service_builds_the_image_that_all_others_use() -> None:
    ours = {name for name, described in SERVICES.items() if described["image"] == "idpose"}
    assert ours == {"server", "deploy", "worker", "tensorboard", "store-folder", "bucket"}
    built = {d["image"]: d["build"] for d in SERVICES.values() if "build" in d}
    assert set(built) == {"idpose", "idpose:cuda"} and "args" not in built["idpose"]
    arguments = dict(rest.split("=", 1) for name, rest in instructions() if name == "ARG")
    stages = {rest.split()[-1] for name, rest in instructions() if name == "FROM"}
    for one in built.values():
        context = REPOSITORY / "docker" / one["context"]
        assert (context / one["dockerfile"]).samefile(REPOSITORY / "docker/Dockerfile")
        assert set(one.get("args", {})) <= set(arguments)
    assert {arguments["VARIANT"], built["idpose:cuda"]["args"]["VARIANT"]} <= stages


def test_every_image_is_pinned() -> None:
    images = {d["image"] for d in SERVICES.values() if not d["image"].startswith("idpose")}
    images |= {rest.split()[0] for name, rest in instructions() if name == "FROM"}
    for image in images - {"cpu", "${VARIANT}"}:
        assert re.search(r":.*\d+[.-]\d+", image), image
    clone = next(rest for _, rest in instructions() if "facebookresearch/detectron2" in rest)
    assert re.search(r"detectron2@[0-9a-f]{40}", clone)


def test_a_stopped_worker_has_more_time_than_its_training() -> None:
    from flows import prefect_child

    for name in ("worker", "worker-gpu"):
        grace = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
        assert grace >= prefect_child._GRACE_SECONDS + 30


def test_the_image_has_the_javascript_runtime_that_is_pinned_for_yt_dlp() -> None:
    text = (REPOSITORY / "docker/deno.txt").read_text()
    assert re.search(r"^deno==[\d.]+ ", text, re.MULTILINE)
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", text)) == 2
    runs = " ".join(rest for name, rest in instructions() if name == "RUN")
    assert "--require-hashes --requirement deno.txt" in runs


def test_no_service_runs_as_root() -> None:
    for name, described in SERVICES.items():
        if not described["image"].startswith(("idpose", "postgres")):  # which changes its user
            assert described["user"] == "1000:1000", name


@pytest.mark.parametrize("files", [FILES[:1], [COMPOSE]])
def test_every_dependency_is_a_service(files: list[dict[str, Any]]) -> None:
    services = files[0]["services"]
    for described in services.values():
        assert set(described.get("depends_on", {})) <= set(services)


def test_no_secret_is_written_down() -> None:
    assert re.fullmatch(
        r"\$\{POSTGRES_PASSWORD:\?.+}", SERVICES["database"]["environment"]["POSTGRES_PASSWORD"]
    )
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|KEY", name):
                assert re.fullmatch(r"\$\{[A-Z_]+:\?.+}", value), name
            assert not re.search(r"://[^/]*:[^/]*@", value), f"{name} holds a password"
    example = (REPOSITORY / "docker/.env.example").read_text()
    assert all(line[-1] == "=" for line in example.splitlines() if not line.startswith("#"))
    assert (REPOSITORY / "docker/.gitignore").read_text().split() == [".env"]


def test_ports_are_open_to_this_host_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:4200:4200", "127.0.0.1:6006:6006"]


def test_the_prefect_settings_exist() -> None:
    from prefect.settings import Settings
    from prefect.settings.legacy import _get_settings_fields

    known = _get_settings_fields(Settings)
    used = {
        name
        for service in SERVICES.values()
        for name in service.get("environment", {})
        if name.startswith("PREFECT_")
    }
    assert used
    assert used <= set(known)


def test_the_parts_of_the_database_make_its_url() -> None:
    """Whatever the password is made of."""
    environment = SERVICES["server"]["environment"] | {
        "PREFECT_SERVER_DATABASE_PASSWORD": "p@s/w:r d%+#?"
    }
    code = (
        "from prefect.settings import get_current_settings as s\n"
        "from sqlalchemy import make_url\n"
        "u = make_url(s().server.database.connection_url.get_secret_value())\n"
        "print(u.drivername, u.host, u.port, u.database, u.username, u.password)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "postgresql+asyncpg database 5432 prefect prefect p@s/w:r d%+#?\n"


def prefect_commands() -> list[list[str]]:
    """Every call of prefect in the compose file."""
    called = []
    for service in SERVICES.values():
        words = [*service.get("entrypoint", []), *service.get("command", [])]
        if words[:3] == ["python", "-m", "flows.prefect_worker"]:  # hands its options on
            words = ["prefect", "worker", "start", *words[3:]]
        if words[:1] not in (["sh"], ["prefect"], ["tensorboard"]):
            continue  # of the image, or of the store's
        if words[:1] == ["sh"]:
            calls = re.split(r"\|\||\n", words[-1])
            called += [shlex.split(call.split(">")[0]) for call in calls if call.strip()]
        elif words:
            called.append(words)
    return called


def test_every_command_exists_with_its_options(tmp_path: Path) -> None:
    commands = prefect_commands()
    assert ["idpose", "deploy"] in commands
    for program, *words in commands:
        module = {
            "prefect": "prefect", "idpose": "flows.cli", "tensorboard": "tensorboard.main",
        }[program]  # fmt: skip
        depth = {"idpose": 1, "prefect": 2, "tensorboard": 0}[program]
        start = "from flows.cli import main; main()" if program == "idpose" else None
        call = [sys.executable, *(["-c", start] if start else ["-m", module])]
        helped = subprocess.run(
            [*call, *words[:depth], "--help"],
            env=os.environ | {"PREFECT_HOME": str(tmp_path), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert helped.returncode == 0, helped.stderr
        for option in (word for word in words[depth:] if word.startswith("-")):
            assert option in helped.stdout, f"{program} {' '.join(words)}: no {option}"


def test_the_pool_is_the_one_of_the_deployments_and_its_type_has_a_worker() -> None:
    deployments = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"]
    (pool,) = {entry["work_pool"]["name"] for entry in deployments}
    (created,) = [
        words for words in prefect_commands() if words[:3] == ["prefect", "work-pool", "create"]
    ]
    assert created == ["prefect", "work-pool", "create", pool, "--type", "process"]
    worker = SERVICES["worker"]["command"]
    assert worker[worker.index("--pool") + 1] == pool
    assert worker[worker.index("--type") + 1] == "process"


@pytest.mark.parametrize("service", SERVICES)
def test_the_health_probes_ask_where_the_service_listens(service: str) -> None:
    test = SERVICES[service].get("healthcheck", {}).get("test")
    if service == "server":
        command = SERVICES[service]["command"]
        assert f":{command[command.index('--port') + 1]}/api/health" in test[-1]
    elif service == "worker":
        from prefect.settings import get_current_settings

        assert f":{get_current_settings().worker.webserver.port}/health" in test[-1]
        assert "--with-healthcheck" in SERVICES[service]["command"]
    if test and test[1] == "python":
        compile(test[-1], service, "exec")
