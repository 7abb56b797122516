"""How `petpark` speaks: results on stdout (one JSON document, or for people), all the rest on stderr, one-line errors.

Not here: verbs (cli.py), or anything that knows what a result means beyond its own printing.
"""

import functools
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from petpark_assets.assets import progress
from petpark_assets.domain.errors import PetparkError

Document = Any
Show = Callable[[Document], None]
terminal = Console(stderr=True, highlight=False)

MOST_ROWS = 60
"""Changes and offences that are printed for people."""
NOTES = {
    "suspects": "pairs across the sides that look alike, and are not copies as far as can be told",
    "out_of_reach": "classes that removals keep from 80/20 until photos arrive",
}
DIGITS = 12
"""Of a sha256, for people: enough to name a photo by."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


def say(line: str) -> None:
    """A line of progress."""
    terminal.print(line, markup=False, soft_wrap=True, style="dim")


@contextmanager
def showing_progress() -> Iterator[None]:
    """A live bar for what long steps tell of themselves (assets/progress.py); nothing where nobody looks, in a pipe."""
    if not terminal.is_terminal:
        yield
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[words]}"))
    with Progress(*columns, console=terminal, transient=True) as bars:
        handler = _Bars(bars)
        progress.LOGGER.addHandler(handler)
        try:
            yield
        finally:
            progress.LOGGER.removeHandler(handler)


class _Bars(logging.Handler):
    """A bar for each step that tells how far it is, gone when it is done."""

    def __init__(self, bars: Progress) -> None:
        super().__init__()
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def emit(self, record: logging.LogRecord) -> None:
        step, told = record.getMessage(), vars(record)
        if step not in self._tasks:
            self._tasks[step] = self._bars.add_task(step, total=told["total"], words="")
        task = self._tasks[step]
        self._bars.update(task, completed=told["done"], words=told["words"], visible=told["done"] < told["total"])


@contextmanager
def answering(*, as_json: bool, errors_folder: Path) -> Iterator[Callable[[Document, Show], None]]:
    """The one way a verb answers: `answer(document, show)` prints the document as JSON, or shows it to people.

    While the work goes on, whatever libraries print to stdout goes to stderr, so that `--json` stays one document.
    """
    answers: list[tuple[Document, Show]] = []
    with refusing(as_json=as_json, errors_folder=errors_folder):
        with _stdout_to_stderr():
            yield lambda document, show: answers.append((document, show))
        _print(answers, as_json=as_json)


@contextmanager
def refusing(*, as_json: bool, errors_folder: Path) -> Iterator[None]:
    """Let nothing through but a line: errors of ours and exit code 1; a bug has its traceback in errors.log.

    With `as_json` the line is a document on stdout too.
    """
    try:
        yield
    except PetparkError as error:
        _fail(str(error), as_json=as_json)
    except OSError as error:
        where = f" {error.filename}:" if error.filename else ""
        _fail(f"the machine refused:{where} {error.strerror or error}; mend that and run it again", as_json=as_json)
    except KeyboardInterrupt:
        _fail("stopped, and nothing is half done: run the same command again", as_json=as_json, code=130)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a person gets a line, the log the traceback
        _fail(_note_bug(error, errors_folder), as_json=as_json)


def _print(answers: Iterable[tuple[Document, Show]], *, as_json: bool) -> None:
    try:
        for document, show in answers:
            if as_json:
                print(json.dumps(document, indent=2, ensure_ascii=False, default=str))  # noqa: T201 - this is the output
            else:
                show(document)
        sys.stdout.flush()  # here, where a full disk still becomes a line
    except OSError as error:
        _abandon_stdout()
        if isinstance(error, BrokenPipeError):  # who reads has enough, like `head`: nobody is left to be told
            raise SystemExit(1) from None
        raise


def _abandon_stdout() -> None:
    """Or Python tries to write the rest once more at its very end, and prints a traceback."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _fail(message: str, *, as_json: bool, code: int = 1) -> NoReturn:
    if as_json:
        print(json.dumps({"error": message}, ensure_ascii=False))  # noqa: T201
    terminal.print(f"petpark: {message}", markup=False, soft_wrap=True, style="red")
    raise typer.Exit(code)


