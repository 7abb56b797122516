"""Claims about the points a search may try: the defaults are always among them, and none can fail for its values."""

import pytest

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.model import space
from petpark_assets.domain.recipes import RECIPES, Choices, Hyperparameters, Range, Recipe, Search, override


def recipe(**domains):
    """A recipe with a learning rate of 0.01 and a batch of 64 that looks for these."""
    return Recipe(
        name="toy",
        description="",
        resolution_px=16,
        hyperparameters=Hyperparameters(learning_rate=0.01, batch_size=64, epochs=9),
        search=Search(num_trials=50, trial_epochs=3, space=domains),
    )


def test_a_grid_is_the_defaults_and_every_combination():
    """A grid that leaves a combination out answers another question than the one asked."""
    points = space.grid_points(
        recipe(learning_rate=Range(low=0.001, high=0.1, log=True), batch_size=Choices(values=(32, 128)))
    )

    assert points[0] == {"learning_rate": 0.01, "batch_size": 64}
    assert {(round(point["learning_rate"], 6), point["batch_size"]) for point in points[1:]} == {
        (0.001, 32), (0.01, 32), (0.1, 32), (0.001, 128), (0.01, 128), (0.1, 128),
    }  # fmt: skip


def test_defaults_on_the_grid_are_tried_once_and_first():
    """Trained twice, they would cost a trial and tell nothing."""
    points = space.grid_points(recipe(batch_size=Choices(values=(32, 64))))

    assert points == [{"batch_size": 64}, {"batch_size": 32}]


def test_random_points_repeat_with_the_seed_and_stay_inside():
    """A search can be done again; and a draw outside the range is one nobody asked for."""
    toy = recipe(
        learning_rate=Range(low=0.001, high=0.1, log=True),
        batch_size=Range(low=8, high=10),
        label_smoothing=Choices(values=(0.0, 0.1)),
    )
    points = space.random_points(toy)

    assert points == space.random_points(toy)
    assert len(points) == 50
    assert points[0] == space.default_values(toy)
    assert all(space.is_inside(toy, point) for point in points[1:])
    assert {point["batch_size"] for point in points[1:]} == {8, 9, 10}
    assert 0.2 < sum(point["learning_rate"] < 0.01 for point in points[1:]) / 49 < 0.8


def test_trials_are_short_and_the_final_training_is_not():
    """The winner trains on the recipe's own schedule: the trials' epochs must not leak into it."""
    toy = recipe(learning_rate=Choices(values=(0.02,)))

    assert space.trial_hyperparameters(toy, {"learning_rate": 0.02}).epochs == 3
    assert space.final_hyperparameters(toy, {"learning_rate": 0.02}) == Hyperparameters(
        learning_rate=0.02, batch_size=64, epochs=9
    )


def test_epochs_can_be_looked_for():
    """Then each trial runs the epochs it is given, and the defaults the recipe's."""
    toy = recipe(epochs=Choices(values=(2, 4)))

    assert [space.trial_hyperparameters(toy, point).epochs for point in space.grid_points(toy)] == [9, 2, 4]
    assert space.final_hyperparameters(toy, {"epochs": 2}).epochs == 2


@pytest.mark.parametrize(
    ("domains", "message"),
    [
        pytest.param({}, "space is empty", id="nothing to look for"),
        pytest.param({"architecture": Range(low=1, high=2)}, "range for architecture", id="range of words"),
        pytest.param({"batch_size": Choices(values=())}, "no values for batch_size", id="no choice"),
        pytest.param({"batch_size": Choices(values=(32, 1))}, "batch_size is 1", id="a choice that cannot be"),
        pytest.param({"batch_size": Choices(values=("64",))}, "batch_size is '64': it must be a whole", id="quotes"),
        pytest.param({"batch_size": Choices(values=(None,))}, "batch_size is None: it must be a whole", id="null"),
        pytest.param({"batch_size": Choices(values=(64, 64.5))}, "batch_size is 64.5: it must be", id="half a photo"),
        pytest.param({"epochs": Choices(values=(2.5,))}, "epochs is 2.5: it must be", id="half an epoch"),
        pytest.param({"learning_rate": Choices(values=(True,))}, "learning_rate is True: it", id="a yes for a number"),
        pytest.param({"is_compiled": Range(low=0, high=1)}, "is_compiled, which must be true or", id="range of yes"),
        pytest.param(
            {"architecture": Choices(values=("resnet19",))}, "'resnet19': choose from petnet", id="no network"
        ),
        pytest.param({"weights": Choices(values=("", "no.pth"))}, "'no.pth': it cannot be read", id="no file"),
        pytest.param({"label_smoothing": Range(low=0, high=1)}, "label_smoothing is 1", id="a bound that cannot be"),
    ],
)
def test_a_space_that_cannot_be_trained_is_refused_before_anything_starts(domains, message):
    """An hour into a search is late to learn that a value is not allowed."""
    with pytest.raises(InvalidInput, match=message):
        space.check_space(recipe(**domains))


def test_whole_numbers_will_do_for_others_and_torchvisions_weights_are_not_looked_for_on_disk():
    """What a person would write must not be refused."""
    space.check_space(
        recipe(
            learning_rate=Choices(values=(1, 0.5)),
            batch_size=Range(low=8.5, high=64),
            architecture=Choices(values=("petnet", "resnet18")),
            weights=Choices(values=("", "DEFAULT")),
        )
    )


@pytest.mark.parametrize("name", RECIPES)
def test_the_named_recipes_can_be_searched(name):
    """And the defaults lie inside their spaces, so that TPE learns from the first trial too."""
    named = RECIPES[name]
    space.check_space(named)

    assert space.is_inside(named, space.default_values(named))


def test_a_population_looks_only_for_what_a_training_can_go_on_with():
    """A batch size cannot change on the way: refused before hours are spent, with what can."""
    toy = recipe(batch_size=Choices(values=(8, 16)), learning_rate=Range(low=0.001, high=0.1))
    with pytest.raises(
        InvalidInput, match=r"batch_size, with which a training cannot go on otherwise: .* learning_rate"
    ):
        space.check_space(override(toy, {"search": {"scheduler": "pbt", "algorithm": "random"}}))
