"""Chromium without a window: one for all tests of a worker, since its start and Plotly's cost more than most pages.

It is driven by its debugging protocol: JSON through two pipes, each message ended by a zero byte.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: apt-get install chromium to test the page in it"
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-pipe",
    "--js-flags=--no-flush-bytecode",  # the next page has the same Plotly
)  # fmt: skip
DRAWN = "document.documentElement.hasAttribute('data-plots')"  # or found that it cannot draw
PATIENCE = 240  # seconds


@dataclass(frozen=True)
class Visit:
    """What came of opening a page: its elements afterwards but for scripts, console messages, requests, an answer."""

    dom: str
    console: list[str]
    requests: list[str]
    said: Any


class Browser:
    """A Chromium with one tab, in which pages are opened one after another; `close` it."""

    def __init__(self, folder: Path) -> None:
        self._shown = folder / "shown.html"  # the compiled Plotly is kept for scripts of one address
        read, self._write = os.pipe()
        self._read, write = os.pipe()
        ends = [(os.POSIX_SPAWN_DUP2, read, 3), (os.POSIX_SPAWN_DUP2, write, 4)]
        quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
        command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
        self._process = os.posix_spawn(command[0], command, os.environ, file_actions=[*quiet, *ends])
        os.close(read)
        os.close(write)
        self._unread, self._calls, self._session = b"", 0, ""
        self._events: list[dict[str, Any]] = []
        tab = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for part in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{part}.enable")

    def close(self) -> None:
        """Ends the process."""
        with suppress(BrokenPipeError):
            self._send("Browser.close", {})
        os.waitpid(self._process, 0)
        os.close(self._read)
        os.close(self._write)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a command of the protocol."""
        number = self._send(method, params)
        while (found := self._next()).get("id") != number:
            self._events.append(found)
        assert "error" not in found, f"{method}: {found['error']}"
        return found["result"]

    def open(self, path: Path, width: int = 1400, height: int = 900) -> None:
        """Load a file, and everything that it names."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.evaluate("document.body.replaceChildren()")  # what the last page has open is not heard of any more
        self._events.clear()
        self._shown.unlink(missing_ok=True)
        self._shown.symlink_to(path)
        self.call("Page.navigate", url=self._shown.as_uri())
        self._until("Page.loadEventFired")

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page; of a promise, what it becomes."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Until an expression in the page is true."""
        end = time.monotonic() + PATIENCE
        while not self.evaluate(condition):
            assert time.monotonic() < end, f"not so after {PATIENCE} s: {condition}"
            time.sleep(0.02)

    def printed(self) -> bytes:
        """The page as PDF."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    def console(self) -> list[str]:
        """What the console shows since the page was opened: messages, exceptions, complaints of the browser."""
        return [text for event in self._events if (text := _message(event["method"], event["params"]))]

    def requests(self) -> list[str]:
        """Addresses that the page asked for, but for files and what it holds itself."""
        asked = [e["params"]["request"]["url"] for e in self._events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]

    def _until(self, method: str) -> None:
        while not any(event["method"] == method for event in self._events):
            self._events.append(self._next())

    def _send(self, method: str, params: Mapping[str, Any]) -> int:
        self._calls += 1
        message = {"id": self._calls, "method": method, "params": params}
        text = json.dumps(message | ({"sessionId": self._session} if self._session else {}))
        left = text.encode() + b"\0"
        while left:
            left = left[os.write(self._write, left) :]
        return self._calls

    def _next(self) -> dict[str, Any]:
        parts = [self._unread]
        while b"\0" not in parts[-1]:
            ready, _, _ = select.select([self._read], [], [], PATIENCE)
            assert ready, f"the browser says nothing for {PATIENCE} s"
            parts.append(os.read(self._read, 1 << 20))
            assert parts[-1], "the browser has ended"
        message, _, self._unread = b"".join(parts).partition(b"\0")
        return json.loads(message)


def _message(method: str, params: dict[str, Any]) -> str:
    if method == "Runtime.consoleAPICalled":
        return " ".join(str(part.get("value", part.get("description"))) for part in params["args"])
    if method == "Runtime.exceptionThrown":
        details = params["exceptionDetails"]
        return str(details.get("exception", {}).get("description", details["text"]))
    return str(params["entry"]["text"]) if method == "Log.entryAdded" else ""


def visit(browser: Browser, path: Path, *, until: str = DRAWN, script: str = "null", width: int = 1400) -> Visit:
    """Open a file, wait for a state of it, and then ask it something: `script` is an expression, or a promise."""
    browser.open(path, width)
    browser.wait_for(until)
    said = browser.evaluate(script)
    # Two frames, and what is due after them.
    browser.evaluate("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(r, 50))))")
    console, requests = browser.console(), browser.requests()
    browser.evaluate("document.querySelectorAll('script').forEach(one => one.remove())")
    return Visit(browser.evaluate("document.documentElement.outerHTML"), console, requests, said)
