"""Claims about the auditor's questions: what stands behind a model or a photo, what was so when, what changed."""

import pytest

from petpark_assets.domain.audit import changes, models, photos, timeline, trail
from petpark_assets.domain.errors import InvalidInput, NotFound
from petpark_assets.domain.files import sha256
from petpark_assets.domain.lake import tombstones
from petpark_assets_tests.domain.audit.drawn_home import FIRST, REJECTED, SECOND, photo


def test_a_model_is_told_with_its_data_code_parameters_and_people(home):
    """The first question of every audit, answered from the records and the ledger alone."""
    told = models.describe_model(home, "1")
    assert (told["dataset_version"], told["attempt"], told["model_version"]) == ("v0001", FIRST, 1)
    assert (told["code_version"], told["seed"], told["device"]) == ("c" * 64, 0, "cpu")
    assert told["parameters"] == {"learning_rate": 0.01, "architecture": "petnet"}
    assert told["data"]["images"]["accepted"] == 40
    assert (told["trained_by"], told["libraries"]) == ("mia", {"torch": "2.13.0"})
    assert [row["asset"] for row in told["records"]] == list(trail.FLOW)
    assert all(row["is_whole"] for row in told["records"])


def test_a_persons_approval_stands_with_name_and_reason(home):
    """Whoever overrode the rule is asked first when something goes wrong."""
    approved = models.describe_model(home, "champion")["approved_by"]
    assert (approved["model_version"], approved["by"], approved["is_a_persons"]) == (2, "olga", True)
    assert "wrong about" in approved["because"]
    assert not models.describe_model(home, "1")["approved_by"]["is_a_persons"]


@pytest.mark.parametrize("name", ["2", "v2", "candidate", SECOND, SECOND[:8], "package", "weights", "record"])
def test_a_model_has_many_names(home, name):
    """Whatever an auditor has in hand: a number, an alias, an attempt, the digest of a file or record."""
    found = trail.read_trail(home.store, "v0002", SECOND)
    digests = {
        "package": found.package,
        "weights": sha256(f"weights {SECOND}".encode()),
        "record": found.documents["trained_cnn"].digest[:10],
    }
    assert trail.find_model(home, digests.get(name, name)).attempt == SECOND


def test_a_name_that_is_no_models_lists_what_there_is(home):
    """And 8 digits that fit nothing are refused."""
    with pytest.raises(NotFound, match="registered versions are 1, 2"):
        trail.find_model(home, "9")
    with pytest.raises(NotFound, match="begins with"):
        trail.find_model(home, "abcdef0123")
    with pytest.raises(NotFound, match="registered versions are 1, 2"):
        trail.find_model(home, "9" * 5000)  # more digits than int() takes


def test_a_digest_of_shared_data_is_refused_with_the_models_it_may_mean(home):
    """Two attempts share bytes: an answer about one of them would be a guess."""
    shared = trail.read_trail(home.store, "v0002", SECOND).content("evaluation_report")["files"]["report.json"]
    with pytest.raises(InvalidInput, match="3 models"):
        trail.find_model(home, shared)


def test_what_was_rejected_and_who_approved_is_told(home):
    """A model that never came out of the gate is part of the history."""
    told = models.rejected(home)
    assert [(row["attempt"], row["accuracy"]) for row in told["rejected"]] == [(REJECTED, 0.5)]
    assert [(row["model_version"], row["is_a_persons"]) for row in told["approved"]] == [
        (1, False), (2, True),
    ]  # fmt: skip


def test_the_champion_of_any_moment_is_told_with_the_reason(home):
    """At the microsecond of each move, and before anything was."""
    moves = [event for event in home.ledger.events() if event.event == "alias_moved"]
    for move in (move for move in moves if move.subject["alias"] == "champion"):
        champion = timeline.at(home, move.time)["champion"]
        assert (champion["model_version"], champion["because"]) == (move.subject["version"], move.subject["because"])
    before = timeline.at(home, "2020-03-03 10:00")
    assert (before["champion"], before["registered_versions"], before["last_event"]) == (None, [], 0)
    last = timeline.at(home, "2999-01-01")
    assert (last["champion"]["by"], last["newest_dataset_version"]) == ("olga", "v0002")
    assert [row["attempt"] for row in last["rejected"]] == [REJECTED]


def test_a_moment_has_an_offset_or_is_utc():
    """The same words must not mean another hour on another machine."""
    assert timeline.parse_time("2027-03-03T11:00+01:00") == timeline.parse_time("2027-03-03 10:00")
    with pytest.raises(InvalidInput, match="write it like"):
        timeline.parse_time("3 March")


