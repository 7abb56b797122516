"""Claims about `make sbom`: what is installed is in it, it is CycloneDX, and says nothing of this machine."""

import json
import subprocess
import sys

import pytest

from petpark_assets_tests.security import bill_of_materials

pytest.importorskip("cyclonedx_py", reason="needs cyclonedx-bom: make install")


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An environment with one package, installed from a folder."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    about = site / "toy-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\nLicense: MIT\n")
    (about / "direct_url.json").write_text(json.dumps({"url": f"file://{folder}/toy", "dir_info": {"editable": True}}))
    return str(folder / "bin" / "python")


def test_a_bill_names_what_is_installed_and_no_folder_of_this_machine(python):
    """The same environment gives the same bytes, on any machine."""
    data = bill_of_materials.make(python)
    bill = json.loads(data)
    assert [(part["name"], part["version"]) for part in bill["components"]] == [("toy", "1.0")]
    assert bill["metadata"]["component"]["name"] == "petpark-assets"
    assert b"file:" not in data
    assert python.split("/")[-3].encode() not in data
    assert bill_of_materials.make(python) == data


def test_what_is_no_bill_is_refused(python):
    """The validation is CycloneDX's own, and notices."""
    bill = json.loads(bill_of_materials.make(python))
    del bill["components"][0]["name"]
    with pytest.raises(ValueError, match="not CycloneDX"):
        bill_of_materials.check(json.dumps(bill).encode())
