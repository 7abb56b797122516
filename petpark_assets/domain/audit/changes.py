"""What changed between two models: data, parameters, metrics by slice, and the photos whose verdict flipped."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from petpark_assets.domain.audit.answers import flat
from petpark_assets.domain.audit.trail import Trail, file_keys, find_model
from petpark_assets.domain.files import Store, arrow_reader, get_verified
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake import catalogue, diff
from petpark_assets.domain.ledger import Event
from petpark_assets.domain.registry import decisions

NUM_LISTED = 200
"""Of changed photos; the numbers count all, and `petpark lake diff` lists them."""


def compare_models(home: Home, before: str, after: str) -> dict[str, Any]:
    """What is different in a second model, as a JSON document. Raises NotFound, InvalidInput, CorruptData.

    Returns:
        before, after: model_version, dataset_version, attempt, accuracy of each, its verdict, and who let it through.
        data: a row for each kind of change and class, with the number of photos; changed_photos: the first NUM_LISTED.
        parameters: rows name, before, after, of hyperparameters, recipe, seed, code version and device that differ.
        metrics: rows name, before, after, of the whole exam, of each class and of each slice.
        num_examined_by_both; flipped: photos of both exams that one of the two alone got right, a row each.
    """
    old, new = find_model(home, before), find_model(home, after)
    flipped, num_common = _flipped(home.store, old, new)
    overrides = decisions.overrides(home.ledger.events())
    return {
        "before": _name(old, overrides.get(old.attempt)),
        "after": _name(new, overrides.get(new.attempt)),
        **_data(home.store, old, new),
        "parameters": _differences(_told(old), _told(new)),
        "metrics": _rows(_measured(old), _measured(new)),
        "num_examined_by_both": num_common,
        "num_better": sum(row["is_right_after"] for row in flipped),
        "num_worse": sum(row["is_right_before"] for row in flipped),
        "flipped": flipped,
    }


def _name(trail: Trail, override: Event | None) -> dict[str, Any]:
    return {
        "model_version": trail.model_version,
        "dataset_version": trail.dataset_version,
        "attempt": trail.attempt,
        "accuracy": trail.content("evaluation_report").get("metrics", {}).get("accuracy"),
        "is_accepted": trail.content("evaluation_report").get("is_accepted"),
        **decisions.told(override),
    }


def _data(store: Store, old: Trail, new: Trail) -> dict[str, Any]:
    """By class from the two manifests; whole columns, since a version has 100,000 rows."""
    if old.dataset_version == new.dataset_version:
        return {"data": [], "num_changed_photos": 0, "changed_photos": []}
    columns = ["key", "sha256", "label", "state", "reason", "split"]
    tables = [
        catalogue.read_manifest(store, trail.dataset_version, trail.content("raw_images")["manifest"], columns=columns)
        for trail in (old, new)
    ]
    changes, _ = diff.compare(*tables)
    counted = changes.group_by(["change", "class"]).aggregate([([], "count_all")])
    data = counted.rename_columns(["change", "class", "images"]).sort_by([("change", "ascending")])
    return {
        "data": data.to_pylist(),
        "num_changed_photos": changes.num_rows,
        "changed_photos": changes.slice(0, NUM_LISTED).to_pylist(),
    }


def _told(trail: Trail) -> dict[str, Any]:
    """What a model was told and made with, flat."""
    search, training = trail.content("hyperparameter_search"), trail.content("trained_cnn")
    plain = {name: search.get(name) for name in ("recipe", "seed", "code_version", "algorithm")}
    told = {**plain, "device": training.get("device"), "configuration": search.get("configuration", {})}
    return flat({**told, "hyperparameters": training.get("hyperparameters", {})}, joined_by=".")


def _measured(trail: Trail) -> dict[str, float]:
    """The exam's numbers by name: whole, by class, by slice."""
    metrics = trail.content("evaluation_report").get("metrics", {})
    rows = {name: metrics[name] for name in ("accuracy", "precision", "recall", "roc_auc") if name in metrics}
    for label, found in metrics.get("by_class", {}).items():
        rows |= {f"{name} of {label}": found[name] for name in ("precision", "recall") if name in found}
    for part in metrics.get("slices", ()):
        rows[f"accuracy on {part['measure']} {part['name']}"] = part["accuracy"]
    return rows


def _rows(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "before": old.get(name), "after": new.get(name)} for name in {**old, **new}]


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [row for row in _rows(old, new) if row["before"] != row["after"]]


def _flipped(store: Store, old: Trail, new: Trail) -> tuple[list[dict[str, Any]], int]:
    """Photos of both exams that only one of two models got right, and how many photos both were examined on."""
    before, after = _predictions(store, old), _predictions(store, new)
    if before is None or after is None:
        return [], 0
    places = pc.index_in(after["sha256"], before["sha256"].combine_chunks())
    common, beside = after.filter(pc.is_valid(places)), before.take(places.drop_null())
    was_right, is_right = (pc.equal(table["label"], table["predicted"]) for table in (beside, common))
    is_flipped = pc.xor(was_right, is_right)
    rows = pa.table({
        "sha256": common["sha256"],
        "label": common["label"],
        "label_before": beside["label"],
        "is_right_before": was_right,
        "is_right_after": is_right,
        "probability_before": beside["probability"],
        "probability_after": common["probability"],
    }).filter(is_flipped)  # fmt: skip
    return rows.to_pylist(), common.num_rows


def _predictions(store: Store, trail: Trail) -> pa.Table | None:
    name = "predictions.parquet"
    expected = trail.content("evaluation_report").get("files", {}).get(name)
    if expected is None:
        return None
    keys = file_keys("evaluation_report", trail.dataset_version, trail.attempt, name, expected)
    key = next((key for key in keys if store.exists(key)), keys[0])
    return pq.read_table(arrow_reader(get_verified(store, key, expected)))
