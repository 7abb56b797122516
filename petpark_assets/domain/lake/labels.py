"""What a photo shows, by the word of sources in a declared order: the rules, and the book that applies them.

  1. A person's correction comes before every source; of several the last one counts.
  2. The first rank of sources that says anything decides; one that says nothing leaves it to the next.
  3. Sources of one rank must agree, and a source with itself: else `conflicting_label`. A word that is no class is
     `unknown_label`, and hides what lower ranks say: a declared order is never bent.
  4. Where no source says anything: `unknown_label` in a folder of another name (where folders are asked), else
     `unlabelled`.
What any of them said stays in the row as claims, the deciding one first. Nothing is ever guessed.

Not here: the kinds of sources (label_sources.py), how they are spelt (label_specs.py), corrections' place in the store
(corrections.py), and the same bytes under two labels (judgement.py).
"""

import functools
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from petpark_assets.domain import files
from petpark_assets.domain.lake import label_queries, label_specs, label_tables
from petpark_assets.domain.lake.corrections import Correction
from petpark_assets.domain.lake.label_queries import QuerySpec
from petpark_assets.domain.lake.label_sources import Folders, Source, Statements, Words
from petpark_assets.domain.lake.label_specs import Spec, TableSpec
from petpark_assets.domain.lake.sources import Lake
from petpark_assets.domain.records import LABELS

DEFAULT_LABELS = ("names",)
"""Folders and file names, with equal rank."""

CORRECTION = "correction"
"""The source's name of a corrected label."""

Said = tuple[int, str, str, str]
"""Rank, source, speaker and word: the source is for the manifest, the speaker (who may be a person) for people."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the sources make of one photo: a label, or the reason why it has none."""

    label: str | None = None
    """One of LABELS."""
    source: str | None = None
    """The first of those that decided."""
    claims: tuple[str, ...] = ()
    """What anyone said, in the order of their ranks: `correction by Ann (ears): dog`, `labels.csv: cat`."""
    reason: str | None = None
    """One of images.QUARANTINE_REASONS, where there is no label."""
    detail: str | None = None
    """The reason in words, for people."""


@dataclass(frozen=True, kw_only=True)
class LabelBook:
    """All sources, open and read."""

    ranks: tuple[tuple[Source, ...], ...]
    corrections: Mapping[str, tuple[Correction, ...]]
    """By sha256, the last one first."""

    def judge(self, key: str, sha256: str | None) -> Judgement:
        """What the object under a key shows; sha256 is None where its bytes are not known."""
        said = [
            (rank, source.name, source.name, word)
            for rank, sources in enumerate(self.ranks)
            for source in sources
            for word in source.words(key, sha256)
        ]
        if sha256 is not None and sha256 in self.corrections:
            said = [*_said_by_people(self.corrections[sha256]), *said]
        return _decide(tuple(said)) if said else self._judge_silence(key)

    def judge_all(self, keys: Sequence[str], sha256s: Sequence[str | None]) -> list[Judgement]:
        """`judge` of each object; where sources say the same of many, it is decided once. 100,000 in 0.2 s."""
        sources = [source for rank in self.ranks for source in rank]
        decided: dict[tuple[Words, ...], Judgement] = {}
        found = []
        for key, sha256 in zip(keys, sha256s, strict=True):
            words = tuple([source.words(key, sha256) for source in sources])
            judgement = None if sha256 in self.corrections else decided.get(words)
            if judgement is None:
                judgement = self.judge(key, sha256)
                if any(words) and sha256 not in self.corrections:
                    decided[words] = judgement
            found.append(judgement)
        return found

    @functools.cached_property
    def digest(self) -> str:
        """sha256 of all that sources and people say beside the keys themselves, and of the order of the sources.

        The same in whatever order rows come, and wherever a table or a database lies. 100,000 rows in 0.2 s.
        """
        said = [[{"name": source.name, "content": source.content()} for source in rank] for rank in self.ranks]
        return files.digest({"ranks": said, "corrections": self.corrections})

    @property
    def judges_by_sha256(self) -> bool:
        """Whether a photo's bytes can change its label, so that keys alone do not tell."""
        return bool(self.corrections) or any(statements.by_sha256 for statements in self._statements())

    def num_unused(self, keys: Collection[str], sha256s: Collection[str | None]) -> dict[str, int]:
        """By table and query: keys and sha256s with a label that no photo has, of all those of the lake."""
        return {statements.name: statements.num_unused(keys, sha256s) for statements in self._statements()}

    def _statements(self) -> list[Statements]:
        return [source for rank in self.ranks for source in rank if isinstance(source, Statements)]

    def _judge_silence(self, key: str) -> Judgement:
        names = [source.name for rank in self.ranks for source in rank]
        folder = key.rpartition("/")[0].rpartition("/")[2]
        if folder and Folders.name in names:
            return _unknown((f"{Folders.name}: {folder}",))
        return Judgement(reason="unlabelled", detail=f"nothing says what it shows: {', '.join(names)}")


