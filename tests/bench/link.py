"""A slow link, for ssh: ``ProxyCommand python link.py HOST PORT MBIT_PER_S`` lets so much through, each way."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time

PIECE = 1 << 14


def pump(read: int, write: int, rate: float) -> None:
    """Bytes from one descriptor to the other at that many bytes a second at most, as a link does with a small buffer."""
    free = time.monotonic()
    while piece := os.read(read, PIECE):
        free = max(free, time.monotonic() - 0.05) + len(piece) / rate
        if (ahead := free - time.monotonic()) > 0:
            time.sleep(ahead)
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(write, rest) :]


def main(host: str, port: str, megabits: str) -> None:
    """Be the link until either side hangs up."""
    rate = float(megabits) * 1e6 / 8
    with socket.create_connection((host, int(port))) as far:
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        there = threading.Thread(target=pump, args=(0, far.fileno(), rate), daemon=True)
        there.start()
        pump(far.fileno(), 1, rate)


if __name__ == "__main__":
    main(*sys.argv[1:4])
