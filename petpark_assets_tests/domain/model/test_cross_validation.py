"""A network that has learned a label believes it: every photo must be answered by one that saw no copy of it."""

from dataclasses import replace

import numpy as np

from petpark_assets.domain.files import sha256
from petpark_assets.domain.model.cross_validation import answer_fold, fold_of
from petpark_assets.domain.recipes import RECIPES
from petpark_assets_tests.domain.model.squares import PREPROCESSING, TINY

RECIPE = replace(RECIPES["demo"], hyperparameters=replace(TINY, epochs=6), resolution_px=16)


def test_copies_share_a_fold_and_the_folds_are_even():
    """By the group's name alone, so that a photo more or less moves no other."""
    groups = [sha256(b"%d" % (number // 3)) for number in range(3000)]
    folds = fold_of(groups, 3)
    assert all(len(set(folds[start : start + 3])) == 1 for start in range(0, 3000, 3))
    assert np.bincount(folds).min() > 900
    assert (fold_of(groups[:10], 3) == folds[:10]).all()


def test_a_flipped_label_is_not_believed_by_the_network_that_did_not_learn_it(data):
    """The point of it all: the answer is about the photo, not about the label it came with."""
    labels = data.labels.copy()
    labels[:4] = 1 - labels[:4]
    groups = [sha256(b"%d" % number) for number in range(len(labels))]
    is_asked = np.arange(len(labels)) < 24
    answers = answer_fold(data.images, labels, groups, is_asked, preprocessing=PREPROCESSING, recipe=RECIPE)
    assert answers.shape == (24,)
    assert ((answers[:4] >= 0.5) == data.labels[:4]).all()
    assert ((answers >= 0.5) == data.labels[:24]).mean() > 0.9
