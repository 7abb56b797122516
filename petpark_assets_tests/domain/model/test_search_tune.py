"""Claims about what trials share: a card by fractions, and turns where there is one slot; nothing waits for ever.

Ray is told of a GPU that is not there: what is shared, and who waits, is Ray's bookkeeping, and can be seen so.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from petpark_assets.domain.errors import InvalidInput, ProcessLost, TooLittleMemory, TransientError
from petpark_assets.domain.model import search, search_tune, space
from petpark_assets.domain.model.journal import Journal, checkpoint_path
from petpark_assets.domain.model.trial import SavedData, Task
from petpark_assets.resources import ray_cluster
from petpark_assets_tests.domain.model.searching import toy
from petpark_assets_tests.domain.model.squares import PREPROCESSING, draw_data

DATA = draw_data()


@pytest.fixture(scope="module")
def one_gpu():
    """A Ray of four cores and, as it believes, one GPU."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_OVERRIDE_RESOURCES", json.dumps({"GPU": 1}))
        with ray_cluster.started(num_cpus=4):
            yield


def meet(folder, num_trials):
    """What a trial reads its photos by: not before so many trials read theirs."""
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < num_trials:
        assert time.monotonic() < deadline, "the others did not come"
        time.sleep(0.05)
    return DATA.images


def run(recipe, folder, read_photos, end=lambda _number: None):
    """Run four trials; what each failed with, by number."""
    data = SavedData(
        images=folder / "nowhere.npy", labels=DATA.labels, validation=DATA.validation, read_photos=read_photos
    )
    task = search_tune.affordable_task(folder, data, PREPROCESSING, recipe)
    points = enumerate(space.listed_points(recipe), start=1)
    failures = {}

    def note(number, _values, _curve, error):
        failures[number] = error
        end(number)

    search_tune.run_trials(
        task, next_trial=lambda: next(points, None), end=note, on_epoch=lambda _number, _point: None, ended=[]
    )
    return task, failures


@pytest.mark.usefixtures("one_gpu")
@pytest.mark.slow
def test_four_trials_share_one_card_by_quarters(tmp_path):
    """A small network leaves most of a card idle; each trial here waits until the other three are there too."""
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    recipe = toy(num_trials=4, trial_epochs=1, gpus_per_trial=0.25, max_concurrent_trials=4)

    task, failures = run(recipe, tmp_path, partial(meet, meeting, 4))

    assert task.gpus == 0.25
    assert failures == dict.fromkeys(range(1, 5))


ON_TWO_NODES = """
import sys
from functools import partial
from pathlib import Path
from petpark_assets.resources.ray_cluster import started
from petpark_assets_tests.domain.model.searching import toy
from petpark_assets_tests.domain.model.test_search_tune import meet_on_nodes, run
from petpark_assets_tests.ray_nodes import two_nodes

folder, notes = map(Path, sys.argv[1:])
recipe = toy(num_trials=4, trial_epochs=1, gpus_per_trial=0.5, max_concurrent_trials=4)
with two_nodes(num_cpus=4, num_gpus=1) as address, started(address):
    task, failures = run(recipe, folder, partial(meet_on_nodes, notes, 4))
assert task.gpus == 0.5
assert failures == dict.fromkeys(range(1, 5)), failures
"""


def meet_on_nodes(folder, num_trials):
    """Meet, in a folder named like the node and the card that Ray gave this trial."""
    import ray

    context = ray.get_runtime_context()
    (card,) = context.get_accelerator_ids()["GPU"]
    (folder / f"{os.getpid()}.{context.get_node_id()}.{card}").touch()
    meeting = folder / "meeting"
    meeting.mkdir(exist_ok=True)
    return meet(meeting, num_trials)


