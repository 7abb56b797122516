"""Claims about `petpark audit` as a process: a question is answered at once, since nothing heavy is loaded for it."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from petpark_assets.domain.audit import verifier
from petpark_assets.domain.s3.store import S3Store
from petpark_assets_tests.domain.audit.drawn_home import photo

HEAVY = {"torch", "ray", "dagster", "mlflow", "lance", "onnx", "onnxruntime", "sklearn", "matplotlib", "boto3"}
RUN = """
import json, sys
from petpark_assets.cli import app
try:
    app(json.loads(sys.argv[1]), prog_name="petpark")
finally:
    print(json.dumps(sorted(set(json.loads(sys.argv[2])) & set(sys.modules))), file=sys.stderr)
"""
RUN_ALL = """
import json, sys
from petpark_assets.cli import app
for words in json.loads(sys.argv[1]):
    assert not app(words, prog_name="petpark", standalone_mode=False), words
"""
QUESTIONS = {
    "model": ("model", "1"),
    "image": ("image", photo(5)["key"]),
    "dataset": ("dataset", "2"),
    "rejected": ("rejected",),
    "at": ("at", "2999-01-01"),
    "diff": ("diff", "1", "2"),
    "index": ("index",),
}


def _ask(home, *words):
    command = [sys.executable, "-c", RUN, json.dumps(["audit", *words, "--home", str(home.root)]), json.dumps([*HEAVY])]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_prints_one_document_and_loads_nothing_heavy(home, name):
    """Two seconds for the whole process: importing torch, ray or MLflow alone would take more."""
    done = _ask(home, *QUESTIONS[name], "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    assert json.loads(done.stderr.splitlines()[-1]) == []


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_is_answered_for_people_and_on_a_page(home, name, tmp_path):
    """Without a traceback, and with something to read."""
    done = _ask(home, *QUESTIONS[name], "--html", str(tmp_path / "page.html"))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 3
    assert "<h1>" in (tmp_path / "page.html").read_text()


def test_pages_and_bundles_load_nothing_heavy_either(home, tmp_path):
    """Jinja and zip are all they need, and for the signature model-signing, which loads whatever it could sign with."""
    for words in (("model", "1", "--html", str(tmp_path / "m.html")), ("bundle", "1", "--to", str(tmp_path / "m.zip"))):
        done = _ask(home, *words)
        assert done.returncode == 0, done.stderr
        assert set(json.loads(done.stderr.splitlines()[-1])) <= ({"boto3"} if words[0] == "bundle" else set())
    assert {path.name for path in tmp_path.iterdir()} == {"m.html", "m.zip"}


@pytest.mark.debian
def test_every_verb_works_on_a_store_in_a_bucket(home, s3_server, bucket, tmp_path):
    """The same records, read by requests; in one process, since what finds the keys for S3 takes seconds to load."""
    uri, root, keys = f"s3://{bucket}/store", tmp_path / "home", home.store.list_keys("")
    shutil.copytree(home.root, root, ignore=shutil.ignore_patterns("store", "cache"))
    S3Store(uri, s3_server.access(), root / "cache").write_many({key: home.store.read(key) for key in keys})
    verbs = (*QUESTIONS.values(), ("verify",), ("bundle", "1", "--to", str(tmp_path / "m.zip")))
    lines = json.dumps([["audit", *words, "--json", "--home", str(root)] for words in verbs])
    environment = {**os.environ, **s3_server.variables(), "PETPARK_STORE": uri}
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL, lines], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert not (root / "store").exists()
    subprocess.run([sys.executable, "-I", "-S", verifier.__file__, str(tmp_path / "m.zip")], check=True)


def test_what_is_not_sound_exits_with_1(copy):
    """A schedule or a script must notice."""
    path = copy.root / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b"olga", b"ohno"))
    done = _ask(copy, "verify", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["ledger_is_chained"] == 1


def test_a_name_that_means_nothing_is_refused_in_one_line(home):
    """With what there is instead."""
    done = _ask(home, "model", "77")
    assert (done.returncode, done.stdout) == (1, "")
    assert "registered versions are 1, 2" in done.stderr
