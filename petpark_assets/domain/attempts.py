"""Attempts: a dataset version can have several models, and every one has a name that says what it was told.

Nothing is ever resolved by "latest": a step is given its attempt, or finds the only one there is.
"""

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from petpark_assets.domain.errors import Conflict, InvalidInput, NotFound
from petpark_assets.domain.files import Store, digest, list_attempts, read_record, sha256, sha256_file
from petpark_assets.domain.recipes import WEIGHTS_SUFFIXES, Choices, Range, Recipe, override
from petpark_assets.domain.records import HyperparameterSearch

DOMAIN_FOLDER = Path(__file__).parent


@functools.cache
def code_version(*rooms: str) -> str:
    """sha256 over the sources of some rooms of the domain (`lake`, `images`), of all of it when none is named.

    The packaging metadata's version would stay the same while somebody edits a checkout; this cannot.
    """
    relative = {path.relative_to(DOMAIN_FOLDER): path for path in DOMAIN_FOLDER.rglob("*")}
    sources = {name: path for name, path in relative.items() if path.suffix in {".py", ".j2"}}
    unknown = set(rooms) - {name.parts[0].removesuffix(".py") for name in sources}
    assert not unknown, f"no such room: {unknown}"
    lines = [
        f"{sha256_file(path)}  {name.as_posix()}\n"
        for name, path in sorted(sources.items())
        if not rooms or name.parts[0].removesuffix(".py") in rooms
    ]
    return sha256("".join(lines).encode())


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One way of making a model of one dataset version."""

    dataset_version: str
    recipe: Recipe
    """With every field that the run set otherwise."""
    code_version: str
    start: Mapping[str, str] = field(default_factory=dict)
    """starting_weights of the recipe when it was begun; not told where its record was read."""
    recorded_id: str | None = field(default=None, compare=False)
    """The name it was begun under, where its record was read: recipes may have got fields since."""

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits of the sha256 of everything above, the seed being the recipe's."""
        if self.recorded_id is not None:
            return self.recorded_id
        told = {
            "dataset_version": self.dataset_version,
            "recipe": self.recipe.name,
            "configuration": self.recipe,
            "seed": self.recipe.seed,
            "code_version": self.code_version,
        }
        if self.start:  # told only where there are some, so that attempts without keep the name they always had
            told["start"] = self.start
        return digest(told)[:16]


def new_attempt(dataset_version: str, recipe: Recipe) -> Attempt:
    """The attempt of this recipe with the code of this process. Raises InvalidInput as starting_weights does."""
    return Attempt(
        dataset_version=dataset_version, recipe=recipe, code_version=code_version(), start=starting_weights(recipe)
    )


def starting_weights(recipe: Recipe) -> dict[str, str]:
    """The sha256 of each file of weights that training or a trial may start from, by name.

    torchvision's own are not among them: what it has under a name never changes, and its version is pinned.
    Raises InvalidInput naming a file that cannot be read.
    """
    looked_for = recipe.search.space.get("weights")
    named = {recipe.hyperparameters.weights, *(looked_for.values if isinstance(looked_for, Choices) else ())}
    return {name: _digest_of_file(name) for name in sorted(map(str, named)) if name.endswith(WEIGHTS_SUFFIXES)}


def _digest_of_file(name: str) -> str:
    try:
        return sha256_file(Path(name))
    except OSError as error:
        raise InvalidInput(f"weights is {name!r}: it cannot be read ({error.strerror})") from error


def require_same_code(attempt: Attempt) -> None:
    """Raises Conflict when the attempt was begun by other code: what it makes now would not be what its name says."""
    if attempt.code_version != code_version():
        raise Conflict(
            f"attempt {attempt.id} of {attempt.dataset_version} was begun by code {attempt.code_version[:12]}…, this "
            f"is {code_version()[:12]}…: begin a new attempt (materialize from feature_scaling, or petpark build)"
        )


def require_same_start(attempt: Attempt) -> Mapping[str, str]:
    """starting_weights of its recipe, which whoever reads a file later holds it to; needs require_same_code.

    Raises Conflict when one is another than the attempt was begun with.
    """
    found = starting_weights(attempt.recipe)
    begun = dataclasses.replace(attempt, start=found, recorded_id=None)
    if found and begun.id != attempt.id:
        raise Conflict(
            f"attempt {attempt.id} of {attempt.dataset_version} was begun with other weights than "
            f"{' and '.join(found)} now has: put the file back, or begin a new attempt (materialize from "
            "feature_scaling)"
        )
    return found


def find_attempt(store: Store, dataset_version: str, attempt: str | None = None) -> Attempt:
    """An attempt whose search is recorded; the only one when none is named.

    Raises NotFound when there is none, InvalidInput listing them when there are several and none is named.
    """
    begun = list_attempts(store, HyperparameterSearch, dataset_version)
    known = ", ".join(begun) or "none"
    if attempt is None and len(begun) > 1:
        raise InvalidInput(f"{dataset_version} has several attempts: name one of {known} in the run's config (attempt)")
    name = attempt or (begun[0] if begun else None)
    if name not in begun:
        raise NotFound(
            f"{dataset_version} has no attempt {name or 'at all'} (there are: {known}): "
            "materialize hyperparameter_search first, or name one of these"
        )
    record = read_record(store, HyperparameterSearch, dataset_version, name)
    return Attempt(
        dataset_version=dataset_version,
        recipe=recipe_from_configuration(record.configuration),
        code_version=record.code_version,
        recorded_id=name,
    )


def recipe_from_configuration(configuration: Mapping[str, Any]) -> Recipe:
    """The recipe that was recorded as an attempt's configuration, by this code or by an older one."""
    plain = dict(configuration)
    search = dict(plain["search"])
    if "stops_early" in search:  # until schedulers had names, there was ASHA or none
        search["scheduler"] = "asha" if search.pop("stops_early") else "none"
    search["space"] = {name: as_dimension(value) for name, value in search["space"].items()}
    blank = Recipe(name="", description="", resolution_px=plain["resolution_px"])
    return override(blank, plain | {"search": search})


def as_dimension(value: Mapping[str, Any]) -> Choices | Range:
    """A dimension of a search's space, as it is recorded and as a run's config says it. Raises InvalidInput."""
    try:
        return Choices(values=_listed(value["values"])) if "values" in value else Range(**value)
    except TypeError as error:
        raise InvalidInput(f"search.space has {value!r}: give it values, or low and high (and log)") from error


def _listed(values: Any) -> tuple[Any, ...]:
    if not isinstance(values, list | tuple):
        raise TypeError("tuple() would make letters of a word")
    return tuple(values)
