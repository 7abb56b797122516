"""Groups of copies: what stays together on one side of the exam, in this version and in all later ones.

Not here: which photos are copies (likeness.py), or which side a new group goes to (splits.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from petpark_assets.domain.lake.likeness import Pairs


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """Where photos belong."""

    group_of: dict[str, str]
    """By sha256 the name of each photo's group: the sha256 of one of its members."""
    bridges: frozenset[str]
    """Photos that would join a train group to a test group: each a group of its own, for the quarantine."""


def assign_groups(
    sha256s: Sequence[str], pairs: Pairs, known_groups: Mapping[str, str], sides: Mapping[str, str]
) -> Grouping:
    """Groups of photos from pairs int32 [M, 2] of places in `sha256s`, from the groups that were, and from sides.

    `sides`: by sha256 the side, train or test, of every photo that any version accepted; `known_groups`: the group of
    each, also of those no longer in the lake. A photo without a side is new, and judged anew in each version.
    No group is parted. Groups of one side that new photos link become one, with the smallest of their names; a group of
    new photos alone has the smallest of their sha256s. New photos are taken by their sha256: one that is linked to both
    sides is a bridge and joins neither. Of known photos of both sides that are linked (their groups were made before
    copies were looked for), the one on the test side is a bridge. The same for the same sets, whatever their order.
    """
    linked = _linked(sha256s, pairs)
    known = [one for one in linked if one in sides]
    bridges = {one for one in known if {sides[one], *map(sides.get, linked[one])} >= {"test", "train"}}
    bridges = {one for one in bridges if sides[one] == "test"}
    groups = _Groups(known_groups, sides)
    for one in known:
        if one not in bridges:
            groups.join([one, *(other for other in linked[one] if other in sides and other not in bridges)])
    placed = set(sides) - bridges
    for one in sorted(linked.keys() - sides.keys()):
        touched = [other for other in linked[one] if other in placed]
        if len(groups.sides_of(touched)) > 1:
            bridges.add(one)
        else:
            groups.join([one, *touched])
            placed.add(one)
    return Grouping(group_of=_named(sha256s, groups, bridges), bridges=frozenset(bridges))


def affected(sha256s: pa.ChunkedArray, groups: pa.ChunkedArray, pairs: Pairs) -> npt.NDArray[np.int64]:
    """Rising places of all photos whose group pairs can change: of the others `assign_groups` need not be told.

    sha256s and groups are those of the photos that have a side; later places in pairs are new photos'. With a photo of
    a pair comes all of its group, and each group that one of its names' bearers is in by now.
    """
    linked = np.unique(pairs).astype(np.int64)
    known = linked[linked < len(groups)]
    rows = np.union1d(_in_company(sha256s, groups), known)
    sha256s, groups = sha256s.take(pa.array(rows)), groups.take(pa.array(rows))
    named = pc.unique(groups)
    group = pc.index_in(groups, named).to_numpy()
    bearers = pc.index_in(named, sha256s)
    parents = pc.coalesce(pa.array(group).take(bearers), pa.array(np.arange(len(named)))).to_numpy()
    has_moved = parents != np.arange(len(parents))
    touched = np.concatenate([parents[group[np.searchsorted(rows, known)]], parents[has_moved]])
    return np.union1d(rows[np.isin(parents[group], touched)], linked)


def _in_company(sha256s: pa.ChunkedArray, groups: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Places of the photos whose group has others, or had: most are alone, and looking them all up took 40 ms more."""
    is_elsewhere = pc.not_equal(groups, sha256s)
    names = groups.filter(is_elsewhere)
    found: npt.NDArray[np.int64] = np.flatnonzero(pc.or_(is_elsewhere, pc.is_in(sha256s, names)).to_numpy())
    return found


class _Groups:
    """Sets of photos that only grow together, each with a name and, if it is known, a side.

    A forest: every group points to the one that it became part of.
    """

    def __init__(self, known_groups: Mapping[str, str], sides: Mapping[str, str]) -> None:
        self._home = {photo: known_groups.get(photo, photo) for photo in sides}
        self._known = frozenset(self._home.values())
        self._parent = {name: name for name in self._known}
        self._side = {name: sides[photo] for photo, name in self._home.items()}
        for name in self._known & self._home.keys():  # a group whose first photo has gone over to another went with it
            if self._home[name] != name:
                self._unite({self._root(name), self._root(self._home[name])})

    def name(self, photo: str) -> str:
        """The group that a photo is in; of its own until it is joined to others."""
        return self._root(self._home.get(photo, photo))

    def sides_of(self, photos: Iterable[str]) -> set[str]:
        """The sides that their groups are on."""
        return {self._side[name] for name in map(self.name, photos) if name in self._side}

    def join(self, photos: Iterable[str]) -> None:
        """Make one group of theirs, named by the smallest known name, or by the smallest where none is known."""
        self._unite({self.name(photo) for photo in photos})

    def _unite(self, names: set[str]) -> None:
        winner = min(names, key=lambda name: (name not in self._known, name))
        for name in names:
            self._parent[name] = winner

    def _root(self, name: str) -> str:
        path = []
        while (parent := self._parent.get(name, name)) != name:
            path.append(name)
            name = parent
        for passed in path:
            self._parent[passed] = name
        return name


def _linked(sha256s: Sequence[str], pairs: Pairs) -> dict[str, list[str]]:
    """By sha256 all that a photo is paired with; without those that are in no pair."""
    found: dict[str, list[str]] = {}
    for first, second in pairs.tolist():
        found.setdefault(sha256s[first], []).append(sha256s[second])
        found.setdefault(sha256s[second], []).append(sha256s[first])
    return found


def _named(sha256s: Sequence[str], groups: _Groups, bridges: set[str]) -> dict[str, str]:
    """By sha256 the name of its group; a group that bore a bridge's name takes that of its smallest photo left."""
    names = {sha256: sha256 if sha256 in bridges else groups.name(sha256) for sha256 in sha256s}
    heirs: dict[str, str] = {}
    for sha256, name in names.items():
        if name in bridges and sha256 not in bridges:
            heirs[name] = min(heirs.get(name, sha256), sha256)
    return {sha256: name if sha256 in bridges else heirs.get(name, name) for sha256, name in names.items()}
