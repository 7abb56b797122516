"""What stands behind a model as one self-contained page, and an index of all versions, models and verdicts.

Nothing comes from clocks, hosts or the network: the same records and ledger give the same bytes. No photo is on these
pages. Words stand in the templates, looks in the report's page.css and in audit.css.
"""

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from petpark_assets.domain import files
from petpark_assets.domain.attempts import Attempt
from petpark_assets.domain.audit import answers, lineage, models, trail
from petpark_assets.domain.home import Home
from petpark_assets.domain.lake import catalogue

FOLDER = "audit"
"""Below a home's reports."""
MAX_CHARACTERS = 2000
"""Of a record's field; a page with whole learning curves would not print well, and the record has them."""


def write_model_page(home: Home, name: str, to: Path) -> Path:
    """The page of one model, by any name of it (trail.find_model)."""
    found = trail.find_model(home, name)
    document = models.describe(found, list(home.ledger.events()))
    files.replace(to, draw_model(found, document, _report_link(home, found, to)))
    return to


def draw_page(home: Home, attempt: Attempt) -> Path:
    """Draw a model's page into the home's reports; what happens to it later shows when it is drawn again."""
    to = home.reports / FOLDER / "models" / f"{attempt.id}.html"
    found = trail.read_trail(home.store, attempt.dataset_version, attempt.id)
    document = models.describe(found, list(home.ledger.events()))
    files.replace(to, draw_model(found, document, _report_link(home, found, to)))
    return to


def write_index(home: Home, to: Path) -> int:
    """The page of all, with a page for each model in the folder `models` beside it; returns how many those are."""
    events = list(home.ledger.events())
    rows, pages = models.list_models(home), {}
    for row in rows:
        found = trail.read_trail(home.store, row["dataset_version"], row["attempt"])
        page = to.absolute().parent / "models" / f"{row['attempt']}.html"
        link = _report_link(home, found, page)
        pages[str(page)] = draw_model(found, models.describe(found, events), link, f"../{to.name}")
        row["page"] = f"models/{page.name}"
    files.write_many(pages)  # hundreds: synced one by one they would take seconds, and they can be drawn again
    files.replace(to, draw_index(_versions(home), rows, models.rejected(home)["approved"]))
    return len(rows)


def draw_model(
    found: trail.Trail, document: Mapping[str, Any], report_link: str | None = None, index_link: str | None = None
) -> bytes:
    """The page of a model, UTF-8, from its records and models.describe."""
    contents = {asset: _fields(known.content) for asset, known in found.documents.items()}
    noted = {asset: _fields(known.circumstances) for asset, known in found.documents.items()}
    return _render(
        "model.html.j2",
        model=document, picture=lineage.draw(found), contents=contents, noted=noted, report_link=report_link,
        index_link=index_link, documents=found.documents,
    )  # fmt: skip


def draw_index(versions: list[dict[str, Any]], rows: list[dict[str, Any]], approved: list[dict[str, Any]]) -> bytes:
    """The index, UTF-8, from rows of dataset versions, models (with the link of each `page`) and approvals."""
    return _render("index.html.j2", versions=versions, models=rows, approved=approved)


def write_answer(question: str, document: Mapping[str, Any], to: Path) -> Path:
    """The page of any answer: its plain fields, then each of its lists as a table."""
    files.replace(to, draw_answer(question, document))
    return to


def draw_answer(question: str, document: Mapping[str, Any]) -> bytes:
    """An answer's page, UTF-8, from its JSON document."""
    plain, tables = answers.divide(document)
    return _render(
        "answer.html.j2",
        question=question,
        fields=_fields(plain),
        tables={name: _rows(rows) for name, rows in tables.items()},
    )


def _rows(rows: list[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Every row with every column that any of them has."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: _text(row.get(name)) for name in names} for row in rows]


def _versions(home: Home) -> list[dict[str, Any]]:
    documents = (
        trail.read_document(home.store, "raw_images", version)
        for version in catalogue.list_versions(home.store)
        if home.store.exists(f"raw_images/{version}.json")
    )
    return [{**found.content, **found.circumstances} for found in documents]


def _report_link(home: Home, found: trail.Trail, page: Path) -> str | None:
    """The drawn evaluation report, where there is one beside; relative, so that the folder can be moved."""
    path = home.reports / found.dataset_version / found.attempt / "report.html"
    if not path.is_file() or home.reports not in page.absolute().parents:
        return None
    return Path(os.path.relpath(path, page.absolute().parent)).as_posix()


def _fields(values: Mapping[str, Any]) -> dict[str, str]:
    """Each field in one line, cut where it is too long to read."""
    texts = {name: _text(value) for name, value in values.items()}
    return {
        name: text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]} … ({len(text):,} characters)"
        for name, text in texts.items()
    }


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return files.canonical_json(value).decode().replace(",", ", ").replace(":", ": ")


def _render(template: str, **values: Any) -> bytes:
    return _templates().get_template(template).render(**values).encode()


@functools.cache
def _templates() -> jinja2.Environment:
    here = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([here, here.parent / "report"]), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"count": "{:,}".format, "share": _share, "moment": _moment}
    return environment


def _share(value: float | None) -> str:
    """Four decimals; a dash for what was not measured."""
    return "–" if value is None else f"{value:.4f}"  # noqa: RUF001  a dash for numbers


def _moment(text: str | None) -> str:
    """ISO 8601 without the parts of a second."""
    return "" if text is None else f"{text[:19].replace('T', ' ')} UTC"
