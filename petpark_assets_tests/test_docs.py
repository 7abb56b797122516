"""README is true: what it names exists, and what exists and a person may use is named there.

A command, option, variable, asset, check, job, recipe or folder that is renamed breaks one of these, both ways round.
"""

import ast
import dataclasses
import importlib.util
import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import typer

from petpark_assets.cli import app
from petpark_assets.definitions import defs
from petpark_assets.domain.images import QUARANTINE_REASONS
from petpark_assets.domain.recipes import ALGORITHMS, RECIPES, SCHEDULERS
from petpark_assets.resources.environments import TABLE

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text()
SOURCE = PROJECT / "petpark_assets"
BENCHMARKS = PROJECT / "petpark_assets_tests" / "benchmarks"
INSTANCES = (PROJECT / "dagster.yaml", PROJECT / "infra" / "dagster.yaml")

SPANS = re.findall(r"`([^`\n]+)`", README)
BLOCKS = [line.strip() for line in README.splitlines() if line.startswith("    ")]
"""Code within a line, and lines of code."""

FOUR_DECIMALS, WHOLE = 5.1e-5, 0.51
"""How far a number in a table may be from what was measured: it is rounded."""


def rows(header):
    """The rows, as lists of cells, of the table under a header line that begins with these words."""
    lines = README.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {header}"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return found
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def named(cells):
    """The code spans of some cells."""
    return {span for cell in cells for span in re.findall(r"`([^`]+)`", cell)}


def walk(command, path=()):
    """Every command of a command line, by its words."""
    if not hasattr(command, "commands"):
        return {path: command}
    found = {}
    for name, inner in command.commands.items():
        found |= walk(inner, (*path, name))
    return found


COMMANDS = walk(typer.main.get_command(app))


def command_of(words):
    """The command that these words begin with, by its own words; None where there is none."""
    return next((path for path in COMMANDS if tuple(words[: len(path)]) == path), None)


SHOWN = sorted({line.split("  #")[0].strip() for line in (*SPANS, *BLOCKS) if re.match(r"petpark [a-z]", line)})