def _said_by_people(corrections: Sequence[Correction]) -> list[Said]:
    """Each has a rank of its own above all sources."""
    return [
        (place - len(corrections), CORRECTION, f"{CORRECTION} by {item.by} ({item.because})", item.label)
        for place, item in enumerate(corrections)
    ]


@functools.lru_cache(maxsize=4096)
def _decide(said: tuple[Said, ...]) -> Judgement:
    """From what was said of a photo, in the order of the ranks; most photos of a lake share one of few cases."""
    claims = tuple(dict.fromkeys(f"{speaker}: {word}" for _, _, speaker, word in said))
    first_rank = said[0][0]
    deciding = [(source, speaker, word) for rank, source, speaker, word in said if rank == first_rank]
    if len({word.lower() for _, _, word in deciding}) > 1:
        words = " but ".join(dict.fromkeys(f"{speaker}: {word}" for _, speaker, word in deciding))
        return Judgement(claims=claims, reason="conflicting_label", detail=f"two labels of equal rank, {words}")
    source, _, label = deciding[0]
    return Judgement(label=label, source=source, claims=claims) if label in LABELS else _unknown(claims)


def _unknown(claims: tuple[str, ...]) -> Judgement:
    detail = f"{claims[0]}, which is neither {' nor '.join(LABELS)}"
    return Judgement(claims=claims, reason="unknown_label", detail=detail)


def open_labels(
    specs: Sequence[str],
    lake: Lake,
    corrections: Sequence[Correction] = (),
    variables: Mapping[str, str] | None = None,
    read_bytes: Callable[[str], bytes] | None = None,
) -> LabelBook:
    """Read all sources, spelt as label_specs.py says; none given means DEFAULT_LABELS.

    `variables` is the environment, where a query may name its database; `read_bytes` reads a table from `s3://`.
    A table or query takes 120 to 160 bytes of memory a row. Raises InvalidInput, or TransientError where again may
    help, in one line that names the source; no message holds a secret.
    """
    names: Counter[str] = Counter()
    ranks = tuple(
        tuple(_with_own_name(_open(spec, lake, variables or {}, read_bytes), names) for spec in rank)
        for rank in label_specs.parse(specs or DEFAULT_LABELS)
    )
    by_sha256: dict[str, tuple[Correction, ...]] = {}
    for correction in corrections:
        by_sha256[correction.sha256] = (correction, *by_sha256.get(correction.sha256, ()))
    return LabelBook(ranks=ranks, corrections=by_sha256)


def settled(specs: Sequence[str], lake: Lake) -> list[str]:
    """The same sources, spelt so that they are found from any folder: what lies on this machine by its absolute path.

    Raises InvalidInput.
    """
    label_specs.parse(specs)
    return [f"{'+' * spec.startswith('+')}{_settled(spec.removeprefix('+').strip(), lake)}" for spec in specs]


def _settled(spec: str, lake: Lake) -> str:
    if spec in label_specs.NAMES:
        return spec
    if spec.startswith("sql:"):
        return f"sql:{label_queries.settled(spec.removeprefix('sql:'))}"
    return label_tables.settled(spec, lake)


def _open(spec: Spec, lake: Lake, variables: Mapping[str, str], read_bytes: Callable[[str], bytes] | None) -> Source:
    if isinstance(spec, TableSpec):
        return label_tables.read(spec, lake, read_bytes)
    return label_queries.read(spec, variables) if isinstance(spec, QuerySpec) else spec


def _with_own_name(source: Source, names: Counter[str]) -> Source:
    """Tables in two folders may have one name: the later one is called `labels.csv (2)`."""
    names[source.name] += 1
    if names[source.name] == 1 or not isinstance(source, Statements):
        return source
    return replace(source, name=f"{source.name} ({names[source.name]})")
