"""Claims about groups: what is linked stays together for ever, and nothing joins a train group to a test group."""

import itertools
import random

import numpy as np
import pyarrow as pa
import pytest

from petpark_assets.domain.files import sha256
from petpark_assets.domain.lake.groups import affected, assign_groups


def pairs_of(names, *linked):
    """Places in `names` of pairs of names."""
    return np.array([sorted(map(names.index, pair)) for pair in linked], np.int32).reshape(-1, 2)


def grouped(names, linked=(), known=None, sides=None):
    """Groups of photos named by letters; known ones are in groups of their own unless said."""
    sides = sides or {}
    return assign_groups(names, pairs_of(names, *linked), {name: name for name in sides} | (known or {}), sides)


def test_new_photos_are_named_by_the_smallest_of_them():
    """The name is in the manifest: it must follow from the photos alone."""
    found = grouped(list("dbcaxy"), ["dc", "cb", "xy"])
    assert found.group_of == {"a": "a", "b": "b", "c": "b", "d": "b", "x": "x", "y": "x"}
    assert found.bridges == frozenset()


def test_a_new_photo_joins_the_group_of_its_copy():
    """It then goes to the side where its copy was learned or examined."""
    found = grouped(list("pqa"), ["qa"], known={"q": "p", "p": "p"}, sides={"p": "test", "q": "test"})
    assert found.group_of == {"p": "p", "q": "p", "a": "p"}


def test_groups_of_one_side_that_a_new_photo_links_become_one():
    """It is a copy of both, so they are copies of each other, and stay together from now on."""
    known = {"p": "p", "q": "p", "r": "r", "s": "r"}
    found = grouped(list("pqrsa"), ["qa", "as"], known, dict.fromkeys("pqrs", "train"))
    assert set(found.group_of.values()) == {"p"}
    assert found.bridges == frozenset()


def test_a_new_photo_that_is_a_copy_of_both_sides_is_a_bridge():
    """On either side it would be examined after it was learned."""
    found = grouped(list("pqa"), ["pa", "qa"], sides={"p": "train", "q": "test"})
    assert found.bridges == {"a"}
    assert found.group_of == {"p": "p", "q": "q", "a": "a"}


def test_a_chain_of_new_photos_between_the_sides_is_cut_at_one():
    """Photos are taken by name: the first joins its side, and the one that would close the chain is the bridge."""
    found = grouped(list("pqabc"), ["pa", "ab", "bc", "cq"], sides={"p": "train", "q": "test"})
    assert found.bridges == {"c"}
    assert found.group_of == {"p": "p", "a": "p", "b": "p", "c": "c", "q": "q"}


def test_a_bridge_holds_nothing_together():
    """It is in quarantine: its other copies must not be dragged to a side by it, nor follow it into quarantine."""
    found = grouped(list("pqaz"), ["pa", "qa", "az"], sides={"p": "train", "q": "test"})
    assert found.bridges == {"a"}
    assert found.group_of["z"] == "z"


def test_a_bridge_is_judged_anew_and_the_same_in_the_next_version():
    """It has no side, so no version may take it for known; not even when one of the sides has left the lake."""
    known = {"p": "p", "q": "q", "a": "a"}
    sides = {"p": "train", "q": "test"}
    again = assign_groups(list("pqa"), pairs_of(list("pqa"), "pa", "qa"), known, sides)
    assert again.bridges == {"a"}


def test_known_copies_on_both_sides_cost_the_test_side_its_photo():
    """Such are in homes that are older than groups: what was learned cannot be unlearned."""
    sides = {"p": "train", "q": "test", "r": "test"}
    found = grouped(list("pqra"), ["pq", "qr", "ra"], sides=sides)
    assert found.bridges == {"q"}
    assert found.group_of == {"p": "p", "q": "q", "r": "r", "a": "r"}


def test_a_group_whose_name_belongs_to_a_bridge_takes_another():
    """Else the quarantined photo and those that stay would look like one group."""
    known = {"p": "p", "q": "q", "r": "q", "s": "q"}
    sides = {"p": "train", "q": "test", "r": "test", "s": "test"}
    found = grouped(list("pqrs"), ["pq"], known, sides)
    assert found.bridges == {"q"}
    assert found.group_of == {"p": "p", "q": "q", "r": "r", "s": "r"}


def test_a_photo_that_comes_back_is_in_the_group_that_its_own_became_part_of():
    """It was away while its group was joined to another: history has it under the old name."""
    known = {"p": "p", "r": "p", "s": "r"}  # r's group went over to p's when s was not in the lake
    found = grouped(list("prs"), known=known, sides=dict.fromkeys("prs", "train"))
    assert found.group_of == {"p": "p", "r": "p", "s": "p"}


