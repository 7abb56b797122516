"""Claims about the processes: none needs root, and none listens to others unless it is told to."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import petpark_assets
from petpark_assets import cli
from petpark_assets.domain.lake.drawn import draw_lake

SOURCE = Path(petpark_assets.__file__).parent
NOBODY = 65534


@pytest.mark.debian  # a checkout that nobody may read proves nothing: CI must have one that can be read
def test_a_lake_is_ingested_by_nobody(tmp_path_factory):
    """As a user without a name, rights or a home: what a container runs as."""
    folder = Path(tmp_path_factory.mktemp("nobody"))
    draw_lake(folder / "lake", num_images=12, num_broken=1)
    is_root = os.getuid() == 0
    command = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
    before = ["setpriv", *command] if is_root else []
    for path in [folder, *folder.parents]:  # pytest's folders are their owner's alone
        if is_root and path.stat().st_mode & 0o007 == 0:
            path.chmod(path.stat().st_mode | 0o001)
    if is_root:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
        if subprocess.run([*before, sys.executable, "-c", "import petpark_assets"], check=False).returncode != 0:
            pytest.skip("nobody may not read this Python or this checkout")
    verb = ["lake", "ingest", "--lake", folder / "lake", "--home", folder / "home", "--recipe", "demo", "--json"]
    environment = {**os.environ, "HOME": str(folder), "MPLCONFIGDIR": str(folder), "TMPDIR": str(folder)}
    done = subprocess.run(
        [*before, sys.executable, "-m", "petpark_assets.cli", *verb],
        capture_output=True, text=True, check=False, cwd=SOURCE.parent, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"]["accepted"] > 0
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
