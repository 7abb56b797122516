"""What becomes of each photo of the lake: accepted with a group and a side, a duplicate, or quarantined with a reason.

Columns in, a manifest's columns out; nothing is read or written. The order of the rules:
  1. bytes: unreadable, forgotten, or refused by the decoder       3. the same bytes: duplicates, conflicts
  2. labels: none, unknown, conflicting                            4. near-duplicates: groups, bridges, sides
Not here: what sources say (labels.py), what copies are (groups.py), the rule of the sides (splits.py, handed in).
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from petpark_assets.domain import images
from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.lake import catalogue, groups, history, likeness
from petpark_assets.domain.lake.catalogue import ACCEPTED, DUPLICATE, QUARANTINED
from petpark_assets.domain.lake.labels import Judgement
from petpark_assets.domain.lake.memory import give_back_what_is_free
from petpark_assets.domain.lake.survey import Survey
from petpark_assets.domain.records import LABELS

AssignSplits = Callable[[pa.Table, pa.Table], pa.Array]
"""From photos (sha256, label, group) and the sides that were given before (sha256, split): the side of each photo."""
Texts = npt.NDArray[np.object_]
"""[N] of strings, or None."""

SIDES = ("train", "test")
MIN_PHOTOS_A_CLASS = 5
"""The fewest that 80/20 divides: four to train on, one to test."""


@dataclass(kw_only=True)
class _Verdicts:
    """Columns that are decided here, a place for each row."""

    label: Texts
    label_source: Texts
    claims: pa.Array
    reason: Texts
    detail: Texts
    state: Texts
    group: pa.Array
    split: Texts

    def quarantine(self, row: int, reason: str, detail: str | None) -> None:
        """Set a photo aside."""
        self.state[row], self.reason[row] = QUARANTINED, reason
        self.detail[row] = detail or images.QUARANTINE_REASONS[reason]

    def accepted(self) -> npt.NDArray[np.int64]:
        """The rows that are accepted, as it stands."""
        return np.flatnonzero(self.state == ACCEPTED)


def judge(
    lake_now: Survey,
    known: pa.Table,
    judgements: Sequence[Judgement],
    forgotten: frozenset[str],
    *,
    version: str,
    assign_splits: AssignSplits,
) -> pa.Table:
    """The rows of a version, by key: columns of catalogue.SCHEMA.

    `known` is the history of all versions before (history.SCHEMA); `judgements` are those of the objects' labels.
    Raises InvalidInput when a class has too few usable photos to be split.
    """
    keys, sha256s = pa.array(lake_now.keys, pa.string()), pa.array(lake_now.sha256s, pa.string())
    places = pc.index_in(sha256s, known["sha256"])  # once for all that history is asked: 45 ms each
    facts = _facts(lake_now, keys, sha256s, places, known=known, forgotten=forgotten, version=version)
    verdicts = _judge_each(sha256s, facts, judgements, forgotten)
    _settle_copies(keys, _numbered(sha256s, places, known.num_rows), verdicts)
    settled = known.select(["sha256", "signature", "group", "split"])
    if settled["split"].null_count:
        settled = settled.filter(pc.is_valid(settled["split"]))
    _place_groups(sha256s, facts["signature"], settled.combine_chunks(), known["group"].take(places), verdicts)
    _assign_sides(sha256s, settled.select(["sha256", "split"]), verdicts, assign_splits)
    facts = _keep_signatures_once(facts, version)
    columns = {
        **{name: facts[name] for name in catalogue.FACTS},
        "key": keys,
        "size_bytes": pa.array([item.size_bytes for item in lake_now.objects], pa.int64()),
        "etag": pa.array([item.etag for item in lake_now.objects], pa.string()),
        "sha256": sha256s,
        **{name: pa.array(values, catalogue.SCHEMA.field(name).type) for name, values in vars(verdicts).items()},
    }
    return pa.table([columns[name] for name in catalogue.SCHEMA.names], schema=catalogue.SCHEMA)


def _facts(
    lake_now: Survey,
    keys: pa.Array,
    sha256s: pa.Array,
    places: pa.Array,
    *,
    known: pa.Table,
    forgotten: frozenset[str],
    version: str,
) -> pa.Table:
    """Of each row what is known of its bytes: FACTS, and reason and detail where they cannot be decoded.

    `places` are those of the rows' bytes in `known`.
    """
    names = ["sha256", *catalogue.FACTS, "reason", "detail"]
    read = lake_now.inspected
    is_new = pc.and_(pc.is_valid(read["sha256"]), pc.or_(pc.is_valid(read["format"]), pc.is_valid(read["reason"])))
    new = read.take(history.places_of_first(read["sha256"], is_new))
    new = new.append_column("first_version", pa.repeat(version, new.num_rows)).select(names)
    before = known.select(names)
    facts = pa.concat_tables([before, new.cast(before.schema)])
    behind = pc.add(pc.index_in(sha256s, new["sha256"]), pa.scalar(known.num_rows, pa.int32()))
    is_forgotten = _are_in(sha256s, forgotten)
    found = facts.take(pc.if_else(is_forgotten, pa.scalar(None, pa.int32()), pc.coalesce(places, behind)))
    unreadable = read.filter(pc.is_null(read["sha256"]))
    unread = pc.index_in(keys, unreadable["key"])
    for name in ("reason", "detail"):
        column = pc.coalesce(found[name], unreadable[name].take(unread))
        found = found.set_column(found.schema.get_field_index(name), name, column)
    return found


def _judge_each(
    sha256s: pa.Array, facts: pa.Table, judgements: Sequence[Judgement], forgotten: frozenset[str]
) -> _Verdicts:
    """Each object by itself: accepted, or quarantined with its reason; what the bytes say comes before the label."""
    said, places = _each_once(judgements)
    labels = np.array([(one.label, one.source, one.reason, one.detail) for one in said], object).reshape(-1, 4)
    label, source, reason, detail = labels[places].T
    of_bytes = _texts(facts["reason"])
    is_unusable = of_bytes != None  # noqa: E711 - of each element
    reason = np.where(is_unusable, of_bytes, reason)
    detail = np.where(is_unusable, _texts(facts["detail"]), detail)
    claims = pa.array([one.claims for one in said], catalogue.SCHEMA.field("claims").type)
    verdicts = _Verdicts(
        label=label,
        label_source=source,
        claims=claims.take(pa.array(places)),
        reason=reason,
        detail=detail,
        state=np.full(len(places), ACCEPTED, object),
        group=pa.nulls(len(places), pa.string()),
        split=np.full(len(places), None, object),
    )
    is_forgotten = _are_in(sha256s, forgotten).to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(is_forgotten).tolist():
        verdicts.quarantine(row, "forgotten", None)
    for row in np.flatnonzero((reason != None) & ~is_forgotten).tolist():  # noqa: E711 - of each element
        verdicts.quarantine(row, reason[row], detail[row])
    return verdicts


def _each_once(judgements: Sequence[Judgement]) -> tuple[list[Judgement], npt.NDArray[np.int64]]:
    """The judgements without repetition, and the place of each among them: most photos share one of a few objects."""
    said = {id(one): one for one in judgements}
    places = {identity: place for place, identity in enumerate(said)}
    return list(said.values()), np.fromiter((places[id(one)] for one in judgements), np.int64, len(judgements))


def _texts(column: pa.ChunkedArray) -> Texts:
    found: Texts = column.to_numpy(zero_copy_only=False)
    return found


def _are_in(sha256s: pa.Array, some: Collection[str]) -> pa.Array:
    return pc.is_in(sha256s, pa.array(sorted(some), pa.string()))


def _settle_copies(keys: pa.Array, contents: npt.NDArray[np.int64], verdicts: _Verdicts) -> None:
    """Of photos with the same bytes, which have one number, the first key is accepted; under two labels none is."""
    copies: dict[int, list[int]] = {}
    shared = _rows_of_the_same(contents)
    contested = {content: row for row, content in reversed(shared) if verdicts.reason[row] == "conflicting_label"}
    for row, content in shared:
        if verdicts.state[row] == ACCEPTED and content in contested:
            other = contested[content]
            words = f"the same photo as {keys[other].as_py()}, of which is said: {verdicts.detail[other]}"
            verdicts.quarantine(row, "conflicting_label", words)
        elif verdicts.state[row] == ACCEPTED:
            copies.setdefault(content, []).append(row)
    for first, *others in (rows for rows in copies.values() if len(rows) > 1):
        claims = {verdicts.label[row]: keys[row].as_py() for row in reversed([first, *others])}
        if len(claims) > 1:
            words = " and ".join(f"{label} ({claims[label]})" for label in sorted(claims, key=str))
            for row in (first, *others):
                verdicts.quarantine(row, "conflicting_label", f"the same photo is {words}")
            continue
        for row in others:
            verdicts.state[row], verdicts.detail[row] = DUPLICATE, f"the same bytes as {keys[first].as_py()}"


def _numbered(sha256s: pa.Array, places: pa.Array, num_known: int) -> npt.NDArray[np.int64]:
    """A number for each sha256: its place among those known, and of others, numbered after them; -1 for null."""
    found: npt.NDArray[np.int64] = places.fill_null(-1).to_numpy().astype(np.int64)
    is_new = found < 0
    others = sha256s.filter(pa.array(is_new)).dictionary_encode().indices.fill_null(-1 - num_known)
    found[is_new] = others.to_numpy().astype(np.int64) + num_known
    return found


def _rows_of_the_same(contents: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Rows, rising, whose number others have too, each with it; mostly none."""
    is_shared = np.bincount(contents + 1, minlength=1) > 1
    is_shared[0] = False  # what could not be read is like nothing
    rows = np.flatnonzero(is_shared[contents + 1])
    return list(zip(rows.tolist(), contents[rows].tolist(), strict=True))


