"""Every failure reaches every receiver once, whatever was down meanwhile. Real runs, real servers, real kills."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance import InstanceRef

from petpark_assets.assets.versions import ATTEMPT_TAG
from petpark_assets.domain.errors import CorruptData
from petpark_assets.resources.alerts import Alerts, parse_receivers
from petpark_assets.resources.runs import IN_PROCESS
from petpark_assets.sensors.run_failures import run_failures
from petpark_assets_tests.receivers import MailReceiver, WebReceiver, mail_receiver, web_receiver


@dg.op
def step_that_fails() -> None:
    """As ours do: one line that says what, and how to mend it."""
    raise CorruptData("model.onnx was changed:\n restore it from a backup")


@dg.job
def breaks() -> None:
    """A run that fails."""
    step_that_fails()


@dg.asset_check(asset="photos", blocking=True)
def satisfies() -> dg.AssetCheckResult:
    """The gate, closed."""
    return dg.AssetCheckResult(passed=False, description="rejected: accuracy 0.9000 is below 0.97")


@dg.asset
def photos() -> None:
    """What the gate is about."""


@dg.asset(deps=[photos])
def package() -> None:
    """What must not be made."""


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """On disk, as a home's: SQLite keeps failures in an index of its own."""
    (tmp_path / "dagster").mkdir()
    with _open(tmp_path / "dagster") as opened:
        yield opened


def _open(folder: Path) -> dg.DagsterInstance:
    silent = {"telemetry": {"enabled": False}}
    return dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(folder), overrides=silent))


@pytest.fixture
def web() -> Iterator[WebReceiver]:
    """A webhook."""
    with web_receiver() as receiver:
        yield receiver


@pytest.fixture
def mail() -> Iterator[MailReceiver]:
    """A mail server."""
    with mail_receiver() as receiver:
        yield receiver


def _alerts(web: WebReceiver | None = None, mail: MailReceiver | None = None) -> Alerts:
    email = f"smtp://127.0.0.1:{mail.port}/?to=a@park.example" if mail else None
    return Alerts(receivers=parse_receivers(web.url if web else None, email), ui_url="http://ui.example")


class Daemon:
    """Ticks, each with the cursor of the one before, as Dagster's daemon keeps it."""

    def __init__(self, instance: dg.DagsterInstance, alerts: Alerts) -> None:
        self.instance, self.alerts, self.cursor = instance, alerts, None
        self.tick()

    def tick(self, *, is_killed: bool = False) -> str:
        """What the tick says; a killed one leaves no cursor."""
        context = dg.build_sensor_context(self.instance, cursor=self.cursor)
        said = run_failures(context, alerts=self.alerts)
        self.cursor = self.cursor if is_killed else said.cursor
        return said.skip_reason.skip_message


def _fail(instance: dg.DagsterInstance, **tags: str) -> str:
    return breaks.execute_in_process(instance=instance, raise_on_error=False, tags=tags).run_id


def test_a_failure_is_told_with_what_where_and_why(instance: dg.DagsterInstance, web: WebReceiver):
    """A person must be able to act on the message alone: our error's own line, the version, the attempt, the link."""
    daemon = Daemon(instance, _alerts(web))
    run_id = _fail(instance, **{"dagster/partition": "v0007", ATTEMPT_TAG: "0123456789abcdef"})
    assert "told webhook: petpark: breaks v0007 failed in step_that_fails" in daemon.tick()
    (told,) = web.taken
    assert told == {
        "text": "petpark: breaks v0007 failed in step_that_fails: model.onnx was changed: restore it from a backup",
        "key": f"run-{run_id}",
        "Idempotency-Key": f"run-{run_id}",
        "job": "breaks",
        "step": "step_that_fails",
        "reason": "model.onnx was changed: restore it from a backup",
        "dataset_version": "v0007",
        "attempt": "0123456789abcdef",
        "run_id": run_id,
        "link": f"http://ui.example/runs/{run_id}",
    }


def test_a_rejected_model_is_told_by_its_verdict(instance: dg.DagsterInstance, mail: MailReceiver):
    """Its run fails in a check: the reason is what the check says, not that one failed."""
    daemon = Daemon(instance, _alerts(mail=mail))
    assert not dg.materialize([photos, package, satisfies], instance=instance, raise_on_error=False).success
    daemon.tick()
    (letter,) = mail.taken
    assert "check satisfies: rejected: accuracy 0.9000 is below 0.97" in letter.get_content()


