"""What a search gained over the recipe's defaults on validation, and whether that is more than noise.

Not here: the search itself (model/search.py).
"""

import math
from typing import Any

from petpark_assets.domain.records import HyperparameterSearch


def standard_error(share: float, num_images: int) -> float:
    """Standard error of a share counted on so many photos: sqrt(p (1 - p) / n)."""
    return math.sqrt(share * (1 - share) / num_images)


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
    error = math.hypot(standard_error(default, num_images), standard_error(best, num_images))
    sentence = f"{_size(default, best, len(search.trials))} {_certainty(best - default, error, num_images)}"
    if best > default:
        sentence += " The best trial was chosen on these very photos, which flatters it."
    return facts | {"gain": best - default, "standard_error": error, "sentence": sentence}


def _nothing_compared(search: HyperparameterSearch) -> str:
    if search.algorithm == "none":
        return "No search was made: the network was trained with the recipe's values, so nothing was gained or lost."
    return "The recipe's defaults or the best trial have no validation accuracy: what was gained is not known."


def _size(default: float, best: float, num_trials: int) -> str:
    gained = f"gained {best - default:.4f}" if best > default else "gained nothing"
    seen = f"defaults {default:.4f}, best of {num_trials} trials {best:.4f}"
    return f"The search {gained} over the recipe's defaults ({seen})."


def _certainty(gain: float, error: float, num_images: int) -> str:
    counted = f"Counted on {num_images:,} validation photos, such a difference has a standard error of {error:.4f}"
    if gain <= 0:
        return f"{counted}."
    if gain < error:
        return f"{counted}: the gain is smaller than that, and may well be noise."
    if gain < 2 * error:
        return f"{counted}: the gain is less than twice that, and may be noise."
    return f"{counted}: the gain is more than twice that."
