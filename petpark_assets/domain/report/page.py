"""The report as a page for people and as JSON for programs, both from the same records.

Nothing comes from clocks, hosts or the network: the same work gives the same bytes. Numbers are made in metrics.py,
pictures in figures.py, the page's words stand in page.html.j2 and its looks in page.css.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from petpark_assets.domain.errors import InvalidInput
from petpark_assets.domain.files import canonical_json, digest
from petpark_assets.domain.images import QUARANTINE_REASONS
from petpark_assets.domain.recipes import Targets
from petpark_assets.domain.records import (
    AttemptRecord,
    FeatureScaling,
    HyperparameterSearch,
    RawImages,
    Record,
    TestSplit,
    TrainedCnn,
    TrainSplit,
)
from petpark_assets.domain.report import calibration, canvas, figures
from petpark_assets.domain.report.comparison import sentence
from petpark_assets.domain.report.gain import search_gain
from petpark_assets.domain.report.gallery import WrongPhoto, data_uri
from petpark_assets.domain.report.metrics import Evaluation, gated

FORMAT_VERSION = 1
TEMPLATE = "page.html.j2"


@dataclass(frozen=True, kw_only=True)
class ReportContext:
    """Everything a report is made from. Raises InvalidInput when the records are not those of one attempt."""

    raw_images: RawImages
    train_split: TrainSplit
    test_split: TestSplit
    feature_scaling: FeatureScaling
    hyperparameter_search: HyperparameterSearch
    trained_cnn: TrainedCnn
    evaluation: Evaluation
    targets: Targets
    """What the gate asked for."""
    default_targets: Targets = field(default_factory=Targets)
    """What it asks where no recipe or configuration says otherwise."""
    most_wrong: tuple[WrongPhoto, ...]
    """gallery.most_wrong of the test side."""
    forgotten_by_label: Mapping[str, int] = field(default_factory=dict)
    """How many photos of the test side were not in the exam, since they were forgotten before."""

    def __post_init__(self) -> None:
        mismatches = [*_mismatched_parents(self.records), *_mismatched_counts(self)]
        if mismatches:
            raise InvalidInput(f"a report needs the records of one attempt: {'; '.join(mismatches)}")

    @property
    def records(self) -> dict[str, Record]:
        """The records by the name of their asset, in the order of the flow."""
        values = (getattr(self, item.name) for item in fields(self))
        return {value.asset: value for value in values if isinstance(value, Record)}


def _mismatched_parents(records: Mapping[str, Record]) -> list[str]:
    """Each field that is named like an asset must hold that record's digest; versions and attempts must agree."""
    digests = {asset: digest(record) for asset, record in records.items()}
    versions = {record.dataset_version for record in records.values()}
    attempts = {record.attempt for record in records.values() if isinstance(record, AttemptRecord)}
    several = [
        f"{name} {', '.join(sorted(found))}"
        for name, found in (("versions", versions), ("attempts", attempts))
        if len(found) > 1
    ]
    return several + [
        f"{asset} was made from another {item.name} "
        f"({getattr(record, item.name)[:12]}…, given {digests[item.name][:12]}…)"
        for asset, record in records.items()
        for item in fields(record)
        if item.name in digests and getattr(record, item.name) != digests[item.name]
    ]


def _mismatched_counts(context: ReportContext) -> list[str]:
    by_class = context.evaluation.metrics["by_class"]
    tested = {label: numbers["num_images"] for label, numbers in by_class.items()}
    members = {
        label: number - context.forgotten_by_label.get(label, 0)
        for label, number in context.test_split.images_by_label.items()
    }
    return [] if tested == members else [f"tested were {tested} photos, the test side has {members}"]


def report_json(context: ReportContext) -> bytes:
    """The whole report as canonical JSON; wrong photos are named by sha256."""
    return canonical_json(_document(context))


def render(
    context: ReportContext,
    photos: Mapping[str, bytes] | None = None,
    *,
    num_models_evaluated: int | None = None,
    override: str | None = None,
) -> bytes:
    """The report as one HTML file (UTF-8) that asks nothing of any network.

    Args:
        context: the records and the evaluation.
        photos: None for the page that goes into a package: it names the most wrong photos by sha256 only. With
            JPEG or PNG bytes by sha256 (gallery.thumbnail) it shows them; one that is missing is said to be gone.
        num_models_evaluated: on test photos of this home so far. None for the page of a package: it is history.
        override: by whom and why a rejected model was let through the gate, in one line; history too.
    """
    # Through JSON, so that a record just made and one read again from its file give the same page.
    document = json.loads(report_json(context))
    pictures = None if photos is None else {sha256: data_uri(photo) for sha256, photo in photos.items()}
    page = open_templates().get_template(TEMPLATE).render(
        document, figures=_figures(document, context.targets), photos=pictures, quarantine_reasons=QUARANTINE_REASONS,
        num_models_evaluated=num_models_evaluated, override=override,
    )  # fmt: skip
    return page.encode()


