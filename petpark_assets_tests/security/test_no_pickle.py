"""Claims that no pickle from a file is ever loaded: no line of ours does, and every loader refuses one fed to it.

A pickle is a program. Between processes of ours on one machine and nodes of one Ray cluster, multiprocessing and Ray
send pickles to each other: who reaches those (loopback, or the cluster's token) runs code anyway.
"""

import ast
import os
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import petpark_assets
from petpark_assets.domain import files
from petpark_assets.domain.audit import verifier
from petpark_assets.domain.errors import CorruptData, PetparkError
from petpark_assets.domain.files import LocalStore, read_record
from petpark_assets.domain.images import decode
from petpark_assets.domain.lake import label_specs, label_tables
from petpark_assets.domain.lake.originals import TABLE, OriginalStore
from petpark_assets.domain.lake.pixels import PixelStore
from petpark_assets.domain.lake.sources import open_lake
from petpark_assets.domain.ledger import FileLedger
from petpark_assets.domain.model import checkpoints
from petpark_assets.domain.model.network import build_network
from petpark_assets.domain.model.pretrained import load_start
from petpark_assets.domain.model.weights import load_classifier
from petpark_assets.domain.package import contents
from petpark_assets.domain.package.predictor import Predictor
from petpark_assets.domain.records import RawImages
from petpark_assets_tests.domain.model.squares import TINY

SOURCE = Path(petpark_assets.__file__).parent
INFRA = SOURCE.parent / "infra"

UNSAFE_MODULES = {"_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle", "pandas"}
UNSAFE_CALLS = {
    "pickle.load", "pickle.loads", "pickle.Unpickler", "yaml.load", "yaml.unsafe_load", "numpy.lib.format.read_array",
    "torch.jit.load", "torch.hub.load", "mlflow.pyfunc.load_model",
}  # fmt: skip

TORCH_LOADERS = (".get_state_dict", ".load_state_dict_from_url")
"""Of whatever object, which take `weights_only` too."""


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def unsafe_lines(source):
    """Lines of a module that load pickles, or could, under whatever name it has imported what does."""
    tree, found = ast.parse(source), []
    meant = dict(meanings(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None) or ""}
            if {name.split(".")[0] for name in names} & UNSAFE_MODULES:
                found.append(node.lineno)
        elif isinstance(node, ast.Call):
            first, *rest = ast.unparse(node.func).split(".")
            name = ".".join([meant.get(first, first), *rest])
            told = {word.arg: ast.unparse(word.value) for word in node.keywords}
            is_torch = name == "torch.load" or name.endswith(TORCH_LOADERS)
            is_blind_torch = is_torch and told.get("weights_only") != "True"
            is_blind_numpy = "allow_pickle" in told or (name == "numpy.load" and len(node.args) > 2)
            if name in UNSAFE_CALLS or is_blind_torch or is_blind_numpy or name.endswith(".read_pickle"):
                found.append(node.lineno)
    return found


def meanings(tree):
    """What the names stand for that a module imports: `p` for `pickle`, `load` for `torch.load`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.asname, alias.name) for alias in node.names if alias.asname)
        elif isinstance(node, ast.ImportFrom):
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)


def test_no_line_of_ours_loads_one():
    """By reading every module: the one place for torch's own files is told to read tensors only."""
    paths = [*SOURCE.rglob("*.py"), *INFRA.rglob("*.py")]
    found = {str(path): unsafe_lines(path.read_text()) for path in paths}
    assert len(found) > 100
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import joblib",
        "from ray import cloudpickle",
        "import pickle; pickle.loads(b'')",
        "models.ResNet18_Weights.DEFAULT.get_state_dict(check_hash=True)",
        "torch.load('x')",
        "torch.load('x', weights_only=False)",
        "import torch as t; t.load('x')",
        "from torch import load; load('x')",
        "from pickle import loads; loads(b'')",
        "import pickle as p; p.Unpickler(file)",
        "import _pickle",
        "import numpy as np; np.load('x', None, True)",
        "np.load('x', allow_pickle=True)",
        "import numpy as np; np.lib.format.read_array(file)",
        "table.read_pickle('x')",
    ],
)
def test_a_line_that_does_is_seen(line):
    """A search that finds nothing shows nothing."""
    assert unsafe_lines(line) == [1]


@pytest.fixture
def mark(tmp_path):
    """What the pickle would make."""
    return tmp_path / "it-ran"


@pytest.fixture
def bomb(mark):
    """The bytes of a pickle, and that it does work: whoever loads it makes the mark."""
    data = pickle.dumps(Bomb(mark))
    pickle.loads(data)  # noqa: S301 - our own
    mark.rmdir()
    return data


def feed_weights(data, _folder):
    """Trained weights."""
    load_classifier(data)


def feed_checkpoint(data, folder):
    """A training that is gone on with."""
    (folder / "checkpoint").write_bytes(data)
    checkpoints.load(folder / "checkpoint")


def feed_started_from(suffix):
    """Weights to start from, by the ending of their name."""

    def feed(data, folder):
        path = folder / f"weights{suffix}"
        path.write_bytes(data)
        load_start(build_network(TINY, num_classes=2), type(TINY)(**{**vars(TINY), "weights": str(path)}))

    return feed


