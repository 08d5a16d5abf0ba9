"""What the command line says: one clear message and the right exit code, whatever happens."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import cli
from flows.messages import explain, visible
from flows.progress import TerminalProgress
from flows.runners import (
    LocalRunner,
    WorkerDiedError,
    configured_server,
    interrupts_held,
    result_of,
)
from idpose_core.config import RunConfig
from tests.flows.builds import BOX_CARS, run, settings

NOWHERE = ["--set", "source.path=/nowhere", "--set", "source.annotations=/nowhere.csv"]
NAMES = {
    "[/b].mp4": "[/b].mp4",
    "Clip [dQw4w9WgXcQ].mp4": "Clip [dQw4w9WgXcQ].mp4",
    ":smile: [bold]ünï車.mp4": ":smile: [bold]ünï車.mp4",
    "a\nb\x1b[31m.mp4": r"a\nb\x1b[31m.mp4",
    "no-utf8-\udcff.mp4": r"no-utf8-\udcff.mp4",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_are_shown_as_they_are(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.inspection.describe", lambda found: [f"  {name}: not_a_video"])
    cli._show_summary({})
    TerminalProgress().say(f"{name} left out")
    shown = capsys.readouterr()
    assert shown.out == f"  {NAMES[name]}: not_a_video\n"
    assert shown.err.strip() == f"{NAMES[name]} left out"
    assert visible(name) == NAMES[name]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dry-run", "--runner", "foo"], "--runner takes local, prefect or dask, not 'foo'"),
        (["--dry-run", "--set", "clips.min_aspect=5"], "min_aspect 5.0 is above max_aspect 4.0"),
        (["--set", "clips.min_sharpness=.inf"], "clips.min_sharpness: "),
        (["--set", "source.path=[/b] #x"], "'[/b] #x'"),
    ],
)
def test_wrong_usage_names_the_key(words: list[str], message: str, tmp_path: Path) -> None:
    annotations = tmp_path / "annotations.csv"
    annotations.write_text("v,1000,23,car,0,present,0.1,0.5,0.2,0.6\n")
    chosen = ["--set", f"source.annotations={annotations}", "--set", "source.path=/nowhere"]
    chosen += ["--runner", "local", "--root", str(tmp_path)]
    found = CliRunner().invoke(cli.app, ["build", BOX_CARS, *chosen, *words])
    assert found.exit_code == 2, found.output
    assert message.replace("'", "") in found.output.replace("'", "")


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x"), "make room"),
        (OSError(errno.EROFS, "Read-only file system", "x"), "--root or $IDPOSE_ROOT"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "change its permissions"),
    ],
)
def test_an_error_of_the_disk_comes_with_a_remedy(error: OSError, remedy: str) -> None:
    explained = explain(error)
    assert explained is not None
    message, code = explained
    assert message.startswith(str(error)) and remedy in message
    assert code == 1


def test_only_bugs_and_closed_pipes_are_left_unexplained() -> None:
    assert explain(KeyError("x")) is None
    assert explain(BrokenPipeError(errno.EPIPE, "Broken pipe")) is None


@pytest.mark.parametrize("words", [["inspect", "x"], ["doctor"], ["weights", "list"]])
def test_a_missing_file_system_is_named_with_its_package(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IDPOSE_WEIGHTS", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    found = CliRunner().invoke(cli.app, [*words, "--root", "s3://bucket/prefix"])
    assert (found.exit_code, "pip install 'idpose[s3]'" in found.output) == (1, True), found.output


def test_internal_errors_are_a_failure_even_of_a_committed_build(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = {
        "version": "0123", "path": "datasets/box-cars/0123", "internal_errors": 2,
        "counts": dict.fromkeys(("videos", "clips", "crops", "triplets"), 1),
        "attrition": {"videos": {"ok": 1, "internal_error": 2}},
    }  # fmt: skip
    monkeypatch.setattr("flows.build_dataset.build_locally", lambda config, root: result)
    words = ["build", BOX_CARS, "--runner", "local", "--root", str(tmp_path), "--json"]
    found = CliRunner().invoke(cli.app, words)
    assert found.exit_code == 1
    assert "2 rows met an internal error" in found.output and "committed" in found.output
    assert json.loads(found.stdout.splitlines()[-1]) == result
    result["internal_errors"] = 0
    assert CliRunner().invoke(cli.app, words).exit_code == 0


def kill_yourself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_executor_whose_worker_died_is_made_anew() -> None:
    with LocalRunner(RunConfig(workers=1)) as runner:
        with pytest.raises(WorkerDiedError, match="out of memory"):
            result_of(runner.submit(kill_yourself))
        assert list(runner.map(abs, [(-3,)], "again")) == [3]
    with pytest.raises(WorkerDiedError, match="closed"):
        runner.submit(abs, -3)


def start_build(videos: Path, root: Path, *words: str) -> tuple[subprocess.Popen[str], list[int]]:
    """A build in a process group of its own, and its worker processes."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from flows.cli import main; main()",
         "build", BOX_CARS, "--root", str(root), *settings(videos), *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while True:
        assert process.poll() is None, process.communicate()
        # Linux lists the children by the thread that started them; under Prefect a task's.
        lists = [text_of(file) for file in Path("/proc").glob(f"{process.pid}/task/*/children")]
        children = " ".join(lists).split()
        workers = [int(child) for child in children if "spawn_main" in command_of(child)]
        if workers:
            return process, workers
        time.sleep(0.01)


