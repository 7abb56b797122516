"""How sure a share is that was counted on some photos: Wilson's intervals, which scikit-learn has not."""

from statistics import NormalDist

CONFIDENCE = 0.95


def wilson_interval(num_successes: int, num_trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval of a share, 0 to 1; (0, 1) when nothing was tried.

    It stays inside 0 to 1 and is honest near both ends, where the usual p +- 1.96 deviations is not.
    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the American
    Statistical Association 22 (1927), 209-212; formula (4) of L. D. Brown, T. T. Cai and A. DasGupta, "Interval
    estimation for a binomial proportion", Statistical Science 16 (2001), 101-133.
    """
    if num_trials == 0:
        return 0.0, 1.0
    z_squared = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    share = num_successes / num_trials
    centre = (share + z_squared / (2 * num_trials)) / (1 + z_squared / num_trials)
    half_width = (z_squared * (share * (1 - share) + z_squared / (4 * num_trials)) / num_trials) ** 0.5
    half_width /= 1 + z_squared / num_trials
    return max(0.0, centre - half_width), min(1.0, centre + half_width)


def f1_interval(true_positives: int, false_positives: int, false_negatives: int) -> tuple[float, float]:
    """Wilson's interval for F1, through the share that F1 rises with: J = TP / (TP + FP + FN), F1 = 2J / (1 + J).

    The "Wilson indirect" method of K. F. Y. Lam, V. Gopal and J. Qian, "Confidence intervals for the F1 score: a
    comparison of four methods" (2023), arXiv:2309.14621.
    """
    low, high = wilson_interval(true_positives, true_positives + false_positives + false_negatives)
    return 2 * low / (1 + low), 2 * high / (1 + high)
