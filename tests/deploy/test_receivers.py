"""Each receiver of alertmanager.yml, tried by a real Alertmanager against a fake of its service."""

from __future__ import annotations

import json
import queue
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email import message_from_string
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
import yaml

from tests.running.monitoring import Web, start_alertmanager

LINK = "https://wiki.example/alerts#not-ready"
ALERT = {
    "labels": {"alertname": "NotReady", "severity": "critical"},
    "annotations": {"summary": "No recommendations", "description": "for a minute.", "runbook_url": LINK},
}


class MailServer(socketserver.ThreadingTCPServer):
    """Takes mail by SMTP, without encryption; `received` holds the messages."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        self.received: queue.Queue[Message] = queue.Queue()
        super().__init__(("127.0.0.1", 0), _MailSession)


class _MailSession(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self._say("220 ready")
        while line := self.rfile.readline().decode().strip():
            if line.startswith("EHLO"):
                self._say("250-fake\r\n250 AUTH PLAIN")
            elif line.startswith("AUTH"):
                self._say("235 welcome")
            elif line == "DATA":
                self._say("354 go on")
                self.server.received.put(message_from_string(self._read_message()))
                self._say("250 taken")
            elif line == "QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 fine")

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())

    def _read_message(self) -> str:
        lines = []
        while (line := self.rfile.readline().decode()) != ".\r\n":
            lines.append(line)
        return "".join(lines)


@pytest.fixture
def service() -> Iterator[Web]:
    with Web() as web:
        yield web


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    with MailServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextmanager
def critical_alert(folder: Path, receiver: str, adapt: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Route critical alerts to `receiver`, as alertmanager.yml says, and raise one until the block ends.

    `adapt` turns the receiver's address to the fake; its argument is the whole configuration.
    """

    def adapted(text: str) -> str:
        assert "receiver: chat-critical" in text
        config = yaml.safe_load(text.replace("receiver: chat-critical", f"receiver: {receiver}", 1))
        config["route"]["group_wait"] = "0s"
        adapt(config)
        return yaml.safe_dump(config)

    with start_alertmanager(folder, "http://127.0.0.1:9", adapted) as alertmanager:
        alert = {**ALERT, "startsAt": datetime.now(UTC).isoformat()}
        address = f"http://{alertmanager.address}/api/v2/alerts"
        body, headers = json.dumps([alert]).encode(), {"Content-Type": "application/json"}
        urlopen(Request(address, body, headers), timeout=5).close()
        yield


def settings_of(config: dict[str, Any], name: str) -> dict[str, Any]:
    """The settings of the receiver of this name; it has one kind and one entry."""
    receiver = next(each for each in config["receivers"] if each["name"] == name)
    (settings,) = receiver[f"{name}_configs"]
    return settings


def test_pagerduty_gets_an_event_with_key_and_link(tmp_path: Path, service: Web) -> None:
    def adapt(config: dict[str, Any]) -> None:
        settings_of(config, "pagerduty")["url"] = f"http://{service.address}/v2/enqueue"

    with critical_alert(tmp_path, "pagerduty", adapt):
        path, event = service.posted.get(timeout=20)
    assert (path, event["event_action"], event["routing_key"]) == (
        "/v2/enqueue",
        "trigger",
        "the pagerduty_key",
    )
    assert event["payload"]["severity"] == "critical"
    assert event["payload"]["summary"] == "NotReady: No recommendations"
    assert event["links"] == [{"href": LINK, "text": "runbook"}]


def test_opsgenie_gets_an_alert_that_rings(tmp_path: Path, service: Web) -> None:
    def adapt(config: dict[str, Any]) -> None:
        settings_of(config, "opsgenie")["api_url"] = f"http://{service.address}/"

    with critical_alert(tmp_path, "opsgenie", adapt):
        path, alert = service.posted.get(timeout=20)
    assert (path, alert["priority"]) == ("/v2/alerts", "P1")
    assert alert["message"] == "NotReady: No recommendations"
    assert LINK in alert["description"]


def test_a_webhook_gets_alertmanager_s_own_message(tmp_path: Path, service: Web) -> None:
    def adapt(config: dict[str, Any]) -> None:
        settings_of(config, "webhook")["url"] = f"http://{service.address}/alerts"

    with critical_alert(tmp_path, "webhook", adapt):
        path, message = service.posted.get(timeout=20)
    assert (path, message["status"]) == ("/alerts", "firing")
    assert message["alerts"][0]["annotations"]["runbook_url"] == LINK


def test_mail_has_a_subject_that_says_what_it_is(tmp_path: Path, mail_server: MailServer) -> None:
    def adapt(config: dict[str, Any]) -> None:
        config["global"]["smtp_smarthost"] = f"localhost:{mail_server.server_address[1]}"
        config["global"]["smtp_require_tls"] = False

    with critical_alert(tmp_path, "email", adapt):
        message = mail_server.received.get(timeout=20)
    assert message["Subject"] == "FIRING NotReady (critical)"
    assert message["To"] == "operations@shop.example"
    assert LINK in str(message)
