"""Claims about attempts: a name for everything a model was told, and nothing found by "latest"."""

import dataclasses
from dataclasses import asdict
from pathlib import Path

import pytest

from petpark_assets.domain import attempts
from petpark_assets.domain.attempts import (
    as_dimension,
    code_version,
    find_attempt,
    new_attempt,
    recipe_from_configuration,
    require_same_start,
)
from petpark_assets.domain.errors import Conflict, InvalidInput, NotFound
from petpark_assets.domain.files import LocalStore, canonical_json, digest, write_record
from petpark_assets.domain.recipes import RECIPES, Choices, Recipe, override
from petpark_assets.domain.records import HyperparameterSearch

NEW = {"scheduler", "workers_per_trial"}
"""Fields of a search that older records lack."""


def _begin(store: LocalStore, recipe: Recipe) -> str:
    attempt = new_attempt("v0001", recipe)
    record = HyperparameterSearch(
        dataset_version="v0001", attempt=attempt.id, train_split="a" * 64, feature_scaling="b" * 64,
        recipe=recipe.name, configuration=asdict(recipe), seed=recipe.seed, code_version=attempt.code_version,
        algorithm="none", space={}, trials=(), best_hyperparameters={}, default_validation_accuracy=None,
        best_validation_accuracy=None, num_validation_images=1,
    )  # fmt: skip
    write_record(store, record, {})
    return attempt.id


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_a_recorded_configuration_is_the_recipe_again(recipe: Recipe):
    """A run that goes on with an attempt must be told exactly what the attempt was told."""
    again = recipe_from_configuration(asdict(recipe))
    assert canonical_json(again) == canonical_json(recipe)


@pytest.mark.parametrize(("stops_early", "scheduler"), [(True, "asha"), (False, "none")])
def test_a_configuration_of_before_schedulers_had_names_is_still_read(stops_early: bool, scheduler: str):
    """Records are read for ever."""
    old = asdict(RECIPES["demo"])
    old["search"] = {name: value for name, value in old["search"].items() if name not in NEW} | {
        "stops_early": stops_early
    }
    again = recipe_from_configuration(old)
    assert canonical_json(again) == canonical_json(override(RECIPES["demo"], {"search": {"scheduler": scheduler}}))


def test_whatever_a_run_is_told_changes_the_attempt():
    """Two models made differently may never share a name."""
    recipe = RECIPES["demo"]
    told = [
        recipe,
        RECIPES["laptop"],
        override(recipe, {"seed": 1}),
        override(recipe, {"targets": {"recall": 0.5}}),
        override(recipe, {"hyperparameters": {"epochs": 3}}),
    ]
    names = {new_attempt("v0001", each).id for each in told} | {new_attempt("v0002", recipe).id}
    assert len(names) == len(told) + 1


def _from_file(path: Path) -> list[Recipe]:
    """One whose training starts from a file, and one whose search may."""
    looked_for = dataclasses.replace(RECIPES["demo"].search, space={"weights": Choices(values=("", str(path)))})
    return [
        override(RECIPES["demo"], {"hyperparameters": {"weights": str(path)}}),
        dataclasses.replace(RECIPES["demo"], search=looked_for),
    ]


def test_another_file_of_weights_is_another_attempt(tmp_path: Path):
    """Under the old name it would train another network, or give back the one that was trained from the old file."""
    path = tmp_path / "start.safetensors"
    names = []
    for content in (b"first", b"second", b"first"):
        path.write_bytes(content)
        names.append([new_attempt("v0001", recipe).id for recipe in _from_file(path)])
    assert names[0] == names[2]
    assert len({*names[0], *names[1]}) == 4
    path.unlink()
    with pytest.raises(InvalidInput, match=r"^weights is '.*start\.safetensors': it cannot be read \(No such file"):
        new_attempt("v0001", _from_file(path)[0])


@pytest.mark.parametrize("weights", ["", "DEFAULT"])
def test_an_attempt_without_a_file_of_weights_keeps_its_name(monkeypatch: pytest.MonkeyPatch, weights: str):
    """Models, pages and the ledger name it; what torchvision has under a name never changes."""
    monkeypatch.setattr(attempts, "code_version", lambda: "c" * 64)
    recipe = override(RECIPES["demo"], {"hyperparameters": {"weights": weights}})
    told = {
        "dataset_version": "v0001", "recipe": "demo", "configuration": recipe, "seed": 0, "code_version": "c" * 64,
    }  # fmt: skip
    assert new_attempt("v0001", recipe).id == digest(told)[:16]


def test_an_attempt_goes_on_only_with_the_weights_it_was_begun_with(tmp_path: Path):
    """Also where its record was read again; for what comes after training the file may be gone."""
    path = tmp_path / "start.safetensors"
    path.write_bytes(b"first")
    store, recipe = LocalStore(tmp_path), _from_file(path)[0]
    name = _begin(store, recipe)
    require_same_start(find_attempt(store, "v0001", name))
    path.write_bytes(b"second")
    with pytest.raises(Conflict, match=r"with other weights than .*start\.safetensors now has: put the file back"):
        require_same_start(find_attempt(store, "v0001", name))
    path.unlink()
    assert find_attempt(store, "v0001", name).id == name


@pytest.mark.parametrize("told", [{"values": "resnet18"}, {"values": 64}, {"lowest": 1}, "petnet", 5])
def test_what_is_neither_values_nor_a_range_is_refused(told):
    """The letters of a word are no choices."""
    with pytest.raises(InvalidInput, match="give it values, or low and high"):
        as_dimension(told)


def test_the_only_attempt_needs_no_name(tmp_path: Path):
    """Most versions have one model: nobody should have to copy its name."""
    store = LocalStore(tmp_path)
    name = _begin(store, RECIPES["demo"])
    assert find_attempt(store, "v0001").id == name


def test_of_several_attempts_one_must_be_named(tmp_path: Path):
    """Picking the newest would be a guess; the list is given instead."""
    store = LocalStore(tmp_path)
    names = [_begin(store, override(RECIPES["demo"], {"seed": seed})) for seed in (0, 1)]
    with pytest.raises(InvalidInput, match=", ".join(sorted(names))):
        find_attempt(store, "v0001")
    assert find_attempt(store, "v0001", names[1]).id == names[1]


def test_an_attempt_that_never_began_is_refused(tmp_path: Path):
    """With what there is, and what to do first."""
    with pytest.raises(NotFound, match="materialize hyperparameter_search first"):
        find_attempt(LocalStore(tmp_path), "v0001", "0123456789abcdef")


def test_code_versions_are_by_room():
    """An edit of the report must not make the lake's assets look out of date."""
    assert code_version("lake") != code_version("report") != code_version()
    with pytest.raises(AssertionError, match="no such room"):
        code_version("attic")
