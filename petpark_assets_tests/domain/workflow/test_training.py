"""Claims about trainings in a home: what bears an attempt's name was made as that attempt was told."""

import pytest

from petpark_assets.domain.attempts import find_attempt, new_attempt
from petpark_assets.domain.errors import Conflict
from petpark_assets.domain.files import sha256_file
from petpark_assets.domain.lake.drawn import draw_lake
from petpark_assets.domain.workflow import training
from petpark_assets_tests.domain.workflow.test_replay import prepare, write_start


def test_a_training_never_starts_from_another_file_than_its_attempt_was_begun_with(tmp_path):
    """The network would bear the name of one that nobody has trained; begun anew, it has a name of its own."""
    lake, start = tmp_path / "lake", tmp_path / "start.safetensors"
    draw_lake(lake, num_images=60)
    write_start(start, seed=0)
    home, attempt = prepare(tmp_path / "home", lake, weights=str(start))
    write_start(start, seed=1)
    for told in (attempt, find_attempt(home.store, "v0001", attempt.id)):
        with pytest.raises(Conflict, match="put the file back"):
            training.trained_cnn(home, told)
    again = new_attempt("v0001", attempt.recipe)
    training.feature_scaling(home, again)
    training.hyperparameter_search(home, again, running_ray=pytest.fail)
    assert training.trained_cnn(home, again).pretrained == sha256_file(start)
