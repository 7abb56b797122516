"""The house stands as drawn: the import contracts hold, are seen to be broken when they are, and hide nothing.

The contracts themselves are in pyproject.toml ([tool.importlinter]). A linter sees only the imports that are written
down, so what a real import loads is asked of fresh interpreters.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
SOURCE = PROJECT / "petpark_assets"
TESTS = PROJECT / "petpark_assets_tests"
NAMELESS = {"utils", "util", "helpers", "helper", "common", "core", "misc"}

BROKEN = {
    "the domain reaches up to an asset": ("domain/files.py", "import petpark_assets.assets.lake", "Floors"),
    "an asset reaches up to a check": ("assets/lake.py", "import petpark_assets.checks.lake", "Floors"),
    "the splits know the model": ("domain/splits.py", "import petpark_assets.domain.model.train", "ladder"),
    "a room without a place": ("domain/utils.py", "VALUE = 1", "ladder"),
    "a floor without a place": ("helpers.py", "VALUE = 1", "Floors"),
    "dagster inside a function of the domain": (
        "domain/recipes.py",
        "def sneak() -> None:\n    import dagster",
        "never heard of Dagster",
    ),
    "ray in an asset": ("assets/model.py", "import ray", "Ray"),
    "a cloud SDK": ("resources/home.py", "import boto3", "cloud"),
    "torch behind the predictor's decoder": ("domain/images.py", "import torch", "onnxruntime"),
    "a door that pulls torch in": ("domain/package/__init__.py", "import torch", "__init__"),
}
"""By what is wrong: the file it is planted in, the line, and a word of the contract that must say so."""

FRESH = {
    "petpark_assets.domain.package.predictor": {
        "torch", "torchvision", "onnx", "onnxscript", "ray", "dagster", "mlflow", "lance", "sklearn", "matplotlib",
    },
    "petpark_assets.definitions": {"torch", "torchvision", "ray", "mlflow", "lance", "onnx", "sklearn", "matplotlib"},
    "petpark_assets.cli": {"torch", "ray", "dagster", "mlflow", "lance", "onnx", "sklearn", "matplotlib"},
    "petpark_assets.domain.workflow": {"torch", "ray", "dagster", "mlflow", "onnx", "sklearn", "matplotlib"},
    "ray": {"rfc3987_syntax", "lark", "torch", "pandas"},
}  # fmt: skip
"""By module: what importing it must not load, because every process that does would pay seconds and memory."""

SETTING = {
    "resources/ray_cluster.py": "Ray's daemons are told by what they inherit alone; put back afterwards",
    "domain/registry/mlflow_store.py": "MLflow's own switches, which it reads when it is imported",
    "domain/model/devices.py": "cuBLAS reads its own when it starts",
    "domain/model/workers.py": "gloo finds its network by it",
}
"""Who sets a switch of a library in the environment, and why there is no other way."""


def run_contracts(folder):
    """Lint the package that lies in a folder, by the contracts beside it."""
    return subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"},
    )  # fmt: skip


def test_contracts_hold():
    """Imports only point down, so a stranger can read any room without the ones above it."""
    result = run_contracts(PROJECT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("what", BROKEN)
def test_broken_contract_is_noticed(what, tmp_path):
    """A contract that cannot fail protects nothing: each is broken once in a copy."""
    file, line, contract = BROKEN[what]
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    shutil.copytree(SOURCE, tmp_path / "petpark_assets", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "petpark_assets" / file).open("a") as broken:
        broken.write(f"\n\n{line}\n")
    result = run_contracts(tmp_path)
    assert result.returncode != 0
    assert re.search(rf"{contract}.* BROKEN", result.stdout), result.stdout + result.stderr


@pytest.mark.parametrize("module", FRESH)
def test_import_stays_light(module):
    """A package's __init__ or a library can load what no line of ours imports; only a real import tells."""
    code = f"import sys, {module}; print(*sys.modules, sep='\\n')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    loaded = {name.split(".")[0] for name in result.stdout.split()}
    assert not loaded & FRESH[module]


@pytest.mark.parametrize("root", [SOURCE, TESTS], ids=lambda root: root.name)
def test_every_folder_is_a_package(root):
    """A folder without __init__ is invisible to the contracts, and all of them would hold."""
    folders = {path.parent for path in root.rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_every_room_is_named_for_what_is_in_it():
    """A room for whatever fits nowhere else is where a house starts to rot."""
    assert [path for path in SOURCE.rglob("*") if path.stem in NAMELESS] == []


def test_every_module_says_what_lives_in_it():
    """The first thing a stranger reads in a file is what it is for."""
    silent = [path for path in SOURCE.rglob("*.py") if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_one_module_knows_our_variables():
    """A variable read in a corner is one that no README names and no test can set."""
    knowing = {
        path
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and re.fullmatch(r"PETPARK_[A-Z_]+", str(node.value))
    }
    assert knowing == {SOURCE / "resources" / "environments.py"}


def test_one_module_reads_the_environment():
    """Whatever is read elsewhere is in no table, and its secret can come from no file; what is set is named here."""
    reader, setting = SOURCE / "resources" / "environments.py", set()
    for path in set(SOURCE.rglob("*.py")) - {reader}:
        text = path.read_text()
        touching = re.findall(r"\bos\.(?:environ|getenv)\b(?:\.\w+|\[[^\]]*\] =)?", text)
        read = [found for found in touching if not re.search(r"\.(update|setdefault|pop)$|\] =$", found)]
        assert read == [], path
        assert not re.search(r"from os import .*\b(environ|getenv)\b", text), path
        setting |= {path.relative_to(SOURCE).as_posix()} if touching else set()
    assert setting == SETTING.keys()


@pytest.mark.parametrize("name", ["requirements.txt", "infra/uv.txt"])
def test_lock_is_exact_and_names_no_address(name):
    """The same files everywhere: each pinned and hashed, and found by the reader's own index, whichever that is."""
    lock = (PROJECT / name).read_text()
    pinned = re.findall(
        r"^([a-z0-9._-]+)(?:\[[a-z0-9,-]+\])?==[^ ]+(?: ;[^\\]+)? \\\n    --hash=sha256:", lock, re.MULTILINE
    )
    assert len(pinned) == len(re.findall(r"^\S", lock, re.MULTILINE))
    assert re.findall(r"://|--index|--extra|--find|--trusted", lock) == []


def test_lock_holds_every_dependency():
    """A dependency added to pyproject.toml alone would be missing on a fresh machine: `make lock` adds it."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    wanted = (
        project["project"]["dependencies"] + project["dependency-groups"]["dev"] + project["build-system"]["requires"]
    )
    names = {re.split(r"[\[<>=!~ ;]", line)[0].lower() for line in wanted}
    locked = set(re.findall(r"^([a-z0-9._-]+)", (PROJECT / "requirements.txt").read_text(), re.MULTILINE))
    assert names - locked == set()
