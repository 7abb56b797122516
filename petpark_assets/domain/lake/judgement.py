"""What becomes of each photo of the lake: accepted with a group and a side, a duplicate, or quarantined with a reason.

Columns in, a manifest's columns out; nothing is read or written. The order of the rules:
  1. bytes: unreadable, forgotten, or refused by the decoder       3. the same bytes: duplicates, conflicts
  2. labels: none, unknown, conflicting                            4. near-duplicates: groups, bridges, sides
Not here: what sources say (labels.py), what copies are (groups.py), the rule of the sides (splits.py, handed in).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from petpark_assets.domain import images
from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.lake import catalogue, groups, history, likeness
from petpark_assets.domain.lake.catalogue import ACCEPTED, DUPLICATE, QUARANTINED, Photo
from petpark_assets.domain.lake.labels import Judgement
from petpark_assets.domain.lake.survey import Survey
from petpark_assets.domain.records import LABELS

AssignSplits = Callable[[Sequence[Photo], Mapping[str, str]], Mapping[str, str]]
Texts = list[str | None]

SIDES = ("train", "test")
MIN_PHOTOS_A_CLASS = 5
"""The fewest that 80/20 divides: four to train on, one to test."""


@dataclass(kw_only=True)
class _Verdicts:
    """Columns that are decided here, a place for each row."""

    label: Texts = field(default_factory=list)
    label_source: Texts = field(default_factory=list)
    claims: list[list[str]] = field(default_factory=list)
    reason: Texts = field(default_factory=list)
    detail: Texts = field(default_factory=list)
    state: list[str] = field(default_factory=list)
    group: Texts = field(default_factory=list)
    split: Texts = field(default_factory=list)

    def quarantine(self, row: int, reason: str, detail: str | None) -> None:
        """Set a photo aside."""
        self.state[row], self.reason[row] = QUARANTINED, reason
        self.detail[row] = detail or images.QUARANTINE_REASONS[reason]


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
    keys = [item.key for item in lake_now.objects]
    sha256s = [lake_now.sha256s[key] for key in keys]
    facts = _facts(lake_now, keys, sha256s, known=known, forgotten=forgotten, version=version)
    verdicts = _judge_each(sha256s, facts, judgements, forgotten)
    _settle_copies(keys, sha256s, verdicts)
    sides = history.sides(known)
    _place_groups(sha256s, facts["signature"], known, sides, verdicts)
    _assign_sides(sha256s, sides, verdicts, assign_splits)
    facts = _keep_signatures_once(facts, version)
    columns = {
        **{name: facts[name] for name in catalogue.FACTS},
        "key": pa.array(keys, pa.string()),
        "size_bytes": pa.array([item.size_bytes for item in lake_now.objects], pa.int64()),
        "etag": pa.array([item.etag for item in lake_now.objects], pa.string()),
        "sha256": pa.array(sha256s, pa.string()),
        **{name: pa.array(values, catalogue.SCHEMA.field(name).type) for name, values in vars(verdicts).items()},
    }
    return pa.table([columns[name] for name in catalogue.SCHEMA.names], schema=catalogue.SCHEMA)


def _facts(
    lake_now: Survey,
    keys: Sequence[str],
    sha256s: Texts,
    *,
    known: pa.Table,
    forgotten: frozenset[str],
    version: str,
) -> pa.Table:
    """Of each row what is known of its bytes: FACTS, and reason and detail where they cannot be decoded."""
    names = ["sha256", *catalogue.FACTS, "reason", "detail"]
    read = lake_now.inspected
    is_new = pc.and_(pc.is_valid(read["sha256"]), pc.or_(pc.is_valid(read["format"]), pc.is_valid(read["reason"])))
    new = read.take(history.places_of_first(read["sha256"], is_new))
    new = new.append_column("first_version", pa.repeat(version, new.num_rows)).select(names)
    before = known.select(names)
    facts = pa.concat_tables([before, new.cast(before.schema)])  # the first of two counts
    wanted = [None if sha256 in forgotten else sha256 for sha256 in sha256s]
    found = facts.take(pc.index_in(pa.array(wanted, pa.string()), facts["sha256"]))
    unreadable = read.filter(pc.is_null(read["sha256"]))
    places = pc.index_in(pa.array(keys, pa.string()), unreadable["key"])
    for name in ("reason", "detail"):
        column = pc.coalesce(found[name], unreadable[name].take(places))
        found = found.set_column(found.schema.get_field_index(name), name, column)
    return found


def _judge_each(
    sha256s: Texts, facts: pa.Table, judgements: Sequence[Judgement], forgotten: frozenset[str]
) -> _Verdicts:
    """Each object by itself: accepted, or quarantined with its reason; what the bytes say comes before the label."""
    verdicts = _Verdicts(group=[None] * len(sha256s), split=[None] * len(sha256s))
    reasons, details = facts["reason"].to_pylist(), facts["detail"].to_pylist()
    for sha256, reason, detail, said in zip(sha256s, reasons, details, judgements, strict=True):
        verdicts.label.append(said.label)
        verdicts.label_source.append(said.source)
        verdicts.claims.append(list(said.claims))
        if sha256 in forgotten:
            reason, detail = "forgotten", images.QUARANTINE_REASONS["forgotten"]  # noqa: PLW2901
        elif reason is None and said.reason is not None:
            reason, detail = said.reason, said.detail or images.QUARANTINE_REASONS[said.reason]  # noqa: PLW2901
        verdicts.reason.append(reason)
        verdicts.detail.append(detail)
        verdicts.state.append(QUARANTINED if reason else ACCEPTED)
    return verdicts


def _settle_copies(keys: Sequence[str], sha256s: Texts, verdicts: _Verdicts) -> None:
    """Of photos with the same bytes the first key is accepted; under two labels none is."""
    copies: dict[str | None, list[int]] = {}
    contested = {sha256s[row] for row, reason in enumerate(verdicts.reason) if reason == "conflicting_label"}
    for row, sha256 in enumerate(sha256s):
        if verdicts.state[row] == ACCEPTED and sha256 in contested:
            verdicts.quarantine(row, "conflicting_label", "the same bytes have two labels of equal rank elsewhere")
        elif verdicts.state[row] == ACCEPTED:
            copies.setdefault(sha256, []).append(row)
    for first, *others in (rows for rows in copies.values() if len(rows) > 1):
        claims = {verdicts.label[row]: keys[row] for row in reversed([first, *others])}
        if len(claims) > 1:
            words = " and ".join(f"{label} ({claims[label]})" for label in sorted(claims, key=str))
            for row in (first, *others):
                verdicts.quarantine(row, "conflicting_label", f"the same photo is {words}")
            continue
        for row in others:
            verdicts.state[row], verdicts.detail[row] = DUPLICATE, f"the same bytes as {keys[first]}"


def _place_groups(
    sha256s: Texts, signatures: pa.Array, known: pa.Table, sides: Mapping[str, str], verdicts: _Verdicts
) -> None:
    """Put each accepted photo into its group; quarantine what would join a train group to a test group."""
    rows = {str(sha256s[row]): row for row in _accepted(verdicts)}
    settled = known.select(["sha256", "signature", "group", "split"]).filter(pc.is_valid(known["split"]))
    new = sorted(set(rows) - set(sides))
    names = [*settled["sha256"].to_pylist(), *new]
    new_signatures = signatures.take(pa.array([rows[name] for name in new], pa.int64()))
    stack = np.concatenate([_stack(settled["signature"]), _stack(new_signatures)])
    is_new = np.arange(len(names)) >= settled.num_rows
    pairs = likeness.near_duplicates(stack, is_new)
    grouping = groups.assign_groups(names, pairs, history.groups(settled), sides)
    bridged = _describe_bridges(grouping.bridges, names, pairs, sides)
    for sha256, row in rows.items():
        if sha256 in grouping.bridges:
            verdicts.quarantine(row, "bridge", bridged[sha256])
        else:
            verdicts.group[row] = grouping.group_of[sha256]
    for row, state in enumerate(verdicts.state):
        if state == DUPLICATE and sha256s[row] in grouping.bridges:
            verdicts.quarantine(row, "bridge", bridged[str(sha256s[row])])
        elif state == DUPLICATE:
            verdicts.group[row] = verdicts.group[rows[str(sha256s[row])]]


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


def _stack(signatures: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    """uint8 [N, bytes] of binary values of one length."""
    from petpark_assets.domain.lake.signatures import SIGNATURE_BYTES

    fixed = signatures.combine_chunks().cast(pa.binary(SIGNATURE_BYTES))
    if not len(fixed):
        return np.empty((0, SIGNATURE_BYTES), np.uint8)
    data = np.frombuffer(fixed.buffers()[1], np.uint8).reshape(-1, SIGNATURE_BYTES)
    return data[fixed.offset : fixed.offset + len(fixed)]


def _assign_sides(
    sha256s: Texts, history_sides: Mapping[str, str], verdicts: _Verdicts, assign_splits: AssignSplits
) -> None:
    """Give every accepted photo its side. Raises InvalidInput when a class is too small to be split."""
    rows = _accepted(verdicts)
    num_photos = Counter(verdicts.label[row] for row in rows)
    for label in LABELS:
        if num_photos[label] < MIN_PHOTOS_A_CLASS:
            raise InvalidInput(
                f"only {num_photos[label]} photos of the lake are usable as {label}, at least {MIN_PHOTOS_A_CLASS} are "
                f"needed: add photos to {label}/; no version was made"
            )
    photos = [Photo(str(sha256s[row]), str(verdicts.label[row]), str(verdicts.group[row])) for row in rows]
    sides = assign_splits(photos, history_sides)
    for row, photo in zip(rows, photos, strict=True):
        verdicts.split[row] = sides[photo.sha256]
    given = {(verdicts.label[row], verdicts.split[row]) for row in rows}
    for label in LABELS:
        if sum(found == label for found, _ in given) < len(SIDES):
            raise InvalidInput(
                f"all {label} photos that are left in the lake are on one side of the split, since photos and their "
                f"near-duplicates never change sides: add other {label} photos; no version was made"
            )


def _keep_signatures_once(facts: pa.Table, version: str) -> pa.Table:
    """Signatures stay in the manifest of the version that read them first: they are half of a row's bytes."""
    is_first = pc.equal(facts["first_version"], version)  # null, and so without a signature, where nothing was read
    signatures = pc.if_else(is_first, facts["signature"], pa.scalar(None, pa.binary()))
    return facts.set_column(facts.schema.get_field_index("signature"), "signature", signatures)


def _accepted(verdicts: _Verdicts) -> list[int]:
    return [row for row, state in enumerate(verdicts.state) if state == ACCEPTED]