def _note_bug(error: Exception, folder: Path) -> str:
    line = " ".join(str(error).split()) or "no message"
    log = folder / "errors.log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            file.write("".join(traceback.format_exception(error)) + "\n")
    except OSError as refusal:
        return f"a bug of ours: {type(error).__name__}: {line[:300]} (and {log} cannot be written: {refusal.strerror})"
    return f"a bug of ours: {type(error).__name__}: {line[:300]} (traceback in {log})"


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Point file descriptor 1 at stderr for a while: Ray's and MLflow's processes and C code print there too."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def show_build(summary: Mapping[str, Any]) -> None:
    """A build's summary, for people."""
    out = Console(highlight=False)
    tell = functools.partial(out.print, markup=False, soft_wrap=True)
    images = ", ".join(f"{number} {state}" for state, number in summary["images"].items())
    news = "new" if summary["is_new"] else "unchanged since it was made"
    tell(f"{summary['dataset_version']} ({news}): {images}", style="bold")
    for reason, number in summary["quarantined_by_reason"].items():
        tell(f"  set aside: {number} {reason}")
    if summary["train_images"] is not None:
        tell(f"train side {summary['train_images']}, test side {summary['test_images']} photos")
    if summary["accuracy"] is None:
        return
    tell(f"accuracy on the test side {summary['accuracy']:.4f}", style="bold")
    show_rows(
        {"class": label, "precision": f"{summary['precision'][label]:.4f}", "recall": f"{recall:.4f}"}
        for label, recall in summary["recall"].items()
    )
    tell(summary["verdict"], style="green" if summary["is_accepted"] else "red")
    if summary["overridden_by"] is not None:
        tell(f"let through by {summary['overridden_by']}: {summary['overridden_because']}", style="yellow")
    if summary["model_version"] is not None:
        tell(f"registered as version {summary['model_version']}", style="bold")
    tell(f"report: {summary['report']}")
    tell(f"{sum(summary['seconds'].values()):.0f} s of work, attempt {summary['attempt']}", style="dim")


def show_rows(rows: Iterable[Mapping[str, Any]]) -> None:
    """A table with a column for each name that any row has."""
    rows = list(rows)
    if not rows:
        Console().print("none")
        return
    table = Table(box=None, header_style="bold")
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        # As Text: a photo named rex[copy].jpg is no markup.
        table.add_row(*(Text("" if row.get(name) is None else _printable(str(row[name]))) for name in names))
    Console(highlight=False).print(table)


