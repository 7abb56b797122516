"""A list of doubts is only worth a person's hour if it is short, and if the wrong labels are at its top."""

import numpy as np

from petpark_assets.domain.model.confident_learning import find_label_issues


def noisy(num_images=2000, num_flipped=40):
    """Answers of a good network (about 0.93 right), and labels of which the first of each class are flipped."""
    random = np.random.default_rng(0)
    truth = (np.arange(num_images) % 2).astype(np.uint8)
    logits = (truth * 2.0 - 1) * 3 + random.normal(size=num_images) * 2
    labels = truth.copy()
    labels[:num_flipped] = 1 - labels[:num_flipped]
    return labels, 1 / (1 + np.exp(-logits))


def test_planted_flips_are_found():
    """Nearly all of them, and the reader looks at few photos for each."""
    labels, probabilities = noisy()
    found = find_label_issues(labels, probabilities)
    hits = [place for place in found if place < 40]
    assert len(hits) >= 28
    assert len(hits) / len(found) > 0.4
    assert sum(place < 40 for place in found[:20]) >= 15


def test_the_rule_is_counted_by_hand():
    """Thresholds are 0.75 for cats, 0.6 for dogs: the last dog is cat enough, the last cat not yet dog enough."""
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1], dtype=np.uint8)
    of_dog = np.array([0.1, 0.1, 0.25, 0.55, 0.9, 0.7, 0.6, 0.2])
    assert find_label_issues(labels, of_dog) == [7]
    of_dog[3] = 0.75  # then cats' threshold is 0.7, and this one reaches the dogs'
    assert find_label_issues(labels, of_dog) == [7, 3]


def test_the_least_believed_label_comes_first():
    """A person stops somewhere: what is left must be the least doubtful."""
    labels, probabilities = noisy()
    found = find_label_issues(labels, probabilities)
    confidence = np.where(labels == 1, probabilities, 1 - probabilities)[found]
    assert (np.diff(confidence) >= 0).all()
    assert (confidence < 0.5).all()


def test_a_network_that_knows_nothing_doubts_nothing_for_sure():
    """One that says 0.5 to all has no ground for any doubt; nor is one class alone a reason to fail."""
    assert find_label_issues(np.array([0, 1, 0, 1], np.uint8), np.full(4, 0.5)) == []
    assert find_label_issues(np.zeros(4, np.uint8), np.array([0.1, 0.1, 0.1, 0.95])) == []
