"""What networks do to requests, on purpose: a proxy before a real server that spoils one request in so many, by a seed.

    fail        503 with S3's SlowDown; the server never hears of it
    delay       the answer comes, late
    truncate    the server does its work, and half of its answer comes; nothing of an answer without a body

Not here: servers (servers.py).
"""

import contextlib
import http.client
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

KINDS = ("fail", "delay", "truncate")
SLOW_DOWN = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code></Error>'


@dataclass(frozen=True)
class Spoilt:
    """One request that was spoilt."""

    number: int
    """In the order of arrival, from 0."""
    kind: str
    method: str
    path: str


@dataclass
class FaultProxy:
    """A proxy that is up; what it did so far."""

    upstream: str
    """host:port of the server."""
    one_in: int
    seed: int
    kinds: Sequence[str]
    delay_s: float
    endpoint_url: str = ""
    num_requests: int = 0
    spoilt: list[Spoilt] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def draw(self, method: str, path: str) -> str | None:
        """What befalls the next request; the same for the same seed and number."""
        with self._lock:
            number = self.num_requests
            self.num_requests += 1
            chance = random.Random(f"{self.seed}/{number}")  # noqa: S311 - a test is repeatable
            if chance.randrange(self.one_in):
                return None
            kind = chance.choice(self.kinds)
            self.spoilt.append(Spoilt(number, kind, method, path))
            return kind


@contextlib.contextmanager
def spoiling(
    endpoint_url: str, *, one_in: int = 20, seed: int = 0, kinds: Sequence[str] = KINDS, delay_s: float = 0.5
) -> Iterator[FaultProxy]:
    """A proxy before the server at a URL, for the time of the `with`; clients are given its `endpoint_url`."""
    proxy = FaultProxy(urlsplit(endpoint_url).netloc, one_in, seed, kinds, delay_s)
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    with _Server(("127.0.0.1", 0), handler) as server:
        proxy.endpoint_url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # clients keep idle connections open
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are no news."""


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client. The signed Host header is passed on as it came, so signatures stay good."""

    proxy: FaultProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class named it
        """Requests are not news."""

    def _relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind = self.proxy.draw(self.command, self.path)
        if kind == "fail":
            self._answer(503, [("Content-Type", "application/xml")], SLOW_DOWN, len(SLOW_DOWN))
            return
        if kind == "delay":
            time.sleep(self.proxy.delay_s)
        status, headers, answer, length = self._ask(body)
        if kind != "truncate":
            self._answer(status, headers, answer, length)
        elif answer:
            self._answer(status, headers, answer[: len(answer) // 2], length)
        self.close_connection = kind == "truncate" or self.close_connection

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _relay  # noqa: N815 - the base class named them

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes, int]:
        """The server's answer: status, headers, body, and the length it announced."""
        connection = http.client.HTTPConnection(self.proxy.upstream, timeout=60)
        with contextlib.closing(connection):
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body or None)
            response = connection.getresponse()
            answer = response.read()
            kept = [
                (name, value)
                for name, value in response.getheaders()
                if name.lower() not in {"content-length", "transfer-encoding", "connection"}
            ]
            length = int(response.getheader("Content-Length") or len(answer))
            return response.status, kept, answer, length

    def _answer(self, status: int, headers: Sequence[tuple[str, str]], body: bytes, length: int) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()
