"""Claims about the ledger: nothing in it changes unseen, and nothing acknowledged is ever lost."""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from petpark_assets.domain import files
from petpark_assets.domain.errors import CorruptData, InvalidInput
from petpark_assets.domain.ledger import EVENTS, START, FileLedger


@pytest.fixture
def ledger(tmp_path):
    """A ledger without events."""
    return FileLedger(tmp_path / "ledger.jsonl", "ada")


@pytest.fixture
def written(ledger):
    """A ledger of five events."""
    for number in range(5):
        ledger.append("dataset_version_made", {"dataset_version": f"v{number:04d}", "label": "Käthe's cat"})
    return ledger


def test_events_come_back_as_they_were_written_and_are_chained(written):
    """An auditor reads who did what, when, in which order; each event fixes all before it."""
    events = list(written.events())

    assert [event.number for event in events] == [1, 2, 3, 4, 5]
    assert {event.actor for event in events} == {"ada"}
    assert events[0].subject == {"dataset_version": "v0000", "label": "Käthe's cat"}
    assert [event.previous for event in events] == [START, *(event.digest for event in events[:-1])]
    assert all(event.time.endswith("+00:00") for event in events)
    written.verify()


def test_append_returns_the_head_that_others_carry(ledger):
    """Packages carry the head: the digest handed out must be the one that a later reader finds."""
    assert ledger.head() == START

    digest = ledger.append("verdict", {"is_accepted": True})

    assert ledger.head() == digest
    assert json.loads(ledger.path.read_text())["digest"] == digest


def test_another_writer_continues_the_same_chain(written):
    """Each command is a process of its own: the chain must go on where the last one left it."""
    FileLedger(written.path, "grace").append("alias_moved", {"alias": "champion"})

    assert [event.actor for event in written.events()][-2:] == ["ada", "grace"]
    written.verify()


def test_any_flipped_byte_is_found_and_its_line_named(written):
    """A change anywhere must show, in the last line too, though no line follows it."""
    data = written.path.read_bytes()
    lines = data.splitlines(keepends=True)
    for position in range(0, len(data), 7):
        if data[position : position + 1] == b"\n":
            continue
        written.path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        bad = next(n for n in range(1, 6) if position < sum(map(len, lines[:n])))

        with pytest.raises(CorruptData, match=f"line {bad} of"):
            written.verify()


@pytest.mark.parametrize(
    ("order", "bad"),
    [
        pytest.param([0, 1, 3, 4], 3, id="dropped"),
        pytest.param([1, 2, 3, 4], 1, id="first dropped"),
        pytest.param([0, 2, 1, 3, 4], 2, id="swapped"),
        pytest.param([0, 1, 1, 2, 3, 4], 3, id="repeated"),
    ],
)
def test_dropped_moved_and_repeated_lines_are_found(written, order, bad):
    """Each line is intact by itself here; only the chain can tell."""
    lines = written.path.read_bytes().splitlines(keepends=True)
    written.path.write_bytes(b"".join(lines[number] for number in order))

    with pytest.raises(CorruptData, match=f"line {bad} of"):
        written.verify()


def test_a_rewritten_event_with_a_fresh_digest_breaks_the_chain(written):
    """Who edits a line can compute its digest too; the next line still holds the old one."""
    lines = written.path.read_bytes().splitlines()
    forged = json.loads(lines[1]) | {"actor": "mallory"}
    forged["digest"] = files.digest({name: value for name, value in forged.items() if name != "digest"})
    lines[1] = files.canonical_json(forged)
    written.path.write_bytes(b"\n".join(lines) + b"\n")

    with pytest.raises(CorruptData, match="line 3 of"):
        written.verify()


def test_a_cut_tail_changes_the_head(written):
    """The chain alone cannot show it: whoever carries the head's digest can."""
    head, lines = written.head(), written.path.read_bytes().splitlines(keepends=True)
    written.path.write_bytes(b"".join(lines[:-1]))

    written.verify()
    assert written.head() != head


