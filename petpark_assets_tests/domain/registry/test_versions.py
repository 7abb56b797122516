"""Versions never change, aliases move with evidence, and nothing leaves unverified. Against a real MLflow on SQLite."""

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import url2pathname

import pytest

from petpark_assets.domain.errors import Conflict, CorruptData, InvalidInput, NotFound, TransientError
from petpark_assets.domain.files import sha256_file
from petpark_assets.domain.package.contents import SUMS, verify_folder
from petpark_assets.domain.registry.versions import Registry, history
from petpark_assets_tests.domain.package import toys
from petpark_assets_tests.domain.registry.conftest import by_accuracy

TAGS = {"onnx_package": "9" * 64, "run_id": "run-1"}


def _stored(registry, version):
    """The folder in which MLflow keeps a version's files."""
    found = registry.show(version)
    return Path(url2pathname(registry._store._location(found).removeprefix("file://")))


# ---- registering


def test_a_version_s_tags_lead_to_every_parent(registry, new_package):
    """From the registry alone one finds the photos, the splits, the weights, the report and the run."""
    version = registry.register(new_package(0.97), tags=TAGS)
    found = registry.show(version)
    assert found.tags.items() >= {**toys.lineage().digests(), **TAGS}.items()
    assert (found.tags["dataset_version"], found.tags["attempt"], found.tags["recipe"]) == (
        "v0001",
        toys.ATTEMPT,
        "demo",
    )
    assert found.accuracy == 0.97


def test_the_same_package_again_is_the_same_version(registry, new_package, ledger):
    """A run that is repeated must not make twins: whoever deploys `4` would not know it is `3`."""
    package = new_package()
    assert registry.register(package, tags=TAGS) == registry.register(package, tags=TAGS) == 1
    assert registry.register(new_package(), tags=TAGS) == 2
    assert [event.event for event in ledger.events()] == ["model_registered", "model_registered"]


def test_many_at_once_make_one_version(mlflow_folder, registry, new_package, ledger):
    """Two runs of the same attempt may reach the registry in the same second."""
    package = new_package()

    def register(_number):
        return Registry(mlflow_folder, registry.model_name, record_event=ledger.append).register(package, tags=TAGS)

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(register, range(4))) == {1}
    assert len(registry.list_versions()) == 1


