"""A page that follows what it shows: served to this machine alone, by the standard library, until it is interrupted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LOOPBACK = "127.0.0.1"
NAMES = (LOOPBACK, "localhost")


class LivePage(ThreadingHTTPServer):
    """Serves a page at / and its state at /state on 127.0.0.1.

    Args:
        render: state -> the page as text; called when the state is another. state: a short text that changes with what
            the page shows. port: 0 for any free one.
    """

    daemon_threads = True

    def __init__(self, render: Callable[[str], str], state: Callable[[], str], port: int = 0) -> None:
        self._render, self._state = render, state
        self._lock, self._made = threading.Lock(), ("", b"")
        super().__init__((LOOPBACK, port), _Handler)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{LOOPBACK}:{self.server_port}/"

    def state(self) -> str:
        """The present state."""
        return self._state()

    def page(self) -> bytes:
        """The page at the present state."""
        with self._lock:
            now = self._state()
            if self._made[0] != now or not self._made[1]:
                self._made = now, self._render(now).encode()
            return self._made[1]


class _Handler(BaseHTTPRequestHandler):
    server: LivePage  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        """Answer / and /state, and nothing else."""
        # Another site's page could point its own name at this machine and read the answer.
        if (self.headers.get("Host") or "").rpartition(":")[0] not in NAMES:
            return self._answer(HTTPStatus.FORBIDDEN, b"only for this machine", "text/plain")
        if self.path == "/":
            return self._answer(HTTPStatus.OK, self.server.page(), "text/html; charset=utf-8")
        if self.path == "/state":
            return self._answer(HTTPStatus.OK, self.server.state().encode(), "text/plain")
        return self._answer(HTTPStatus.NOT_FOUND, b"not found", "text/plain")

    def _answer(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""
