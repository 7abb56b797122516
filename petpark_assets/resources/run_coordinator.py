"""Dagster's queue of runs, which notes on each who asked for it; named in the instance's configuration (dagster.yaml).

    run_coordinator:
      module: petpark_assets.resources.run_coordinator
      class: LoginRunCoordinator
      config:
        secret: {env: PETPARK_PROXY_SECRET}

Whatever the client wrote into these two tags is overwritten. Not here: what the roles may do (login.py, webserver.py).
"""

from collections.abc import Mapping
from typing import Any, Self, cast

import dagster as dg
from dagster import Field, StringSource
from dagster._config import UserConfigSchema
from dagster._core.instance import T_DagsterInstance
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext
from dagster._core.workspace.context import WorkspaceRequestContext
from dagster._serdes import ConfigurableClassData

from petpark_assets.domain.errors import NotAllowed
from petpark_assets.resources.login import DAEMON, USER_TAG, VIEWER, Caller, checked_secret, read_caller


class LoginRunCoordinator(QueuedRunCoordinator[T_DagsterInstance]):
    """Stamps each run with the user and the role of whoever asked for it, before it is queued."""

    def __init__(self, *, secret: str, **queue: Any) -> None:
        super().__init__(**queue)
        self.secret = checked_secret(secret)

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """The queue's own settings, and the secret that the login proxy sends."""
        secret = Field(StringSource, description="What the login proxy sends with each request, to be known by.")
        return {**cast("Mapping[str, Any]", super().config_type()), "secret": secret}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """As Dagster makes it of the configuration."""
        return cls(inst_data=inst_data, **config_value)

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        """Stamp it and queue it. Raises NotAllowed for a viewer and for whoever comes past the proxy: the run fails."""
        run = context.dagster_run
        caller = self._caller(context)
        self._instance.add_run_tags(run.run_id, caller.tags)
        if caller.role == VIEWER:
            raise NotAllowed(f"{caller.user} is a viewer, and only operators and approvers may launch")
        return super().submit_run(context._replace(dagster_run=run.with_tags({**run.tags, **caller.tags})))

    def _caller(self, context: SubmitRunContext) -> Caller:
        source = _source(context)
        if source is not None:
            return read_caller(source.headers, self.secret)
        # The daemon, which has no request: it may say for whom (a backfill, a retry: webserver.py and this class wrote
        # that), and never has their role.
        return Caller(user=context.dagster_run.tags.get(USER_TAG, DAEMON), role=DAEMON)


def _source(context: SubmitRunContext) -> Any:
    """The request that a run was launched by, or None."""
    return context.workspace.source if isinstance(context.workspace, WorkspaceRequestContext) else None
