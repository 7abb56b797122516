"""What Dagster's webserver answers from, without its process. Not here: the UI in a browser (test_ui.py)."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import dagster as dg
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext, WorkspaceRequestContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget


@contextmanager
def answering(instance: dg.DagsterInstance, module: ModuleType) -> Iterator[WorkspaceRequestContext]:
    """The UI's context, with a module's `defs` as its code."""
    code = LoadableTargetOrigin(module_name=module.__name__, attribute="defs")
    target = InProcessWorkspaceLoadTarget(InProcessCodeLocationOrigin(code))
    with WorkspaceProcessContext(instance, target) as context:
        yield context.create_request_context()
