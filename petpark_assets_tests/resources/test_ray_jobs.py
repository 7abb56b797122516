"""Claims about the search and the training as Ray jobs, on a real Ray head with its job server on loopback."""

import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, nullcontext
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest

from petpark_assets.assets import model
from petpark_assets.assets.versions import DATASET_VERSIONS
from petpark_assets.domain.attempts import new_attempt
from petpark_assets.domain.errors import CorruptData, ModelRejected, TransientError
from petpark_assets.domain.files import digest, read_record
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.recipes import find_recipe, override
from petpark_assets.domain.records import HyperparameterSearch, TrainedCnn
from petpark_assets.domain.workflow import ingestion, training
from petpark_assets.resources import ray_cluster, ray_job, ray_jobs, ray_reaper
from petpark_assets.resources.environments import job_variables
from petpark_assets.resources.home import PetparkHome
from petpark_assets.resources.recipe import RunRecipe
from petpark_assets.resources.s3 import S3Connection
from petpark_assets_tests.resources.test_cancelled_step import wait_for

TOLD = {"hyperparameters": {"epochs": 3, "width": 4}, "search": {"algorithm": "none"}}
SECRET = "hunter2hunter2hunter2hunter2hunter2"


@pytest.fixture(autouse=True, scope="module")
def _ray_on_loopback():
    """Ray reads once, on import, where it listens; tests of this process that start one come after these."""
    with ray_cluster._environment(ray_cluster._local_settings()):
        import ray.job_submission  # noqa: F401


STEP = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests with & had it ignored
from petpark_assets_tests.resources.test_ray_jobs import materialize

sys.exit(not materialize(sys.argv[1], sys.argv[2]).success)
"""


LOCALLY = """
import json, sys
from pathlib import Path
from petpark_assets.domain.attempts import new_attempt
from petpark_assets.domain.home import open_home
from petpark_assets.domain.recipes import find_recipe, override
from petpark_assets.domain.workflow import training
from petpark_assets.resources import ray_cluster

home = open_home(Path(sys.argv[2]), actor="tester")
attempt = new_attempt("v0001", override(find_recipe("demo"), json.loads(sys.argv[3])))
if sys.argv[1] == "train":
    training.trained_cnn(home, attempt)
else:
    training.hyperparameter_search(home, attempt, running_ray=lambda: ray_cluster.started(num_cpus=1))
"""


def locally(step, root, told):
    """A step without a cluster, in a process of its own: this one's threads and Ray are what other tests left."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    subprocess.run([sys.executable, "-c", LOCALLY, step, root, json.dumps(told)], check=True, env=variables)


def prepare(root, lake, told):
    """A home with a version that is ready to be trained on, and its attempt."""
    home, recipe = open_home(root, actor="tester"), override(find_recipe("demo"), told)
    version = ingestion.new_dataset_version(home, str(lake), recipe.resolution_px).dataset_version
    ingestion.raw_images(home, version, recipe.resolution_px)
    ingestion.split(home, version)
    attempt = new_attempt(version, recipe)
    training.feature_scaling(home, attempt)
    if recipe.search.algorithm == "none":
        training.hyperparameter_search(home, attempt, running_ray=pytest.fail)
    return home, attempt


def materialize(root, address, instance=None):
    """A Dagster run of trained_cnn in this process."""
    s3 = S3Connection()
    resources = {
        "home": PetparkHome(root=str(root), actor="tester", s3=s3), "s3": s3, "recipe": RunRecipe(recipe="demo"),
        "ray_jobs": ray_jobs.RayJobs(address=address),
    }  # fmt: skip
    instance = instance or dg.DagsterInstance.ephemeral(tempdir=str(root))
    instance.add_dynamic_partitions(str(DATASET_VERSIONS.name), ["v0001"])
    return dg.materialize(
        [model.trained_cnn], resources=resources, partition_key="v0001", instance=instance, raise_on_error=False
    )


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """Sixty drawn photos."""
    folder = tmp_path_factory.mktemp("lake") / "photos"
    draw_lake(folder, num_images=60)
    return folder


