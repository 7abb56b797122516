"""Claims about a registry that several machines write to: nothing is registered twice, and no move is lost."""

import threading
from functools import partial

import pytest

from petpark_assets.domain.home import open_home
from petpark_assets.domain.registry.versions import CHAMPION, Registry, history
from petpark_assets_tests.domain.registry.conftest import by_accuracy

pytestmark = [pytest.mark.debian, pytest.mark.long]

NUM_PACKAGES, NUM_ROUNDS = 3, 3


@pytest.fixture
def new_registry(mlflow_folder, request, ledger_url, tmp_path):
    """Makes the registry of a machine: a home of its own, MLflow and ledger shared. Its lock files would be no help."""

    def make(name):
        home = open_home(tmp_path / name, actor=name, ledger_url=ledger_url)
        return Registry(
            tmp_path / name,
            f"{request.node.name} shared",
            record_event=home.ledger.append,
            tracking_uri=f"sqlite:///{mlflow_folder / 'mlflow.db'}",
            artifact_root=(mlflow_folder / "artifacts").as_uri(),
            writing=partial(home.alone, "registry"),
        ), home.ledger

    return make


def test_what_two_machines_do_at_once_is_all_there(registry, new_registry, new_package):
    """Both register the same packages, apply the rule and promote: the same versions once, and moves in one order."""
    registry.list_versions()  # MLflow's tables are there, as in its server
    registry.register(new_package(), tags={})
    packages = [new_package(0.9 + number / 100) for number in range(NUM_PACKAGES)]
    failures, start = [], threading.Barrier(2)

    def work(own, order):
        start.wait()
        try:
            for package in packages:
                own.settle_aliases(own.register(package, tags={}), by_accuracy)
            for version in NUM_ROUNDS * order:
                own.promote(version, by="Kim", because="it is tried")
        except Exception as error:  # noqa: BLE001 - shown below
            failures.append(error)

    machines = [new_registry(name) for name in ("one", "two")]
    orders = [[1, 2, 3], [3, 2, 1]]
    threads = [
        threading.Thread(target=work, args=(own, order)) for (own, _), order in zip(machines, orders, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    (own, ledger), _ = machines
    ledger.verify()
    rows = history(ledger.events())
    assert [found.version for found in own.list_versions()] == list(range(1, NUM_PACKAGES + 1))
    assert sorted(row["version"] for row in rows if row["event"] == "model_registered") == [1, 2, 3]
    for alias in ("candidate", CHAMPION):
        moves = [row for row in rows if row.get("alias") == alias]
        assert [move["previous_version"] for move in moves] == [None, *(move["version"] for move in moves[:-1])]
        assert own.show(alias).version == moves[-1]["version"]
    assert {row["actor"] for row in rows if row["event"] == "alias_moved"} == {"one", "two"}
