"""Alerts reach real servers, and what is secret about those is never said."""

import socket

import pytest

from petpark_assets.domain.errors import InvalidInput, TransientError
from petpark_assets.resources.alerts import Log, Mail, Message, Webhook, parse_receivers
from petpark_assets_tests.receivers import mail_receiver, web_receiver

MESSAGE = Message(
    key="run-1",
    title="petpark: build v0001 failed in raw_images: Prüfsumme",
    facts={"step": "raw_images", "attempt": None, "link": "http://127.0.0.1:3000/runs/1"},
)


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_webhook_gets_the_facts_as_json():
    """`text` is what chat programs show; the key lets a receiver that is told twice know it."""
    with web_receiver() as web:
        Webhook(url=web.url).send(MESSAGE)
    (told,) = web.taken
    assert told == {"text": MESSAGE.title, "key": "run-1", "Idempotency-Key": "run-1", **MESSAGE.facts}


@pytest.mark.parametrize("status", [302, 404, 503])
def test_a_webhook_that_does_not_take_it_is_named_without_its_path(status: int):
    """The path of a chat program's webhook is its password; a redirection is no delivery."""
    with web_receiver() as web:
        web.status = status
        with pytest.raises(TransientError, match=rf"webhook at 127\.0\.0\.1 answered {status}") as met:
            Webhook(url=web.url).send(MESSAGE)
    assert web.taken == []
    assert "s3cret" not in str(met.value)


def test_a_receiver_that_is_down_is_one_line():
    """What is tried again must not fill the log with tracebacks."""
    port = _closed_port()
    for name, where in (
        ("webhook", f"http://127.0.0.1:{port}/s3cret"),
        ("email", f"smtp://127.0.0.1:{port}/?to=a@b.c"),
    ):
        receiver = parse_receivers(**{"webhook": None, "email": None, name: where})[name]
        with pytest.raises(TransientError, match=r"127\.0\.0\.1.* cannot be (reached|used)") as met:
            receiver.send(MESSAGE)
        assert "\n" not in str(met.value)
        assert "s3cret" not in str(met.value)


def test_a_letter_says_what_failed_and_where_to_look():
    """To every recipient, with the password of the address, decoded."""
    with mail_receiver() as mail:
        url = f"smtp://ada%40park:hunter2@127.0.0.1:{mail.port}/?from=petpark@park.example&to=a@park.example,b@park.example"
        parse_receivers(None, url)["email"].send(MESSAGE)
    (letter,) = mail.taken
    assert (letter["From"], letter["To"]) == ("petpark@park.example", "a@park.example, b@park.example")
    assert letter["Message-ID"] == "<run-1@petpark>"
    body = letter.get_content()
    assert "link: http://127.0.0.1:3000/runs/1" in body
    assert "Prüfsumme" in body
    assert "attempt" not in body
    assert mail.logins == ["AUTH PLAIN AGFkYUBwYXJrAGh1bnRlcjI="]


def test_a_letter_that_is_refused_is_one_line_without_the_server_s_words():
    """A server's answer may repeat what it was sent, the password too."""
    with mail_receiver() as mail:
        mail.is_refusing = True
        receiver = parse_receivers(None, f"smtp://127.0.0.1:{mail.port}/?to=a@park.example")["email"]
        with pytest.raises(TransientError, match=r"answered 554$"):
            receiver.send(MESSAGE)


def test_no_password_goes_in_the_clear_over_a_network(monkeypatch: pytest.MonkeyPatch):
    """Loopback is nobody's wire; any other server must offer TLS."""
    with mail_receiver() as mail:
        receiver = parse_receivers(None, f"smtp://ada:hunter2@127.0.0.1:{mail.port}/?to=a@park.example")["email"]
        monkeypatch.setattr("petpark_assets.resources.alerts._is_loopback", lambda _host: False)
        with pytest.raises(TransientError, match="offers no TLS for the password"):
            receiver.send(MESSAGE)
    assert (mail.logins, mail.taken) == ([], [])


def test_nobody_named_is_the_log(caplog: pytest.LogCaptureFixture):
    """A failure is never silent."""
    (receiver,) = parse_receivers(None, None).values()
    receiver.send(MESSAGE)
    assert isinstance(receiver, Log)
    assert caplog.messages == [MESSAGE.title]


def test_secrets_are_not_in_what_is_printed():
    """An object in a traceback or in a log must not carry them out."""
    shown = repr(parse_receivers("https://chat.example/s3cret", "smtps://ada:hunter2@mail.example/?to=a@b.c"))
    assert "s3cret" not in shown
    assert "hunter2" not in shown
    assert "port=465" in shown


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x/hunter2", "hunter2", "http://[hunter2", "http://ada:hunter2@host/",
        "smtp://ada:hunter2@host/", "smtp://a:hunter2@h:x/?to=b@c", "smtp://a:hunter2@h/?to=b",
    ],
)  # fmt: skip
def test_a_variable_that_cannot_be_used_is_refused_at_once_without_its_value(url: str):
    """An alert that is found wrong when the first run fails is none."""
    for told in ({"webhook": url, "email": None}, {"webhook": None, "email": url}):
        with pytest.raises(InvalidInput, match=r"PETPARK_ALERT_(WEBHOOK|EMAIL) must be") as met:
            parse_receivers(**told)
        assert "hunter2" not in str(met.value)


def test_receivers_are_told_apart_by_name():
    """Each has its own place in the list of failures."""
    named = parse_receivers("https://chat.example/x", "smtp://mail.example/?to=a@b.c")
    assert (type(named["webhook"]), type(named["email"])) == (Webhook, Mail)
