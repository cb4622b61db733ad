"""A small file server that behaves like webservice/pluginfile.php, and lies, cuts and breaks as told."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

TOKEN = "5e1f0123456789abcdef0123456789ab"
PATH = "/webservice/pluginfile.php/11/backup/course/x.mbz"


@dataclass
class Answer:
    """How one request is answered; what is not said is as Moodle does it.

    ``cut`` is after how many bytes of the body the connection is dropped; ``reset`` drops it hard.
    """

    cut: int | None = None
    reset: bool = False
    status: int | None = None
    body: bytes | None = None
    kind: str = "application/vnd.moodle.backup"
    headers: dict[str, str | None] = field(default_factory=dict)
    ranges: bool = True
    length: bool = True


@dataclass
class Seen:
    """One request that arrived."""

    method: str
    path: str
    range: str | None
    token: str | None


class FileServer(ThreadingHTTPServer):
    """Serves ``content``; ``script`` answers the requests in turn, then everything is as Moodle does it."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.script: list[Answer | Callable[[], Answer]] = []
        self.otherwise = Answer()
        self.seen: list[Seen] = []

    @property
    def url(self) -> str:
        """The address of the site."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def next_answer(self) -> Answer:
        """What the script says to the request that is being answered."""
        answer = self.script.pop(0) if self.script else self.otherwise
        return answer() if callable(answer) else answer

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is nothing to tell."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: FileServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """A client must not ask this way: the token would be in the address."""
        self._answer(None)

    def do_POST(self) -> None:
        """The token comes in the body."""
        form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        self._answer((form.get("token") or [None])[0])

    def _answer(self, token: str | None) -> None:
        self.server.seen.append(Seen(self.command, self.path, self.headers.get("Range"), token))
        answer = self.server.next_answer()
        content = answer.body if answer.body is not None else self.server.content
        start, status = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked and answer.ranges and answer.body is None and int(asked.group(1)) < len(content):
            start, status = int(asked.group(1)), 206  # past the end Moodle sends all of it, with 200
        self.send_response(answer.status or status)
        told: dict[str, str | None] = {
            "Content-Type": answer.kind,
            "Content-Length": str(len(content) - start) if answer.length else None,
            "Etag": f'"{hashlib.sha1(content).hexdigest()}"' if answer.body is None else None,
            "Last-Modified": "Mon, 23 Nov 2026 12:00:00 GMT",
            "Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}" if status == 206 else None,
            "Connection": "close",
        }
        for name, value in {**told, **answer.headers}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        end = len(content) if answer.cut is None else min(start + answer.cut, len(content))
        self.wfile.write(content[start:end])
        self.wfile.flush()
        if answer.reset:
            import socket
            import struct

            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextmanager
def serving(content: bytes) -> Iterator[FileServer]:
    """A running server."""
    server = FileServer(content)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
