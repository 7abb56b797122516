"""The search and the training as jobs of a Ray cluster: submitted, followed line by line, stopped, found again.

A job belongs to the step that waits for it. Cancelled or killed, the step takes the job with it (ray_job_reaper.py);
where the step's whole machine was lost the job goes on, and the re-executed step finds it by its name, which says all
that it does. Ray shows what a job is told to whoever may look, so secrets are never among it: each node has the keys
of the store and of MLflow in its own environment. Not here: what the job does (ray_job.py).
"""

import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import dagster as dg
from pydantic import Field

from petpark_assets.domain import errors
from petpark_assets.domain.attempts import Attempt
from petpark_assets.domain.errors import PetparkError, TransientError
from petpark_assets.domain.files import canonical_json, digest, has_record, read_record, sha256
from petpark_assets.domain.home import Home
from petpark_assets.domain.records import AttemptRecord, HyperparameterSearch, TrainedCnn
from petpark_assets.domain.workflow import training
from petpark_assets.resources import ray_job, ray_job_reaper
from petpark_assets.resources.environments import job_variables, ray_token
from petpark_assets.resources.reaping import standing_by

if TYPE_CHECKING:
    from petpark_assets.domain.model.train import Epoch

POLL_S = 1.0
"""How often a job's log is read."""
PATIENCE_S = 60.0
"""For a job server that does not work: a head that restarts, a network that is away."""
ANSWER_S = 30.0
"""For each answer: Ray's own client waits for ever for a server that takes a request and hangs."""

Hear = Mapping[str, Callable[[Any], None]]
"""What is done with each kind of line that a job tells."""
TrialSeen = Callable[[Mapping[str, Any]], None]
TrialEpochSeen = Callable[[int, Mapping[str, Any]], None]


class RayJobs(dg.ConfigurableResource[None]):
    """Does the heavy steps: as jobs of a Ray cluster where one has a job server, else in the step's own process."""

    address: str | None = Field(
        default=None, description="http(s)://host:port of a Ray cluster's job server; RAY_API_SERVER_ADDRESS."
    )
    gpus_per_training: float = Field(
        default=0.0, description="GPUs that trained_cnn's job waits for; 0: it runs on the head; PETPARK_TRAINING_GPUS."
    )

    def hyperparameter_search(
        self,
        home: Home,
        attempt: Attempt,
        *,
        running_ray: Callable[[], AbstractContextManager[None]],
        on_trial: TrialSeen,
        on_epoch: TrialEpochSeen,
        on_line: Callable[[str], None],
    ) -> HyperparameterSearch:
        """See training.hyperparameter_search; `on_line` is given what a job prints else. A search of nothing is no job.

        Raises what the job's work raised, TransientError when the job or its server went away.
        """
        if self.address is None or attempt.recipe.search.algorithm == "none":
            return training.hyperparameter_search(
                home, attempt, running_ray=running_ray, on_trial=on_trial, on_epoch=on_epoch
            )
        told = ["--configuration", canonical_json(asdict(attempt.recipe)).decode()]
        hear = {ray_job.TRIAL: on_trial, ray_job.TRIAL_EPOCH: lambda told: on_epoch(*told)}
        job = Job(self.address, home, attempt, "search", HyperparameterSearch)
        job.do(told, hear, on_line)
        record = read_record(home.store, HyperparameterSearch, attempt.dataset_version, attempt.id)
        _see_noted(home, attempt, record, "search_done")
        if record.trials:
            home.registry.log_search(record)  # nothing, where the node has the same registry
        return record

    def trained_cnn(
        self,
        home: Home,
        attempt: Attempt,
        *,
        on_epoch: "Callable[[Epoch], None]",
        on_line: Callable[[str], None],
    ) -> TrainedCnn:
        """See training.trained_cnn, and hyperparameter_search above."""
        if self.address is None:
            return training.trained_cnn(home, attempt, on_epoch=on_epoch)

        def on_told(epoch: Mapping[str, Any]) -> None:
            on_epoch(cast("Epoch", SimpleNamespace(**epoch)))  # importing Epoch itself would load torch here

        job = Job(self.address, home, attempt, "train", TrainedCnn)
        job.do([], {ray_job.EPOCH: on_told}, on_line, num_gpus=self.gpus_per_training)
        record = read_record(home.store, TrainedCnn, attempt.dataset_version, attempt.id)
        _see_noted(home, attempt, record, "model_trained")
        return record


