"""Doubted labels cost a person's time and trainings: each is listed once, with what mends it, and remembered."""

import json
import shlex

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from petpark_assets.cli import app
from petpark_assets.domain.home import open_home
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.model import cross_validation
from petpark_assets.domain.recipes import find_recipe, override
from petpark_assets.domain.workflow import forgetting, ingestion, label_issues

SIDE = 16
RECIPE = override(find_recipe("demo"), {"resolution_px": SIDE})


class Oracle:
    """Answers at once, in place of a training: it believes every label but that of red photos, and counts its calls."""

    def __init__(self):
        self.num_calls, self.dies_at = 0, None

    def __call__(self, images, labels, _groups, is_asked, **_told):
        """See cross_validation.answer_fold."""
        self.num_calls += 1
        if self.num_calls == self.dies_at:
            raise KeyboardInterrupt
        is_red = images[is_asked][..., 0].mean(axis=(1, 2)) > images[is_asked][..., 1].mean(axis=(1, 2)) + 60
        return np.where(is_red, 0.97 - 0.94 * labels[is_asked], 0.1 + 0.8 * labels[is_asked]).astype(np.float32)


@pytest.fixture
def oracle(monkeypatch):
    """In place of the trainings."""
    oracle = Oracle()
    monkeypatch.setattr(cross_validation, "answer_fold", oracle)
    return oracle


@pytest.fixture
def home(tmp_path):
    """A version of forty photos, four of them red."""
    for number in range(40):
        noise = np.random.default_rng(number).integers(0, 120, (24, 24, 3), np.uint8)
        noise[..., 0] += np.uint8(120 * (number % 10 == 0))
        path = tmp_path / "lake" / ("cat" if number % 2 else "dog") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise).save(path)
    return ingested(tmp_path)


def ingested(folder):
    """The next version of the lake."""
    home = open_home(folder / "home", actor="Kim O'Neil")
    ingestion.new_dataset_version(home, str(folder / "lake"), SIDE)
    return home


def keys(document):
    """What is listed."""
    return [issue["key"] for issue in document["label_issues"]]


def test_a_second_look_trains_nothing_and_says_the_same(home, oracle):
    """Three trainings of a large lake take many minutes; a person looks more than once."""
    first = label_issues.find_label_issues(home, "v0001", RECIPE)
    assert label_issues.find_label_issues(home, "v0001", RECIPE) == first
    assert oracle.num_calls == label_issues.NUM_FOLDS
    assert keys(first)
    assert set(keys(first)) <= {f"dog/{number}.png" for number in (0, 10, 20, 30)}
    label_issues.find_label_issues(home, "v0001", override(RECIPE, {"seed": 1}))
    assert oracle.num_calls == 2 * label_issues.NUM_FOLDS


def test_a_look_that_was_stopped_goes_on_at_its_fold(home, oracle):
    """What two folds have cost is not lost with the third."""
    oracle.dies_at = 3
    with pytest.raises(KeyboardInterrupt):
        label_issues.find_label_issues(home, "v0001", RECIPE)
    label_issues.find_label_issues(home, "v0001", RECIPE)
    assert oracle.num_calls == 4


def test_the_shown_command_mends_the_label_and_ends_the_doubt(home, oracle, tmp_path):
    """Word for word in the shell: the next version has the new label, and what a person said is not asked again."""
    first = label_issues.find_label_issues(home, "v0001", RECIPE)
    issue = first["label_issues"][0]
    done = CliRunner().invoke(app, shlex.split(issue["correct"])[1:])
    assert done.exit_code == 0, done.output
    again = ingested(tmp_path)
    row = next(row for row in label_issues.read_manifest(again, "v0002").to_pylist() if row["key"] == issue["key"])
    assert (row["label"], row["label_source"]) == (issue["suggested"], "correction")
    assert "Kim O'Neil" in row["claims"][0]
    second = label_issues.find_label_issues(again, "v0002", RECIPE)
    assert keys(second) == keys(first)[1:]
    assert oracle.num_calls == 2 * label_issues.NUM_FOLDS


def test_a_forgotten_photo_is_neither_listed_nor_in_the_cache(home, oracle, tmp_path):
    """The cache stays, as it holds numbers alone; whoever is forgotten is not asked about any more."""
    first = label_issues.find_label_issues(home, "v0001", RECIPE)
    forgetting.forget(home, keys(first)[0], "its owner asked")
    again = label_issues.find_label_issues(home, "v0001", RECIPE)
    assert keys(again) == keys(first)[1:]
    assert again["num_images"] == first["num_images"] - 1
    assert oracle.num_calls == label_issues.NUM_FOLDS
    for path in (home.cache / "label_issues").rglob("*.json"):
        assert all(len(sha256) == 64 and 0 <= value <= 1 for sha256, value in json.loads(path.read_bytes()).items())
    page = tmp_path / "page.html"
    label_issues.write_page(home, first, page)  # a list of before, drawn after
    assert page.read_text().count("no longer in the store") == 1
    assert page.read_text().count("<img ") == len(first["label_issues"]) - 1


def test_the_verb_trains_and_draws_the_page(tmp_path):
    """The whole way with real trainings: one document on stdout, progress apart from it, the page on the disk."""
    draw_lake(tmp_path / "lake", num_images=60)
    ingested(tmp_path)
    words = [
        "lake",
        "label-issues",
        "1",
        "--recipe",
        "demo",
        "--epochs",
        "2",
        "--html",
        str(tmp_path / "page.html"),
        "--json",
    ]
    done = CliRunner().invoke(app, [*words, "--home", str(tmp_path / "home")])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["num_images"], document["num_folds"]) == (48, 3)
    assert 0 <= document["accuracy"] <= 1
    assert "fold 3 of 3, epoch 2 of 2: validation accuracy" in done.stderr
    assert f"{len(document['label_issues'])} label issues" in (tmp_path / "page.html").read_text()