def command_of(process: str) -> str:
    return text_of(Path(f"/proc/{process}/cmdline"))


def text_of(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def test_a_worker_that_dies_is_one_message(videos: Path, tmp_path: Path) -> None:
    process, workers = start_build(videos, tmp_path, "--runner", "local")
    os.kill(workers[0], signal.SIGKILL)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 1
    assert told.splitlines()[-1].startswith("idpose: a worker process died (out of memory?)")
    assert "Traceback" not in told


@pytest.mark.parametrize("seconds", [0.0, 1.0, 4.0])
def test_ctrl_c_is_one_line(seconds: float, videos: Path, tmp_path: Path) -> None:
    """It goes to the whole process group: to workers that still start, too."""
    process, _ = start_build(videos, tmp_path, "--runner", "local")
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130
    lines = [line for line in told.splitlines() if "shards computed" not in line]
    assert lines == ["idpose: interrupted: the same command goes on where it was"]


def test_ctrl_c_waits_until_a_worker_is_started() -> None:
    """Another thread takes a signal that the main thread holds back."""
    done, held = threading.Event(), False
    threading.Thread(target=done.wait).start()
    try:
        with pytest.raises(KeyboardInterrupt), interrupts_held():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            held = True
    finally:
        done.set()
    assert held
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_ctrl_c_during_imports_is_one_line() -> None:
    program = (
        "import os, signal, sys\n"
        "import flows.cli\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'flows.doctor':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "sys.argv = ['idpose', 'doctor']\n"
        "flows.cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert done.stderr == "idpose: interrupted: the same command goes on where it was\n"


@pytest.mark.parametrize("words", [["build", BOX_CARS, *NOWHERE], ["deploy"]])
def test_a_server_that_does_not_answer_is_one_message(words: list[str], tmp_path: Path) -> None:
    env = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_HOME": str(tmp_path)}
    done = run(words, env)
    assert done.returncode == 1
    assert done.stderr.startswith("idpose: no Prefect server answers at http://127.0.0.1:9/api")
    assert len(done.stderr.splitlines()) == 1


def test_deploying_from_elsewhere_says_where_to_go(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "from flows.cli import main; main()", "deploy"]
    env = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect")}
    done = subprocess.run(
        program, env=env, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 1
    assert "checkout of the repository" in done.stderr
    assert len(done.stderr.splitlines()) == 1


PROFILES = """
active = "mine"
[profiles.mine]
PREFECT_API_URL = "http://mine/api"
[profiles.other]
PREFECT_API_URL = "http://other/api"
[profiles.none]
"""


@pytest.mark.parametrize(
    ("text", "env", "expected"),
    [
        (None, {}, None),
        (PROFILES, {}, "http://mine/api"),
        (PROFILES, {"PREFECT_PROFILE": "other"}, "http://other/api"),
        (PROFILES, {"PREFECT_PROFILE": "none"}, None),
        (PROFILES, {"PREFECT_PROFILE": "nothing"}, None),
        (PROFILES, {"PREFECT_API_URL": "http://variable/api"}, "http://variable/api"),
        ("active = [", {}, None),
        ("active = 'x'\nprofiles = 3", {}, None),
    ],
)
def test_the_server_of_a_profile_counts(
    text: str | None,
    env: dict[str, str],
    expected: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"PREFECT_HOME": str(tmp_path), **env}.items():
        monkeypatch.setenv(name, value)
    if text is not None:
        (tmp_path / "profiles.toml").write_text(text)
    assert configured_server() == expected
    assert cli._runner_name(None) == ("prefect" if expected else "local")


@pytest.fixture
def own_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))


@pytest.mark.slow
@pytest.mark.usefixtures("own_server")
def test_a_wrong_setup_under_prefect_is_one_message(tmp_path: Path) -> None:
    words = ["--runner", "prefect", "--root", str(tmp_path / "root")]
    done = run(["build", BOX_CARS, *words, *NOWHERE])
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("idpose: source.")]


@pytest.mark.slow
@pytest.mark.usefixtures("own_server")
def test_prefect_tries_the_shards_of_a_dead_worker_again(videos: Path, tmp_path: Path) -> None:
    process, workers = start_build(videos, tmp_path / "root", "--runner", "prefect", "--json")
    os.kill(workers[0], signal.SIGKILL)
    out, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert "Retry 1/1" in told
    assert json.loads(out.splitlines()[-1])["internal_errors"] == 0


@pytest.mark.slow
@pytest.mark.usefixtures("own_server")
def test_ctrl_c_under_prefect_has_no_traceback(videos: Path, tmp_path: Path) -> None:
    process, _ = start_build(videos, tmp_path / "root", "--runner", "prefect")
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "idpose: interrupted: " in told and "Traceback" not in told