@pytest.mark.long
def test_four_trials_are_spread_over_two_nodes_by_halves_of_their_cards(tmp_path):
    """Cores are enough for all four on one node: what spreads them is that a card has two halves."""
    folder, notes = tmp_path / "search", tmp_path / "notes"
    for path in (folder, notes):
        path.mkdir()
    command = [sys.executable, "-c", ON_TWO_NODES, str(folder), str(notes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cards = Counter(path.name.partition(".")[2] for path in notes.glob("*.*"))
    assert sorted(cards.values()) == [2, 2]


@pytest.mark.usefixtures("one_gpu")
def test_no_key_of_s3_is_told_to_trials(tmp_path, monkeypatch):
    """Ray Tune would pass the driver's on in what Ray logs and shows; a node has its own, or a role."""
    import ray

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2-of-the-driver")
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    _, failures = run(toy(num_trials=1, trial_epochs=1), tmp_path, partial(meet, meeting, 1))
    assert failures == {1: None}
    logs = list(Path(ray._private.worker._global_node.get_logs_dir_path()).glob("runtime_env_agent*"))
    assert any(b"PL_DISABLE_FORK" in path.read_bytes() for path in logs)  # what Ray Tune tells is there
    assert [path for path in logs if b"hunter2-of-the-driver" in path.read_bytes()] == []


def alone(folder):
    """What a trial reads its photos by: it must be the only one."""
    (folder / "running").touch(exist_ok=False)
    return DATA.images


@pytest.mark.usefixtures("one_gpu")
def test_where_there_is_one_slot_trials_wait_for_each_other(tmp_path):
    """Two trainings that each want the whole card would run out of its memory; more than there is waits for ever."""
    recipe = toy(num_trials=4, trial_epochs=1, gpus_per_trial=4.0, max_concurrent_trials=4)

    task, failures = run(recipe, tmp_path, partial(alone, tmp_path), end=lambda _: (tmp_path / "running").unlink())

    assert task.gpus == 1
    assert failures == dict.fromkeys(range(1, 5))


@pytest.mark.usefixtures("one_gpu")
def test_workers_get_what_a_node_has_for_each_of_them(tmp_path):
    """A trial's workers are on one node; more than it has cores would never start."""
    data = SavedData(images=Path(), labels=DATA.labels, validation=DATA.validation, read_photos=None)
    afford = partial(search_tune.affordable_task, tmp_path, data, PREPROCESSING)
    pair = afford(toy(cpus_per_trial=8, gpus_per_trial=1.0, workers_per_trial=2))
    assert (pair.cpus, pair.gpus) == (2, 0.5)
    assert search_tune._resources(pair) == {"cpu": 4, "gpu": 1}
    with pytest.raises(InvalidInput, match="workers_per_trial is 5: no node has as many cores"):
        afford(toy(workers_per_trial=5))


@pytest.mark.usefixtures("one_gpu")
@pytest.mark.slow
def test_two_workers_train_one_trial(tmp_path):
    """Started from a process of Ray's, not from ours: each waits here until the other reads its photos too."""
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    recipe = toy(num_trials=1, trial_epochs=1, workers_per_trial=2, gpus_per_trial=0.0)

    task, failures = run(recipe, tmp_path, partial(meet, meeting, 2))

    assert search_tune._resources(task) == {"cpu": 2, "gpu": 0}
    assert failures == {1: None}


HEAD = {"CPU": 16.0}
GPU_NODE = {"CPU": 4.0, "GPU": 1.0}


@pytest.mark.parametrize(
    ("nodes", "settings", "asked"),
    [
        ([HEAD, GPU_NODE], {"gpus_per_trial": 1.0}, {"cpu": 4, "gpu": 1}),
        ([HEAD, GPU_NODE], {"gpus_per_trial": 0.0}, {"cpu": 8, "gpu": 0}),
        ([HEAD], {"gpus_per_trial": 1.0}, {"cpu": 8, "gpu": 0}),
        ([HEAD, GPU_NODE], {"gpus_per_trial": 1.0, "scheduler": "pbt", "algorithm": "random"}, {"cpu": 4, "gpu": 1}),
        ([GPU_NODE, {"CPU": 2.0, "GPU": 8.0}], {"gpus_per_trial": 0.5}, {"cpu": 4, "gpu": 0.5}),
        ([HEAD, {"CPU": 1.0, "GPU": 1.0}], {"gpus_per_trial": 0.5, "workers_per_trial": 2}, {"cpu": 16, "gpu": 0}),
    ],
)
def test_a_trial_asks_for_what_one_node_has(tmp_path, monkeypatch, nodes, settings, asked):
    """Sixteen cores of one node and the GPU of another are nowhere together: Ray would wait for them for ever."""
    found = [{"Alive": True, "Resources": node} for node in nodes]
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(nodes=lambda: found))
    data = SavedData(images=Path(), labels=DATA.labels, validation=DATA.validation, read_photos=None)
    recipe = toy(cpus_per_trial=8, **settings)
    task = search_tune.affordable_task(tmp_path, data, PREPROCESSING, recipe)
    assert search_tune._resources(task) == asked


def node(name, *, is_alive=True, **resources):
    """One of a cluster's, as Ray tells of it."""
    return {"NodeID": name, "NodeManagerHostname": name, "Alive": is_alive, "Resources": resources}


DRIVERS = node("driver", CPU=4)
POPULATION = {"scheduler": "pbt", "algorithm": "random", "cpus_per_trial": 2}


@pytest.fixture
def check(tmp_path, monkeypatch):
    """The check of a toy's search on the driver's node and others, which see the folder or not."""

    def check_population(others, *, is_shared, **settings):
        context = SimpleNamespace(get_node_id=lambda: "driver")
        fake = SimpleNamespace(nodes=lambda: [DRIVERS, *others], get_runtime_context=lambda: context)
        monkeypatch.setitem(sys.modules, "ray", fake)
        monkeypatch.setattr(search_tune, "_sees", lambda _node, path: path.parent == tmp_path and is_shared)
        data = SavedData(images=Path(), labels=DATA.labels, validation=DATA.validation, read_photos=None)
        search_tune.check_population(search_tune.affordable_task(tmp_path, data, PREPROCESSING, toy(**settings)))

    yield check_population
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("far", [{"CPU": 4}, {"CPU": 4, "GPU": 1}], ids=["another node", "the only one with a GPU"])
def test_a_population_is_refused_where_a_node_does_not_see_the_folder(check, far):
    """Its checkpoints would get nowhere: each trial died three times before it was given up."""
    with pytest.raises(InvalidInput, match="the Ray node far does not see: set it to asha, or search on one node"):
        check([node("far", **far)], is_shared=False, **POPULATION)


@pytest.mark.parametrize(
    ("others", "told"),
    [
        ([], {"is_shared": False, **POPULATION}),
        ([node("far", CPU=4)], {"is_shared": True, **POPULATION}),
        ([node("far", CPU=1)], {"is_shared": False, **POPULATION}),
        ([node("far", CPU=4, is_alive=False)], {"is_shared": False, **POPULATION}),
        ([node("far", CPU=4)], {"is_shared": False, "cpus_per_trial": 2}),
    ],
    ids=["one node", "one that sees it", "one too small", "a dead one", "no population"],
)
def test_a_population_is_let_be_where_all_that_may_run_it_see_the_folder(check, others, told):
    """Nodes that run no trial need to see nothing, and other searches pass nothing on."""
    check(others, **told)


@pytest.mark.usefixtures("one_gpu")
def test_a_node_is_asked_whether_it_sees_a_file(tmp_path):
    """By a process of its own there; this one is the driver's, and sees what the driver sees."""
    import ray

    own = ray.get_runtime_context().get_node_id()
    (tmp_path / "there").touch()
    assert [search_tune._sees(own, tmp_path / name) for name in ("there", "not there")] == [True, False]
    with pytest.raises(TransientError, match="a node of the Ray cluster does not answer"):
        search_tune._sees("e" * len(own), tmp_path)  # as of a node that is gone


def test_a_failure_is_told_without_the_checkpoint_that_may_be_its_cause(tmp_path, monkeypatch):
    """Told with it, the report fails as the last one did, and what the trial failed with is never known."""
    checkpoint = checkpoint_path(tmp_path, 3)
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    told = []

    def report(metrics, checkpoint=None):
        if checkpoint is not None:
            raise RuntimeError("unable to write to a storage that is not there")
        told.append(metrics)

    given = SimpleNamespace(from_directory=lambda folder: folder)
    tune = SimpleNamespace(report=report, Checkpoint=given, get_checkpoint=lambda: None)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(tune=tune))
    curve = [{"epoch": 1, "validation_accuracy": 0.5}]
    monkeypatch.setattr(search_tune, "train", lambda _task, _number, _values, report, **_: report(curve))
    recipe = toy(trial_epochs=5, **POPULATION)
    data = SavedData(images=Path(), labels=DATA.labels, validation=DATA.validation, read_photos=None)
    task = Task(folder=tmp_path, data=data, preprocessing=PREPROCESSING, recipe=recipe, cpus=1, gpus=0)

    search_tune._train({"number": 3, "values": {}}, task)

    (last,) = told
    assert "a storage that is not there" in str(last["failure"])
    assert last["curve"] == curve