def _printable(text: str) -> str:
    """Without control characters, which a file's name may have and a terminal would obey."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def show_history(events: Iterable[Mapping[str, Any]]) -> None:
    """Registrations, alias moves and overrides of the gate, a line each; digests and numbers are for programs."""
    show_rows(
        {
            "when": event["time"][:19].replace("T", " "),
            "event": event["event"].replace("_", " "),
            "version": event.get("version") or event["attempt"],
            "alias": event.get("alias"),
            "by": event.get("by") or event["actor"],
            "because": event.get("because"),
        }
        for event in events
    )


def show_fields(document: Mapping[str, Any]) -> None:
    """One thing, a line a field."""
    show_rows({"field": name, "value": value} for name, value in document.items())


def show_sections(document: Mapping[str, Any]) -> None:
    """One thing: its plain fields in a table, then each list of rows under its name; empty ones say so."""
    is_list = {name: isinstance(value, (list, tuple)) for name, value in document.items()}
    show_fields({name: value for name, value in document.items() if not is_list[name]})
    for name, rows in document.items():
        if is_list[name]:
            Console(highlight=False).print(f"\n{name.replace('_', ' ')}", style="bold", markup=False)
            show_rows(_short(row) if isinstance(row, Mapping) else {name: row} for row in rows)


def show_diff(document: Mapping[str, Any]) -> None:
    """What changed between two versions: how many of what, then a line a change."""
    seen, unchanged = f"{document['num_before']} to {document['num_after']} seen", document["num_unchanged"]
    Console(highlight=False).print(f"{document['before']} to {document['after']}: {seen}, {unchanged} unchanged")
    if not document["changes"]:
        return
    show_rows({name: row[name] for name in ("change", "class", "images")} for row in document["by_class"])
    show_rows(
        {
            "change": row["change"],
            "class": row["class"],
            "photo": row["key_after"] or row["key_before"],
            "sha256": (row["sha256_after"] or row["sha256_before"] or "")[:DIGITS],
        }
        for row in document["changes"][:MOST_ROWS]
    )
    _say_there_are_more(len(document["changes"]))


def show_label_issues(document: Mapping[str, Any]) -> None:
    """Photos whose label is doubted, a line each, the least believed first."""
    issues = document["label_issues"]
    of = f"{document['num_images']} photos of {document['dataset_version']}'s train side"
    Console(highlight=False).print(f"{len(issues)} label issues among {of}", style="bold")
    if not issues:
        return
    show_rows(
        {"photo": row["key"], "sha256": row["sha256"][:DIGITS]}
        | {name: row[name] for name in ("label", "suggested", "probability")}
        for row in issues[:MOST_ROWS]
    )
    _say_there_are_more(len(issues))
    tell = functools.partial(Console(highlight=False).print, markup=False, soft_wrap=True)
    tell(f"look at them (--html FILE), then, if the first is wrong: {issues[0]['correct']}")


def show_verification(document: Mapping[str, Any]) -> None:
    """Whether all claims hold, and what was found against those that do not."""
    from petpark_assets.domain.workflow.verification import CLAIMS

    looked_at = f"{document['num_versions']} versions, {document['num_photos']} photos"
    Console(highlight=False).print(f"{'sound' if document['is_sound'] else 'NOT SOUND'}: {looked_at}", style="bold")
    for claim, words in CLAIMS.items():
        news = f"{document[claim]} offences" if document[claim] else "holds"
        Console(highlight=False).print(f"  {news}: {words}", style="red" if document[claim] else None, markup=False)
    show = functools.partial(Console(highlight=False).print, markup=False, soft_wrap=True)
    for found in document["offending"][:MOST_ROWS]:
        show("  " + ", ".join(f"{value}" for value in _short(found).values() if value is not None))
    _say_there_are_more(len(document["offending"]))
    for name in ("suspects", "out_of_reach"):
        show(f"{len(document[name])} {name.replace('_', ' ')}: {NOTES[name]}")


def show_reconciliation(document: Mapping[str, Any]) -> None:
    """Whether the lake is as the newest version has it, and what differs."""
    from petpark_assets.domain.workflow.reconciliation import KINDS

    news = "reconciled" if document["is_reconciled"] else "NOT RECONCILED"
    looked_at = f"{document['lake']} ({document['num_objects']} objects) and {document['dataset_version']}"
    show = functools.partial(Console(highlight=False).print, markup=False, soft_wrap=True)
    show(f"{news}: {looked_at}", style="bold")
    for kind, words in KINDS.items():
        show(f"  {document[kind]} {kind}: {words}", style="red" if document[kind] else None)
    for found in document["offending"][:MOST_ROWS]:
        show(f"  {found['key']}: {found['kind']}")
    _say_there_are_more(len(document["offending"]))


def _say_there_are_more(number: int) -> None:
    if number > MOST_ROWS:
        Console(highlight=False).print(f"... and {number - MOST_ROWS} more: --json prints all")


def show_versions(versions: Iterable[Mapping[str, Any]]) -> None:
    """Dataset versions, a line each; digests are for programs."""
    show_rows(
        {
            **{name: version[name] for name in ("dataset_version", "seen", "accepted", "duplicate", "quarantined")},
            "set aside": ", ".join(f"{number} {reason}" for reason, number in version["quarantined_by_reason"].items()),
        }
        for version in versions
    )


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with the first digits of each sha256 in it."""
    return {name: value[:DIGITS] if _SHA256.fullmatch(str(value)) else value for name, value in row.items()}
