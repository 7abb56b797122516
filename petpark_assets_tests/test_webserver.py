"""Claims about the webserver behind the login proxy that need no proxy. All others: proxy/test_password.py."""

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from petpark_assets import webserver
from petpark_assets_tests.proxy.asking import Address, free_port

SECRET = "0123456789abcdef" * 2
BY_PROXY = {"X-Petpark-Proxy": SECRET, "X-Petpark-User": "bob", "X-Petpark-Role": "operator"}


async def _echo(websocket: WebSocket) -> None:
    await websocket.accept()
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await websocket.send_text(await websocket.receive_text())


@pytest.fixture
def echo() -> Iterator[Address]:
    """A server behind our middleware, by the program that Dagster's runs in."""
    guarded = Middleware(webserver.OnlyFromProxy, secret=SECRET)
    app = Starlette(routes=[WebSocketRoute("/graphql", _echo)], middleware=[guarded])
    address = Address(free_port())
    server = uvicorn.Server(uvicorn.Config(app, port=address.port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield address
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("is_talking", [False, True])
def test_a_websocket_is_open_for_a_while_only(echo: Address, monkeypatch: pytest.MonkeyPatch, is_talking: bool):
    """Its login is that of its handshake: who lost their role would launch runs by it for as long as they like."""
    assert webserver.WEBSOCKET_S <= 600
    monkeypatch.setattr(webserver, "WEBSOCKET_S", 0.5)
    since = time.monotonic()
    with connect(f"ws://{echo}/graphql", additional_headers=BY_PROXY, proxy=None) as opened:
        opened.send("here")
        assert opened.recv(timeout=10) == "here"
        with pytest.raises(ConnectionClosed) as closed:
            _go_on(opened, is_talking=is_talking)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    assert time.monotonic() - since >= 0.5


def _go_on(opened, *, is_talking: bool) -> None:
    """For ten seconds at most, which raise another error."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if is_talking:
            opened.send("still here")
        opened.recv(timeout=10)
