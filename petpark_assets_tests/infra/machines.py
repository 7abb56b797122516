"""The scripts that machines of infra/cloudformation.yaml start by, run here: what they told Docker, what they wrote.

`aws`, `docker`, `chown` and `sleep` are stand-ins, and the machine's folders are a test's own.
Not here: the claims (test_cloudformation.py, test_containers.py).
"""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from petpark_assets_tests.infra.stack import read_template

SECRET = "known-to-few"
"""What the stand-in of AWS Secrets Manager answers to every question."""
MACHINES = ("Platform", "GpuTemplate", "Proxy")
FOLDERS = {"/opt/petpark/infra": "infra", "/etc/petpark": "etc"}
"""Of a machine, and what a test calls them."""

AWS = f'case "$1" in secretsmanager) echo {SECRET} ;; ecr) echo a-login ;; *) exit 2 ;; esac'
# It reads a login to its end, or the command before it in the pipe would fail now and then.
DOCKER = """
case "$1" in login) exec cat > /dev/null ;; esac
echo "docker $*" >> "$RECORD"
[ ! -f .env ] || cat .env >> "$RECORD"
while [ $# -gt 0 ]; do [ "$1" != --env-file ] || cat "$2" >> "$RECORD"; shift; done
"""
STAND_INS = {
    "aws": AWS,
    "docker": DOCKER,
    # Only root may give files away: who is to own which is written down.
    "chown": """
[ "$1" != -R ] || shift
for path in "${@:2}"; do find "$(realpath "$path")" -type f -printf "$1 %p\\n" >> "$RECORD.owners"; done
""",
    "sleep": "exit 1",  # nothing is to be waited for
}


@dataclass(frozen=True)
class Written:
    """A file that a script wrote."""

    text: str
    owner: str
    """As `chown` was told it."""
    mode: int


@dataclass(frozen=True)
class Started:
    """A machine whose script has ended."""

    told: str
    """The commands of Docker, and every file of variables that it was given."""
    files: dict[str, Written]
    """By their paths on a machine."""

    def variables(self) -> dict[str, str]:
        """What containers have, or Compose fills its file in from."""
        return dict(re.findall(r"(?:^|--env )([A-Z][A-Z_]+)=(\S*)", self.told, re.MULTILINE))


def script_of(machine: str) -> str:
    """Its user data, with a name of its own in place of each value that AWS fills in."""
    made = read_template()["Resources"][machine]["Properties"]
    text = made.get("LaunchTemplateData", made)["UserData"]["Fn::Base64"]["Fn::Sub"][0]
    return re.sub(r"\$\{([^}]+)\}", lambda found: re.sub(r"\W", "-", found[1]).lower(), text)


def start(script: str, folder: Path) -> Started:
    """Run a script to its end. Raises CalledProcessError."""
    for name, words in STAND_INS.items():
        path = folder / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{words}\n")
        path.chmod(0o755)
    for name in FOLDERS.values():
        (folder / name).mkdir()
    (folder / "etc" / "proxy.env").touch()  # brought by the proxy's image
    (folder / "record.owners").touch()
    variables = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "RECORD": str(folder / "record")}
    subprocess.run(["bash", "-c", _renamed(script, folder)], env=variables, check=True, capture_output=True, timeout=60)
    return Started(told=_renamed((folder / "record").read_text(), folder, back=True), files=_files(folder))


def _files(folder: Path) -> dict[str, Written]:
    lines = (folder / "record.owners").read_text().splitlines()
    owners = {path: owner for owner, _, path in (line.partition(" ") for line in lines)}
    return {
        _renamed(str(path), folder, back=True): Written(
            text=path.read_text(), owner=owners.get(str(path), "root"), mode=path.stat().st_mode & 0o777
        )
        for name in FOLDERS.values()
        for path in (folder / name).rglob("*")
        if path.is_file()
    }


def _renamed(text: str, folder: Path, *, back: bool = False) -> str:
    for real, own in FOLDERS.items():
        here = f"{folder}/{own}"
        text = text.replace(here, real) if back else text.replace(real, here)
    return text