@pytest.mark.parametrize("step", ["log_metric", "set_terminated", "create_model_version", "set_model_version_tag"])
def test_a_crash_at_any_step_is_completed_by_the_next_call(step, registry, new_package, ledger, monkeypatch):
    """A killed process leaves files without a version or a version without its event; neither may stay so."""
    package = new_package()

    def crash(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(registry._store._client, step, crash)
        with pytest.raises(KeyboardInterrupt):
            registry.register(package, tags=TAGS)
    assert registry.register(package, tags=TAGS) == 1
    assert len(registry.list_versions()) == 1
    registered = [event for event in ledger.events() if event.event == "model_registered"]
    assert registered[-1].digest == registry.show(1).tags["ledger_event"]
    assert verify_folder(_stored(registry, 1)) == registry.show(1).package


def test_a_damaged_package_is_not_registered(registry, new_package):
    """What is registered stays for ever: it must be whole on the way in."""
    package = new_package()
    (package / "model.onnx").write_bytes(b"other weights")
    with pytest.raises(CorruptData, match=r"model\.onnx"):
        registry.register(package, tags=TAGS)
    assert registry.list_versions() == []


# ---- aliases


def test_the_newest_is_candidate_and_the_best_is_champion(registry, add):
    """The service follows `champion`: it must never get worse by itself."""
    for accuracy in (0.95, 0.94, 0.96):
        add(accuracy)
    assert [found.aliases for found in registry.list_versions()] == [(), (), ("candidate", "champion")]
    add(0.96)
    assert [found.aliases for found in registry.list_versions()] == [(), (), ("champion",), ("candidate",)]


def test_a_version_that_is_not_clearly_better_waits_for_a_person(registry, add, ledger):
    """And both say so in the history: why it waits, and who let it pass."""
    add(0.95)
    add(0.95)
    assert (registry.resolve("champion"), registry.resolve("candidate")) == (1, 2)
    waits = history(ledger.events())[-1]
    assert (waits["alias"], waits["because"]) == (
        "candidate",
        "it is the newest version, and waits for a person: 0.95 against 0.95",
    )
    registry.promote("candidate", by="ada", because="it is half the size")
    assert registry.resolve("champion") == 2


def test_a_person_s_promotion_stands_until_a_better_version_comes(registry, add):
    """A rebuild of something old must not undo what a person decided."""
    add(0.95)
    add(0.96)
    registry.promote("v1", by="ada", because="2 fails on puppies")
    assert registry.settle_aliases(2, by_accuracy) == []
    assert registry.resolve("champion") == 1
    add(0.955)
    assert registry.resolve("champion") == 3


def test_a_champion_that_a_crash_left_without_its_second_move_gets_it(registry, new_package, ledger, monkeypatch):
    """Judged against itself it would be said to wait for a person, though it reigns."""
    version = registry.register(new_package(), tags=TAGS)
    set_alias = registry._store.set_alias

    def crash(alias, number):
        if alias == "candidate":
            raise KeyboardInterrupt
        set_alias(alias, number)

    with monkeypatch.context() as patched:
        patched.setattr(registry._store, "set_alias", crash)
        with pytest.raises(KeyboardInterrupt):
            registry.settle_aliases(version, by_accuracy)
    registry.settle_aliases(version, by_accuracy)
    assert registry.show(version).aliases == ("candidate", "champion")
    assert [move["because"] for move in history(ledger.events())[1:]] == [
        "there was no champion", "it is the newest version", "it is the newest version",
    ]  # fmt: skip


def test_versions_that_a_crash_left_unsettled_meet_the_rule_in_their_order(registry, new_package):
    """A version whose run died after registering must not be passed over."""
    for accuracy in (0.94, 0.97, 0.95):
        registry.register(new_package(accuracy), tags=TAGS)
    registry.settle_aliases(3, by_accuracy)
    assert (registry.resolve("champion"), registry.resolve("candidate")) == (2, 3)


def test_promoting_the_champion_moves_nothing(registry, add, ledger):
    """The history must not fill with moves that were none."""
    add(0.95)
    num_events = len(list(ledger.events()))
    assert registry.promote(1, by="ada", because="I like it") is None
    assert len(list(ledger.events())) == num_events


@pytest.mark.parametrize(("by", "because"), [("", "a reason"), ("ada", " ")])
def test_a_promotion_without_a_name_or_a_reason_is_refused(by, because, registry, add):
    """An auditor asks who and why."""
    add(0.95)
    with pytest.raises(InvalidInput, match="--by NAME --because TEXT"):
        registry.promote(1, by=by, because=because)


def test_the_history_tells_every_registration_and_move(registry, add, ledger):
    """MLflow forgets what an alias named before; an audit asks which model answered last week."""
    add(0.95)
    add(0.96)
    registry.promote(1, by="ada", because="2 fails on puppies")
    told = [
        (row["event"], row.get("alias"), row.get("previous_version"), row["version"])
        for row in history(ledger.events())
    ]
    assert told == [
        ("model_registered", None, None, 1),
        ("alias_moved", "champion", None, 1),
        ("alias_moved", "candidate", None, 1),
        ("model_registered", None, None, 2),
        ("alias_moved", "champion", 1, 2),
        ("alias_moved", "candidate", 1, 2),
        ("alias_moved", "champion", 2, 1),
    ]
    last = history(ledger.events())[-1]
    assert (last["by"], last["because"], last["actor"]) == ("ada", "2 fails on puppies", "tester")


def test_a_move_that_cannot_be_recorded_does_not_happen(registry, add, monkeypatch):
    """An unrecorded move is the one thing that must not exist."""
    add(0.95)
    add(0.94)

    def full(_event, _subject):
        raise TransientError("no space left")

    monkeypatch.setattr(registry, "_record_event", full)
    with pytest.raises(TransientError):
        registry.promote(2, by="ada", because="a reason")
    assert registry.resolve("champion") == 1


# ---- finding


def test_a_version_is_found_by_number_or_alias(registry, add):
    """People type all of these."""
    add(0.95)
    assert {registry.resolve(name) for name in (1, "1", "v1", "champion", "candidate")} == {1}


@pytest.mark.parametrize("name", ["7", "v7", "winner", "", 0])
def test_an_unknown_name_lists_what_there_is(name, registry, add):
    """The answer to a typing error is the list to choose from."""
    add(0.95)
    add(0.94)
    with pytest.raises(NotFound, match="there is 1 = champion, 2 = candidate"):
        registry.resolve(name)


def test_a_home_without_models_says_so_and_makes_nothing(tmp_path, ledger):
    """`petpark registry list` on a new home must not cost seconds, nor leave a database."""
    empty = Registry(tmp_path / "mlflow", "pets", record_event=ledger.append)
    assert empty.list_versions() == []
    with pytest.raises(NotFound, match="nothing was registered yet"):
        empty.show("champion")
    assert not (tmp_path / "mlflow").exists()


# ---- files


def test_a_download_is_the_package_that_was_registered(registry, new_package, tmp_path, ledger):
    """What is deployed is what was examined, down to the byte; and the ledger knows that it left."""
    package = new_package()
    registry.register(package, tags=TAGS)
    paths = registry.download(1, tmp_path / "a" / "copy")
    assert verify_folder(tmp_path / "a" / "copy") == verify_folder(package)
    assert sorted(path.name for path in paths) == sorted(path.name for path in package.iterdir())
    assert [event.event for event in ledger.events()][-1] == "model_downloaded"
    subprocess.run(["sha256sum", "--quiet", "-c", SUMS], cwd=tmp_path / "a" / "copy", check=True)


def test_every_file_can_be_had_singly(registry, new_package, tmp_path):
    """A service needs model.onnx and nothing else."""
    package = new_package()
    registry.register(package, tags=TAGS)
    for name, expected in registry.list_files(1).items():
        (path,) = registry.download("v1", tmp_path / "files", name)
        assert sha256_file(path) == expected == sha256_file(package / name)
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == sorted(registry.list_files(1))


@pytest.mark.parametrize("name", ["model.onnx", "report.html", SUMS])
def test_a_byte_flipped_in_the_registry_is_refused_by_name(name, registry, new_package, tmp_path):
    """Who can write to the artifact store must not be able to swap a model."""
    registry.register(new_package(), tags=TAGS)
    stored = _stored(registry, 1) / name
    data = bytearray(stored.read_bytes())
    data[-2] ^= 1
    stored.write_bytes(data)
    with pytest.raises(CorruptData, match=rf"^{name} of version 1 was changed"):
        registry.download(1, tmp_path / "out" / "copy")
    with pytest.raises(CorruptData, match=rf"^{name} of version 1 was changed"):
        registry.download(1, tmp_path / "out", file=name)
    assert list((tmp_path / "out").iterdir()) == []


def test_sums_that_were_changed_along_with_a_file_are_refused(registry, new_package, tmp_path):
    """A careful forger mends SHA256SUMS too; its digest is in the database and in the ledger."""
    registry.register(new_package(), tags=TAGS)
    forged = toys.package_files(onnx_model=b"another model")
    for name, data in forged.items():
        (_stored(registry, 1) / name).write_bytes(data)
    with pytest.raises(CorruptData, match=SUMS):
        registry.download(1, tmp_path / "copy")


def test_a_file_gone_from_the_registry_is_named(registry, new_package, tmp_path):
    """Half a package must not look like a whole one."""
    registry.register(new_package(), tags=TAGS)
    (_stored(registry, 1) / "labels.json").unlink()
    with pytest.raises(CorruptData, match=r"labels\.json of version 1 is gone"):
        registry.download(1, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_nothing_of_the_user_s_is_overwritten(registry, new_package, tmp_path):
    """A download into the wrong folder must not mix two versions, or cost a file."""
    registry.register(new_package(), tags=TAGS)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.onnx").write_text("mine")
    with pytest.raises(Conflict, match="not empty"):
        registry.download(1, tmp_path / "mine")
    with pytest.raises(Conflict, match="other content"):
        registry.download(1, tmp_path / "mine", file="model.onnx")
    assert (tmp_path / "mine" / "model.onnx").read_text() == "mine"


def test_an_unknown_file_lists_those_there_are(registry, new_package, tmp_path):
    """The names are few: say them."""
    registry.register(new_package(), tags=TAGS)
    with pytest.raises(NotFound, match=r"no file '\.\./x': it has SHA256SUMS, data_manifest\.parquet"):
        registry.download(1, tmp_path, file="../x")


def test_the_cache_is_filled_once_and_its_list_is_checked(registry, new_package, tmp_path):
    """`petpark classify` must not copy the model each time, nor trust a copy that was swapped."""
    registry.register(new_package(), tags=TAGS)
    folder = registry.fetch(1, tmp_path / "cache")
    assert verify_folder(folder) == registry.show(1).package
    shutil.rmtree(_stored(registry, 1))
    assert registry.fetch(1, tmp_path / "cache") == folder
    (folder / SUMS).write_bytes(b"")
    with pytest.raises(CorruptData, match="delete that folder"):
        registry.fetch(1, tmp_path / "cache")
