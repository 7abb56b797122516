"""Model training: feature engineering and scaling, the hyper-parameter search, the training of the network."""

import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from petpark_assets.domain.attempts import (
    Attempt,
    code_version,
    require_same_code,
    require_same_start,
    starting_weights,
)
from petpark_assets.domain.files import (
    digest,
    folder_key,
    get_verified,
    has_record,
    put,
    read_record,
    sha256,
    write_record,
)
from petpark_assets.domain.home import Home, library_versions
from petpark_assets.domain.model import features
from petpark_assets.domain.recipes import Hyperparameters, Recipe
from petpark_assets.domain.records import AttemptRecord, FeatureScaling, HyperparameterSearch, TrainedCnn, TrainSplit
from petpark_assets.domain.workflow.sides import Side, open_side, read_manifest

if TYPE_CHECKING:
    from petpark_assets.domain.model.train import Epoch, TrainingData


def feature_scaling(home: Home, attempt: Attempt) -> FeatureScaling:
    """Measure the train side, and state the augmentation policy."""
    version = attempt.dataset_version
    with home.noting() as circumstances:
        parent = read_record(home.store, TrainSplit, version)
        record = features.feature_scaling(parent, read_manifest(home, version), attempt.id)
        write_record(home.store, record, circumstances())
    return record


def hyperparameter_search(
    home: Home,
    attempt: Attempt,
    *,
    running_ray: Callable[[], AbstractContextManager[None]],
    on_trial: Callable[[Mapping[str, Any]], None] = lambda _trial: None,
    on_epoch: Callable[[int, Mapping[str, Any]], None] = lambda _number, _point: None,
) -> HyperparameterSearch:
    """Look for better hyperparameters than the recipe's, judged on the validation part.

    Killed at any moment, the same call goes on. `running_ray` gives Ray for the time of the search
    (resources/ray_cluster.py); it is entered only when trials are to be run. `on_trial` and `on_epoch` are search's.
    """
    version, recipe = attempt.dataset_version, attempt.recipe
    if has_record(home.store, HyperparameterSearch, version, attempt.id):
        return read_record(home.store, HyperparameterSearch, version, attempt.id)
    from petpark_assets.domain.model.search import search

    require_same_code(attempt)
    require_same_start(attempt)
    with home.noting() as circumstances:
        scaling = read_record(home.store, FeatureScaling, version, attempt.id)
        side = open_side(home, version, "train", recipe.resolution_px)
        data = _as_training_data(side, recipe)
        with nullcontext() if recipe.search.algorithm == "none" else running_ray():
            result = search(
                data,
                features.preprocessing(scaling, recipe.resolution_px),
                recipe,
                folder=home.cache / "search" / _search_name(attempt, scaling, tuple(side.forgotten)),
                read_photos=partial(home.pixels.read, side.sha256s, recipe.resolution_px),
                on_trial=on_trial,
                on_epoch=on_epoch,
            )
        record = HyperparameterSearch(
            dataset_version=version,
            attempt=attempt.id,
            train_split=scaling.train_split,
            feature_scaling=digest(scaling),
            recipe=recipe.name,
            configuration=asdict(recipe),
            seed=recipe.seed,
            code_version=attempt.code_version,
            algorithm=recipe.search.algorithm,
            space={name: asdict(dimension) for name, dimension in recipe.search.space.items()},
            trials=result.trials,
            best_hyperparameters=asdict(result.best_hyperparameters),
            default_validation_accuracy=result.default_validation_accuracy,
            best_validation_accuracy=result.best_validation_accuracy,
            num_validation_images=int(data.validation.sum()),
        )
        if record.trials:
            home.registry.log_search(record)
        told = {"recipe": recipe.name, "seed": recipe.seed, "code_version": attempt.code_version}
        _note(home, "search_done", record, told)
        write_record(home.store, record, circumstances())
    return record


def _search_name(attempt: Attempt, scaling: FeatureScaling, forgotten: tuple[str, ...]) -> str:
    """Names a search by all that its trials follow from, and so by neither the run nor what comes after the search.

    So a build with another gate finds the trials that were run; one without a photo that was forgotten since does not.
    """
    recipe = attempt.recipe
    told = {
        "dataset_version": attempt.dataset_version,
        "forgotten": forgotten,
        "scaling": (scaling.channel_means, scaling.channel_deviations),
        "code_version": code_version("model", "recipes", "images", "resizing"),
        "resolution_px": recipe.resolution_px,
        "validation_share": recipe.validation_share,
        "hyperparameters": recipe.hyperparameters,
        "search": recipe.search,
        "seed": recipe.seed,
    }
    weights = starting_weights(recipe)
    if weights:  # named only where there are some, so that searches without keep the name they always had
        told["weights"] = weights
    return f"{attempt.dataset_version}-{recipe.name}-{digest(told)[:16]}"


