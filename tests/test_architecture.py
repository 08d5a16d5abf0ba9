"""The house rules that a program can check; CONTRIBUTING.md has them in words."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FLOORS = ("storage", "idpose_core", "flows")  # from the ground up
FORBIDDEN = {
    "storage": {"idpose_core", "flows", "tests", "torch", "torchvision", "prefect"},
    "idpose_core": {"flows", "tests", "prefect"},
    "flows": {"tests"},
}
LONGEST_FILE = 500
OPTIONAL = (
    "dask",
    "datasets",
    "decord",
    "detectron2",
    "distributed",
    "drjit",
    "mitsuba",
    "onnxruntime",
    "timm",
    "torchcodec",
    "yt_dlp",
)
# Loading faiss starts OpenMP threads of its own beside torch's: not where networks are trained.
WITHOUT_FAISS = ("models", "methods", "training", "evaluation")


def modules(floor: str) -> list[Path]:
    found = sorted((REPOSITORY / floor).rglob("*.py"))
    assert found
    return found


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and top-level package of every absolute import, inside of functions as well."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, (node.module or "").split(".")[0]


def family(package: str) -> str:
    """Prefect's integrations (prefect_dask, ...) count as Prefect."""
    return "prefect" if package.startswith("prefect_") else package


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_only_go_down(floor: str) -> None:
    wrong = [
        f"{file.relative_to(REPOSITORY)}:{line} imports {package}"
        for file in modules(floor)
        for line, package in imports(ast.parse(file.read_text("utf-8")))
        if family(package) in FORBIDDEN[floor]
    ]
    assert not wrong


def test_the_walk_finds_imports_wherever_they_stand() -> None:
    code = "import os.path\ndef f():\n    from torch.nn import Module\n    from . import x\n"
    assert list(imports(ast.parse(code))) == [(1, "os"), (3, "torch")]
    assert family("prefect_dask") == "prefect"
    assert family("prefectly") == "prefectly"


def test_networks_do_not_load_faiss() -> None:
    wrong = [
        str(file.relative_to(REPOSITORY))
        for file in modules("idpose_core")
        if file.relative_to(REPOSITORY / "idpose_core").parts[0] in WITHOUT_FAISS
        if "faiss" in {package for _, package in imports(ast.parse(file.read_text("utf-8")))}
    ]
    assert not wrong


def tracked() -> list[Path]:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    files = [REPOSITORY / name for name in listed.stdout.split("\0") if name]
    return [file for file in files if file.is_file()]


def test_a_file_can_be_read_in_one_sitting() -> None:
    lengths = {
        str(file.relative_to(REPOSITORY)): len(file.read_text("utf-8").splitlines())
        for file in tracked()
        if file.suffix == ".py"
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    absolute = re.compile(rb"(?:(?<![\w.~/-])|(?<=file://))/(?:work|home|root)(?![\w-])")
    assert absolute.search(b"open('/" + b"home/me/x')")
    assert absolute.search(b"file:///" + b"work")
    assert not absolute.search(
        b"ROOT/work/x https://example.org/home memory://root ./root /homework"
    )
    wrong = [
        str(file.relative_to(REPOSITORY))
        for file in tracked()
        if (content := file.read_bytes()) and b"\0" not in content and absolute.search(content)
    ]
    assert not wrong


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_can_be_imported_without_the_optional_packages() -> None:
    names = [
        ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        for floor in FLOORS
        for file in modules(floor)
    ]
    run_python(
        "import importlib, sys\n"
        f"for absent in {OPTIONAL}:\n"
        "    sys.modules[absent] = None\n"
        f"for name in {names}:\n"
        "    importlib.import_module(name)"
    )


def test_a_folder_with_modules_is_a_package() -> None:
    folders = {file.parent for floor in FLOORS for file in modules(floor)}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_the_plain_runner_does_not_import_prefect() -> None:
    """Importing it costs a second, and starting it ten."""
    loaded = run_python(
        "import sys\n"
        "import flows.cli, flows.build_dataset, flows.progress, flows.runners\n"
        "print({name.split('.')[0] for name in sys.modules} & {'prefect', 'distributed'})"
    )
    assert loaded.strip() == "set()"


def test_a_dry_run_does_not_load_torch() -> None:
    """It takes half a gigabyte; the largest annotation table is read beside it."""
    loaded = run_python(
        "import sys, flows.cli, flows.dry_run\n"
        "print({name.split('.')[0] for name in sys.modules} & {'torch', 'faiss', 'prefect'})"
    )
    assert loaded.strip() == "set()"
