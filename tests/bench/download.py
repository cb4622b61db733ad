"""How fast a download is beside curl's: the same file, the same server, turn about.

    python tests/bench/download.py [--megabytes 500] [--rounds 5] [--rate 125]
    python tests/bench/download.py --url https://…/pluginfile.php/11/backup/course/x.mbz --site https://… <
    token

Without --url a small server on this machine sends the file as fast as the kernel can; with it a real site
does.
curl does not check what it writes; ``curl + sha1sum`` is what a careful person does by hand.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from moodlectl.secret import Secret
from moodlectl.site.webservice import WebService


def serve(path: str, ready: multiprocessing.Queue[int], rate: int) -> None:
    """Answer every request with the file, by sendfile, at most ``rate`` megabytes a second (0: no limit)."""
    listening = socket.create_server(("127.0.0.1", 0))
    ready.put(listening.getsockname()[1])
    size = Path(path).stat().st_size
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.moodle.backup\r\nContent-Length: {size}\r\n\r\n"
    with Path(path).open("rb") as file:
        while True:
            asker, _ = listening.accept()
            with asker:
                asked = b""
                while b"token=" not in asked:
                    asked += asker.recv(65536)
                asker.sendall(head.encode())
                sent = 0
                began = time.monotonic()
                while sent < size:
                    sent += os.sendfile(asker.fileno(), file.fileno(), sent, 1 << 20 if rate else 1 << 24)
                    if rate and (ahead := sent / (rate * 1e6) - (time.monotonic() - began)) > 0:
                        time.sleep(ahead)  # the pace of a network


def with_curl(url: str, token: Secret, destination: Path, *, check: bool) -> float:
    """Seconds for curl, the token on its standard input."""
    began = time.perf_counter()
    address = url.replace("/pluginfile.php", "/webservice/pluginfile.php")
    words = ["curl", "--silent", "--show-error", "--fail", "--data", "@-", "--output", str(destination)]
    subprocess.run([*words, address], input=f"token={token.reveal()}".encode(), check=True)
    if check:
        subprocess.run(["sha1sum", str(destination)], check=True, stdout=subprocess.DEVNULL)
    took = time.perf_counter() - began
    destination.unlink()
    return took


def with_moodlectl(site: str, url: str, token: Secret, destination: Path) -> float:
    """Seconds for our own download: hashed, compared, renamed."""
    service = WebService(site, token)
    began = time.perf_counter()
    service.download(url, destination)
    took = time.perf_counter() - began
    service.close()
    destination.unlink()
    return took


def main() -> None:
    """Measure, and print the medians and the ratios."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--megabytes", type=int, default=500)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--rate", type=int, default=0, help="megabytes a second, 0 for no limit")
    words.add_argument("--url")
    words.add_argument("--site")
    words.add_argument("--directory", type=Path, help="where to download to")
    asked = words.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.directory) as where:
        server = None
        if asked.url:
            site, url, token = asked.site, asked.url, Secret(sys.stdin.readline().strip())
        else:
            file = Path(where, "source.mbz")
            with file.open("wb") as out:
                out.write(b"\x1f\x8b")
                for _ in range(asked.megabytes):
                    out.write(os.urandom(1 << 20))
            ready: multiprocessing.Queue[int] = multiprocessing.Queue()
            server = multiprocessing.Process(target=serve, args=(str(file), ready, asked.rate), daemon=True)
            server.start()
            site, token = f"http://127.0.0.1:{ready.get()}", Secret("0" * 32)
            url = f"{site}/pluginfile.php/11/backup/course/source.mbz"
        target = Path(where, "arrived.mbz")
        times: dict[str, list[float]] = {"curl": [], "curl + sha1sum": [], "moodlectl": []}
        for _ in range(asked.rounds):
            times["curl"].append(with_curl(url, token, target, check=False))
            times["moodlectl"].append(with_moodlectl(site, url, token, target))
            times["curl + sha1sum"].append(with_curl(url, token, target, check=True))
        if server:
            server.terminate()
    medians = {name: statistics.median(each) for name, each in times.items()}
    for name, took in medians.items():
        print(f"{name:15} {took:8.3f} s   {', '.join(f'{one:.3f}' for one in times[name])}")
    print(f"speed beside curl:           {medians['curl'] / medians['moodlectl']:.2f}")
    print(f"speed beside curl + sha1sum: {medians['curl + sha1sum'] / medians['moodlectl']:.2f}")


if __name__ == "__main__":
    main()
