"""A small Dagster code location for the proxy's tests: something to launch, and something that only approvers may."""

import os
from pathlib import Path

import dagster as dg

from petpark_assets.domain.ledger import FileLedger
from petpark_assets.resources.login import approver_of


@dg.op
def work() -> None:
    """Nothing: whether it is launched is what matters."""


@dg.job(partitions_def=dg.StaticPartitionsDefinition(["v0001", "v0002"]))
def build() -> None:
    """What operators launch."""
    work()


@dg.op
def move_the_alias(context: dg.OpExecutionContext) -> None:
    """Note who approved, as a promotion does."""
    by = approver_of(context.run.tags, has_login=True)
    FileLedger(Path(os.environ["DAGSTER_HOME"]) / "ledger.jsonl", by).append("alias_moved", {"alias": "champion"})


@dg.job
def promote() -> None:
    """What approvers launch."""
    move_the_alias()


defs = dg.Definitions(jobs=[build, promote])
