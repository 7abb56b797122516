"""Named recipes: what a run is told. A run is a recipe's name and, rarely, a few fields set otherwise.

Not here: how any of it is carried out (images.py, model/, report/).
"""

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from petpark_assets.domain.errors import InvalidInput

Settings = TypeVar("Settings")

ALGORITHMS = ("none", "grid", "random", "tpe")
SCHEDULERS = ("none", "asha", "pbt")
ARCHITECTURES = (
    "petnet", "resnet18", "resnet34", "resnet50", "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0",
    "efficientnet_v2_s", "regnet_y_400mf", "convnext_tiny",
)  # fmt: skip
WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt")
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _require(holds: bool, name: str, value: Any, expected: str) -> None:
    if not holds:
        raise InvalidInput(f"{name} is {value!r}: it must be {expected}")


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """What one training is told."""

    architecture: str = "petnet"
    """`petnet`, our small residual network for CPUs, or one of torchvision's by name (`resnet18`, ...)."""
    width: int = 48
    """Channels of petnet's first stage; the others are multiples of it. Ignored by torchvision's networks."""
    epochs: int = 20
    """Passes over the training photos; the learning rate anneals to zero over all of them."""
    batch_size: int = 128
    learning_rate: float = 0.04
    """The peak of the schedule: how far, for Muon, each step turns a matrix."""
    weight_decay: float = 0.02
    """Times the learning rate: the share that matrices lose a step."""
    label_smoothing: float = 0.1
    ema_decay: float = 0.99
    """Of the exponential moving average of the weights, a step."""
    crop_scale_min: float = 0.4
    """Smallest share of a photo's area that a random crop keeps."""
    first_resolution_share: float = 0.57
    """Side of the first epoch's crops as a share of the resolution photos are answered at."""
    last_resolution_share: float = 0.86
    """The same of the last epoch; the side grows evenly between. Below 1, crops show a pet as large as answers do."""
    colour_jitter: float = 0.0
    """Brightness, contrast and saturation of a crop are each multiplied by 1, more or less up to this."""
    hidden_share_max: float = 0.0
    """Largest share of a crop's area that a grey rectangle hides, in half of the crops."""
    weights: str = ""
    """Weights to start from: a file (.safetensors, .pth), or torchvision's own by name (`DEFAULT`); none: random."""
    is_deterministic: bool = True
    """Whether the same training gives the same bits on the same GPU; on CPUs it does anyway."""
    is_compiled: bool = False
    """Whether torch compiles the network on a GPU: fused kernels, for some seconds of compiling a resolution."""

    def __post_init__(self) -> None:
        _require(self.width >= 2, "width", self.width, "at least 2")
        _require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        _require(self.batch_size >= 2, "batch_size", self.batch_size, "at least 2")
        _require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        _require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "0 up to 1")
        _require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "0 up to 1")
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        _require(0 < self.crop_scale_min <= 1, "crop_scale_min", self.crop_scale_min, "above 0, at most 1")
        _require(0 <= self.colour_jitter < 1, "colour_jitter", self.colour_jitter, "0 up to 1")
        _require(0 <= self.hidden_share_max < 1, "hidden_share_max", self.hidden_share_max, "0 up to 1")
        for name in ("first_resolution_share", "last_resolution_share"):
            share = getattr(self, name)
            _require(0 < share <= 1, name, share, "above 0, at most 1")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """A hyperparameter that takes one of some values."""

    values: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Range:
    """A hyperparameter between two numbers, both included; `log` draws its logarithm evenly."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            _require(_is_finite(getattr(self, name)), name, getattr(self, name), KINDS[float])
        _require(isinstance(self.log, bool), "log", self.log, KINDS[bool])
        _require(self.low < self.high, "low", self.low, f"below high ({self.high})")
        _require(not self.log or self.low > 0, "low", self.low, "above 0 for a logarithmic range")


@dataclass(frozen=True, kw_only=True)
class Search:
    """How hyperparameters are looked for. The first trial is always the recipe's defaults."""

    algorithm: str = "tpe"
    """`none` (train with the recipe's values), `grid`, `random` or `tpe` (Optuna's)."""
    num_trials: int = 8
    """Ignored by `grid`, which tries every combination (a range at its low, middle and high)."""
    trial_epochs: int = 3
    """A trial's whole schedule, annealed to zero like the final training's."""
    photos_share: float = 1.0
    """Of the photos to learn from, those that a trial learns from; all of the validation part judges it."""
    scheduler: str = "asha"
    """`none`: every trial has its whole schedule. `asha`: one that is behind the others at an equal share of its own
    schedule is stopped. `pbt`, population-based training: now and then the worst take over the weights of the best,
    and go on with hyperparameters near theirs; its trials, `random` or `grid`, take turns and are never repeatable."""
    max_concurrent_trials: int = 1
    """One at a time makes the search repeatable; trials then share nothing and wait for nothing."""
    cpus_per_trial: int = 2
    gpus_per_trial: float = 1.0
    """Of each worker: a share of a GPU. Four run on one with 0.25 here and 4 `max_concurrent_trials`; without a GPU the
    trial runs on the CPU."""
    workers_per_trial: int = 1
    """Processes that train one trial together, each on its part of every batch and on `cpus_per_trial` cores."""
    time_budget_s: float | None = None
    """No new trial starts after this many seconds, of all processes that worked at it; None sets no limit."""
    space: Mapping[str, Choices | Range] = field(default_factory=dict)
    """By name of the hyperparameter."""

    def __post_init__(self) -> None:
        _require(self.algorithm in ALGORITHMS, "algorithm", self.algorithm, f"one of {', '.join(ALGORITHMS)}")
        _require(self.num_trials >= 1, "num_trials", self.num_trials, "at least 1")
        _require(self.trial_epochs >= 1, "trial_epochs", self.trial_epochs, "at least 1")
        _require(self.scheduler in SCHEDULERS, "scheduler", self.scheduler, f"one of {', '.join(SCHEDULERS)}")
        is_torn = self.scheduler == "pbt" and self.algorithm == "tpe"
        _require(not is_torn, "algorithm", self.algorithm, "random or grid: the scheduler pbt proposes by itself")
        _require(
            self.scheduler != "pbt" or self.trial_epochs >= 2, "trial_epochs", self.trial_epochs, "2 or more with pbt"
        )
        _require(self.workers_per_trial >= 1, "workers_per_trial", self.workers_per_trial, "at least 1")
        num_gpus = self.gpus_per_trial * self.workers_per_trial
        is_whole = num_gpus <= 1 or num_gpus == int(num_gpus)
        _require(is_whole, "gpus_per_trial", self.gpus_per_trial, "at most 1, or whole, times workers_per_trial")
        _require(0 < self.photos_share <= 1, "photos_share", self.photos_share, "above 0, at most 1")
        _require(self.max_concurrent_trials >= 1, "max_concurrent_trials", self.max_concurrent_trials, "at least 1")
        _require(self.cpus_per_trial >= 0, "cpus_per_trial", self.cpus_per_trial, "0 or more")
        _require(self.gpus_per_trial >= 0, "gpus_per_trial", self.gpus_per_trial, "0 or more")
        known = {item.name for item in dataclasses.fields(Hyperparameters)}
        for name in self.space:
            _require(name in known, "space", name, f"a hyperparameter: {', '.join(sorted(known))}")


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What the test side's point estimates must reach for a model to be packaged and registered."""

    accuracy: float = 0.97
    precision: float = 0.95
    """Of each class."""
    recall: float = 0.95
    """Of each class."""

    def __post_init__(self) -> None:
        for name in ("accuracy", "precision", "recall"):
            value = getattr(self, name)
            _require(0 <= value <= 1, name, value, "a share from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything a build is told, from the photos' resolution to the gate."""

    name: str
    description: str
    resolution_px: int
    """Side of the square that each photo is resized to, once."""
    validation_share: float = 0.1
    """Part of the train side that chooses hyperparameters, the best epoch, temperature, threshold and int8."""
    answered_accuracy: float = 0.99
    """What those not called unknown should reach: the threshold is the lowest at which the validation part shows that
    they do, with a confidence of 95 %."""
    hyperparameters: Hyperparameters = Hyperparameters()
    search: Search = Search()
    targets: Targets = Targets()
    seed: int = 0

    def __post_init__(self) -> None:
        _require(16 <= self.resolution_px <= 512, "resolution_px", self.resolution_px, "from 16 to 512")
        _require(0 < self.validation_share < 0.5, "validation_share", self.validation_share, "above 0, below 0.5")
        _require(
            0.5 <= self.answered_accuracy <= 1, "answered_accuracy", self.answered_accuracy, "a share from 0.5 to 1"
        )
        _require(self.seed >= 0, "seed", self.seed, "0 or more")


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="demo",
            description="A drawn lake of a few hundred pictures, in seconds: shows every step, promises nothing.",
            resolution_px=48,
            # Few photos and so few steps: small batches, hardly any cropping (ears are what tells), no growing.
            hyperparameters=Hyperparameters(
                width=8, epochs=20, batch_size=16, ema_decay=0.9, crop_scale_min=0.8,
                first_resolution_share=1.0, last_resolution_share=1.0,
            ),
            search=Search(
                num_trials=4, trial_epochs=5, cpus_per_trial=1,
                space={"learning_rate": Range(low=0.02, high=0.08, log=True)},
            ),
            # 80 test photos: one standard error is 2.4 points, so that 0.95 would miss 0.9 by chance now and then.
            targets=Targets(accuracy=0.85, precision=0.8, recall=0.8),
            answered_accuracy=0.8,  # 32 validation photos can show no more
        ),
        Recipe(
            name="laptop",
            description="Real photos on 2 CPU cores without a GPU, in 30 to 45 minutes.",
            resolution_px=112,
            hyperparameters=Hyperparameters(),
            # With half of the photos trials took 10 of 46 minutes on cores without AVX-512, and gained nothing.
            search=Search(trial_epochs=2, photos_share=0.25, space={
                "learning_rate": Range(low=0.02, high=0.08, log=True),
                "label_smoothing": Choices(values=(0.05, 0.1)),
            }),
            targets=Targets(accuracy=0.94, precision=0.92, recall=0.92),
            answered_accuracy=0.98,
        ),
        Recipe(
            name="gpu",
            description="Real photos on one GPU: the full promise of 0.97.",
            resolution_px=176,
            hyperparameters=Hyperparameters(
                width=128, epochs=80, batch_size=256, ema_decay=0.998, crop_scale_min=0.3, colour_jitter=0.2,
                hidden_share_max=0.25, is_compiled=True,
            ),
            search=Search(
                num_trials=16, trial_epochs=15, max_concurrent_trials=4, gpus_per_trial=0.25, cpus_per_trial=1,
                space={"learning_rate": Range(low=0.02, high=0.08, log=True)},
            ),
        ),
    )
}  # fmt: skip


