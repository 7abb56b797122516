"""Claims about the pages of infra/: the tests that SECURITY.md names are there, and so are SCALING.md's figures."""

import json
import re
from collections.abc import Callable
from pathlib import Path

from petpark_assets_tests.infra.stack import INFRA

TESTS = Path(__file__).parents[1]
RESULTS = TESTS / "benchmarks" / "results"


def test_every_claim_of_security_names_tests_that_exist():
    """A claim whose test was renamed away is one that nobody shows any more."""
    text = (INFRA / "SECURITY.md").read_text()
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", text)
    assert len(named) > 40
    missing = [
        f"{path}::{name}" for path, name in named
        if not (TESTS / path).exists() or f"\ndef {name}(" not in (TESTS / path).read_text()
    ]  # fmt: skip
    assert missing == []
    shown, uncovered = text.split("## What is not covered")
    claims = [
        line for line in shown.splitlines() if line.startswith("| ") and not line.startswith(("| claim", "| ---"))
    ]
    assert [line for line in claims if "::test_" not in line] == []
    assert len(uncovered) > 200


def test_measured_figures_of_scaling_are_those_of_the_result_files():
    """A page that was measured once and never again is a promise about another program."""
    text = (INFRA / "SCALING.md").read_text()
    sizes = json.loads((RESULTS / "ingestion.json").read_text())["by_size"]
    ticks = json.loads((RESULTS / "arrivals.json").read_text())["objects"]
    laptop = json.loads((RESULTS / "laptop.json").read_text())["seconds_by_asset"]
    on_s3 = json.loads((RESULTS / "ingestion-on-s3.json").read_text())["by_size"]
    first = "; ".join(f"{sizes[size]['first_seconds']['mean']:.3g}" for size in ("1000", "10000", "100000"))
    memory = "; ".join(f"{sizes[size]['first_peak_mb']['mean']:,.0f}" for size in ("1000", "10000", "100000"))
    tick = "; ".join(f"{ticks[size]['tick_s']['mean']:.2g}" for size in ("10000", "100000", "1000000"))
    assert f"| {first} s |" in text
    assert f"| {memory} MB |" in text
    assert tick.replace("0.074", "0.07") in text
    assert f"{laptop['hyperparameter_search']:,.0f} and {laptop['trained_cnn']:,.0f} s" in text
    on_s3_s = "; ".join(f"{found['first']['seconds']['mean']:.3g}" for found in on_s3.values())
    locally_s = "; ".join(f"{found['local_first']['seconds']['mean']:.3g}" for found in on_s3.values())
    requests = "; ".join(f"{found['first']['requests']['mean']:,.0f}" for found in on_s3.values())
    assert f"| {on_s3_s} s |" in text
    assert f"| {locally_s} s |" in text
    assert f"| {requests} |" in text
    assert set(re.findall(r"`([\w-]+\.json)`", text)) <= {path.name for path in RESULTS.glob("*.json")}


def test_the_steps_of_a_build_cost_what_was_measured():
    """Of each step the page has processor time, requests, bytes and rows at every size, and a photo's share."""
    text = (INFRA / "SCALING.md").read_text()
    sizes = json.loads((RESULTS / "build-on-s3.json").read_text())["by_size"]
    assert list(sizes) == ["1000", "10000", "100000"]
    for step in sizes["1000"]["steps"]:
        at_each = [found["steps"][step] for found in sizes.values()]
        assert _row(step, at_each, _measured) in text
        assert _row(step, at_each, _of_a_photo) in text


def _row(step: str, at_each: list[dict], cell: Callable[[list[float]], str]) -> str:
    """A line of the page's tables: processor seconds of the platform and of servers, requests, megabytes, rows."""
    of_bytes = [[found[name] / 1e6 for found in at_each] for name in ("bytes_read", "bytes_written", "home_bytes")]
    rows = [sum(found[f"{name}_rows"] for name in ("dagster", "mlflow", "ledger")) for found in at_each]
    counted = [[found[name] for found in at_each] for name in ("cpu_s", "servers_cpu_s", "requests")]
    return f"| {step} | {' | '.join(map(cell, (*counted, *of_bytes, rows)))} |"


def _measured(values: list[float]) -> str:
    """At each size."""
    return "; ".join(_figure(value, 3) for value in values)


def _of_a_photo(values: list[float]) -> str:
    """What a thousand photos more cost, by the straight line through the two larger sizes."""
    return _figure(max(0.0, 1000 * (values[2] - values[1]) / 90_000), 2)


def _figure(value: float, digits: int) -> str:
    """With so many digits from 1 on, with two below, and 0 for what is next to nothing."""
    if value >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return "0" if value < 0.005 else f"{value:.{digits if value >= 1 else 2}g}"