@pytest.fixture(scope="module")
def job_server(tmp_path_factory):
    """A head with its job server, which knows a secret of its own; its address. All of it is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="petpark-ray-", dir="/tmp"))  # short: for its sockets
    gcs, dashboard = free_port(), free_port()
    environment = {
        **os.environ, **ray_cluster._local_settings(), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": SECRET,
        "RAY_raylet_start_wait_time_s": "240", "PETPARK_HOME": str(tmp_path_factory.mktemp("node")),
        "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    environment.pop("RAY_TMPDIR", None)
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2", f"--port={gcs}",
        "--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
        "--object-store-memory=104857600", f"--temp-dir={folder}", "--disable-usage-stats",
        f"--dashboard-agent-listen-port={free_port()}",  # by default one of all clusters of a machine has it
    ]  # fmt: skip
    log = (tmp_path_factory.mktemp("log") / "head.log").open("w+")
    with log, subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True) as head:
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("RAY_AUTH_TOKEN", SECRET)
                address = f"http://127.0.0.1:{dashboard}"
                assert wait_for(lambda: head.poll() is not None or answers(address), 200), "no head"
                assert head.poll() is None, Path(log.name).read_text()
                yield address
        finally:
            head.terminate()
            ray_reaper.reap(str(folder), spared=0)
            head.kill()


def free_port():
    """A port that nobody listens on now."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return server.getsockname()[1]


def answers(address):
    """Whether there is a job server that lets us in and takes a job, as it does once its agent is there, too."""
    try:
        ray_jobs._client(address, ray_jobs._headers()).submit_job(entrypoint="true")
    except (TransientError, RuntimeError, OSError):
        return False
    return True


def jobs_of(address):
    """All jobs there ever were, by the time of their start."""
    return sorted(ray_jobs._client(address, ray_jobs._headers()).list_jobs(), key=lambda job: job.start_time)


@pytest.mark.long
def test_a_training_job_makes_what_the_step_itself_makes_and_tells_it_as_it_goes(job_server, lake, tmp_path):
    """A cluster only saves time: records, weights and ledger are those of one machine, and the run shows the epochs."""
    home, attempt = prepare(tmp_path / "far", lake, TOLD)
    shutil.copytree(tmp_path / "far", tmp_path / "here")
    locally("train", tmp_path / "here", TOLD)
    here = read_record(open_home(tmp_path / "here", actor="tester").store, TrainedCnn, "v0001", attempt.id)
    instance = dg.DagsterInstance.ephemeral(tempdir=str(tmp_path))

    result = materialize(home.root, job_server, instance)

    assert result.success
    far = read_record(home.store, TrainedCnn, "v0001", attempt.id)
    assert digest(far) == digest(here)
    messages = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert [f"epoch {number} of 3" for number in (1, 2, 3)] == [m[:12] for m in messages if m.startswith("epoch ")]
    assert [event.event for event in home.ledger.events()][-2:] == ["search_done", "model_trained"]
    home.ledger.verify()
    job = jobs_of(job_server)[-1]
    assert job.status == "SUCCEEDED"
    assert SECRET not in job.model_dump_json()

    num_jobs = len(jobs_of(job_server))
    assert materialize(home.root, job_server).success  # what is recorded is neither trained nor noted again
    assert len(jobs_of(job_server)) == num_jobs
    assert [event.event for event in home.ledger.events()].count("model_trained") == 1


def first_epoch(run):
    """The number of the first epoch that a step's log shows."""
    said = []
    for line in run.stderr:
        said.append(line)
        if found := re.search(r"epoch (\d+) of 400", line):
            return int(found[1])
    raise AssertionError("".join(said))


