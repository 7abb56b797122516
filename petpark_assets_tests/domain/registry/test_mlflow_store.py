"""MLflow behind our room: it says nothing, sends nothing, litters nothing, and survives being moved."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from petpark_assets.domain.errors import CorruptData, InvalidInput, TransientError
from petpark_assets.domain.package.contents import verify_folder
from petpark_assets.domain.registry.versions import Registry
from petpark_assets_tests.domain.package import toys


def test_a_moved_home_keeps_its_models_and_takes_new_ones(registry, new_package, mlflow_folder, ledger, tmp_path):
    """MLflow notes absolute paths; a home is backed up and restored elsewhere, also where names are odd."""
    package = new_package()
    registry.register(package, tags={})
    moved = tmp_path / "a home#1 é" / "mlflow"
    shutil.copytree(mlflow_folder, moved)
    elsewhere = Registry(moved, registry.model_name, record_event=ledger.append)
    shutil.rmtree(mlflow_folder / "artifacts" / registry.show(1).run_id)
    elsewhere.download(1, tmp_path / "old")
    assert verify_folder(tmp_path / "old") == verify_folder(package)
    assert elsewhere.register(new_package(), tags={}) == 2
    elsewhere.download(2, tmp_path / "new")
    assert not (mlflow_folder / "artifacts" / elsewhere.show(2).run_id).exists()


def test_it_works_in_silence_and_leaves_nothing_outside_its_folder(tmp_path):
    """`--json` allows one document on stdout; and no word about our models leaves the machine."""
    package = toys.write_package(tmp_path / "package", toys.package_files())
    script = f"""
import json, socket, sys
from pathlib import Path
attempts = []
socket.socket.connect = lambda self, address: attempts.append(str(address))
socket.getaddrinfo = lambda *args, **kwargs: attempts.append(str(args)) or []
from petpark_assets.domain.registry.versions import Registry
registry = Registry(Path({str(tmp_path / "mlflow")!r}), "pets", record_event=lambda event, subject: "0" * 64)
version = registry.register(Path({str(package)!r}), tags={{}})
registry.settle_aliases(version, lambda found, champion: (True, "better"))
registry.download(version, Path({str(tmp_path / "out")!r}))
from mlflow.telemetry import get_telemetry_client
print(json.dumps([version, attempts, get_telemetry_client() is None, registry.show("champion").version]))
"""
    (tmp_path / "cwd").mkdir()
    hidden = ("CI", "PYTEST", "MLFLOW", "GITHUB")  # MLflow is quieter where it finds these
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path / "cwd", env={**environment, "HOME": str(tmp_path / "cwd")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == [1, [], True, 1]
    assert done.stderr == ""
    assert list((tmp_path / "cwd").iterdir()) == []


OPENING = """
import sys
from pathlib import Path
import mlflow
from petpark_assets.domain.registry.versions import Registry
print("ready", flush=True)
sys.stdin.readline()
Registry(Path(sys.argv[1]), "pets", record_event=lambda event, subject: "0" * 64)._store.aliases()
"""


def test_a_kill_while_the_tables_are_made_leaves_a_registry_that_opens(tmp_path):
    """They take seconds, at the end of the first search; 3 of 11 kills among them left one that never opened again."""
    folder = tmp_path / "mlflow"
    with subprocess.Popen(
        [sys.executable, "-c", OPENING, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as opening:
        opening.stdout.readline()
        opening.stdin.write("\n")
        opening.stdin.flush()
        while not [*folder.glob("*.db*"), *folder.glob(".*.db*")]:
            time.sleep(0.005)
        time.sleep(0.3)
        opening.kill()
    assert [path.name for path in folder.glob("mlflow.db*")] == [], "killed too late to show anything"
    registry = Registry(folder, "pets", record_event=lambda _event, _subject: "0" * 64)
    assert registry._store.aliases() == {}
    assert sorted(path.name for path in folder.iterdir()) == ["mlflow.db", "opening.lock"]


def test_a_file_that_is_no_database_is_refused_at_once(tmp_path):
    """MLflow alone would try for 95 seconds and print its stack."""
    (tmp_path / "mlflow.db").write_text("this is no database at all, but long enough to be read as one" * 20)
    damaged = Registry(tmp_path, "pets", record_event=lambda _event, _subject: "")
    with pytest.raises(CorruptData, match="is not a database any more"):
        damaged.list_versions()


def test_a_path_that_no_database_uri_can_spell_is_refused(tmp_path):
    """SQLite would silently open a file of another name."""
    with pytest.raises(InvalidInput, match=r"% or \?"):
        Registry(tmp_path / "100%", "pets", record_event=lambda _event, _subject: "")


def test_a_home_that_may_not_be_written_says_so(tmp_path):
    """A file where the folder should be stands for every refusal of the system (root may write anywhere)."""
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "mlflow.db").mkdir()
    refused = Registry(tmp_path / "mlflow", "pets", record_event=lambda _event, _subject: "")
    with pytest.raises(InvalidInput, match="cannot be opened"):
        refused.list_versions()


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own, and what gives that another size; 0 is as much as is used."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"needs the right to mount a small disk (root): {made.stderr.decode().strip()}")

    def resize(size_kb):
        used = shutil.disk_usage(folder).used // 1024
        subprocess.run(["mount", "-o", f"remount,size={size_kb or used}k", folder], check=True)

    yield folder, resize
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_is_one_line_and_with_room_the_same_package_is_registered(small_disk, new_package, capfd):
    """A server's trouble looks otherwise, and nobody frees space who is told to try again.

    MLflow itself prints its stack. What it had made of a database it would never open again, nor give the space back.
    """
    disk, resize = small_disk
    registry = Registry(disk / "mlflow", "pets", record_event=lambda _event, _subject: "0" * 64)
    package = new_package()
    refusal = f"^no space left on the disk while writing {disk}/mlflow.*; nothing half-written remains: [^\n]*$"
    resize(200)  # half of its tables
    with pytest.raises(TransientError, match=refusal):
        registry.register(package, tags={})
    assert sorted(path.name for path in (disk / "mlflow").iterdir()) == ["opening.lock", "writing.lock"]
    resize(100_000)
    assert registry.register(package, tags={}) == 1
    resize(0)
    for refused in (
        lambda: registry.register(new_package(), tags={}),
        lambda: registry._store.set_alias("champion", 1),
    ):
        with pytest.raises(TransientError, match=refusal):
            refused()
    assert [version.aliases for version in registry.list_versions()] == [()]
    resize(100_000)
    registry._store.set_alias("champion", 1)
    assert registry.resolve("champion") == 1
    assert capfd.readouterr().err == ""
