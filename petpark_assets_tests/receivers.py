"""Real servers that alerts are sent to, on loopback: a webhook and a mail server that keep what they were told."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class WebReceiver:
    """A webhook."""

    port: int = 0
    status: int = 200
    """What it answers."""
    taken: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of requests that it answered with 200."""

    @property
    def url(self) -> str:
        """Its address, with a path that is a secret."""
        return f"http://127.0.0.1:{self.port}/hook/s3cret"


@contextmanager
def web_receiver(port: int = 0) -> Iterator[WebReceiver]:
    """An HTTP server that takes JSON by POST."""
    receiver = WebReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if receiver.status == 200:
                receiver.taken.append({**body, "Idempotency-Key": self.headers["Idempotency-Key"]})
            self.send_response(receiver.status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def do_GET(self) -> None:
            self.send_response(200)  # what a redirected POST would meet
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server, _serving(server):
        receiver.port = server.server_address[1]
        yield receiver


@dataclass
class MailReceiver:
    """A mail server (RFC 5321, as little of it as smtplib needs)."""

    port: int = 0
    is_refusing: bool = False
    """It answers every letter with a 554."""
    logins: list[str] = field(default_factory=list)
    """What came with AUTH."""
    taken: list[EmailMessage] = field(default_factory=list)
    """Letters."""


@contextmanager
def mail_receiver() -> Iterator[MailReceiver]:
    """An SMTP server without TLS."""
    receiver = MailReceiver()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 loopback")
            while line := self.rfile.readline().decode().strip():
                verb = line.split()[0].upper()
                if verb == "QUIT":
                    return self._say("221 bye")
                if verb == "EHLO":
                    self._say("250-loopback\r\n250 AUTH PLAIN")
                elif verb == "AUTH":
                    receiver.logins.append(line)
                    self._say("235 welcome")
                elif verb == "DATA":
                    self._take_letter()
                else:
                    self._say("250 ok")
            return None

        def _take_letter(self) -> None:
            self._say("354 go on")
            letter = message_from_bytes(b"".join(iter(self.rfile.readline, b".\r\n")), policy=SMTP)
            if receiver.is_refusing:
                return self._say("554 your password hunter2 is bad")
            receiver.taken.append(letter)
            return self._say("250 taken")

        def _say(self, words: str) -> None:
            self.wfile.write(f"{words}\r\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server, _serving(server):
        receiver.port = server.server_address[1]
        yield receiver


@contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
