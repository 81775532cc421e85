"""A headless Chromium that tells what a page asked for and what went wrong, over the DevTools protocol."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import websocket

START_S: Final = 60
LOAD_S: Final = 60
QUIET_S: Final = 0.1  # without a message after the page was loaded: it asks for nothing more
FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",  # containers have little
    "--remote-debugging-port=0",
)


@dataclass
class Visit:
    """Requests and errors of one page."""

    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Browser:
    """One tab. Not thread-safe."""

    def __init__(self, socket: websocket.WebSocket) -> None:
        self._socket = socket
        self._last_id = 0
        self._visit = Visit()
        self._seen: set[str] = set()
        self._watch(None)
        self._call("Page.enable")

    def open(self, url: str) -> Visit:
        """Load a page and wait until it asks for nothing more."""
        self._visit = Visit()
        self._seen.clear()
        self._call("Page.navigate", url=url)
        self._wait_for(lambda: "Page.loadEventFired" in self._seen)
        self._settle()
        return self._visit

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def write(self, text: str) -> None:
        """Type into the element that has the focus."""
        self._call("Input.insertText", text=text)

    def wait_until(self, script: str) -> Visit:
        """Wait until an expression is true, and the page asks for nothing more."""
        self._wait_for(lambda: bool(self.evaluate(script)))
        self._settle()
        return self._visit

    def _watch(self, session: str | None) -> None:
        """Have a page's or a worker's requests and errors reported, and those of workers that it starts."""
        for method in ("Network.enable", "Runtime.enable", "Log.enable"):
            self._send(method, session)
        workers = {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": True}
        self._send("Target.setAutoAttach", session, **workers)
        self._send("Runtime.runIfWaitingForDebugger", session)

    def _send(self, method: str, session: str | None = None, **parameters: Any) -> int:
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": parameters}
        self._socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        return self._last_id

    def _call(self, method: str, **parameters: Any) -> Any:
        call, answer = self._send(method, **parameters), None
        while answer is None or answer.get("id") != call:
            answer = self._receive(LOAD_S)
            assert answer is not None, f"no answer to {method} within {LOAD_S} s"
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + LOAD_S
        while not condition():
            assert time.monotonic() < until, f"not loaded within {LOAD_S} s: {self._visit}"
            self._receive(QUIET_S)

    def _settle(self) -> None:
        while self._receive(QUIET_S) is not None:
            pass

    def _receive(self, timeout_s: float) -> dict[str, Any] | None:
        self._socket.settimeout(timeout_s)
        try:
            message: dict[str, Any] = json.loads(self._socket.recv())
        except websocket.WebSocketTimeoutException:
            return None
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, about: dict[str, Any]) -> None:
        self._seen.add(event)
        if event == "Target.attachedToTarget":
            self._watch(about["sessionId"])
        elif event == "Network.requestWillBeSent":
            self._visit.requests.append(about["request"]["url"])
        elif event == "Log.entryAdded" and about["entry"]["level"] == "error":
            self._visit.errors.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")
        elif event == "Runtime.exceptionThrown":
            self._visit.errors.append(str(about["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and about["type"] in ("error", "assert"):
            self._visit.errors.append(str(about["args"]))


@contextmanager
def open_browser(folder: Path) -> Iterator[Browser]:
    """A browser with a new profile in ``folder``, until the block ends. Skips without Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium; apt-get install chromium")
    with (folder / "chromium.log").open("wb") as log:
        command = [chromium, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        socket = websocket.create_connection(_tab(folder, process), timeout=START_S, suppress_origin=True)
        try:
            yield Browser(socket)
        finally:
            socket.close()
    finally:
        process.terminate()
        process.wait()


def _tab(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """The address of the first tab's socket. Chromium writes the port that it got into its profile."""
    written, until = folder / "DevToolsActivePort", time.monotonic() + START_S
    while not written.exists() or len(lines := written.read_text().split()) < 2:
        log = folder / "chromium.log"
        assert process.poll() is None, log.read_text(errors="replace")
        assert time.monotonic() < until, log.read_text(errors="replace")
        time.sleep(0.05)
    browser = websocket.create_connection(
        f"ws://127.0.0.1:{lines[0]}{lines[1]}", timeout=START_S, suppress_origin=True
    )
    try:
        browser.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
        answer = json.loads(browser.recv())
    finally:
        browser.close()
    (tab,) = [t["targetId"] for t in answer["result"]["targetInfos"] if t["type"] == "page"]
    return f"ws://127.0.0.1:{lines[0]}/devtools/page/{tab}"