def test_a_dataset_version_names_its_models(home):
    """From data to models is the other direction of the lineage."""
    told = timeline.describe_dataset(home, "v0002")
    assert [row["attempt"] for row in told["models"]] == [REJECTED, SECOND]
    assert told["previous_manifest"] == timeline.describe_dataset(home, "v0001")["manifest"]
    assert [row["event"] for row in told["events"]] == ["dataset_version_made"]


def test_a_photo_of_the_train_side_names_the_models_that_learned_from_it(home):
    """By key, sha256, first digits, and the runs of versions that say the same of it."""
    known = photo(3)
    for name in (known["key"], known["sha256"], known["sha256"][:8]):
        told = photos.describe_photo(home, name)
        assert told["sha256"] == known["sha256"]
        assert [(row["attempt"], row["side"]) for row in told["models"]] == [
            (FIRST, "train"), (REJECTED, "train"), (SECOND, "train"),
        ]  # fmt: skip
        assert [(row["first"], row["last"]) for row in told["dataset_versions"]] == [("v0001", "v0002")]


def test_a_photo_of_the_test_side_names_reports_and_predictions(home):
    """What each model said about it, and whether that was right."""
    told = photos.describe_photo(home, photo(5)["key"])
    assert {row["side"] for row in told["models"]} == {"test"}
    answers = {row["attempt"]: row for row in told["models"]}
    assert answers[FIRST]["label"] == photo(5)["label"]
    assert answers[FIRST]["is_right"] == (answers[FIRST]["predicted"] == answers[FIRST]["label"])
    assert answers[SECOND]["evaluation_report"] == trail.read_trail(home.store, "v0002", SECOND).documents[
        "evaluation_report"
    ].digest  # fmt: skip


def test_a_photo_that_changed_or_left_has_its_history(home):
    """Relabelled in the second version; gone from it; new in it."""
    relabelled = photos.describe_photo(home, photo(1)["key"])["dataset_versions"]
    assert [(row["first"], row["last"], row["label"]) for row in relabelled] == [
        ("v0001", "v0001", "cat"), ("v0002", "v0002", "dog"),
    ]  # fmt: skip
    left, new = (photos.describe_photo(home, photo(number)["key"])["dataset_versions"] for number in (2, 41))
    assert [(row["first"], row["last"]) for row in (*left, *new)] == [("v0001", "v0001"), ("v0002", "v0002")]


def test_a_photo_file_is_known_by_its_bytes(home, tmp_path):
    """An auditor has the picture, not its name in the lake."""
    file = tmp_path / "holiday.jpg"
    file.write_bytes(b"photo 3")
    assert photos.describe_photo(home, str(file))["sha256"] == photo(3)["sha256"]
    file.write_bytes(b"no photo of the lake")
    with pytest.raises(NotFound, match="no dataset version has seen"):
        photos.describe_photo(home, str(file))


def test_a_forgotten_photo_still_says_what_it_touched(copy):
    """Who asks to be forgotten may ask what had learned from it."""
    known = photo(3)
    tombstone = tombstones.Tombstone(
        sha256=known["sha256"], keys=(known["key"],), dataset_versions=("v0001", "v0002"), reason="its owner asked",
        who="mia", when="2027-01-01T00:00:00+00:00",
    )  # fmt: skip
    tombstones.write(copy.store, tombstone)
    told = photos.describe_photo(copy, known["sha256"])
    assert told["forgotten"]["reason"] == "its owner asked"
    assert len(told["models"]) == 3


def test_two_models_are_compared_by_data_parameters_metrics_and_answers(home):
    """What a person needs to know why the second one behaves otherwise."""
    told = changes.compare_models(home, "1", "2")
    assert {(row["change"], row["images"]) for row in told["data"]} >= {("removed", 1), ("relabelled", 1)}
    assert {"name": "hyperparameters.learning_rate", "before": 0.01, "after": 0.02} in told["parameters"]
    assert {"name": "accuracy", "before": 0.75, "after": 0.875} in told["metrics"]
    assert {"name": "accuracy on class cat", "before": 0.75, "after": 0.875} in told["metrics"]
    assert told["num_examined_by_both"] == 8
    assert len(told["flipped"]) == told["num_better"] + told["num_worse"] > 0


def test_a_model_compared_with_itself_has_not_changed(home):
    """Else every difference could be the comparison's."""
    told = changes.compare_models(home, "1", "1")
    assert (told["data"], told["parameters"], told["flipped"]) == ([], [], [])