@pytest.mark.parametrize("line", SHOWN)
def test_shown_command_exists_with_its_options(line):
    """What a reader copies must be understood by the program, word for word."""
    words = shlex.split(line)[1:]
    path = command_of(words)
    assert path is not None, f"petpark has no command {line!r}"
    options = {name for parameter in COMMANDS[path].params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_every_command_has_its_line():
    """A command that README does not name is one that nobody finds."""
    shown = {path for path in COMMANDS for (cell, *_) in rows("command |") if " ".join(("petpark", *path)) in cell}
    assert shown == set(COMMANDS)


def test_home_and_json_are_taken_as_said():
    """README says it once for all commands instead of in every line."""
    options = {path: {name for item in command.params for name in item.opts} for path, command in COMMANDS.items()}
    assert [path for path, names in options.items() if "--home" not in names] == []
    assert [path for path, names in options.items() if "--json" not in names] == [("dev",), ("serve",)]


def test_verbs_of_make_are_those_of_the_makefile():
    """The same verbs on a laptop and in CI, and each explained."""
    verbs = set(re.findall(r"^([a-z-]+):.*##", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert {cell.strip("`").removeprefix("make ") for cell, _ in rows("verb |")} == verbs
    assert {word for line in (*SPANS, *BLOCKS) for word in re.findall(r"^make ([a-z-]+)", line)} == verbs


def test_variables_are_those_that_are_read():
    """A variable that is not in the table cannot be known; one that is not read misleads."""
    text = "".join(path.read_text() for path in (*SOURCE.rglob("*.py"), *INSTANCES))
    ours = set(re.findall(r"\b(PETPARK_[A-Z_]+)\b", text)) | {row.name for row in TABLE}
    assert named(cells[0] for cells in rows("variable |")) == ours
    assert ours - _words_of_the_source() - _names_of_mlflow() == set()


def test_assets_are_those_of_the_graph():
    """The table of the workflow is the graph: the same names in the same groups."""
    shown, step = {}, ""
    for group, asset, _ in rows("step "):
        step = named([group]).pop() if group else step
        shown[asset.strip("`")] = step
    graph = defs.resolve_asset_graph()
    assert shown == {node.key.to_user_string(): node.group_name for node in graph.asset_nodes}


def test_checks_are_those_that_run():
    """Each claim is named with its asset, and with whether it stops the run."""
    shown = {(check.strip("`"), asset.strip("`"), stops == "yes") for check, asset, stops, _ in rows("check |")}
    graph = defs.resolve_asset_graph()
    assert shown == {
        (key.name, key.asset_key.to_user_string(), graph.get_check_spec(key).blocking) for key in graph.asset_check_keys
    }


def test_jobs_are_named():
    """What can be launched from the UI is said where the UI is."""
    jobs = {job.name for job in defs.resolve_all_job_defs() if not job.name.startswith("__")}
    assert jobs <= set(SPANS)


def test_sensors_are_told_with_whether_they_are_on():
    """What acts by itself must be known before it does."""
    shown = {name.strip("`"): status for name, status, _ in rows("sensor |")}
    statuses = {sensor.name: "on" if sensor.default_status.value == "RUNNING" else "off" for sensor in defs.sensors}
    assert shown == statuses


def test_recipes_are_told_with_their_numbers():
    """A promise in README that the gate does not keep, or the other way round, would be a lie."""
    shown = {name.strip("`"): cells for name, *cells in rows("recipe |")}
    assert set(shown) == set(RECIPES)
    for name, recipe in RECIPES.items():
        _, side, search, targets, _ = shown[name]
        asked = recipe.targets
        assert side == f"{recipe.resolution_px} px"
        assert search == f"{recipe.search.num_trials} trials"
        assert targets == f"{asked.accuracy:.2f}; {asked.precision:.2f}, {asked.recall:.2f}"


def test_measured_numbers_are_those_of_the_results():
    """A figure that was typed once is forgotten when it is measured again; what has no result says so."""
    cells = {name.strip("`"): measured for name, *_, measured in rows("recipe |")}
    laptop, demo = _result("laptop"), _result("demo")
    shown = _numbers(r"N \(95 %: N to N\) on [\d,]+ test photos, in N minutes", cells["laptop"])
    expected = [laptop["accuracy"], *laptop["accuracy_interval"], laptop["minutes"]]
    assert shown == pytest.approx(expected, abs=FOUR_DECIMALS)
    if demo is not None:
        accuracy, num_photos, mean, sd = _numbers(r"N on N test photos, N ± N s\b", cells["demo"])
        assert (accuracy, num_photos) == pytest.approx(
            (demo["accuracy"]["mean"], demo["test_images"]), abs=FOUR_DECIMALS
        )
        assert (mean, sd) == pytest.approx((demo["seconds"]["mean"], demo["seconds"]["sd"]), abs=WHOLE)
    assert ("not measured" in cells["gpu"]) == (_result("gpu-training") is None)


def test_reasons_are_those_of_the_manifest():
    """Whoever looks at what was set aside finds each reason explained, and none that no photo can have."""
    assert named(cells[0] for cells in rows("set aside as |")) == set(QUARANTINE_REASONS)


def test_settings_are_those_of_the_recipe():
    """A field that is named here is typed into the launchpad as it stands here."""
    own = vars(RECIPES["laptop"])
    inner = {name: set(vars(part)) for name, part in own.items() if dataclasses.is_dataclass(part)}
    dotted = {f"{name}.{field}" for name, fields in inner.items() for field in fields}
    settings = {*own, *dotted, *inner["hyperparameters"]}
    paragraph = next(text for text in README.split("\n\n") if text.startswith("Some of what may be set"))
    told = paragraph.partition("UI's launchpad")[0]
    assert named([told]) - settings == {*ALGORITHMS, *SCHEDULERS, "gpu", "DEFAULT"}
    values = {name: named([listed]) for name, listed in re.findall(r"`([a-z.]+)` \(((?:`\w+`,? ?)+)\)", told)}
    assert values == {"search.algorithm": set(ALGORITHMS), "search.scheduler": set(SCHEDULERS)}
    assert {span for span in SPANS if span.partition(".")[0] in inner} - dotted == set()


def test_paths_are_those_of_the_repository():
    """Each is where a reader is sent next, from the repository's top or from a room of it that is spoken of."""
    ours = re.compile(r"(petpark_\w+|infra|docs|\.ci|domain|benchmarks|results)/")
    paths = {span.split()[0] for span in SPANS if ours.match(span)}
    beginnings = (PROJECT, SOURCE, BENCHMARKS.parent, BENCHMARKS)
    assert {path for path in paths if not any((folder / path).exists() for folder in beginnings)} == set()
    assert len(paths) > 40


def test_modules_are_those_that_run():
    """`python -m` with a name that moved is the first thing that fails for whoever repeats a measurement."""
    modules = set(re.findall(r"python -m ([\w.]+)", README))
    assert {name for name in modules if importlib.util.find_spec(name) is None} == set()
    assert len(modules) >= 3


def test_layout_is_that_of_the_repository():
    """A stranger finds every room in the list, and nothing in the list that is not there."""
    shown = {span.rstrip("/") for span in named(cells[0] for cells in rows("where |"))}
    assert [path for path in shown if not (PROJECT / path).exists()] == []
    rooms = [path for folder in (SOURCE, SOURCE / "domain") for path in folder.iterdir() if _is_room(path)]
    tracked = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=False).stdout
    top = {line.split("/")[0] for line in tracked.splitlines()} - {"README.md", ".gitignore", ".ci", "petpark_assets"}
    assert {path.relative_to(PROJECT).as_posix() for path in rooms} - shown - {"petpark_assets/domain"} == set()
    assert top - shown == set()


def test_links_lead_somewhere():
    """A picture or page that is not there is the first thing a reader sees."""
    for page in (PROJECT / "README.md", PROJECT / "CHANGELOG.md", PROJECT / "infra" / "README.md"):
        links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text())
        assert [link for link in links if not (page.parent / link).exists()] == []


def test_changelog_names_the_version():
    """The version a person has installed is found in the list of what changed."""
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\n## {version}" in (PROJECT / "CHANGELOG.md").read_text()


def _is_room(path):
    return not path.name.startswith("__") and (path.suffix == ".py" or (path / "__init__.py").exists())


def _numbers(pattern, cell):
    """What a cell begins with, where the pattern has an N for each number."""
    found = re.match(pattern.replace("N", r"(\d+(?:\.\d+)?)"), cell)
    assert found is not None, f"{cell!r} does not begin like {pattern!r}"
    return [float(number) for number in found.groups()]


def _result(name):
    """What a benchmark wrote; None where it was never run."""
    path = BENCHMARKS / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _words_of_the_source():
    """Every string that stands in the source, without the table of variables itself; what dagster.yaml takes."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        statements = [each for each in ast.parse(path.read_text()).body if not _is_the_table(each)]
        constants = [node for each in statements for node in ast.walk(each) if isinstance(node, ast.Constant)]
        found |= {node.value for node in constants if isinstance(node.value, str)}
    return found | {name for path in INSTANCES for name in re.findall(r"env: (\w+)", path.read_text())}


def _is_the_table(statement):
    return isinstance(statement, ast.Assign) and [ast.unparse(target) for target in statement.targets] == ["TABLE"]


def _names_of_mlflow():
    """What MLflow's client reads by itself."""
    source = Path(importlib.util.find_spec("mlflow").origin).with_name("environment_variables.py").read_text()
    return set(re.findall(r"^(MLFLOW_\w+) = ", source, re.MULTILINE))