def processes_of(attempt):
    """The ids of the processes of its training's job."""
    command = ["pgrep", "-f", f"ray_job train .*{attempt.id}"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


@pytest.mark.long
def test_a_job_ends_with_the_step_that_waits_for_it_and_goes_on_when_that_is_run_again(job_server, lake, tmp_path):
    """Whoever cancels wants the GPU back; whoever runs it again wants the epochs that were trained."""
    home, attempt = prepare(tmp_path / "home", lake, {**TOLD, "hyperparameters": {"epochs": 400, "width": 4}})
    command, began = [sys.executable, "-c", STEP, str(home.root), job_server], []
    for number in (signal.SIGINT, signal.SIGKILL):
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
            try:
                began.append(first_epoch(run))
                assert jobs_of(job_server)[-1].status == "RUNNING"
                assert processes_of(attempt)
                run.send_signal(number)
                assert wait_for(lambda: jobs_of(job_server)[-1].status == "STOPPED" and not processes_of(attempt), 30)
            finally:
                run.kill()
    assert began[0] == 1
    assert began[1] > 1
    assert [job.submission_id[-2:] for job in jobs_of(job_server)[-2:]] == ["-1", "-2"]


@pytest.mark.long
def test_a_search_job_has_the_trials_of_a_local_search(job_server, lake, tmp_path):
    """Its driver is on the cluster, and what its trials come to must not depend on that."""
    search = {"algorithm": "random", "num_trials": 2, "trial_epochs": 1, "max_concurrent_trials": 1}
    told = {**TOLD, "search": {**search, "cpus_per_trial": 1, "scheduler": "none"}}
    home, attempt = prepare(tmp_path / "far", lake, told)
    shutil.copytree(tmp_path / "far", tmp_path / "here")
    trials, epochs = [], []

    far = ray_jobs.RayJobs(address=job_server).hyperparameter_search(
        home, attempt, running_ray=pytest.fail, on_trial=trials.append,
        on_epoch=lambda *told: epochs.append(told), on_line=print,
    )  # fmt: skip
    locally("search", tmp_path / "here", told)

    here = read_record(open_home(tmp_path / "here", actor="tester").store, HyperparameterSearch, "v0001", attempt.id)
    assert digest(far) == digest(here)
    assert [trial["number"] for trial in trials] == [1, 2]
    assert len(epochs) == 2
    assert far == read_record(home.store, HyperparameterSearch, "v0001", attempt.id)


@pytest.mark.long
def test_what_a_job_raises_the_step_raises(job_server, lake, tmp_path):
    """By its class Dagster and people know whether to try again."""
    home, attempt = prepare(tmp_path / "home", lake, TOLD)
    path = home.store.local_path(f"hyperparameter_search/v0001/{attempt.id}.json")
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b'"algorithm":"none"', b'"algorithm":"grid"'))

    with pytest.raises(CorruptData, match="was changed after it was recorded"):
        ray_jobs.RayJobs(address=job_server).trained_cnn(home, attempt, on_epoch=pytest.fail, on_line=print)


class Cluster:
    """A job server in memory: jobs by name, each with its statuses to come, and one log for all."""

    def __init__(self, log):
        self.log, self.jobs, self.next_statuses = log, {}, []

    def list_jobs(self):
        """All, as Ray lists them: with one that is a driver's and has no name."""
        return [SimpleNamespace(submission_id=None), *map(self.get_job_info, self.jobs)]

    def submit_job(self, *, submission_id, **_told):
        """One that goes through the next statuses."""
        assert submission_id not in self.jobs
        self.jobs[submission_id] = [*self.next_statuses]

    def get_job_info(self, name):
        """Its status, the next one from the second look on."""
        status = self.jobs[name][0]
        if len(self.jobs[name]) > 1:
            self.jobs[name].pop(0)
        from ray.job_submission import JobStatus

        return SimpleNamespace(submission_id=name, status=JobStatus(status), message="stopped by hand")

    def get_job_logs(self, _name):
        """Whatever it told."""
        return self.log


def job_on(cluster, tmp_path, monkeypatch):
    """The job of a training there, and its name without the number."""
    monkeypatch.setattr(ray_jobs, "_client", lambda *_: cluster)
    monkeypatch.setattr(ray_jobs, "POLL_S", 0)
    monkeypatch.setattr(ray_jobs, "standing_by", lambda *_: nullcontext())
    attempt = SimpleNamespace(dataset_version="v0001", id="a" * 16)
    return ray_jobs.Job("http://head", open_home(tmp_path, actor="tester"), attempt, "train", TrainedCnn)


@pytest.fixture
def hanging(monkeypatch):
    """The address of a server that says it is Ray's, and takes every other request without ever answering."""
    import ray

    is_over = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path != "/api/version":
                is_over.wait()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"ray_version": ray.__version__}).encode())

        def log_message(self, *_told):
            """Say nothing."""

    monkeypatch.setattr(ray_jobs, "ANSWER_S", 0.3)
    monkeypatch.setattr(ray_jobs, "PATIENCE_S", 1.0)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        is_over.set()
        server.shutdown()
        serving.join()


def train_at(address, tmp_path):
    """A training as a job there; what it fails with, and after how many seconds."""
    attempt, began = SimpleNamespace(dataset_version="v0001", id="a" * 16), time.monotonic()
    with pytest.raises(TransientError) as caught:
        ray_jobs.RayJobs(address=address).trained_cnn(
            open_home(tmp_path, actor="tester"), attempt, on_epoch=pytest.fail, on_line=print
        )
    return str(caught.value), time.monotonic() - began