def history_of(seed, order_seed):
    """Five versions of one random lake: photos come, are linked at random, and their groups take sides."""
    rng, order = random.Random(seed), random.Random(order_seed)  # noqa: S311  no secret
    names = [sha256(f"{seed} {number}".encode()) for number in range(300)]
    linked = {tuple(sorted(rng.sample(range(300), 2))) for _ in range(150)}
    known, sides, versions = {}, {}, []
    for size in (100, 150, 200, 250, 300):
        new = [name for name in names[:size] if name not in sides]
        listed = order.sample([*sides, *new], len(sides) + len(new))
        place = {name: number for number, name in enumerate(listed)}
        pairs = [sorted((place[names[i]], place[names[j]])) for i, j in linked if j < size]
        pairs = np.array(order.sample(pairs, len(pairs)), np.int32).reshape(-1, 2)
        found = assign_groups(listed, pairs, known, sides)
        versions.append((found, {(names[i], names[j]) for i, j in linked if j < size}))
        for name in sorted(set(listed) - found.bridges):
            group = found.group_of[name]
            sides[name] = sides.get(name) or sides.get(group) or ("test" if int(group[-1], 16) < 3 else "train")
            known[name] = group
    return versions, sides


@pytest.mark.parametrize("seed", range(8))
def test_over_many_versions_no_copies_are_ever_on_two_sides(seed):
    """This is what groups are for: of every linked pair either both are on one side, or one is in quarantine."""
    versions, sides = history_of(seed, 0)
    assert any(found.bridges for found, _ in versions)
    for found, linked in versions:
        for one, other in linked:
            if not {one, other} & found.bridges:
                assert found.group_of[one] == found.group_of[other]
                assert sides[one] == sides[other]
    for (before, _), (after, _) in itertools.pairwise(versions):
        families = {}
        for name in set(before.group_of) - before.bridges:
            families.setdefault(before.group_of[name], set()).add(after.group_of[name])
        assert all(len(family) == 1 for family in families.values())


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_listing_does_not_matter(seed):
    """The same history of versions must give the same groups from a folder, from a bucket, and from many workers."""
    (first, _), (second, _) = history_of(seed, 1), history_of(seed, 2)
    assert [found for found, _ in first] == [found for found, _ in second]


@pytest.mark.parametrize("seed", range(20))
def test_groups_of_the_affected_alone_are_their_groups_among_all(seed):
    """A version of 100,000 photos asks about the few that new ones have to do with; the others stay where they were.

    Photos that are away keep the group that they had, as history does, so names of groups lead on to other groups.
    """
    rng = random.Random(seed)  # noqa: S311  no secret
    known, sides, num_spared = {}, {}, 0
    for version in range(6):
        settled = sorted(known)
        names = [*settled, *sorted(sha256(f"{seed} {version} {number}".encode()) for number in range(40))]
        pairs = [sorted(rng.sample(range(len(names)), 2)) for _ in range(12)]
        pairs = np.unique(
            np.array([pair for pair in pairs if pair[1] >= len(settled)], np.int32).reshape(-1, 2), axis=0
        )
        everybody = assign_groups(names, pairs, known, sides)
        texts = (pa.chunked_array([pa.array(values, pa.string())]) for values in (settled, map(known.get, settled)))
        places = affected(*texts, pairs)
        some = [names[place] for place in places]
        named = {name: known[name] for name in some if name in known}
        found = assign_groups(some, np.searchsorted(places, pairs), named, {name: sides[name] for name in named})
        assert found.bridges == everybody.bridges
        assert {name: known.get(name, name) for name in names} | found.group_of == everybody.group_of
        num_spared += len(names) - len(some)
        for name in names:
            group = everybody.group_of[name]
            if name not in everybody.bridges and (name not in known or rng.random() < 0.5):
                sides[name] = sides.get(name) or sides.get(group) or rng.choice(["train", "test"])
                known[name] = group
    assert num_spared > 0


def test_long_chains_of_photos_are_one_group():
    """A thousand frames in which each is like the next: the forest must not recurse into them."""
    names = [f"{number:05d}" for number in range(20_000)]
    pairs = np.stack([np.arange(19_999), np.arange(1, 20_000)], axis=1).astype(np.int32)
    assert set(assign_groups(names, pairs, {}, {}).group_of.values()) == {"00000"}
