"""What a search gained over the recipe's defaults on validation, and whether that is more than noise.

Not here: the search itself (model/search.py).
"""

from typing import Any

from petpark_assets.domain.records import HyperparameterSearch


def standard_error(share: float, num_images: int) -> float:
    """Standard error of a share counted on so many photos: sqrt(p (1 - p) / n)."""
    return (share * (1 - share) / num_images) ** 0.5


def search_gain(search: HyperparameterSearch) -> dict[str, Any]:
    """The gain as a share of validation photos, its standard error, and one sentence for people; ready for JSON.

    Both accuracies come from the same photos, so their errors partly cancel; as trials keep no predictions, the
    standard error is that of independent samples, which is too large rather than too small.
    """
    default, best = search.default_validation_accuracy, search.best_validation_accuracy
    facts = {"num_trials": len(search.trials), "num_validation_images": search.num_validation_images}
    if default is None or best is None:
        return facts | {"gain": None, "standard_error": None, "sentence": _nothing_compared(search)}
    num_images = search.num_validation_images
    error = (standard_error(default, num_images) ** 2 + standard_error(best, num_images) ** 2) ** 0.5
    sentence = _sentence(best - default, error, len(search.trials), num_images)
    return facts | {"gain": best - default, "standard_error": error, "sentence": sentence}


def _nothing_compared(search: HyperparameterSearch) -> str:
    if search.algorithm == "none":
        return "No search was made: the network was trained with the recipe's values, so nothing was gained or lost."
    return "The recipe's defaults or the best trial have no validation accuracy: what was gained is not known."


def _sentence(gain: float, error: float, num_trials: int, num_images: int) -> str:
    counted = f"{num_trials} trials, counted on {num_images:,} validation photos, standard error {error:.4f}"
    if gain <= 0:
        return f"The search gained nothing over the recipe's defaults ({counted})."
    size = (
        "less than one standard error: it may well be noise"
        if gain < error
        else "less than two standard errors: it may be noise"
        if gain < 2 * error
        else "more than two standard errors"
    )
    return f"The search gained {gain:.4f} over the recipe's defaults ({counted}); this is {size}."