def _place_groups(
    sha256s: pa.Array, signatures: pa.ChunkedArray, settled: pa.Table, before: pa.ChunkedArray, verdicts: _Verdicts
) -> None:
    """Put each accepted photo into its group; quarantine what would join a train group to a test group.

    `before` are the groups that the rows' photos were in: of those that are settled, and no others.
    """
    accepted = pa.array(verdicts.accepted())
    new = accepted.filter(pc.is_null(before.take(accepted)))
    new = new.take(pc.sort_indices(sha256s.take(new)))
    stack = np.concatenate([history.stack(settled["signature"]), history.stack(signatures.take(new))])
    pairs = likeness.near_duplicates(stack, np.arange(len(stack)) >= settled.num_rows)
    give_back_what_is_free()
    group_of, bridged = regroup(settled, sha256s.take(new), pairs)
    names, now = pa.array(group_of.keys(), pa.string()), pa.array(group_of.values(), pa.string())
    group = pc.coalesce(now.take(pc.index_in(sha256s, names)), before, sha256s)
    for row in np.flatnonzero(_are_in(sha256s, bridged)).tolist():
        if verdicts.state[row] != QUARANTINED:
            verdicts.quarantine(row, "bridge", bridged[sha256s[row].as_py()])
    verdicts.group = pc.if_else(pa.array(verdicts.state != QUARANTINED), group, pa.scalar(None, pa.string()))


