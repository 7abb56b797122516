"""`make sbom`: the platform's bill of materials in CycloneDX: each installed package, its licence and its package URL.

    python -m petpark_assets_tests.security.bill_of_materials build/sbom.cdx.json

Made and validated by cyclonedx-bom; what it writes of this machine's folders is taken out, so that the same environment
gives the same bytes. Not here: Debian's packages and Python itself; the bill of a model (petpark audit bundle).
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]


def make(python: str = sys.executable) -> bytes:
    """The bill of the environment of an interpreter, as canonical JSON. Raises CalledProcessError."""
    command = [
        sys.executable,
        "-m",
        "cyclonedx_py",
        "environment",
        python,
        "--pyproject",
        str(PROJECT / "pyproject.toml"),
    ]
    options = [
        "--output-reproducible",
        "--spec-version",
        "1.6",
        "--output-format",
        "JSON",
        "--no-validate",
    ]  # by `check`, when it is as it stays
    done = subprocess.run([*command, *options], capture_output=True, check=True)
    bill: dict[str, Any] = json.loads(done.stdout)
    for component in [bill["metadata"]["component"], *bill["components"]]:
        _take_out_folders(component)
    data = json.dumps(bill, indent=1, sort_keys=True).encode() + b"\n"
    check(data)
    return data


def _take_out_folders(component: dict[str, Any]) -> None:
    """What was installed from a folder is named with it: the reader's is another."""
    references = component.get("externalReferences", [])
    component["externalReferences"] = [found for found in references if not found["url"].startswith("file:")]


def check(data: bytes) -> None:
    """Raises ValueError where it is no bill by CycloneDX's own schema."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode())
    if problem is not None:
        raise ValueError(f"not CycloneDX 1.6: {problem}")


def main(path: Path) -> None:
    """Write the bill into a file."""
    data = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    sys.stdout.write(f"{path}: {len(json.loads(data)['components'])} packages, CycloneDX 1.6, validated\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