def feed_onnx(data, _folder):
    """A model to answer with."""
    Predictor(data)


def feed_package(data, folder):
    """A package whose sums are right: only its model is none."""
    files = {contents.MODEL: data, contents.LABELS_FILE: b'{"labels":["cat","dog"],"unknown_below":null}',
             contents.IDENTITY: b'{"format":1}'}  # fmt: skip
    for name, content in {**files, contents.SUMS: contents.write_sums(files)}.items():
        (folder / name).write_bytes(content)
    Predictor.open(folder)


def feed_record(data, folder):
    """A record of the store."""
    store = LocalStore(folder)
    store.write_new("raw_images/v0001.json", data)
    read_record(store, RawImages, "v0001")


def feed_ledger(data, folder):
    """What happened."""
    (folder / "ledger.jsonl").write_bytes(data + b"\n")
    list(FileLedger(folder / "ledger.jsonl", "tester").events())


def feed_table(table, pattern):
    """A table of Lance, in the place of one of its files."""

    def feed(data, folder):
        originals, pixels = OriginalStore(LocalStore(folder)), PixelStore(folder)
        originals.append({files.sha256(b"photo"): b"photo"})
        pixels.append(["0" * 64], np.zeros((1, 8, 8, 3), np.uint8), 8)
        min((folder / table).glob(pattern)).write_bytes(data)  # the newest: names of manifests count down
        pixels.read(["0" * 64], 8)
        list(originals.read_all([files.sha256(b"photo")]))

    return feed


def feed_labels(name):
    """A table of labels, by its name."""

    def feed(data, folder):
        (folder / name).write_bytes(data)
        ((spec,),) = label_specs.parse([f"{folder / name}"])
        label_tables.read(spec, open_lake(str(folder), lambda: None), None)

    return feed


def feed_photo(data, _folder):
    """A photo."""
    decode(data)


TABLES = {
    "a file of the originals": feed_table(TABLE, "data/*"),
    "the list of the originals": feed_table(TABLE, "_versions/*.manifest"),
    "a file of the pixels": feed_table("8px.lance", "data/*"),
    "the list of the pixels": feed_table("8px.lance", "_versions/*.manifest"),
}
"""These say what to do, in one line: none of Lance's own errors is seen."""

LOADERS = {
    "weights": feed_weights,
    "a checkpoint": feed_checkpoint,
    "a start from .pth": feed_started_from(".pth"),
    "a start from .pt": feed_started_from(".pt"),
    "a start from .safetensors": feed_started_from(".safetensors"),
    "ONNX": feed_onnx,
    "a package": feed_package,
    "a record": feed_record,
    "the ledger": feed_ledger,
    **TABLES,
    "labels in CSV": feed_labels("labels.csv"),
    "labels in Parquet": feed_labels("labels.parquet"),
    "a photo": feed_photo,
}


@pytest.mark.parametrize("loader", LOADERS)
def test_every_loader_refuses_one_and_runs_nothing(loader, bomb, mark, tmp_path):
    """Whatever a file is called, what is in it is not run."""
    folder = tmp_path / "fed"
    folder.mkdir()
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one differs; that nothing ran is the claim
        LOADERS[loader](bomb, folder)
    assert not isinstance(caught.value, NotImplementedError | AttributeError | NameError), caught.value
    if loader in TABLES:
        assert isinstance(caught.value, CorruptData)
        assert re.fullmatch(r"the table .*\.lance cannot be opened or read: .*: (delete|put) .*", str(caught.value))
    assert not mark.exists()


def test_torch_files_with_code_in_them_are_refused(mark, tmp_path):
    """Torch's own zip of pickles, as a stranger's weights come."""
    path = tmp_path / "weights.pth"
    torch.save({"body.weight": Bomb(mark)}, path)
    with pytest.raises(PetparkError, match="tensors alone"):
        load_start(build_network(TINY, num_classes=2), type(TINY)(**{**vars(TINY), "weights": str(path)}))
    assert not mark.exists()


def test_a_cached_copy_of_pixels_that_holds_one_is_made_anew(mark, tmp_path):
    """The cache is the one place of .npy files; a foreign one is not even opened as objects."""
    store = PixelStore(str(tmp_path / "pixels"))
    pixels = np.zeros((1, 8, 8, 3), np.uint8)
    store.append(["0" * 64], pixels, 8)
    copy = store.copy_to_npy(["0" * 64], 8, tmp_path / "cache")
    np.save(copy, np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    again = store.copy_to_npy(["0" * 64], 8, tmp_path / "cache")
    assert np.array_equal(np.load(again, mmap_mode="r"), pixels)
    assert not mark.exists()


def test_a_bundle_with_one_in_every_file_is_refused(bomb, mark, tmp_path, capsys):
    """The verifier reads JSON, sums and bytes."""
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w") as archive:
        for name in ("bundle.json", "SHA256SUMS", "ledger.jsonl", "records/raw_images.json", "package/model.onnx"):
            archive.writestr(name, bomb)
    assert verifier.main([str(tmp_path / "bundle.zip")]) == 1
    assert "refused" in capsys.readouterr().out
    assert not mark.exists()
