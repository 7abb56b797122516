"""The page is what park employees and auditors see, and a file of the package: complete, safe, always the same."""

import dataclasses
import html
import itertools
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.files import LocalStore, digest, read_record, sha256, write_record
from petpark_assets.domain.recipes import Targets
from petpark_assets.domain.report import canvas, figures
from petpark_assets.domain.report.gallery import data_uri, thumbnail
from petpark_assets.domain.report.page import render, report_json
from petpark_assets.domain.report.predictions import predictions_parquet
from petpark_assets_tests.domain.report import toy

CONTEXT = toy.context()
PAGE = render(CONTEXT).decode()
PHOTO = thumbnail(np.full((40, 40, 3), 90, dtype=np.uint8))
VIEW = render(CONTEXT, {CONTEXT.most_wrong[0].sha256: PHOTO}).decode()
"""As drawn at home, where of all wrong photos one is still in the store."""

CHILD = """
import json
from petpark_assets_tests.domain.report.test_page import digests
print(json.dumps(digests()))
"""


def digests():
    """Of every kind of file that testing writes."""
    png = canvas.to_png(figures.confusion_matrix(CONTEXT.evaluation.metrics))
    files = {"html": PAGE.encode(), "json": report_json(CONTEXT), "png": png}
    files["parquet"] = predictions_parquet(*toy.answers())
    return {name: sha256(data) for name, data in files.items()}


class Elements(HTMLParser):
    """All start tags of a page with their attributes."""

    def __init__(self, page):
        super().__init__()
        self.tags = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        """Called by the parser."""
        self.tags.append((tag, dict(attrs)))


def text_of(page):
    """What a reader sees, tags and looks taken away, in single spaces."""
    body = re.sub(r"<style.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(body).split())


def test_another_process_on_another_day_writes_the_same_bytes():
    """The files' digests are the asset's data version: the same work must give the same digest everywhere."""
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    elsewhere = os.environ | {"PYTHONHASHSEED": seed, "TZ": "Asia/Tokyo", "LC_ALL": "C", "SOURCE_DATE_EPOCH": "1"}
    other = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, env=elsewhere, check=True)
    assert json.loads(other.stdout) == digests()


def test_records_read_again_from_their_files_give_the_same_page(tmp_path):
    """A page drawn a year later from the store is the page of the package."""
    store = LocalStore(tmp_path)
    for record in CONTEXT.records.values():
        write_record(store, record, {})
    again = {
        asset: read_record(store, type(record), toy.VERSION, getattr(record, "attempt", None))
        for asset, record in CONTEXT.records.items()
    }
    context = dataclasses.replace(CONTEXT, **again)
    assert report_json(context) == report_json(CONTEXT)
    assert render(context).decode() == PAGE


def test_nothing_in_the_page_points_out_of_it():
    """It works offline, and opening an audit's file tells nobody."""
    for tag, attributes in Elements(VIEW).tags:
        assert tag not in {"script", "link", "iframe", "object", "base", "form"}
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:image/"))
    assert not re.search(r"url\((?!#)|@import", PAGE)