def test_why_a_trials_process_ended_is_read_as_text(tmp_path):
    """Ray writes the error as a pickle too; pickles are never loaded, and its text names the last end."""
    file = tmp_path / "error.txt"
    file.write_text(
        "Failure # 1 (occurred at noon)\nThe actor died.\nFailure # 2 (occurred at one)\nOut of memory.\nMore.\n"
    )
    told = search_tune._process_failure(SimpleNamespace(error_file=str(file)))
    assert type(told) is ProcessLost
    assert "(Out of memory.)" in str(told)
    assert "\n" not in str(told)


def no_store():
    """What a trial reads its photos by, while S3 is away."""
    raise TransientError("the store s3://store cannot be reached")


@pytest.mark.usefixtures("one_gpu")
@pytest.mark.long
def test_an_outage_is_no_answer_of_a_trial(tmp_path):
    """Noted as a trial's end it would stay in the record for ever, and the same work give another digest."""
    _, failures = run(toy(num_trials=1, trial_epochs=1), tmp_path, no_store)
    assert type(failures[1]) is TransientError
    assert str(failures[1]) == "the store s3://store cannot be reached"


class FailingPhotos(np.ndarray):
    """Photos whose reading fails at first, as everything that a GPU is asked does once it has failed.

    The error is a fake, in the place of a card that fails: there is none here.
    """

    def __getitem__(self, chosen):
        (self.folder / str(os.getpid())).touch()
        if len(list(self.folder.iterdir())) == 1:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors ...")
        return DATA.images[chosen]


