"""A gateway in front of a real web server that gives up on a slow answer in one of the ways real gateways do."""

from __future__ import annotations

import http.client
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

SECONDS = float(os.environ.get("MOODLECTL_GATEWAY_SECONDS", "5"))
"""How long the gateway waits for an answer before it gives up."""

PAGES = {
    "504": (504, "<html><head><title>504 Gateway Time-out</title></head><body>nginx</body></html>"),
    "502": (502, "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"),
    "page": (200, "<!DOCTYPE html><html><head><title>We'll be back soon</title></head><body>CDN</body></html>"),
}


class Gateway(ThreadingHTTPServer):
    """Passes requests on to ``upstream``. Calls of ``slow`` that take longer than ``seconds`` are given up.

    ``how``: ``504``, ``502``, ``page`` (an error page with status 200), ``drop`` (the connection is closed without an
    answer), ``reset`` (torn down). ``gave_up`` is set when that has happened; ``forwarded`` counts the slow calls.
    """

    daemon_threads = True

    def __init__(self, upstream: str, how: str = "504", seconds: float = SECONDS) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream, self.how, self.seconds = urlsplit(upstream), how, seconds
        self.slow = ("core_course_duplicate_course", "core_course_import_course")
        self.forwarded = 0
        self.gave_up = threading.Event()

    @property
    def url(self) -> str:
        """The address of the site behind it."""
        return f"http://127.0.0.1:{self.server_address[1]}{self.upstream.path}"


class Handler(BaseHTTPRequestHandler):
    """One request on its way."""

    server: Gateway
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self._pass_on()

    def do_POST(self) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        function = parse_qs(body.decode("utf-8", "replace")).get("wsfunction", [""])[0]
        slow = function in self.server.slow
        self.server.forwarded += slow
        host = self.server.upstream.netloc
        connection = http.client.HTTPConnection(host, timeout=self.server.seconds if slow else 600)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        try:
            connection.request(self.command, self.path, body, {**headers, "Host": host, "Connection": "close"})
            answer = connection.getresponse()
            content = answer.read()
        except TimeoutError:
            self._give_up()
            return
        finally:
            connection.close()
        self._answer(answer.status, content, answer.getheader("Content-Type") or "text/plain")

    def _give_up(self) -> None:
        self.close_connection = True
        if self.server.how in PAGES:
            status, page = PAGES[self.server.how]
            self._answer(status, page.encode(), "text/html")
        elif self.server.how == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        if self.server.how in ("drop", "reset"):
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR) if self.server.how == "drop" else self.connection.close()
        self.server.gave_up.set()

    def _answer(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def gateway(upstream: str, how: str = "504", seconds: float = SECONDS) -> Iterator[Gateway]:
    """A gateway that runs until the end of the block."""
    server = Gateway(upstream, how, seconds)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
