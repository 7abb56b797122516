"""`make audit`: the pinned dependencies against databases of known holes, by pip-audit.

A database that cannot be asked, or that knows nothing, looks like one that has nothing against us: pip-audit calls all
clean then. So each is first asked about releases whose holes are old and public. One that does not name them is not
believed, and where none is, the answer is "not audited", never "clean".

Exit codes: 0 no known hole, 1 holes, 2 not audited.
Not here: what is installed (bill_of_materials.py), or holes of Debian's packages and of Python.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]
LOCK = PROJECT / "requirements.txt"
PLANTED = ("jinja2==2.11.2", "pyyaml==5.3", "urllib3==1.24.1")
"""CVE-2020-28493, CVE-2020-1747, CVE-2019-11324 and more: what knows of no hole in these knows of none."""
SERVICES = (("PyPI", ("--vulnerability-service", "pypi")), ("OSV", ("--vulnerability-service", "osv")))
TIMEOUT_S = 900


class NotAuditedError(Exception):
    """Nothing is known, which is not the same as that nothing is wrong."""


@dataclass(frozen=True)
class Findings:
    """What a database said."""

    num_packages: int
    holes: tuple[str, ...]
    """`name version: ID (fixed in X)`, one each."""
    unknown: tuple[str, ...]
    """Packages that it said nothing about."""


def ask(requirements: Path, service: Sequence[str]) -> Findings:
    """What a database knows of the pinned packages of a file. Raises NotAuditedError."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(requirements), *service]
    options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json", "--desc", "off"]
    try:
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise NotAuditedError(f"it gave no answer within {TIMEOUT_S} s") from error
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, LookupError) as error:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise NotAuditedError(lines[-1][:300]) from error
    return Findings(
        num_packages=len(packages),
        holes=tuple(_hole(package, hole) for package in packages for hole in package.get("vulns", ())),
        unknown=tuple(package["name"] for package in packages if "skip_reason" in package),
    )


def _hole(package: dict[str, Any], hole: dict[str, Any]) -> str:
    fixed = ", ".join(hole["fix_versions"]) or "no release"
    return f"{package['name']} {package['version']}: {hole['id']} (fixed in {fixed})"


def check_that_it_knows(service: Sequence[str]) -> None:
    """Raises NotAuditedError unless a database names a hole in every planted release."""
    with tempfile.TemporaryDirectory() as folder:
        planted = Path(folder) / "planted.txt"
        planted.write_text("\n".join(PLANTED) + "\n")
        findings = ask(planted, service)
    found = {hole.split()[0] for hole in findings.holes}
    missed = [release for release in PLANTED if release.split("==")[0] not in found]
    if missed:
        raise NotAuditedError(f"it knows of no hole in {', '.join(missed)}")


def audit(requirements: Path, services: Sequence[tuple[str, Sequence[str]]] = SERVICES) -> int:
    """Ask the first database that can be believed, and say what came of it; the exit code."""
    reasons = []
    for name, service in services:
        try:
            check_that_it_knows(service)
            return report(name, ask(requirements, service))
        except NotAuditedError as error:
            reasons.append(f"{name}: {error}")
    say("not audited: no database of known holes could be believed")
    for reason in reasons:
        say(f"  {reason}")
    return 2


def report(name: str, findings: Findings) -> int:
    """Say what a believed database found; the exit code."""
    for hole in findings.holes:
        say(hole)
    if findings.unknown:
        say(f"not audited: {name} says nothing about {', '.join(findings.unknown)}")
        return 2
    if findings.holes:
        return 1
    if not findings.num_packages:
        say("not audited: no package is pinned there")
        return 2
    say(f"{findings.num_packages} pinned packages have no hole that {name} knows; it named those of the planted ones")
    return 0


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(audit(LOCK))
