"""Who waits for a Ray cluster learns in time that it is gone: Ray itself would end the process without a word."""

import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from petpark_assets.domain.errors import InvalidInput, TransientError
from petpark_assets.resources import ray_cluster, ray_processes


def test_a_head_that_stays_away_is_named(monkeypatch: pytest.MonkeyPatch):
    """One that is started again meanwhile is no trouble: Ray goes on where its state was kept."""
    monkeypatch.setattr(ray_processes, "HEAD_AWAY_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as head:
        port = head.getsockname()[1]
        find_trouble = ray_processes.servers_at(f"127.0.0.1:{port}", "/no/such/socket")
        time.sleep(0.3)
        assert find_trouble() is None
    assert find_trouble() is None
    with socket.create_server(("127.0.0.1", port)):
        time.sleep(0.3)
        assert find_trouble() is None
    time.sleep(0.3)
    assert find_trouble() == f"the head of the Ray cluster at 127.0.0.1:{port} has not answered for 0 s"


def test_a_lost_node_of_this_machine_is_named(tmp_path: Path):
    """Ray ends the processes of a node with it, ours among them."""
    program, its_socket = tmp_path / "raylet", str(tmp_path / "sockets" / "raylet")
    shutil.copy("/bin/sh", program)
    with (
        socket.create_server(("127.0.0.1", 0)) as head,
        subprocess.Popen([program, "-c", "read line", its_socket], stdin=subprocess.PIPE) as node,
    ):
        address = f"127.0.0.1:{head.getsockname()[1]}"
        find_trouble = ray_processes.servers_at(address, its_socket)
        assert find_trouble() is None
        node.kill()
        node.wait()
        assert find_trouble() == f"this machine's node of the Ray cluster at {address} was lost"


def test_a_worker_that_ends_while_servers_are_looked_for_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Ray starts workers ahead, and ends idle ones."""
    servers = {name: shutil.copy("/bin/sleep", tmp_path / name) for name in ray_processes.SERVERS}
    worker, raylet, head = (psutil.Popen([program, "60"]) for program in ("/bin/sleep", *servers.values()))
    monkeypatch.setattr(ray_processes, "found_in", lambda _folder: [worker, raylet, head])
    worker.kill()
    worker.wait()
    find_trouble = ray_processes.servers_of(tmp_path)
    assert find_trouble() is None
    raylet.kill()
    raylet.wait()
    assert str(find_trouble()).startswith("Ray's raylet ended")
    assert str(ray_processes.servers_of(tmp_path)()).startswith("Ray's raylet ended")  # before anybody looked
    head.kill()
    head.wait()


def test_whoever_waits_is_interrupted():
    """Ray's own calls would go on waiting."""
    began = time.monotonic()
    words = r"^the head is away: run the same again, it goes on$"
    with (
        pytest.raises(TransientError, match=words),
        ray_processes.interrupted_when(lambda: "the head is away", every_s=0.05),
    ):
        time.sleep(30)
    assert time.monotonic() - began < 10


def test_who_fails_by_itself_at_the_very_moment_is_told_the_same(monkeypatch: pytest.MonkeyPatch):
    """When a server of Ray's dies, its own calls fail, too: the interruption then comes while that is cleaned up."""
    handler, is_found, kill = signal.getsignal(ray_processes.SIGNAL), threading.Event(), signal.pthread_kill

    def kill_late(*to_whom: int) -> None:
        is_found.set()
        time.sleep(0.2)
        kill(*to_whom)

    def fail() -> None:
        is_found.wait()
        raise ConnectionError

    monkeypatch.setattr(signal, "pthread_kill", kill_late)
    trouble = ray_processes.interrupted_when(lambda: "the head is away", every_s=0.01)
    with pytest.raises(TransientError, match="the head is away") as raised, trouble:
        fail()
    assert isinstance(raised.value.__cause__, ConnectionError)
    assert signal.getsignal(ray_processes.SIGNAL) is handler


def test_a_watch_that_cannot_be_begun_says_so_and_leaves_no_handler(monkeypatch: pytest.MonkeyPatch):
    """Where a machine gives no more threads, that is what a person must read."""
    handler = signal.getsignal(ray_processes.SIGNAL)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new"), ray_processes.interrupted_when(lambda: None):
        pass
    assert signal.getsignal(ray_processes.SIGNAL) is handler


def test_a_process_that_goes_just_before_it_is_killed_is_no_failure(monkeypatch: pytest.MonkeyPatch):
    """Ray's daemons are still ending when our patience ends."""
    goes, stays = (psutil.Popen(["/bin/sleep", "60"]) for _ in range(2))
    wait = psutil.wait_procs

    def looked_a_moment_ago(waited: list[psutil.Process], **_: float) -> tuple[list[psutil.Process], object]:
        monkeypatch.setattr(psutil, "wait_procs", wait)
        goes.kill()
        goes.wait()
        return [], waited

    monkeypatch.setattr(psutil, "wait_procs", looked_a_moment_ago)
    ray_processes.end([goes, stays], patience_s=0)
    assert not stays.is_running()


def test_an_address_that_is_none_is_refused():
    """Waiting for it would never help."""
    with pytest.raises(InvalidInput, match="RAY_ADDRESS is 'auto': give the Ray cluster as host:port"):
        ray_cluster._see_that_it_answers("auto")
