"""The bytes of an answer as they arrive: straight into buffers that go round, whatever the server frames them in."""

from __future__ import annotations

import gzip
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import requests

from moodlectl.site.arriving import Arriving
from moodlectl.site.runningsha1 import BUFFER, RunningSha1

CONTENT = os.urandom(3 * BUFFER + 17)


def plain(handler: BaseHTTPRequestHandler) -> None:
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    handler.wfile.write(CONTENT)


def until_the_end(handler: BaseHTTPRequestHandler) -> None:
    handler.end_headers()
    handler.wfile.write(CONTENT)


def chunked(handler: BaseHTTPRequestHandler) -> None:
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for at in range(0, len(CONTENT), 70_001):
        piece = CONTENT[at : at + 70_001]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    handler.wfile.write(b"0\r\n\r\n")


def zipped(handler: BaseHTTPRequestHandler) -> None:
    body = gzip.compress(CONTENT, 1)
    handler.send_header("Content-Encoding", "gzip")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def answered(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[requests.Response]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        close_connection = True

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Connection", "close")
            answer(self)
            self.close_connection = True

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with requests.get(f"http://127.0.0.1:{server.server_port}/", stream=True, timeout=20) as response:
            yield response
        thread.join()


@pytest.mark.parametrize("answer", [plain, until_the_end, chunked, zipped])
def test_every_byte_arrives_in_turn_and_is_hashed(answer: Callable[[BaseHTTPRequestHandler], None]) -> None:
    running, got = RunningSha1(), bytearray()
    with answered(answer) as response:
        arriving = Arriving(response.raw, encoded=answer is zipped)
        head = arriving.first(4096)
        running.update(head)
        got += head
        while piece := arriving.into(running.buffer()):
            got += piece
            running.update(piece)
    assert bytes(got) == CONTENT
    assert running.hexdigest() == hashlib.sha1(CONTENT).hexdigest()
    running.close()


def test_a_lent_buffer_is_not_filled_anew_before_it_is_hashed() -> None:
    running, expected = RunningSha1(), hashlib.sha1()
    for number in range(60):  # 30 MiB: most of it is hashed by the thread
        buffer = running.buffer()
        buffer[:] = bytes([number]) * BUFFER
        running.update(buffer[: BUFFER - number])
        expected.update(bytes([number]) * (BUFFER - number))
    assert running.hexdigest() == expected.hexdigest()
    running.close()


def test_a_buffer_that_nothing_arrived_in_is_lent_again() -> None:
    running = RunningSha1()
    for _ in range(50):  # each a connection that broke
        buffer = running.buffer()
    buffer[:3] = b"abc"
    running.update(buffer[:3])
    assert running.hexdigest() == hashlib.sha1(b"abc").hexdigest()
    running.close()


def test_a_connection_that_stalls_is_told_as_such() -> None:
    def stalls(handler: BaseHTTPRequestHandler) -> None:
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT[:9000])
        handler.wfile.flush()
        waiting.wait(20)

    waiting = threading.Event()
    running = RunningSha1()
    with answered(stalls) as response:
        arriving = Arriving(response.raw, encoded=False)
        assert len(arriving.first(4096)) == 4096
        response.raw._fp.fp.raw._sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            arriving.into(running.buffer())
        waiting.set()
