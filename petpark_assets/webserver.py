"""Dagster's webserver behind the login proxy: `python -m petpark_assets.webserver`, with dagster-webserver's options.

It answers nobody but the proxy, and lets each person do what their role may: buttons they may not press are grey.
Viewers are sent to a second one, started with `--read-only`. Not here: who is who (infra/proxy/), runs' tags
(resources/run_coordinator.py).
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from dagster._core.storage.tags import REPORTING_USER_TAG
from dagster._core.workspace.context import WorkspaceRequestContext
from dagster._core.workspace.permissions import PermissionResult, Permissions
from dagster_webserver import app, cli
from dagster_webserver.webserver import DagsterWebserver
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from petpark_assets.domain.errors import InvalidInput, NotAllowed
from petpark_assets.resources.login import APPROVER, VIEWER, Caller, read_caller
from petpark_assets.resources.run_coordinator import LoginRunCoordinator

FOR_APPROVERS = frozenset(
    {Permissions.DELETE_PIPELINE_RUN, Permissions.WIPE_ASSETS, Permissions.REPORT_RUNLESS_ASSET_EVENTS}
)
"""What deletes or forges the evidence of who did what: not for operators."""

WEBSOCKET_S = 600.0
"""How long a websocket stays open: who asks is known by its handshake alone, and may have lost their role since."""


class CallerContext(WorkspaceRequestContext):
    """A request's view of the workspace that knows who asks."""

    def __init__(self, caller: Caller, plain: WorkspaceRequestContext) -> None:
        super().__init__(
            instance=plain.instance,
            current_workspace=plain.get_current_workspace(),
            process_context=plain.process_context,
            version=plain.version,
            source=plain.source,
            read_only=plain.read_only or caller.role == VIEWER,
        )
        self._caller = caller

    @property
    def permissions(self) -> Mapping[str, PermissionResult]:
        """What this person may, everywhere."""
        return self._narrowed(super().permissions)

    def permissions_for_location(self, *, location_name: str) -> Mapping[str, PermissionResult]:
        """What this person may, with the assets and jobs of one code location."""
        return self._narrowed(super().permissions_for_location(location_name=location_name))

    def get_viewer_tags(self) -> dict[str, str]:
        """What Dagster writes over a client's tags of a backfill: the daemon launches its runs."""
        return self._caller.tags

    def get_reporting_user_tags(self) -> dict[str, str]:
        """What Dagster notes on an event that a person reports without a run."""
        return {REPORTING_USER_TAG: self._caller.user}

    def _narrowed(self, permissions: Mapping[str, PermissionResult]) -> Mapping[str, PermissionResult]:
        if self._caller.role == APPROVER:
            return permissions
        refused = PermissionResult(enabled=False, disabled_reason="Only an approver may do this")
        return {name: refused if name in FOR_APPROVERS else result for name, result in permissions.items()}


class OnlyFromProxy:
    """ASGI middleware that answers 403 to every request, of whatever path, that lacks the proxy's secret or a role."""

    def __init__(self, app: ASGIApp, secret: str) -> None:
        self._app = app
        self._secret = secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI calls it: for each request, and once with "lifespan"."""
        if scope["type"] in {"http", "websocket"}:
            try:
                read_caller(Headers(scope=scope), self._secret)
            except NotAllowed as refusal:
                await _refuse(str(refusal), scope, receive, send)
                return
        if scope["type"] == "websocket":
            receive = _for_a_while(receive, send)
        await self._app(scope, receive, send)


def _for_a_while(receive: Receive, send: Send) -> Receive:
    """A websocket that is closed when its time is over, however much it is told: Dagster's UI opens another."""
    clock = asyncio.get_running_loop().time
    end = clock() + WEBSOCKET_S

    async def receive_until_the_end() -> Message:
        if clock() < end:  # timeout_at alone lets through what has come already
            try:
                async with asyncio.timeout_at(end):
                    return await receive()
            except TimeoutError:
                pass
        await send({"type": "websocket.close", "code": 1001, "reason": "open another"})
        return {"type": "websocket.disconnect", "code": 1001}

    return receive_until_the_end


async def _refuse(reason: str, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": reason})
    else:
        await PlainTextResponse(f"{reason}\n", status_code=403)(scope, receive, send)


class LoginWebserver(DagsterWebserver[Any, Any]):
    """Dagster's webserver with both."""

    def build_middleware(self) -> list[Middleware]:
        """Dagster's own, behind ours."""
        return [Middleware(OnlyFromProxy, secret=self._secret), *super().build_middleware()]

    def _make_request_context(self, conn: HTTPConnection) -> CallerContext:
        return CallerContext(read_caller(conn.headers, self._secret), super()._make_request_context(conn))

    @property
    def _secret(self) -> str:
        coordinator = self._process_context.instance.run_coordinator
        if not isinstance(coordinator, LoginRunCoordinator):
            raise InvalidInput(
                f"dagster.yaml has the run coordinator {type(coordinator).__name__}: behind a login it must be "
                "LoginRunCoordinator (petpark_assets/resources/run_coordinator.py)"
            )
        return coordinator.secret


def main() -> None:
    """Dagster's own command line, which builds its app of the class by this name."""
    app.DagsterWebserver = LoginWebserver  # type: ignore[attr-defined]
    cli.main()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