def trained_cnn(
    home: Home, attempt: Attempt, *, on_epoch: "Callable[[Epoch], None]" = lambda _epoch: None
) -> TrainedCnn:
    """Train the network with what the search chose; the best epoch by validation is kept.

    After a kill it goes on after its last epoch, to the same bits, unless a photo was forgotten meanwhile: it is then
    trained from the start, without that photo.
    """
    version, recipe = attempt.dataset_version, attempt.recipe
    if has_record(home.store, TrainedCnn, version, attempt.id):
        return read_record(home.store, TrainedCnn, version, attempt.id)
    from petpark_assets.domain.model import calibration, train

    require_same_code(attempt)
    start = require_same_start(attempt)
    with home.noting() as circumstances:
        scaling = read_record(home.store, FeatureScaling, version, attempt.id)
        searched = read_record(home.store, HyperparameterSearch, version, attempt.id)
        hyperparameters = Hyperparameters(**searched.best_hyperparameters)
        preprocessing = features.preprocessing(scaling, recipe.resolution_px)
        data, forgotten = training_data(home, attempt)
        checkpoint = home.cache / "training" / attempt.id / "checkpoint.safetensors"
        fitted = train.fit(
            data,
            preprocessing,
            hyperparameters,
            seed=recipe.seed,
            checkpoint=checkpoint,
            start=start.get(hyperparameters.weights),
            on_epoch=on_epoch,
        )
        file, calibrated = calibration.save_calibrated(
            fitted.weights, hyperparameters, preprocessing, data, answered_accuracy=recipe.answered_accuracy
        )
        record = TrainedCnn(
            dataset_version=version,
            attempt=attempt.id,
            train_split=scaling.train_split,
            feature_scaling=digest(scaling),
            hyperparameter_search=digest(searched),
            hyperparameters=asdict(hyperparameters),
            preprocessing=asdict(preprocessing),
            seed=recipe.seed,
            device=fitted.device,
            environment=fitted.environment,
            pretrained=fitted.pretrained,
            num_parameters=fitted.num_parameters,
            epochs=tuple(_curve_point(epoch) for epoch in fitted.epochs),
            best_epoch=fitted.best_epoch,
            validation_accuracy=fitted.epochs[fitted.best_epoch - 1].validation_accuracy,
            **asdict(calibrated),
            weights=put(home.store, _weights_key(version, attempt.id, sha256(file)), file),
            forgotten=forgotten,
        )
        told = {"seed": record.seed, "code_version": attempt.code_version, "device": record.device}
        _note(home, "model_trained", record, {**told, "weights": record.weights, "libraries": library_versions()})
        write_record(home.store, record, circumstances())
        shutil.rmtree(checkpoint.parent, ignore_errors=True)  # with pieces that kills left beside it
    return record


def _note(home: Home, event: str, record: AttemptRecord, told: Mapping[str, Any]) -> None:
    """The event first: a crash before the record leaves it twice, never missing."""
    subject = {"dataset_version": record.dataset_version, "attempt": record.attempt, record.asset: digest(record)}
    home.ledger.append(event, {**subject, **told})


def read_weights(home: Home, record: TrainedCnn) -> bytes:
    """The safetensors file of a trained network, checked against its record."""
    return get_verified(
        home.store, _weights_key(record.dataset_version, record.attempt, record.weights), record.weights
    )


def _weights_key(dataset_version: str, attempt: str, digest_of_weights: str) -> str:
    """Named by content: after a crash before the record, a GPU may make other bits, and these must not conflict."""
    folder = folder_key("trained_cnn", dataset_version, attempt)
    return f"{folder}/weights-{digest_of_weights[:12]}.safetensors"


def training_data(home: Home, attempt: Attempt) -> tuple["TrainingData", tuple[str, ...]]:
    """The train side, and the sha256s of its members that were forgotten."""
    side = open_side(home, attempt.dataset_version, "train", attempt.recipe.resolution_px)
    return _as_training_data(side, attempt.recipe), tuple(side.forgotten)


def _as_training_data(side: Side, recipe: Recipe) -> "TrainingData":
    from petpark_assets.domain.model.train import TrainingData
    from petpark_assets.domain.model.validation import carve_validation

    validation = carve_validation(side.groups, side.labels, recipe.validation_share)
    return TrainingData(images=side.images, labels=side.labels, validation=validation)


def _curve_point(epoch: "Epoch") -> dict[str, float]:
    """An epoch without its seconds: the same work must give the same record."""
    return {name: value for name, value in asdict(epoch).items() if name != "seconds"}
