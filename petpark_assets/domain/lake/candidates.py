"""Which pairs of photos are worth a closer look: those that share a key. Near-linear in the number of photos.

The signs of a signature's lowest 80 frequencies are four keys of 20 bits. A pair is a candidate when a key of one whole
photo, or of its mirror image, equals that key of a view of the other, up to the key's four weakest bits, and the
other bits do not speak against it. Keys of photos are nearly uniform (measured: two photos share one 1.1 to 2.5 times
as often as random bits do), so at 100,000 photos chance still costs less than what grows linearly.
Frames of one camera share all their keys: a bucket offers at most BUCKET_PHOTOS of its photos, spread over it, so each
frame is paired with some others, and not all with all.
Not here: the closer look (likeness.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from petpark_assets.domain.lake.mapping import map_in_threads
from petpark_assets.domain.lake.signatures import Signatures, View, mirror_signs, spectra, view_map

Rows = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint32]
Codes = npt.NDArray[np.int64]
"""int64, sorted by: whole photo, viewed photo, whether the whole one is mirrored, number of different bits."""

VIEWS = (
    *(View(share, share, share, share) for share in (0.0, 0.015, 0.03, 0.045)),
    View(left=0.03),
    View(top=0.03),
    View(right=0.03),
    View(bottom=0.03),
)
"""What a copy may show of a photo, the whole first; frequencies this low do not mind a difference of 1 %."""

BUCKET_PHOTOS = 16
KEPT_A_PHOTO = 8
NUM_KEYS, KEY_BITS, NUM_WEAK_BITS = 4, 20, 4
MAX_DIFFERENT_BITS = 22
"""Of all 80: a copy that is just alike enough differs in 17, other photos in 30 besides the key that they share."""
CHUNK = 4096
"""Photos asked about at a time."""
_KEYED = 512
"""Photos given keys at a time: what that takes stays in the cache."""

_ROW_BITS, _VIEW_BITS, _DIFFERENCE_BITS = 27, 3, 7
_PLACE_BITS, _WHOLE_AT = _ROW_BITS + _VIEW_BITS, _ROW_BITS + 1 + _DIFFERENCE_BITS


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Pairs to look at, each once, by the viewed photo."""

    viewed: Rows
    whole: Rows
    is_mirrored: npt.NDArray[np.bool_]
    """Whether the whole photo is looked at in a mirror."""

    def part(self, start: int, end: int) -> "Candidates":
        """Some of them."""
        rows = slice(start, end)
        return Candidates(viewed=self.viewed[rows], whole=self.whole[rows], is_mirrored=self.is_mirrored[rows])


@dataclass(frozen=True, kw_only=True)
class KeyTable:
    """Who has which key: entries of key k lie from starts[k] to starts[k + 1]."""

    starts: npt.NDArray[np.int32]
    is_offered: npt.NDArray[np.bool_]
    """Whether a key has any."""
    entries: Rows
    """Row and view: places in the keys [N * views, NUM_KEYS]."""


def view_keys(signatures: Signatures) -> Keys:
    """uint32 [N * views, NUM_KEYS]: keys of every view of every photo; frequencies are dealt to the keys in turn."""
    found = np.empty((len(signatures), len(VIEWS), NUM_KEYS), np.uint32)
    maps = np.concatenate([view_map(view)[:, : NUM_KEYS * KEY_BITS] for view in VIEWS], axis=1)

    powers = _powers()

    def fill(start: int) -> None:
        is_set = (spectra(signatures[start : start + _KEYED]) @ maps > 0).astype(np.float32)
        dealt = is_set.reshape(-1, NUM_KEYS * KEY_BITS) @ powers  # below 2**24: exact
        found[start : start + _KEYED] = dealt.reshape(-1, len(VIEWS), NUM_KEYS)

    list(map_in_threads(fill, range(0, len(signatures), _KEYED)))
    return found.reshape(-1, NUM_KEYS)