def test_a_run_that_was_ended_from_outside_is_told(instance: dg.DagsterInstance, web: WebReceiver):
    """As a run is whose process was killed: it is the first that one wants to hear of, and nobody has its error."""
    daemon = Daemon(instance, _alerts(web))
    instance.report_run_failed(instance.create_run_for_job(breaks), "process 4711 of this run is gone")
    _fail(instance)
    daemon.tick()
    ended, failed = web.taken
    assert ended["text"] == "petpark: breaks failed: process 4711 of this run is gone"
    assert failed["step"] == "step_that_fails"


def test_each_run_is_told_once(instance: dg.DagsterInstance, web: WebReceiver):
    """Also when the daemon is killed before it keeps the tick: the run itself says that it was told."""
    daemon = Daemon(instance, _alerts(web))
    runs = [_fail(instance), _fail(instance)]
    daemon.tick(is_killed=True)
    daemon.tick()
    assert daemon.tick() == "no run failed"
    assert [told["run_id"] for told in web.taken] == runs


def test_a_receiver_that_is_down_hears_of_all_of_it_later(
    instance: dg.DagsterInstance, web: WebReceiver, mail: MailReceiver
):
    """In order, and the others are neither kept waiting nor told again."""
    daemon = Daemon(instance, _alerts(web, mail))
    web.status = 503
    first = _fail(instance)
    said = daemon.tick()
    assert "the webhook at 127.0.0.1 answered 503 Service Unavailable; told again at the next tick" in said
    second = _fail(instance)
    daemon.tick()
    web.status = 200
    daemon.tick()
    assert [told["run_id"] for told in web.taken] == [first, second]
    assert [letter["Message-ID"] for letter in mail.taken] == [f"<run-{run}@petpark>" for run in (first, second)]


def test_a_new_receiver_is_not_flooded_with_the_past(instance: dg.DagsterInstance, web: WebReceiver):
    """Switching alerts on after a year must not send a year of them."""
    _fail(instance)
    daemon = Daemon(instance, _alerts(web))
    later = _fail(instance)
    daemon.tick()
    assert [told["run_id"] for told in web.taken] == [later]


def test_nobody_named_is_the_log(instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture):
    """Nothing to configure, and nothing silent."""
    daemon = Daemon(instance, Alerts())
    _fail(instance)
    daemon.tick()
    assert any("petpark: breaks failed in step_that_fails" in message for message in caplog.messages)


def test_what_a_person_stopped_at_a_terminal_is_no_alarm(instance: dg.DagsterInstance, web: WebReceiver):
    """Dagster makes a failed step of Ctrl-C; whoever pressed it knows. The same in a run of the daemon's is told."""

    @dg.op
    def waits() -> None:
        raise dg.DagsterExecutionInterruptedError

    @dg.job
    def stopped() -> None:
        waits()

    daemon = Daemon(instance, _alerts(web))
    stopped.execute_in_process(instance=instance, raise_on_error=False, tags=IN_PROCESS)
    assert "was stopped at its terminal" in daemon.tick()
    stopped.execute_in_process(instance=instance, raise_on_error=False)
    daemon.tick()
    assert len(web.taken) == 1


def test_a_daemon_killed_while_it_tells_loses_nothing(tmp_path: Path):
    """A kill -9 in the middle of a message: the next daemon tells it, under the same key."""
    (tmp_path / "dagster").mkdir()
    script = (
        "import sys; from pathlib import Path; from petpark_assets_tests.sensors import test_run_failures as here;"
        "here.tick_and_die(Path(sys.argv[1]))"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr
    told = json.loads((tmp_path / "told.json").read_text())
    with _open(tmp_path / "dagster") as instance, web_receiver() as web:
        daemon = Daemon(instance, Alerts())
        daemon.alerts, daemon.cursor = _alerts(web), json.dumps({"webhook": 0})
        daemon.tick()
    assert [message["key"] for message in web.taken] == [told]


def tick_and_die(folder: Path) -> None:
    """A daemon whose machine loses power while the receiver has the message and the daemon no answer."""

    class Deadly:
        def send(self, message) -> None:
            (folder / "told.json").write_text(json.dumps(message.key))
            os.kill(os.getpid(), 9)

    with _open(folder / "dagster") as instance:
        daemon = Daemon(instance, Alerts(receivers={"webhook": Deadly()}))
        _fail(instance)
        daemon.tick()