def of_kind(current: Any, value: Any, name: str) -> Any:
    """The value, refused where it is not of the kind of the current one: 2.5 epochs, a rate in quotes."""
    if isinstance(current, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(current, (bool, int, float, str)) and type(value) is not type(current):
        raise InvalidInput(f"{name} is {value!r}: it must be {KINDS[type(current)]}, like {current!r}")
    return value


def find_recipe(name: str) -> Recipe:
    """A recipe by its name. Raises InvalidInput listing the names there are."""
    if name not in RECIPES:
        raise InvalidInput(f"there is no recipe {name!r}: choose one of {', '.join(RECIPES)}")
    return RECIPES[name]


def override(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """A copy with some fields set otherwise, nested ones too. Raises InvalidInput on a field it does not have.

    >>> override(RECIPES["demo"], {"targets": {"accuracy": 0.5}}).targets.accuracy
    0.5
    """
    fields = {item.name for item in dataclasses.fields(settings)}  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(fields))}"
            raise InvalidInput(f"{type(settings).__name__} has no field {name!r}: {hint}")
        current = getattr(settings, name)
        is_nested = dataclasses.is_dataclass(current) and isinstance(value, Mapping)
        changes[name] = override(current, value) if is_nested else of_kind(current, value, name)
    return dataclasses.replace(settings, **changes)  # type: ignore[type-var]