def test_the_head_is_read_from_the_last_line_alone(written):
    """Every record asks for it: a history of years must not be read for each."""
    head, lines = written.head(), written.path.read_bytes().splitlines(keepends=True)
    written.path.write_bytes(b"".join([lines[0], b"not an event\n", *lines[2:]]))

    assert written.head() == head

    written.path.write_bytes(b"".join([*lines[:-1], lines[-1].replace(b"ada", b"eve")]))
    with pytest.raises(CorruptData, match="the last line"):
        written.head()


@pytest.mark.parametrize("num_bytes", [1, 40, 200])
def test_a_line_torn_by_a_crash_is_moved_beside_the_ledger(written, num_bytes):
    """A crash may cut the last line: the events before it stay, the piece is kept, and the ledger says so."""
    whole, head = written.path.read_bytes(), written.head()
    piece = whole.splitlines()[-1][:num_bytes]
    written.path.write_bytes(whole + piece)

    assert written.head() == head
    with pytest.raises(CorruptData, match=r"line 6 of .* cut short"):
        written.verify()
    written.append("verdict", {})

    written.verify()
    *_, repaired, last = written.events()
    assert (repaired.event, last.event, last.number) == ("ledger_repaired", "verdict", 7)
    assert (written.path.parent / repaired.subject["moved_to"]).read_bytes() == piece


def test_a_line_that_lacks_only_its_newline_is_kept(written):
    """All of the event reached the disk: it must count, once."""
    head = written.head()
    written.path.write_bytes(written.path.read_bytes()[:-1])

    written.append("verdict", {})

    written.verify()
    events = list(written.events())
    assert [event.number for event in events] == [1, 2, 3, 4, 5, 6]
    assert events[-1].previous == head


def test_nothing_is_appended_behind_a_changed_last_line(written):
    """A chain that goes on from a forged line would make the forgery part of the history."""
    data = written.path.read_bytes().replace(b"v0004", b"v0009")
    written.path.write_bytes(data)

    with pytest.raises(CorruptData, match="last line"):
        written.append("verdict", {})
    assert written.path.read_bytes() == data


def test_a_full_disk_leaves_the_ledger_as_it_was(tmp_path):
    """Half a line must not stay behind, and the message names the remedy. The limit on file size is a real one."""
    script = """
import resource, signal, sys
from pathlib import Path
from petpark_assets.domain import ledger
book = ledger.FileLedger(Path(sys.argv[1]), "ada")
book.append("verdict", {})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (book.path.stat().st_size + 50, resource.RLIM_INFINITY))
try:
    book.append("verdict", {})
except OSError as error:
    print(error.errno)
book.verify()
print(len(list(book.events())))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "ledger.jsonl"], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == [str(27), "1"]


def _append_many(path: Path) -> None:
    for _ in range(20):
        FileLedger(path, str(os.getpid())).append("model_downloaded", {"padding": "x" * 2000})


def test_processes_that_write_at_once_make_one_chain(ledger):
    """The UI's runs, a sensor and a person write to the same home at the same time."""
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_many, args=(ledger.path,)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    ledger.verify()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert len(list(ledger.events())) == 60


def test_a_long_event_is_found_again_as_the_last_one(ledger):
    """The end of the file is read in pieces of 64 KiB: an event longer than that must not hide the chain."""
    ledger.append("verdict", {"padding": "x" * 200_000})
    ledger.append("verdict", {"padding": "y" * 100})

    ledger.verify()


def test_an_event_without_a_row_in_the_list_is_a_bug(ledger):
    """The list of events is closed: a reader can know all there are."""
    with pytest.raises(AssertionError, match="not an event"):
        ledger.append("something_else", {})
    assert not ledger.path.exists()
    assert "verdict" in EVENTS


def test_somebody_must_act(tmp_path):
    """A history without a who is none."""
    with pytest.raises(InvalidInput, match="PETPARK_ACTOR"):
        FileLedger(tmp_path / "ledger.jsonl", " ")