def key_tables(signatures: Signatures, keys: Keys, viewed: Rows, whole: Rows) -> list[KeyTable]:
    """Of each key, which views of the rows `viewed` have it, for the rows `whole` of signatures to ask."""
    places = viewed[:, None] << _VIEW_BITS | np.arange(len(VIEWS))

    def table(number: int) -> KeyTable:
        return _table(keys[places, number], places, _ever_asked(signatures, keys, whole, number))

    return list(map_in_threads(table, range(NUM_KEYS)))


def find_candidates(signatures: Signatures, keys: Keys, tables: Sequence[KeyTable], whole: Rows) -> Candidates:
    """Of the views in tables against the rows `whole` of signatures, CHUNK of them at the most, and their view_keys."""
    asked = [_asked(signatures[whole], keys[whole << _VIEW_BITS, number], number) for number in range(NUM_KEYS)]
    shared = [_shared(tables[number], asked[number], keys, whole) for number in range(NUM_KEYS)]
    codes = _thinned(_first_of_each(np.sort(np.concatenate(shared)), _DIFFERENCE_BITS))
    return Candidates(
        viewed=codes >> (_DIFFERENCE_BITS + 1) & (2**_ROW_BITS - 1),
        whole=codes >> _WHOLE_AT,
        is_mirrored=codes >> _DIFFERENCE_BITS & 1 == 1,
    )


def _thinned(codes: Codes) -> Codes:
    """All candidates of most photos; of one with more than twice KEPT_A_PHOTO the nearest, and the first.

    The first are the same for all of one family, so they hold it together where the nearest would be cliques.
    """
    whole = codes >> _WHOLE_AT
    begins = np.searchsorted(whole, whole)
    ranks = np.arange(len(codes)) - begins
    is_crowded = np.searchsorted(whole, whole, "right") - begins > 2 * KEPT_A_PHOTO
    is_kept = ~is_crowded | (ranks < KEPT_A_PHOTO)
    difference = codes & (2**_DIFFERENCE_BITS - 1)
    by_difference = np.sort((begins << 20 | difference << 13 | ranks)[is_crowded])  # ranks: 4 keys x 32 x 16 at most
    begins, ranks = by_difference >> 20, by_difference & (2**13 - 1)
    is_near = np.arange(len(begins)) - np.searchsorted(begins, begins) < KEPT_A_PHOTO
    is_kept[(begins + ranks)[is_near]] = True
    return codes[is_kept]


def _first_of_each(codes: Codes, num_bits: int) -> Codes:
    """Of sorted codes those that differ from the one before in more than their lowest bits."""
    high = codes >> num_bits
    is_first = np.ones(len(codes), np.bool_)
    is_first[1:] = high[1:] != high[:-1]
    return codes[is_first]


