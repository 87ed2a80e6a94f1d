"""The server of a page that follows a training: for this machine alone, and nothing but the page."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from geomfeat.report.live_page import LivePage

STATE = {"now": "1", "rendered": 0}


@pytest.fixture
def server() -> Iterator[LivePage]:
    STATE.update(now="1", rendered=0)

    def render(state: str) -> str:
        STATE["rendered"] = int(STATE["rendered"]) + 1
        return f"<p>state {state}"

    with LivePage(render, lambda: str(STATE["now"])) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def ask(server: LivePage, path: str, host: str | None = None) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def test_the_page_follows_the_state_and_is_made_once_for_each(server: LivePage) -> None:
    assert server.url == f"http://127.0.0.1:{server.server_port}/"
    assert [ask(server, "/") for _ in range(2)] == [(200, "<p>state 1")] * 2
    assert STATE["rendered"] == 1
    STATE["now"] = "2"
    assert ask(server, "/state") == (200, "2")
    assert ask(server, "/") == (200, "<p>state 2")
    assert STATE["rendered"] == 2


def test_nothing_else_is_served_and_nobody_else_is_answered(server: LivePage) -> None:
    assert server.server_address[0] == "127.0.0.1"
    for path in ("/rows.jsonl", "/../etc/passwd", "/state/"):
        assert ask(server, path)[0] == 404
    for host in ("evil.example:80", "evil.example", "", "127.0.0.1.evil.example:80"):
        assert ask(server, "/", host)[0] == 403
    assert ask(server, "/", f"localhost:{server.server_port}")[0] == 200
