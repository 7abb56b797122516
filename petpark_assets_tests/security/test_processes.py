"""Claims about the processes: none needs root, and none listens to others unless it is told to."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import petpark_assets
from petpark_assets import cli
from petpark_assets.domain.lake.drawn import draw_lake

SOURCE = Path(petpark_assets.__file__).parent
NOBODY = 65534

BUILD = """
import sys
from petpark_assets import cli
from petpark_assets.domain.recipes import RECIPES, override

RECIPES["demo"] = override(RECIPES["demo"], {
    "search": {"num_trials": 2, "trial_epochs": 1}, "hyperparameters": {"epochs": 1, "width": 4},
    "resolution_px": 32, "targets": {"accuracy": 0.0, "precision": 0.0, "recall": 0.0},
})
cli.app(sys.argv[1:])
"""
"""`petpark` with a recipe whose model is registered whatever it has learned: two trials on Ray, and one epoch."""


def copy_python(folder):
    """This Python with its packages, to be started by anybody: its own program may lie in root's home."""
    program = folder / "bin" / "python3"
    program.parent.mkdir()
    shutil.copy(Path(sys.executable).resolve(), program)
    if (Path(sys.prefix) / "pyvenv.cfg").exists():
        shutil.copy(Path(sys.prefix) / "pyvenv.cfg", folder)
    (folder / "lib").symlink_to(Path(sys.prefix) / "lib")
    folder.chmod(0o755)
    return program


@pytest.mark.slow
@pytest.mark.debian  # a checkout that nobody may read proves nothing: CI must have one that can be read
def test_a_model_is_built_and_registered_by_nobody(tmp_path_factory):
    """As a user without a name, rights or a home, what a container runs as: from photos by a search to the registry."""
    folder = Path(tmp_path_factory.mktemp("nobody"))
    draw_lake(folder / "lake", num_images=40, num_broken=1)
    is_root = os.getuid() == 0
    command = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
    before, python = [], Path(sys.executable)
    if is_root:
        before, python = ["setpriv", *command], copy_python(Path(tmp_path_factory.mktemp("python")))
    for path in [folder, *folder.parents]:  # pytest's folders are their owner's alone
        if is_root and path.stat().st_mode & 0o007 == 0:
            path.chmod(path.stat().st_mode | 0o001)
    if is_root:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
        if subprocess.run([*before, python, "-c", "import petpark_assets"], check=False).returncode != 0:
            pytest.skip("nobody may not read this Python or this checkout")
    verb = ["build", "--lake", folder / "lake", "--home", folder / "home", "--recipe", "demo", "--json"]
    own = ("HOME", "MPLCONFIGDIR", "TMPDIR", "RAY_TMPDIR")
    environment = {**os.environ, **dict.fromkeys(own, str(folder))}
    done = subprocess.run(
        [*before, python, "-c", BUILD, *verb],
        capture_output=True, text=True, check=False, cwd=SOURCE.parent, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["is_accepted"], document["model_version"]) == (True, 1)
    assert {"hyperparameter_search", "trained_cnn"} <= document["seconds"].keys()
    assert {path.stat().st_uid for path in (folder / "home").rglob("*")} == {NOBODY if is_root else os.getuid()}


def test_no_line_of_ours_opens_a_server_to_everybody():
    """An address for all of a machine's networks is an operator's to give, never a default."""
    found = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if re.search(r"0\.0\.0\.0|INADDR_ANY|(bind|Server)\(\([\"']([\"']|::)", path.read_text())
    }
    assert found == set()


def test_the_ui_listens_on_loopback(tmp_path, monkeypatch):
    """`petpark dev` has no option to listen elsewhere, since Dagster's UI has no login."""
    asked = []
    monkeypatch.setattr(cli, "_run_until_stopped", lambda arguments: asked.append(arguments) or 0)
    monkeypatch.setattr(cli, "enter_home", lambda *_, **__: None)
    monkeypatch.setenv("PETPARK_HOME", str(tmp_path))
    with pytest.raises(SystemExit) as done:
        cli.app(["dev", "--reports-port", "0"])
    assert done.value.code == 0
    assert asked[0][asked[0].index("-h") + 1] == "127.0.0.1"
