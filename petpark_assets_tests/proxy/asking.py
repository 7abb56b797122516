"""How the proxy's tests ask: raw requests (a client that mends a path would hide a hole), websockets, GraphQL.

Not here: what must be answered.
"""

import base64
import http.client
import http.server
import json
import socket
import threading
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import quote

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

LOCATION = "park"
LAUNCH = """mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""


@dataclass(frozen=True)
class Address:
    """A port of this machine."""

    port: int

    def __str__(self) -> str:
        return f"127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Answer:
    """What came back; no status from a server that is not there."""

    status: int | None
    text: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        """Of JSON."""
        return json.loads(self.text)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def password(user: str, word: str | None = None) -> dict[str, str]:
    """The header of a person who logs in by password, by default with the right one."""
    told = base64.b64encode(f"{user}:{f'password of {user}' if word is None else word}".encode()).decode()
    return {"Authorization": f"Basic {told}"}


def ask(
    address: Address,
    path: str,
    *,
    method: str | None = None,
    query: str | None = None,
    variables: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """One request with exactly this path; a GraphQL `query` is posted unless the method is GET."""
    asked = json.dumps({"query": query, "variables": variables or {}})
    if query is not None and method == "GET":
        path = f"{path}?query={quote(query)}&variables={quote(json.dumps(variables or {}))}"
    method = method or ("GET" if query is None else "POST")
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=60)
    try:
        body = asked if query is not None and method == "POST" else None
        connection.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, answer.read().decode(errors="replace"), told)
    except ConnectionError:
        return Answer(None)
    finally:
        connection.close()


def launching(job: str, *, partition: str | None = None, **tags: str) -> dict[str, Any]:
    """The variables of LAUNCH, with tags of the client's own."""
    told = {f"petpark/{name}": value for name, value in tags.items()}
    told |= {"user": tags["user"]} if "user" in tags else {}
    told |= {"dagster/partition": partition} if partition else {}
    selector = {"repositoryLocationName": LOCATION, "repositoryName": "__repository__", "jobName": job}
    listed = [{"key": key, "value": value} for key, value in told.items()]
    return {"params": {"selector": selector, "runConfigData": {}, "executionMetadata": {"tags": listed}}}


def by_websocket(
    address: Address, query: str, variables: dict[str, Any] | None = None, headers: dict[str, str] | None = None
) -> dict[str, Any]:
    """The first answer to a GraphQL operation sent by a websocket; {"refused": status} where none is opened."""
    try:
        with connect(
            f"ws://{address}/graphql", subprotocols=["graphql-ws"], additional_headers=headers, proxy=None
        ) as socket_:
            socket_.send(json.dumps({"type": "connection_init"}))
            assert json.loads(socket_.recv(timeout=30))["type"] == "connection_ack"
            told = {"type": "start", "id": "1", "payload": {"query": query, "variables": variables or {}}}
            socket_.send(json.dumps(told))
            return dict(json.loads(socket_.recv(timeout=30)))
    except InvalidStatus as error:
        return {"refused": error.response.status_code}
    except ConnectionClosed as error:
        return {"refused": str(error)}


class Stranger:
    """A server that stands for MLflow or Ray and keeps what it is asked: only what reaches it matters here."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        """Method, path, and headers by lower-case name."""
        asked = self.asked

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}))
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - http.server's names

            def log_message(self, *_told: Any) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = Address(self._server.server_port)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
