"""Telling people that something is wrong: JSON to a webhook, and e-mail, with the standard library alone.

A receiver that does not take a message raises TransientError with one line, and nothing secret in it: a webhook's
path and a mail server's password are never shown, so receivers are no Dagster config, which the UI prints.
Not here: what is worth a message (sensors/run_failures.py), or the variables (environments.py).
"""

import ipaddress
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from petpark_assets.domain.errors import InvalidInput, TransientError

if TYPE_CHECKING:  # every command reads who is told; few tell, and these take 40 ms to import
    import smtplib
    from email.message import EmailMessage

TIMEOUT_S = 5.0
"""Of each wait for an answer: a tick has 60 s."""
MAIL_SYNTAX = "smtp://USER:PASSWORD@HOST:587/?from=ADDRESS&to=ADDRESS (smtps:// where TLS comes first)"


@dataclass(frozen=True, kw_only=True)
class Message:
    """What is told."""

    key: str
    """Names the event: whoever is told twice, after a crash, knows by it."""
    title: str
    """One line."""
    facts: Mapping[str, str | None]
    """By name; None where there is none."""


class Receiver(Protocol):
    """Somebody who is told."""

    def send(self, message: Message) -> None:
        """Raises TransientError, in one line, when it was not taken."""


@dataclass(frozen=True, kw_only=True)
class Log:
    """The process's log: who is told where nobody was named."""

    def send(self, message: Message) -> None:
        """Write a line."""
        logging.getLogger(__name__).warning("%s", message.title)


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """An address that takes JSON by POST: `text` for chat programs, and each fact by its name."""

    url: str = field(repr=False)

    def send(self, message: Message) -> None:
        """POST it; a redirection is refused, since it would drop the body. Raises TransientError."""
        import urllib.request
        from http.client import HTTPException
        from urllib.error import HTTPError, URLError

        class NoRedirect(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *_args: object, **_kwargs: object) -> None:
                """A POST that is redirected would be sent again as a GET, and be answered 200."""

        body = json.dumps({"text": message.title, "key": message.key, **message.facts}).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": message.key}
        request = urllib.request.Request(self.url, body, headers, method="POST")  # noqa: S310 - parse_webhook: http(s)
        host = urlsplit(self.url).hostname
        try:
            with urllib.request.build_opener(NoRedirect).open(request, timeout=TIMEOUT_S):
                return
        except HTTPError as error:
            with error:
                raise TransientError(f"the webhook at {host} answered {error.code} {error.reason}") from None
        except (URLError, OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise TransientError(f"the webhook at {host} cannot be reached: {reason}") from None


@dataclass(frozen=True, kw_only=True)
class Mail:
    """A mail server that takes messages for some people."""

    host: str
    port: int
    is_tls: bool
    """TLS from the first byte (smtps); otherwise STARTTLS where the server offers it."""
    user: str | None
    password: str | None = field(repr=False)
    sender: str
    recipients: tuple[str, ...]

    def send(self, message: Message) -> None:
        """Hand it over. Raises TransientError, also where a password would go in the clear over a network."""
        import smtplib

        try:
            with self._connect() as server:
                self._enter(server)
                refused = server.send_message(self._letter(message), self.sender, self.recipients)
        except smtplib.SMTPResponseException as error:  # its words may repeat what was sent
            raise TransientError(f"the mail server {self.host}:{self.port} answered {error.smtp_code}") from None
        except (OSError, smtplib.SMTPException) as error:
            kind = type(error).__name__
            raise TransientError(f"the mail server {self.host}:{self.port} cannot be used: {kind}") from None
        if refused:
            logging.getLogger(__name__).warning("the mail server refused %s", ", ".join(refused))

    def _connect(self) -> "smtplib.SMTP":
        import smtplib
        import ssl

        if self.is_tls:
            return smtplib.SMTP_SSL(self.host, self.port, timeout=TIMEOUT_S, context=ssl.create_default_context())
        return smtplib.SMTP(self.host, self.port, timeout=TIMEOUT_S)

    def _enter(self, server: "smtplib.SMTP") -> None:
        import ssl

        server.ehlo()
        is_private = self.is_tls or _is_loopback(self.host)
        if not self.is_tls and server.has_extn("starttls"):
            server.starttls(context=ssl.create_default_context())
            is_private = True
        if self.user is not None and self.password is not None:
            if not is_private:
                raise TransientError(f"the mail server {self.host}:{self.port} offers no TLS for the password")
            server.login(self.user, self.password)

    def _letter(self, message: Message) -> "EmailMessage":
        from email.message import EmailMessage
        from email.utils import formatdate

        letter = EmailMessage()
        letter["Subject"] = message.title[:200]
        letter["From"], letter["To"] = self.sender, ", ".join(self.recipients)
        letter["Date"], letter["Message-ID"] = formatdate(), f"<{message.key}@petpark>"
        lines = (f"{name}: {value}" for name, value in message.facts.items() if value is not None)
        letter.set_content("\n".join((message.title, "", *lines)))
        return letter


@dataclass(frozen=True, kw_only=True)
class Alerts:
    """Who is told, by name, and where links lead."""

    receivers: Mapping[str, Receiver] = field(default_factory=lambda: {"log": Log()})
    ui_url: str = "http://127.0.0.1:3000"
    """The Dagster UI, without a slash at its end."""


def parse_receivers(webhook: str | None, email: str | None) -> dict[str, Receiver]:
    """Who is named by two variables' values; the log where nobody is. Raises InvalidInput, without the values."""
    found: dict[str, Receiver] = {}
    if webhook:
        found["webhook"] = _parse_webhook(webhook)
    if email:
        found["email"] = _parse_mail(email)
    return found or {"log": Log()}


def _parse_webhook(url: str) -> Webhook:
    wanted = "PETPARK_ALERT_WEBHOOK must be an address of http:// or https:// without a user (it is not shown here)"
    place, _ = _parse_place(url, wanted, {"http", "https"})
    if place.username is not None:
        raise InvalidInput(wanted)
    return Webhook(url=url)


def _parse_mail(url: str) -> Mail:
    wanted = f"PETPARK_ALERT_EMAIL must be like {MAIL_SYNTAX}; its value is not shown here"
    place, port = _parse_place(url, wanted, {"smtp", "smtps"})
    told = parse_qs(place.query)
    recipients = tuple(address for names in told.get("to", []) for address in names.split(",") if address)
    if not recipients or not all("@" in address for address in recipients):
        raise InvalidInput(wanted)
    return Mail(
        host=str(place.hostname),
        port=port or (465 if place.scheme == "smtps" else 587),
        is_tls=place.scheme == "smtps",
        user=unquote(place.username) if place.username else None,
        password=unquote(place.password) if place.password else None,
        sender=told.get("from", recipients)[0],
        recipients=recipients,
    )


def _parse_place(url: str, wanted: str, schemes: set[str]) -> tuple[SplitResult, int | None]:
    """An address and its port. Raises InvalidInput with what is wanted, and never with the address."""
    try:
        place = urlsplit(url)
        port = place.port
    except ValueError:
        raise InvalidInput(wanted) from None
    if place.scheme not in schemes or not place.hostname:
        raise InvalidInput(wanted)
    return place, port


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