class Job:
    """A step of an attempt on the cluster: at most one such job runs, whoever asks for it how often."""

    def __init__(self, address: str, home: Home, attempt: Attempt, step: str, kind: type[AttemptRecord]) -> None:
        self._home, self._attempt, self._step, self._kind = home, attempt, step, kind
        self._address, self._headers = address, _headers()
        self._client = _client(address, self._headers)
        # Two parks may have the same version and recipe on one cluster, but not the same store.
        store = sha256(home.store.uri.encode())[:8]
        self._name = f"petpark-{step}-{attempt.dataset_version}-{attempt.id}-{store}"

    def do(self, arguments: list[str], hear: Hear, on_line: Callable[[str], None], *, num_gpus: float = 0.0) -> None:
        """Have the record made: wait for the job that makes it or made it, or for a new one."""
        while True:
            number, is_found = self._look()
            if not is_found and self._is_recorded():
                return
            job = f"{self._name}-{number}"
            on_line(f"Ray job {job} at {self._address}{' was found again' if is_found else ''}")
            told = {"job": f"{self._address}/api/jobs/{job}", "headers": self._headers}
            with standing_by(ray_job_reaper, json.dumps(told).encode()):
                if not is_found:
                    self._submit(job, arguments, num_gpus)
                try:
                    status, message, failure = self._follow(job, hear, on_line)
                except TransientError:
                    if self._is_recorded():  # by a job whose node is gone by now, with its log
                        return
                    raise
            if self._is_recorded():
                return
            if not is_found or status != "STOPPED":
                raise _error(job, status, message, failure)
            # Stopped with the step that had submitted it, which was killed as this one began.

    def _is_recorded(self) -> bool:
        return has_record(self._home.store, self._kind, self._attempt.dataset_version, self._attempt.id)

    def _look(self) -> tuple[int, bool]:
        """The number of the newest job of this name, if it runs or made what is recorded; else that of the next.

        Names of jobs are used once: Ray does not support another after a deleted one.
        """
        statuses = {
            int(job.submission_id.rpartition("-")[2]): str(job.status.value)
            for job in self._ask(self._client.list_jobs)
            if (job.submission_id or "").rpartition("-")[0] == self._name
        }
        newest = max(statuses, default=0)
        is_found = newest > 0 and (statuses[newest] not in ray_job_reaper.ENDED or self._is_recorded())
        return (newest, True) if is_found else (newest + 1, False)

    def _submit(self, job: str, arguments: list[str], num_gpus: float) -> None:
        told = [
            self._step, "--dataset-version", self._attempt.dataset_version, "--attempt", self._attempt.id,
            "--home", str(self._home.root), "--ledger-head", self._home.ledger.head(), *arguments,
        ]  # fmt: skip
        if self._home.run_id is not None:
            told += ["--run-id", self._home.run_id]
        # The same Python as here where the node has it at the same place, as in one image; else the node's own.
        python = f"$(command -v {shlex.quote(sys.executable)} || echo python)"
        # Ray sets one thread for whoever asks for no core of its own, as a job's starter does.
        all_threads = '[ "$OMP_NUM_THREADS" != 1 ] || unset OMP_NUM_THREADS'
        request = {
            "entrypoint": f"{all_threads}; exec {python} -m {ray_job.__name__} {shlex.join(told)}",
            "submission_id": job,
            "runtime_env": {"env_vars": job_variables(self._home.store.uri, self._home.actor)},
            "entrypoint_num_gpus": num_gpus or None,
        }

        def submit() -> None:
            if job not in [known.submission_id for known in self._client.list_jobs()]:  # an answer may have been lost
                self._client.submit_job(**request)

        self._ask(submit)  # a head that has just started has no agent yet that would take it

    def _follow(self, job: str, hear: Hear, on_line: Callable[[str], None]) -> tuple[str, str, Any]:
        """Its last status, Ray's word on it, and what it told of its failure, if it did."""
        failures: list[Any] = []
        hear = {ray_job.NEW_EVENT: partial(_note, self._home), ray_job.FAILED: failures.append, **hear}
        num_seen = 0
        while True:
            info = self._ask(self._client.get_job_info, job)  # before its log: what it told at its end is read, too
            *lines, _ = self._ask(self._client.get_job_logs, job).split("\n")
            for line in lines[num_seen:]:
                _pass_on(line, hear, on_line)
            num_seen = len(lines)
            if info.status.is_terminal():
                return info.status.value, info.message or "", failures[-1] if failures else None
            time.sleep(POLL_S)

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Ask the server, again while it does not answer. Raises TransientError."""
        from ray.exceptions import AuthenticationError

        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return function(*arguments)
            except (OSError, RuntimeError, AuthenticationError) as error:
                if time.monotonic() > deadline:
                    raise TransientError(
                        f"Ray's job server at {self._address} does not work ({_first_line(error)}): run the same "
                        "again, a job that still runs is found"
                    ) from error
                time.sleep(POLL_S)


def _note(home: Home, told: Mapping[str, Any]) -> None:
    """An event of a job, in our ledger; once, though a job that was found again tells it again."""
    wanted = told["event"], canonical_json(told["subject"])
    if wanted not in ((event.event, canonical_json(event.subject)) for event in home.ledger.events()):
        home.ledger.append(told["event"], told["subject"])


def _see_noted(home: Home, attempt: Attempt, record: AttemptRecord, event: str) -> None:
    """Note what a job made whose own words are lost: with it were lost its node, and the step that waited."""
    made = digest(record)
    if not any(noted.subject.get(record.asset) == made for noted in home.ledger.events() if noted.event == event):
        subject = {"dataset_version": record.dataset_version, "attempt": record.attempt, record.asset: made}
        home.ledger.append(event, {**subject, "seed": attempt.recipe.seed, "code_version": attempt.code_version})


def _pass_on(line: str, hear: Hear, on_line: Callable[[str], None]) -> None:
    if line.startswith(ray_job.MARK):
        kind, content = json.loads(line.removeprefix(ray_job.MARK))
        hear[kind](content)
    elif line.strip():
        on_line(line)


def _error(job: str, status: str, message: str, failure: Any) -> Exception:
    """What the job's work raised, as if it had been raised here."""
    if failure is None:
        return TransientError(
            f"the Ray job {job} ended as {status} and did not say why ({_first_line(message)}): run the same again, "
            "it goes on where it was"
        )
    kind = getattr(errors, failure["error"], None)
    if isinstance(kind, type) and issubclass(kind, PetparkError):
        return kind(failure["message"])
    return RuntimeError(f"{failure['error']} in the Ray job {job}: {failure['message']}")


def _first_line(what: object) -> str:
    return next(iter(str(what).splitlines()), "no reason was given")


def _headers() -> dict[str, str]:
    """The cluster's token, where this process has it."""
    token = ray_token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _client(address: str, headers: Mapping[str, str]) -> Any:
    """Raises TransientError when there is no job server."""
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        """Ray's, that waits for an answer only so long."""

        def _do_request(self, *arguments: Any, **more: Any) -> Any:
            return super()._do_request(*arguments, **more, timeout=ANSWER_S)

    try:
        return Client(address, headers=dict(headers))
    except (OSError, RuntimeError, AuthenticationError) as error:
        raise TransientError(
            f"no Ray job server answers at {address} ({_first_line(error)}): start the cluster's head with its "
            "dashboard, or correct RAY_API_SERVER_ADDRESS and RAY_AUTH_TOKEN"
        ) from error