def test_tables_and_pictures_can_be_heard():
    """Who listens to the page needs captions, header cells and words for every picture; ids must be unique."""
    elements = Elements(PAGE).tags + [element for element in Elements(VIEW).tags if element[0] == "img"]
    names = [tag for tag, _ in elements]
    assert names.count("table") == names.count("caption") > 5
    assert all("scope" in attributes for tag, attributes in elements if tag == "th")
    assert all(attributes.get("alt") for tag, attributes in elements if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in elements if tag == "svg")
    assert names.count("svg") == 7
    assert names.count("h1") == 1
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    levels = [int(name[1]) for name in names if re.fullmatch(r"h\d", name)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_asked_and_default_targets_stand_side_by_side():
    """A smaller promise must look like one: accepted by its own target, missed by the default."""
    assert CONTEXT.evaluation.is_accepted
    assert "accuracy 0.9675 0.9452 to 0.9809 0.94 ✓ reached 0.97 ✕ missed" in text_of(PAGE)
    assert json.loads(report_json(CONTEXT))["default_targets"]["accuracy"] == 0.97


def test_a_rejected_model_says_why_and_what_follows():
    """The first thing seen is the verdict."""
    context = toy.context(Targets())
    page = text_of(render(context).decode())
    assert "✕ Rejected accuracy 0.9675 is below its target 0.97" in page
    assert "neither packaged nor registered" in page
    assert json.loads(report_json(context))["verdict"] == context.evaluation.verdict


def test_the_page_leads_to_every_parent():
    """From the page alone an auditor can find every record that it was made from."""
    expected = [digest(record) for record in CONTEXT.records.values()]
    expected += [CONTEXT.raw_images.manifest, CONTEXT.trained_cnn.weights, toy.ATTEMPT, toy.VERSION]
    expected += [CONTEXT.hyperparameter_search.code_version]
    assert [value for value in expected if value not in text_of(PAGE)] == []


def test_what_was_quarantined_is_counted_by_reason():
    """Photos that were left out change what the numbers mean."""
    page = text_of(PAGE)
    assert "2,014 seen = 2,000 accepted + 3 duplicate + 11 quarantined" in page
    assert "truncated 4 the file ends before its picture does" in page
    raw = dataclasses.replace(CONTEXT.raw_images, quarantined_by_reason={})
    assert "No file was quarantined." in text_of(render(rebuilt(raw)).decode())


def rebuilt(raw):
    """The toy context upon another first record, the digests of the chain made right again."""
    train = dataclasses.replace(CONTEXT.train_split, raw_images=digest(raw))
    test = dataclasses.replace(CONTEXT.test_split, raw_images=digest(raw))
    scaling = dataclasses.replace(CONTEXT.feature_scaling, train_split=digest(train))
    search = toy.hyperparameter_search(train, scaling)
    return dataclasses.replace(
        CONTEXT, raw_images=raw, train_split=train, test_split=test, feature_scaling=scaling,
        hyperparameter_search=search, trained_cnn=toy.trained_cnn(train, scaling, search),
    )  # fmt: skip


def test_the_searchs_gain_is_told_with_its_noise():
    """Also what was gained is evidence: 0.0212 on 160 photos is within the noise, and the page says so."""
    assert "The search gained 0.0212 over the recipe's defaults" in text_of(PAGE)
    assert "may well be noise" in text_of(PAGE)
    trials = text_of(PAGE).partition("Remark")[2]
    assert "1 0.1 0.01123 0.8600 1.00 recipe's defaults 2 " in trials
    assert "3 0.1 0.01369 0.8812 1.00 best 4 " in trials
    assert "5 0.1 0.01615 – 0.00 failed: out of memory 6 0.1 0.01738 0.7900 0.33 stopped early 7 " in trials  # noqa: RUF001
    none = {"algorithm": "none", "space": {}, "trials": ()}
    page = text_of(
        render(toy.context(**none, default_validation_accuracy=None, best_validation_accuracy=None)).decode()
    )
    assert "No search was made" in page


def test_a_package_holds_no_photo_and_the_homes_view_shows_them():
    """A forgotten photo must not live on in an immutable package; at home it is shown, or said to be gone."""
    assert "<img" not in PAGE
    assert "data:" not in PAGE.replace("img-src data:", "")
    assert all(photo.sha256 in PAGE for photo in CONTEXT.most_wrong)
    assert VIEW.count("<img") == 1
    assert data_uri(PHOTO) in VIEW
    assert VIEW.count("no longer in the store") == len(CONTEXT.most_wrong) - 1
    assert all(f'title="{photo.sha256}"' in VIEW for photo in CONTEXT.most_wrong)


def test_names_from_outside_are_escaped():
    """A recipe's or a device's name is text, never markup."""
    hostile = "<img src=x onerror=alert(1)>"
    search = dataclasses.replace(CONTEXT.hyperparameter_search, recipe=hostile)
    network = dataclasses.replace(CONTEXT.trained_cnn, hyperparameter_search=digest(search), device=hostile)
    page = render(dataclasses.replace(CONTEXT, hyperparameter_search=search, trained_cnn=network)).decode()
    assert "<img" not in page
    assert page.count(html.escape(hostile)) == 3  # the recipe also where its calibration is judged


def test_records_of_different_attempts_are_refused_by_name():
    """A report of one network upon another's records would be a forged paper."""
    split = dataclasses.replace(CONTEXT.train_split, members=sha256(b"others"))
    with pytest.raises(InvalidInput, match="feature_scaling was made from another train_split") as refused:
        dataclasses.replace(CONTEXT, train_split=split)
    assert "trained_cnn was made from another train_split" in str(refused.value)
    with pytest.raises(InvalidInput, match="attempts 0123456789abcdef, ffff"):
        dataclasses.replace(CONTEXT, trained_cnn=dataclasses.replace(CONTEXT.trained_cnn, attempt="ffff"))


def test_an_exam_on_other_photos_is_refused():
    """The whole test side is answered, each photo once: fewer would be a chosen sample."""
    small = dataclasses.replace(CONTEXT.test_split, images_by_label={"cat": 200, "dog": 201})
    with pytest.raises(InvalidInput, match="the test side has"):
        dataclasses.replace(CONTEXT, test_split=small)


def test_the_champion_is_told_slice_by_slice():
    """Why a model was refused must be found on the page, beside the slices on which it was not."""
    context = toy.context(num_images=1200, skill=2.0, champion_skill=3.2, unknown_below=0.8)
    page = text_of(render(context).decode())
    assert "Significantly worse than the champion on the same photos" in page
    assert "significantly worse than the champion (version 3) on class cat" in page
    assert page.count("✕ worse") == sum(row["is_worse"] for row in context.evaluation.comparison["slices"]) > 0
    assert "brightness: dark" in page
    assert "counts as unknown" in page
    assert json.loads(report_json(context))["comparison"]["champion"]["package"] == toy.CHAMPION.package


def test_what_was_asked_of_the_answered_stands_beside_what_was_found():
    """Who lets the model answer alone must see on one page that it is right less often than it was told to be."""
    context = toy.context(unknown_below=0.6, configuration={"answered_accuracy": 0.995})
    judged = json.loads(report_json(context))["abstention_judgement"]
    assert (judged["asked"], judged["is_reached"]) == (0.995, False)
    page = text_of(render(context).decode())
    assert "a threshold chosen on the validation photos, for how often those answered should be right" in page
    assert f"Asked of those answered: at least 0.9950 right. {judged['sentence'].partition('right. ')[2]}" in page
    assert "Asked of those answered" not in text_of(render(toy.context(unknown_below=0.6)).decode())  # an old record


def test_without_a_champion_the_page_says_so():
    """The first model of a park has nobody to be compared with, and must not look as if it had won."""
    assert "There was no champion to compare with." in text_of(PAGE)
    assert "class: dog" in text_of(PAGE)


def test_how_many_models_were_evaluated_stands_on_the_homes_page_alone():
    """A package is content: the same work must not give other bytes because others came before."""
    assert "evaluated on these test photos" not in text_of(PAGE)
    seen = text_of(render(CONTEXT, {}, num_models_evaluated=7).decode())
    assert "So far 7 models have been evaluated on these test photos" in seen


def test_a_report_of_before_can_still_be_drawn():
    """Forgetting a photo draws every page of its versions again, those whose records lack today's numbers too."""
    metrics = {
        name: value for name, value in CONTEXT.evaluation.metrics.items() if name not in {"slices", "abstention"}
    }
    errors = metrics["calibration"]
    old = {name: errors[name] for name in ("expected_calibration_error", "bins")}
    evaluation = dataclasses.replace(CONTEXT.evaluation, metrics=metrics | {"calibration": old})
    page = text_of(render(dataclasses.replace(CONTEXT, evaluation=evaluation)).decode())
    assert "expected calibration error" in page
    assert "champion" not in page