def test_a_job_server_that_never_answers_does_not_hang_a_step(hanging, tmp_path):
    """Ray's own client waits for ever, and a step that hangs holds its place in the pool for a day."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        message, seconds = train_at(f"http://127.0.0.1:{deaf.getsockname()[1]}", tmp_path)
    assert re.match(r"no Ray job server answers at http://127.* timed out.*: start the cluster's head", message)
    assert seconds < 5
    message, seconds = train_at(hanging, tmp_path)
    assert re.match(r"Ray's job server at http://127.* does not work \(.*timed out.*\): run the same again", message)
    assert 1 < seconds < 5
    assert "\n" not in message


def test_a_job_that_runs_is_found_and_heard_from_its_beginning(tmp_path, monkeypatch, capsys):
    """A machine that was lost must not cost a second training beside the first; nor may the ledger say it twice."""
    ray_job.tell(ray_job.NEW_EVENT, {"event": "model_trained", "subject": {"trained_cnn": "d" * 64}})
    ray_job.tell(ray_job.EPOCH, {"number": 1})
    cluster, lines, epochs = Cluster(capsys.readouterr().out), [], []
    job = job_on(cluster, tmp_path, monkeypatch)
    cluster.jobs[f"{job._name}-7"] = ["RUNNING", "RUNNING", "FAILED"]
    ledger = open_home(tmp_path, actor="tester").ledger
    ledger.append("model_trained", {"trained_cnn": "d" * 64})

    with pytest.raises(TransientError, match="-7 ended as FAILED"):
        job.do([], {ray_job.EPOCH: epochs.append}, lines.append)

    assert list(cluster.jobs) == [f"{job._name}-7"]
    assert lines == [f"Ray job {job._name}-7 at http://head was found again"]
    assert epochs == [{"number": 1}]
    assert len(list(ledger.events())) == 1


def test_a_job_that_is_stopped_with_its_killed_step_is_followed_by_another(tmp_path, monkeypatch):
    """The step that is run again may come while the job of the killed one is still being stopped."""
    cluster = Cluster("")
    job = job_on(cluster, tmp_path, monkeypatch)
    cluster.jobs[f"{job._name}-1"] = ["RUNNING", "STOPPED"]
    cluster.next_statuses = ["RUNNING", "STOPPED"]

    with pytest.raises(TransientError, match="-2 ended as STOPPED and did not say why"):
        job.do([], {}, print)
    assert list(cluster.jobs) == [f"{job._name}-1", f"{job._name}-2"]


def test_errors_keep_their_class_and_a_death_without_a_word_may_be_tried_again():
    """A rejected model must never be trained again by a retry, a job that ran out of memory may."""
    told = {"error": "ModelRejected", "message": "accuracy 0.5 is below 0.9"}
    assert repr(ray_jobs._error("j", "FAILED", "", told)) == repr(ModelRejected(told["message"]))
    bug = ray_jobs._error("j", "FAILED", "", {"error": "ZeroDivisionError", "message": "by zero"})
    assert type(bug) is RuntimeError
    assert "ZeroDivisionError in the Ray job j: by zero" in str(bug)
    killed = ray_jobs._error("j", "FAILED", "failed with exit code -9\nlogs", None)
    assert isinstance(killed, TransientError)
    assert "exit code -9" in str(killed)
    assert "\n" not in str(killed)


def test_ray_is_told_no_secret(tmp_path, monkeypatch):
    """Ray shows a job's variables to whoever may look."""
    for name in ("RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "PETPARK_DATABASE", "PETPARK_ALERT_WEBHOOK"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ada:{SECRET}@mlflow:5000")
    home = open_home(tmp_path, actor="tester")
    assert job_variables(home.store.uri, home.actor) == {
        "PETPARK_STORE": str(tmp_path / "store"),
        "PETPARK_ACTOR": "tester",
    }


def test_lines_of_libraries_are_logged_and_those_of_the_job_are_heard(capsys):
    """A library's line must not end a run, whatever it prints."""
    heard, logged = [], []
    ray_job.tell(ray_job.TRIAL_EPOCH, [3, {"epoch": 1}])
    for line in ["some library's warning", "", *capsys.readouterr().out.splitlines()]:
        ray_jobs._pass_on(line, {ray_job.TRIAL_EPOCH: heard.append}, logged.append)
    assert heard == [[3, {"epoch": 1}]]
    assert logged == ["some library's warning"]
