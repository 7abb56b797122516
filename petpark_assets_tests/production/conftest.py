"""The whole production profile for tests, as a person starts and stops it: `python -m infra.production`.

Not here: claims about it (test_profile.py, test_jobs.py), or its databases' upgrade (test_upgrade.py).
"""

import base64
import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.production.ceph import S3Server
from petpark_assets.resources.environments import PROJECT_FOLDER
from petpark_assets_tests.killing import kill

READY_S = 500
"""Until all parts answer: a minute on idle cores."""
STOPPED_S = 120
RESET_S = 5
"""Apache resets a connection now and then: asked again, it answers."""
MARK = "OF_ONE_TEST"
"""A variable that every process below inherits, whoever its parent is by then."""
SETTINGS = {"PETPARK_RECIPE": "demo", "PETPARK_ARRIVALS": "1"}


class Park:
    """A started profile, with what the last backup in a folder has if one is given."""

    num_looks, most_bytes = 0, 0
    listened: frozenset[str] = frozenset()

    def __init__(self, folder: Path, *backup: str) -> None:
        self.mark = uuid.uuid4().hex
        self.log = folder / "production.log"
        variables = {**os.environ, **SETTINGS, MARK: self.mark}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "infra.production", *backup],
                cwd=PROJECT_FOLDER, env=variables, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def wait_until_ready(self) -> None:
        """Until it says so."""
        deadline = time.monotonic() + READY_S
        while "to stop:" not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.5)

    def said(self) -> str:
        """All that a person read."""
        return self.log.read_text()

    def address(self, name: str) -> str:
        """Where a part listens, or the password of a user, as printed."""
        return re.search(rf"^  {name} +(\S+)$", self.said(), re.MULTILINE)[1]

    @property
    def folder(self) -> Path:
        """Of its data, as printed."""
        return Path(re.search(r"until it stops: (\S+)$", self.said(), re.MULTILINE)[1])

    def variables(self) -> dict[str, str]:
        """What a person's terminal gets by the printed command."""
        lines = (self.folder / "variables").read_text().splitlines()
        return {name: shlex.split(value)[0] for name, _, value in (line.partition("=") for line in lines)}

    def s3(self) -> S3Server:
        """Its S3 and its keys."""
        told = self.variables()
        keys = {"access_key": told["AWS_ACCESS_KEY_ID"], "secret_key": told["AWS_SECRET_ACCESS_KEY"]}
        return S3Server(endpoint_url=told["AWS_ENDPOINT_URL"], **keys)

    def petpark(self, *words: str) -> dict:
        """`petpark` in that terminal; the document it prints."""
        command = [sys.executable, "-m", "petpark_assets.cli", *words, "--json"]
        variables = {**os.environ, **self.variables()}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, cwd=PROJECT_FOLDER)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def ask(self, query: str, *, asker: str = "operator", **variables: object) -> dict:
        """The data of a GraphQL answer of the UI, by the login proxy, as one of its users."""
        asked = json.dumps({"query": query, "variables": variables}).encode()
        login = base64.b64encode(f"{asker}:{self.address(asker)}".encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {login}"}
        request = urllib.request.Request(f"{self.address('login')}/graphql", asked, headers)
        for patience_s in (RESET_S, STOPPED_S):
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.load(answer)["data"]
            except urllib.error.HTTPError:
                raise
            except (ConnectionError, urllib.error.URLError) as error:
                lost = error
                # When a part has ended all stop, the proxy first, and only then it is said which part it was.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(patience_s)
                    raise AssertionError(self.said()) from error
        raise lost

    def jobs(self) -> dict[str, dict]:
        """All that Ray's job server tells of the jobs there ever were, by their names."""
        told = self.variables()
        headers = {"Authorization": f"Bearer {told['RAY_AUTH_TOKEN']}"}
        request = urllib.request.Request(f"{told['RAY_API_SERVER_ADDRESS']}/api/jobs/", headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return {job["submission_id"]: job for job in json.load(answer) if job["submission_id"]}

    def processes(self) -> dict[int, str]:
        """Of all that came of it: command lines by id."""
        mark, parents, lines, found = f"{MARK}={self.mark}".encode(), {}, {}, set()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                pid = int(folder.name)
                parents[pid] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                lines[pid] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.add(pid)
        # Some of Ray's write their titles over their variables.
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return {pid: lines[pid] for pid in found if lines.get(pid)}  # what has ended and was not asked how has no line

    def variables_seen(self, name: str) -> set[str]:
        """What a variable is told to be in any of the processes."""
        found = set()
        for pid in self.processes():
            with contextlib.suppress(OSError):  # it ended meanwhile
                words = (Path("/proc") / str(pid) / "environ").read_bytes().decode(errors="replace").split("\0")
                found |= {word.partition("=")[2] for word in words if word.startswith(f"{name}=")}
        return found

    def watch(self) -> None:
        """Look at what listens, and at the memory of all together; what was ever seen is kept."""
        pids = self.processes()
        self.num_looks += 1
        self.listened |= _listeners(pids)
        self.most_bytes = max(self.most_bytes, sum(map(_memory_bytes, pids)))

    def wait(self) -> int:
        """Until it has ended; its exit code. What is left of it then is killed, and must be nothing."""
        known = self.processes()
        try:
            return self.process.wait(STOPPED_S)
        finally:
            self.left = self.processes() | {pid: line for pid, line in known.items() if _line(pid) == line}
            kill(*self.left)


def _listeners(pids: Collection[int]) -> set[str]:
    """Local addresses of the TCP sockets that these processes listen on."""
    inodes = set()
    for pid in pids:
        for file in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = str(file.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(_spelled(fields[1]))
    return found


def _spelled(address: str) -> str:
    """Of /proc/net/tcp: the bytes of an address of IPv4 backwards, in hexadecimal; others as they are."""
    host, _, port = address.partition(":")
    if len(host) == 8:
        return f"{'.'.join(str(byte) for byte in reversed(bytes.fromhex(host)))}:{int(port, 16)}"
    if host in {"00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}:  # ::1, ::ffff:127.0.0.1
        return f"127.0.0.1:{int(port, 16)}"
    return f"{host}:{int(port, 16)}"


def _memory_bytes(pid: int) -> int:
    """Its share of the memory: pages that several use are divided between them."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def _line(pid: int) -> str | None:
    """Its command line now, if it is there."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return None


@contextmanager
def started(folder: Path, *backup: str) -> Iterator[Park]:
    """The profile, ready; stopped as by Ctrl-C if a test did not stop it, which leaves nothing either."""
    park = Park(folder, *backup)
    try:
        park.wait_until_ready()
        yield park
    finally:
        if park.process.poll() is None:
            park.process.send_signal(signal.SIGINT)
        park.wait()
        assert park.left == {}


@pytest.fixture(scope="module")
def park(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Park]:
    """One for all claims about builds."""
    with started(tmp_path_factory.mktemp("production")) as park:
        yield park
