"""Model training: feature engineering and scaling, the hyper-parameter search, the training of the network."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from petpark_assets.domain.attempts import Attempt, require_same_code
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
from petpark_assets.domain.recipes import Hyperparameters
from petpark_assets.domain.records import AttemptRecord, FeatureScaling, HyperparameterSearch, TrainedCnn, TrainSplit
from petpark_assets.domain.workflow.sides import open_side, read_manifest

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
) -> HyperparameterSearch:
    """Look for better hyperparameters than the recipe's, judged on the validation part.

    `running_ray` gives Ray for the time of the search (resources/ray_cluster.py); it is entered only when trials are
    to be run.
    """
    version, recipe = attempt.dataset_version, attempt.recipe
    if has_record(home.store, HyperparameterSearch, version, attempt.id):
        return read_record(home.store, HyperparameterSearch, version, attempt.id)
    from petpark_assets.domain.model.search import search

    require_same_code(attempt)
    with home.noting() as circumstances:
        scaling = read_record(home.store, FeatureScaling, version, attempt.id)
        data, _ = _training_data(home, attempt)
        preprocessing = features.preprocessing(scaling, recipe.resolution_px)
        folder = home.cache / "search" / attempt.id
        with nullcontext() if recipe.search.algorithm == "none" else running_ray():
            result = search(data, preprocessing, recipe, folder=folder, on_trial=on_trial)
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
        told = {"recipe": recipe.name, "seed": recipe.seed, "code_version": attempt.code_version}
        _note(home, "search_done", record, told)
        write_record(home.store, record, circumstances())
    return record


def trained_cnn(
    home: Home, attempt: Attempt, *, on_epoch: "Callable[[Epoch], None]" = lambda _epoch: None
) -> TrainedCnn:
    """Train the network with what the search chose; the best epoch by validation is kept."""
    version, recipe = attempt.dataset_version, attempt.recipe
    if has_record(home.store, TrainedCnn, version, attempt.id):
        return read_record(home.store, TrainedCnn, version, attempt.id)
    from petpark_assets.domain.model import calibration, train

    require_same_code(attempt)
    with home.noting() as circumstances:
        scaling = read_record(home.store, FeatureScaling, version, attempt.id)
        searched = read_record(home.store, HyperparameterSearch, version, attempt.id)
        hyperparameters = Hyperparameters(**searched.best_hyperparameters)
        preprocessing = features.preprocessing(scaling, recipe.resolution_px)
        data, forgotten = _training_data(home, attempt)
        fitted = train.fit(data, preprocessing, hyperparameters, seed=recipe.seed, on_epoch=on_epoch)
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
            num_parameters=fitted.num_parameters,
            epochs=tuple(_curve_point(epoch) for epoch in fitted.epochs),
            best_epoch=fitted.best_epoch,
            validation_accuracy=fitted.epochs[fitted.best_epoch - 1].validation_accuracy,
            **asdict(calibrated),
            weights=put(home.store, _weights_key(attempt, sha256(file)), file),
            forgotten=forgotten,
        )
        told = {"seed": record.seed, "code_version": attempt.code_version, "device": record.device}
        _note(home, "model_trained", record, {**told, "weights": record.weights, "libraries": library_versions()})
        write_record(home.store, record, circumstances())
    return record


def _note(home: Home, event: str, record: AttemptRecord, told: Mapping[str, Any]) -> None:
    """The event first: a crash before the record leaves it twice, never missing."""
    subject = {"dataset_version": record.dataset_version, "attempt": record.attempt, record.asset: digest(record)}
    home.ledger.append(event, {**subject, **told})


def read_weights(home: Home, attempt: Attempt, record: TrainedCnn) -> bytes:
    """The safetensors file of a trained network, checked against its record."""
    return get_verified(home.store, _weights_key(attempt, record.weights), record.weights)


def _weights_key(attempt: Attempt, digest_of_weights: str) -> str:
    """Named by content: after a crash before the record, a GPU may make other bits, and these must not conflict."""
    folder = folder_key("trained_cnn", attempt.dataset_version, attempt.id)
    return f"{folder}/weights-{digest_of_weights[:12]}.safetensors"


def _training_data(home: Home, attempt: Attempt) -> tuple["TrainingData", tuple[str, ...]]:
    """The train side, and the sha256s of its members that were forgotten."""
    from petpark_assets.domain.model.train import TrainingData
    from petpark_assets.domain.model.validation import carve_validation

    side = open_side(home, attempt.dataset_version, "train", attempt.recipe.resolution_px)
    validation = carve_validation(side.groups, side.labels, attempt.recipe.validation_share)
    return TrainingData(images=side.images, labels=side.labels, validation=validation), tuple(side.forgotten)


def _curve_point(epoch: "Epoch") -> dict[str, float]:
    """An epoch without its seconds: the same work must give the same record."""
    return {name: value for name, value in asdict(epoch).items() if name != "seconds"}