def _table(keys: Keys, places: Rows, is_asked: npt.NDArray[np.bool_] | None) -> KeyTable:
    """From keys uint32 [N, views] and their places: under each key a photo once, and at most BUCKET_PHOTOS.

    Keys that nobody asks for may be left out.
    """
    wanted = slice(None) if is_asked is None else is_asked[keys]
    entries = keys[wanted].astype(np.int64) << _PLACE_BITS | places[wanted]
    entries = _first_of_each(np.sort(entries.ravel()), _VIEW_BITS)
    key = entries >> _PLACE_BITS
    starts = _starts(key)
    steps = -(-np.diff(starts) // BUCKET_PHOTOS)
    if steps.max() > 1:
        is_offered = (np.arange(len(key)) - starts[key]) % steps[key] == 0
        entries, starts = entries[is_offered], _starts(key[is_offered])
    return KeyTable(starts=starts, is_offered=np.diff(starts) > 0, entries=entries & (2**_PLACE_BITS - 1))


def _ever_asked(signatures: Signatures, keys: Keys, whole: Rows, number: int) -> npt.NDArray[np.bool_] | None:
    """Which keys are asked for, bool [2**KEY_BITS], where few photos ask: sorting all took a fifth of the time."""
    if len(whole) > CHUNK:
        return None
    is_asked = np.zeros(1 << KEY_BITS, np.bool_)
    is_asked[_asked(signatures[whole], keys[whole << _VIEW_BITS, number], number)] = True
    return is_asked


def _starts(key: Rows) -> npt.NDArray[np.int32]:
    """Where the entries of each key begin, the keys being sorted."""
    starts = np.zeros((1 << KEY_BITS) + 1, np.int32)
    np.cumsum(np.bincount(key, minlength=1 << KEY_BITS), out=starts[1:])
    return starts


def _asked(signatures: Signatures, keys: npt.NDArray[np.uint32], number: int) -> Keys:
    """uint32 [2, 16, N]: a key of whole photos, then of their mirror images, with any of its weakest bits turned.

    `keys` are those of the whole photos, [N]. The weakest are looked for in all photos at once: sorting the bits of
    each took half of the time.
    """
    frequencies = slice(number, NUM_KEYS * KEY_BITS, NUM_KEYS)
    strengths = np.abs(signatures[:, frequencies].T.view(np.int8).astype(np.int16, order="C"))
    ranked = strengths << 5 | np.arange(KEY_BITS, dtype=np.int16)[:, None]
    asked = keys[None]
    for _ in range(NUM_WEAK_BITS):
        weakest = ranked.min(axis=0)
        np.putmask(ranked, ranked == weakest, np.iinfo(np.int16).max)
        asked = np.concatenate([asked, asked ^ (np.uint32(1) << (weakest & 31).astype(np.uint32))])
    return np.stack([asked, asked ^ _mirror_keys()[number]])


def _shared(table: KeyTable, asked: Keys, keys: Keys, whole: Rows) -> Codes:
    """The candidates of the photos `whole` under the keys asked for."""
    wanted = asked.ravel()
    hits = np.flatnonzero(table.is_offered[wanted])  # most keys have no entry, and this fits the cache
    begins = table.starts[wanted[hits]]
    sizes = table.starts[wanted[hits] + np.uint32(1)] - begins
    entries = table.entries[np.arange(sizes.sum()) + np.repeat(begins - (np.cumsum(sizes) - sizes), sizes)]
    turn, asker = np.divmod(np.repeat(hits, sizes), len(whole))
    is_mirrored = turn // asked.shape[1]
    viewed, other = entries >> _VIEW_BITS, whole[asker]
    turned = np.stack([np.zeros_like(_mirror_keys()), _mirror_keys()])
    different = keys.take(entries, axis=0) ^ keys.take(other << _VIEW_BITS, axis=0) ^ turned.take(is_mirrored, axis=0)
    difference = np.bitwise_count(different).sum(axis=1, dtype=np.int64)
    codes = other << _WHOLE_AT | viewed << (_DIFFERENCE_BITS + 1) | is_mirrored << _DIFFERENCE_BITS | difference
    found: Codes = codes[(difference <= MAX_DIFFERENT_BITS) & (viewed != other)]
    return found


def _bits() -> Keys:
    return np.uint32(1) << np.arange(KEY_BITS, dtype=np.uint32)


def _powers() -> npt.NDArray[np.float32]:
    """[80, NUM_KEYS]: what each frequency's bit is worth in each key."""
    powers = np.zeros((KEY_BITS, NUM_KEYS, NUM_KEYS), np.float32)
    powers[:, range(NUM_KEYS), range(NUM_KEYS)] = _bits()[:, None]
    return powers.reshape(-1, NUM_KEYS)


def _mirror_keys() -> Keys:
    """uint32 [NUM_KEYS]: the bits that mirroring turns."""
    is_turned = mirror_signs()[: NUM_KEYS * KEY_BITS].reshape(KEY_BITS, NUM_KEYS) < 0
    found: Keys = np.einsum("bk,b->k", is_turned, _bits(), dtype=np.uint32)
    return found