def regroup(settled: pa.Table, new: pa.Array, pairs: likeness.Pairs) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """By sha256 the group of each photo that pairs have to do with, and what each bridge among them is a copy of.

    `pairs` are of places in `settled` and then `new`. All others stay where they were, or are alone.
    """
    places = groups.affected(settled["sha256"], settled["group"], pairs)
    before = settled.select(["sha256", "group", "split"]).take(pa.array(places[places < settled.num_rows]))
    before_names = before["sha256"].to_pylist()
    names = [*before_names, *new.take(pa.array(places[places >= settled.num_rows] - settled.num_rows)).to_pylist()]
    sides = dict(zip(before_names, before["split"].to_pylist(), strict=True))
    known_groups = dict(zip(before_names, before["group"].to_pylist(), strict=True))
    pairs = np.searchsorted(places, pairs).astype(np.int32)
    grouping = groups.assign_groups(names, pairs, known_groups, sides)
    return grouping.group_of, _describe_bridges(grouping.bridges, names, pairs, sides)


def _describe_bridges(
    bridges: frozenset[str], names: Sequence[str], pairs: likeness.Pairs, sides: Mapping[str, str]
) -> dict[str, str]:
    """What each bridge is a copy of, for people: `a copy of 1a2b3c4d5e6f (train), 9f8e7d6c5b4a (test)`."""
    copies: dict[str, list[str]] = {sha256: [] for sha256 in bridges}
    for first, second in pairs.tolist():
        for one, other in ((names[first], names[second]), (names[second], names[first])):
            if one in copies:
                copies[one].append(f"{other[:12]} ({sides.get(other, 'new')})")
    return {sha256: f"a copy of {', '.join(sorted(others)[:6])}" for sha256, others in copies.items()}


def _assign_sides(sha256s: pa.Array, history_sides: pa.Table, verdicts: _Verdicts, assign_splits: AssignSplits) -> None:
    """Give every accepted photo its side. Raises InvalidInput when a class is too small to be split."""
    rows = verdicts.accepted()
    labels = verdicts.label[rows]
    num_photos = Counter(labels.tolist())
    for label in LABELS:
        if num_photos[label] < MIN_PHOTOS_A_CLASS:
            raise InvalidInput(
                f"only {num_photos[label]} photos of the lake are usable as {label}, at least {MIN_PHOTOS_A_CLASS} are "
                f"needed: add photos to {label}/; no version was made"
            )
    photos = {"sha256": sha256s.take(pa.array(rows)), "label": pa.array(labels, pa.string())}
    photos = pa.table({**photos, "group": verdicts.group.take(pa.array(rows))})
    verdicts.split[rows] = _texts(assign_splits(photos, history_sides))
    for label in LABELS:
        if len(set(verdicts.split[rows][labels == label])) < len(SIDES):
            raise InvalidInput(
                f"all {label} photos that are left in the lake are on one side of the split, since photos and their "
                f"near-duplicates (frames of one camera may be) never change sides: add other {label} photos; no "
                "version was made"
            )


def _keep_signatures_once(facts: pa.Table, version: str) -> pa.Table:
    """Signatures stay in the manifest of the version that read them first: they are half of a row's bytes."""
    is_first = pc.equal(facts["first_version"], version)  # null, and so without a signature, where nothing was read
    signatures = pc.if_else(is_first, facts["signature"], pa.scalar(None, pa.binary()))
    return facts.set_column(facts.schema.get_field_index("signature"), "signature", signatures)
