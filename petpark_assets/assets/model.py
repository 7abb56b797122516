"""The CNN: the scaling of its inputs, the search for its hyperparameters, and its training."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from petpark_assets.assets import progress
from petpark_assets.assets.metadata import OWNERS, materialized, picture, table
from petpark_assets.assets.versions import DATASET_VERSIONS, run_attempt
from petpark_assets.domain.attempts import code_version
from petpark_assets.domain.workflow import training
from petpark_assets.resources.home import PetparkHome
from petpark_assets.resources.ray_cluster import RayCluster
from petpark_assets.resources.ray_jobs import RayJobs
from petpark_assets.resources.recipe import RunRecipe
from petpark_assets.resources.retries import tried_again

if TYPE_CHECKING:
    from petpark_assets.domain.model.train import Epoch

TRAINING_POOL = "training"
"""One training at a time on one machine: dagster.yaml gives the pool its slots."""


@dg.asset(
    partitions_def=DATASET_VERSIONS,
    deps=["train_split"],
    group_name="training",
    kinds={"python", "numpy"},
    owners=OWNERS,
    code_version=code_version("model")[:12],
)
@tried_again
def feature_scaling(
    context: dg.AssetExecutionContext, home: PetparkHome, recipe: RunRecipe
) -> dg.MaterializeResult[None]:
    """Feature engineering and scaling: channel means and deviations, brightness, sharpness, and the augmentation.

    Measured on the train side only. This record travels with the weights into the ONNX graph.
    """
    opened = home.open(context.run)
    attempt = run_attempt(context, opened, recipe)
    record = training.feature_scaling(opened, attempt)
    channels = zip(("red", "green", "blue"), record.channel_means, record.channel_deviations, strict=True)
    return materialized(
        opened,
        record,
        {
            "attempt": attempt.id,
            "channels": table({"channel": name, "mean": mean, "deviation": sd} for name, mean, sd in channels),
            "photos": table({"measure": name, **getattr(record, name)} for name in ("brightness", "sharpness")),
            "augmentation": table({"step": step, "policy": words} for step, words in record.augmentation.items()),
        },
    )


@dg.asset(
    partitions_def=DATASET_VERSIONS,
    deps=["train_split", feature_scaling],
    group_name="training",
    kinds={"ray", "optuna", "pytorch"},
    owners=OWNERS,
    code_version=code_version("model", "recipes", "images")[:12],
    pool=TRAINING_POOL,
)
@tried_again
def hyperparameter_search(
    context: dg.AssetExecutionContext,
    home: PetparkHome,
    recipe: RunRecipe,
    ray_cluster: RayCluster,
    ray_jobs: RayJobs,
) -> dg.MaterializeResult[None]:
    """Ray Tune looks for better hyperparameters than the recipe's, on short schedules.

    The judge is the validation part of the train side. The first trial is always the recipe's defaults, so that the
    gain is known.
    """
    from petpark_assets.domain.report import search_pictures
    from petpark_assets.domain.report.gain import search_gain

    opened = home.open(context.run)
    attempt = run_attempt(context, opened, recipe)
    live = progress.SearchProgress(attempt.recipe)

    def on_trial(trial: Mapping[str, Any]) -> None:
        live.ended(trial)
        context.log.info(_trial_line(trial, attempt.recipe.search.space))

    def on_epoch(number: int, point: Mapping[str, Any]) -> None:
        live.epoch(number, point)
        context.log.info(_trial_epoch_line(number, point))

    record = ray_jobs.hyperparameter_search(
        opened,
        attempt,
        running_ray=ray_cluster.running,
        on_trial=on_trial,
        on_epoch=on_epoch,
        on_line=context.log.debug,
    )
    return materialized(
        opened,
        record,
        {
            "attempt": attempt.id,
            "recipe": record.recipe,
            "space": table(_space_row(name, dimension) for name, dimension in record.space.items()),
            "trials": table(_trial_row(trial, record.space) for trial in record.trials),
            "parallel_coordinates": picture(search_pictures.parallel_coordinates(record.trials, record.space), "space"),
            "learning_curves": picture(search_pictures.learning_curves(record.trials), "learning curves"),
            "best_hyperparameters": dg.MetadataValue.json(dict(record.best_hyperparameters)),
            "gain_on_validation": search_gain(record)["sentence"],
        },
    )


@dg.asset(
    partitions_def=DATASET_VERSIONS,
    deps=["train_split", feature_scaling, hyperparameter_search],
    group_name="training",
    kinds={"pytorch"},
    owners=OWNERS,
    code_version=code_version("model", "recipes", "images")[:12],
    pool=TRAINING_POOL,
)
@tried_again
def trained_cnn(
    context: dg.AssetExecutionContext, home: PetparkHome, recipe: RunRecipe, ray_jobs: RayJobs
) -> dg.MaterializeResult[None]:
    """The convolutional network, trained on the train side with what the search chose, as safetensors.

    The epoch that did best on the validation part is kept.
    """
    from petpark_assets.domain.report import figures

    opened = home.open(context.run)
    attempt = run_attempt(context, opened, recipe)

    def log_epoch(epoch: "Epoch") -> None:
        words = f"epoch {epoch.number} of {epoch.num_epochs}, accuracy {epoch.validation_accuracy:.4f}"
        progress.tell("training", done=epoch.number, total=epoch.num_epochs, words=words)
        context.log.info(
            f"epoch {epoch.number} of {epoch.num_epochs}: training loss {epoch.train_loss:.4f}, "
            f"validation accuracy {epoch.validation_accuracy:.4f}, {epoch.seconds:.0f} s"
        )

    record = ray_jobs.trained_cnn(opened, attempt, on_epoch=log_epoch, on_line=context.log.debug)
    return materialized(
        opened,
        record,
        {
            "attempt": attempt.id,
            "validation_accuracy": record.validation_accuracy,
            "best_epoch": record.best_epoch,
            "temperature": record.temperature,
            "unknown_below": record.unknown_below,
            "num_parameters": record.num_parameters,
            "device": record.device,
            "environment": dg.MetadataValue.json(dict(record.environment)),
            "hyperparameters": dg.MetadataValue.json(dict(record.hyperparameters)),
            "learning_curve": picture(figures.learning_curve(record.epochs, record.best_epoch), "learning curve"),
        },
    )


def _space_row(name: str, dimension: Mapping[str, Any]) -> dict[str, Any]:
    """One hyperparameter and where it is looked for."""
    if "values" in dimension:
        return {"hyperparameter": name, "tried": ", ".join(map(str, dimension["values"])), "drawn": "one of these"}
    drawn = "evenly by its logarithm" if dimension["log"] else "evenly"
    return {"hyperparameter": name, "tried": f"{dimension['low']} to {dimension['high']}", "drawn": drawn}


def _trial_row(trial: Mapping[str, Any], space: Mapping[str, Any]) -> dict[str, Any]:
    """A trial with what was searched; without the hyperparameters that all trials share, and its curve, a picture."""
    return {name: value for name, value in trial.items() if name not in {"hyperparameters", "curve"}} | _searched(
        trial, space
    )


def _searched(trial: Mapping[str, Any], space: Mapping[str, Any]) -> dict[str, Any]:
    return {name: trial["hyperparameters"][name] for name in space}


def _trial_line(trial: Mapping[str, Any], space: Mapping[str, Any]) -> str:
    accuracy = trial["validation_accuracy"]
    came_to = "nothing" if accuracy is None else f"validation accuracy {accuracy:.4f}"
    words = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in _searched(trial, space).items()
    )
    why = f": {trial['error']}" if "error" in trial else ""
    return f"trial {trial['number']} came to {came_to} in {trial['schedule_share']:.0%} of its schedule ({words}){why}"


def _trial_epoch_line(number: int, point: Mapping[str, Any]) -> str:
    return (
        f"trial {number}, epoch {point['epoch']}: training loss {point['train_loss']:.4f}, "
        f"validation loss {point['validation_loss']:.4f}, validation accuracy {point['validation_accuracy']:.4f}"
    )
