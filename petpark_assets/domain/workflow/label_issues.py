"""Photos whose given label a model doubts, listed for a person to look at; a correction makes the next version better.

The model is cross-validated on the train side: each photo is answered by a network that did not learn from it. The
test side is not opened. Answers are kept in the cache, a file a fold, so a run that was stopped goes on and a second
look costs nothing; they are sha256s and probabilities, no photo, and forgotten photos are not listed from them.
Not here: the rule (model/confident_learning.py), corrections (ingestion.correct_label).
"""

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from petpark_assets.domain import files, splits
from petpark_assets.domain.attempts import code_version
from petpark_assets.domain.home import Home
from petpark_assets.domain.images import Preprocessing
from petpark_assets.domain.lake import ingest
from petpark_assets.domain.lake.labels import CORRECTION
from petpark_assets.domain.recipes import Recipe
from petpark_assets.domain.records import LABELS, RawImages
from petpark_assets.domain.workflow.copies import LABEL_ISSUES
from petpark_assets.domain.workflow.sides import Side, open_side, read_manifest
from petpark_assets.domain.workflow.testing import thumbnails

if TYPE_CHECKING:
    from petpark_assets.domain.model.train import Epoch

NUM_FOLDS = 3
NUM_SHOWN = 200
"""On the page; the list has all."""


def find_label_issues(
    home: Home,
    dataset_version: str,
    recipe: Recipe,
    *,
    epochs: int | None = None,
    say: Callable[[str], None] = lambda _line: None,
) -> dict[str, Any]:
    """The photos of a version's train side whose label is doubted, the least believed first: a JSON document.

    Args:
        home: where the version is.
        dataset_version: its name.
        recipe: of the trainings.
        epochs: of each training; None for the short schedule of the recipe's search. The better the networks, the
            shorter and truer the list.
        say: is told a line an epoch.

    Returns:
        `dataset_version`, `recipe`, `num_folds`, `num_images`, `num_confirmed` (doubted, but a person has spoken),
        `accuracy` (share of photos whose label the networks agree with) and `label_issues`: each `key`, `sha256`,
        `label` as given, `suggested`, `probability` of that, and `correct`, the command that mends it.

    Raises:
        NotFound: there is no such version.
        InvalidInput: its train side is too small.
    """
    from petpark_assets.domain.model import confident_learning

    photos = read_manifest(home, dataset_version)
    photos = photos.filter(pc.equal(photos["split"], "train"))
    ingest.ensure_pixels(home.store, home.originals, home.pixels, photos, recipe.resolution_px)
    side = open_side(home, dataset_version, "train", recipe.resolution_px)
    schedule = replace(recipe.hyperparameters, epochs=recipe.search.trial_epochs if epochs is None else epochs)
    probabilities = _answers(home, dataset_version, side, replace(recipe, hyperparameters=schedule), say)
    rows = {row["sha256"]: row for row in photos.select(["key", "sha256", "label_source"]).to_pylist()}
    doubted = confident_learning.find_label_issues(side.labels, probabilities)
    found = [(place, rows[side.sha256s[place]]) for place in doubted]
    return {
        "dataset_version": dataset_version,
        "recipe": recipe.name,
        "num_folds": NUM_FOLDS,
        "num_images": len(side.labels),
        "num_confirmed": sum(row["label_source"] == CORRECTION for _, row in found),
        "accuracy": float(((probabilities >= 0.5) == side.labels).mean()),
        "label_issues": [
            _issue(home, row, int(side.labels[place]), float(probabilities[place]))
            for place, row in found
            if row["label_source"] != CORRECTION
        ],
    }


def write_page(home: Home, document: Mapping[str, Any], to: Path) -> None:
    """The list with pictures, as an HTML file anywhere; a photo that is no longer kept is said to be gone."""
    from petpark_assets.domain.report import label_page

    shown = [issue["sha256"] for issue in document["label_issues"][:NUM_SHOWN]]
    files.replace(to, label_page.render(document, thumbnails(home, shown), num_shown=NUM_SHOWN))


def _issue(home: Home, row: Mapping[str, Any], label: int, probability: float) -> dict[str, Any]:
    suggested = LABELS[1 - label]
    words = ["petpark", "lake", "correct", row["sha256"][:16], suggested, "--by", home.actor]
    words += ["--because", f"shows a {suggested}", "--home", str(home.root)]
    return {
        "key": row["key"],
        "sha256": row["sha256"],
        "label": LABELS[label],
        "suggested": suggested,
        "probability": round(1 - probability if label else probability, 4),
        "correct": shlex.join(words),
    }


def _answers(
    home: Home, version: str, side: Side, recipe: Recipe, say: Callable[[str], None]
) -> npt.NDArray[np.float64]:
    """The probability of dog of each photo of the train side, by the network of its fold; trained where not kept."""
    from petpark_assets.domain.model import cross_validation

    fold_of = cross_validation.fold_of(side.groups, NUM_FOLDS)
    folder = _folder(home, version, recipe)
    known: dict[str, float] = {}
    for fold in range(NUM_FOLDS):
        path = folder / f"fold-{fold + 1}.json"
        if not path.exists():
            is_asked = fold_of == fold
            answers = cross_validation.answer_fold(
                side.images,
                side.labels,
                side.groups,
                is_asked,
                preprocessing=_preprocessing(home, version, recipe),
                recipe=recipe,
                on_epoch=_teller(say, fold),
            )
            answered = zip(np.array(side.sha256s)[is_asked].tolist(), answers.tolist(), strict=True)
            files.replace(path, files.canonical_json({sha256: round(value, 6) for sha256, value in answered}))
        known |= json.loads(path.read_bytes())
    return np.array([known[sha256] for sha256 in side.sha256s])


def _teller(say: Callable[[str], None], fold: int) -> "Callable[[Epoch], None]":
    def tell(epoch: "Epoch") -> None:
        where = f"fold {fold + 1} of {NUM_FOLDS}, epoch {epoch.number} of {epoch.num_epochs}"
        say(f"{where}: validation accuracy {epoch.validation_accuracy:.4f}")

    return tell


def _folder(home: Home, version: str, recipe: Recipe) -> Path:
    """Of the answers of one version, recipe and code."""
    told = {"recipe": recipe, "num_folds": NUM_FOLDS, "code_version": code_version("model", "images")}
    return home.cache / LABEL_ISSUES / f"{version}-{files.digest(told)[:16]}"


def _preprocessing(home: Home, version: str, recipe: Recipe) -> Preprocessing:
    from petpark_assets.domain.model import features

    manifest = read_manifest(home, version)
    train_split = splits.train_split_record(files.read_record(home.store, RawImages, version), manifest)
    return features.preprocessing(features.feature_scaling(train_split, manifest, "label issues"), recipe.resolution_px)