def _document(context: ReportContext) -> dict[str, Any]:
    search, evaluation = context.hyperparameter_search, context.evaluation
    return {
        "format_version": FORMAT_VERSION,
        "dataset_version": search.dataset_version,
        "attempt": search.attempt,
        "recipe": search.recipe,
        "seed": search.seed,
        "code_version": search.code_version,
        "is_accepted": evaluation.is_accepted,
        "verdict": evaluation.verdict,
        "targets": context.targets,
        "default_targets": context.default_targets,
        "gate": _gate(context),
        "metrics": evaluation.metrics,
        "comparison": evaluation.comparison,
        "comparison_sentence": sentence(evaluation.comparison),
        "calibration_judgement": calibration.judge(search.recipe, evaluation.metrics["calibration"]),
        "abstention_judgement": calibration.judge_answered(
            search.configuration.get("answered_accuracy"), evaluation.metrics.get("abstention")
        ),
        "search_gain": search_gain(search),
        "most_wrong": context.most_wrong,
        "num_forgotten": sum(context.forgotten_by_label.values()),
        "records": context.records,
        "digests": {asset: digest(record) for asset, record in context.records.items()},
    }


def _gate(context: ReportContext) -> list[dict[str, Any]]:
    """The numbers that decide, each beside what this attempt asked and what is asked by default."""
    asked = gated(context.evaluation.metrics, context.targets)
    by_default = gated(context.evaluation.metrics, context.default_targets)
    return [
        {"name": name, "value": value, "interval": interval, "target": target, "default_target": default}
        | {"is_reached": value >= target, "is_default_reached": value >= default}
        for (name, value, interval, target), (*_, default) in zip(asked, by_default, strict=True)
    ]


def _figures(document: Mapping[str, Any], targets: Targets) -> dict[str, Markup]:
    """The page's pictures as SVG, each with what it shows in words for those who hear the page."""
    metrics, records = document["metrics"], document["records"]
    network, search = records["trained_cnn"], records["hyperparameter_search"]
    drawn = {
        "gate": (figures.gate(metrics, targets), "the five numbers that decide, with intervals, beside their targets"),
        "roc": (figures.roc(metrics), f"ROC curve; the area under it is {metrics['roc_auc']:.4f}"),
        "precision_recall": (
            figures.precision_recall(metrics),
            f"precision against recall of dogs; mean precision {metrics['average_precision']:.4f}",
        ),
        "scores": (figures.scores(metrics), "number of cats and of dogs by the probability of dog they were given"),
        "calibration": (figures.calibration(metrics), "share of dogs against predicted probability; table beside it"),
        "learning_curve": (
            figures.learning_curve(network["epochs"], network["best_epoch"]),
            f"loss and validation accuracy by epoch; the best epoch is {network['best_epoch']}",
        ),
        "trials": (
            figures.trials(search["trials"], search["num_validation_images"]),
            "validation accuracy of each trial with its standard error; table beside it",
        ),
    }
    # S704: our own SVG, in which canvas.to_svg and matplotlib have escaped every text.
    return {name: Markup(canvas.to_svg(figure, name, alt)) for name, (figure, alt) in drawn.items()}  # noqa: S704


def open_templates() -> jinja2.Environment:
    """The room's templates with the filters that they use; every value is escaped, a missing one is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {
        "share": _share,
        "count": "{:,}".format,
        "plain": _plain,
        "choice": _choice,
        "value": _value,
    }
    return environment


def _share(value: float | None) -> str:
    """Four decimals; a dash for what was not measured."""
    return "–" if value is None else f"{value:.4f}"  # noqa: RUF001  a dash between or for numbers


def _value(value: float) -> str:
    """A photo's brightness or sharpness, or its number of pixels."""
    return f"{value:.3f}" if value < 10 else f"{value:,.0f}"


def _choice(value: Mapping[str, Any]) -> str:
    """What a search may choose from: recipes.Choices or recipes.Range."""
    if "values" in value:
        return _plain(value["values"])
    return f"{_plain(value['low'])} to {_plain(value['high'])}{', logarithmic' if value.get('log') else ''}"


def _plain(value: Any) -> str:
    """A setting as people write it: numbers short, lists with commas."""
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]  # noqa: RUF001  as in _share
    return f"{value:g}" if isinstance(value, float) else str(value)