def failing(folder):
    """What a trial reads its photos by; the folder counts the processes."""
    images = DATA.images.view(FailingPhotos)
    images.folder = folder
    return images


@pytest.mark.usefixtures("one_gpu")
@pytest.mark.slow
def test_a_trial_whose_gpu_failed_goes_on_in_another_process(tmp_path):
    """CUDA answers nothing to a process whose kernel failed: every later trial there would fail in seconds."""
    processes = tmp_path / "processes"
    processes.mkdir()
    _, failures = run(toy(num_trials=1, trial_epochs=1), tmp_path, partial(failing, processes))
    assert failures == {1: None}
    assert len(list(processes.iterdir())) == 2


@pytest.mark.parametrize(
    ("error", "gpus", "is_noted"),
    [
        (TransientError("S3 is away"), 1, False),
        (TooLittleMemory("8 GB"), 0.5, False),
        (TooLittleMemory("8 GB"), 1, True),
        (ProcessLost("killed"), 1, True),
    ],
)
def test_what_is_no_answer_ends_the_search_and_not_the_trial(tmp_path, error, gpus, is_noted):
    """The same call tries it again where others took the GPU's memory; a point that kills or is too big is passed over.

    Else a search over batch sizes would end at the first that the card does not hold, again and again.
    """
    notes = Journal(tmp_path)
    run_of = search._Run(toy(num_trials=4, gpus_per_trial=gpus), notes, lambda _trial: None)
    run_of.end(2, {}, [], error)
    assert (2 in notes.ended) is is_noted
    assert (run_of.failure is None) is is_noted
