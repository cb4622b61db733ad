"""Downloads over connections that break and servers that lie: whole and right, or an honest failure."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moodlectl.errors import (
    AccessError,
    Failed,
    MoodlectlError,
    NotFound,
    Refused,
    Unreachable,
)
from moodlectl.secret import Secret
from moodlectl.site import room
from moodlectl.site.patience import Patience
from moodlectl.site.port import Progress
from moodlectl.site.transfer import Downloaded
from moodlectl.site.webservice import WebService
from tests.faults.fileserver import PATH, TOKEN, Answer, FileServer, serving

CONTENT = b"\x1f\x8b" + random.Random(2026).randbytes(3_000_000)
SHA1 = hashlib.sha1(CONTENT).hexdigest()
OTHER = b"\x1f\x8b" + random.Random(1).randbytes(len(CONTENT) - 2)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(CONTENT) as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "x.mbz"


def fetch(server: FileServer, target: Path, *, attempts: int = 5, **more: object) -> Downloaded:
    service = WebService(server.url, Secret(TOKEN), timeout=(5, 5))
    service.patience = Patience(attempts=attempts, sleep=lambda _: None)
    try:
        return service.download(f"{server.url}/pluginfile.php/11/backup/course/x.mbz", target, **more)  # type: ignore[arg-type]
    finally:
        service.close()


def part(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def failure(fetching: Callable[[], object]) -> MoodlectlError:
    with pytest.raises(MoodlectlError) as caught:
        fetching()
    shown = f"{caught.value.message} {caught.value.hint} {caught.value.details}"
    assert TOKEN not in shown
    assert caught.value.hint
    return caught.value


def is_whole(target: Path) -> bool:
    """The file is there with the right content, and nothing else is left."""
    return (
        hashlib.sha1(target.read_bytes()).hexdigest() == SHA1
        and sorted(each.name for each in target.parent.iterdir()) == [target.name]
    )


# --- when all is well


def test_a_file_arrives_whole_and_its_sha1_is_told(server: FileServer, target: Path) -> None:
    told: list[Progress] = []
    arrived = fetch(server, target, size=len(CONTENT), sha1=SHA1, on_progress=told.append)
    assert arrived == Downloaded(target, len(CONTENT), SHA1, 0)
    assert is_whole(target)
    assert told[-1] == Progress("download", len(CONTENT), len(CONTENT), "bytes")
    assert [each.done for each in told] == sorted(each.done for each in told)


def test_the_token_is_never_in_an_address(server: FileServer, target: Path) -> None:
    server.script = [Answer(cut=1_000_000), Answer(cut=1_000_000)]
    fetch(server, target)
    assert [(each.method, each.path, each.token) for each in server.seen] == [("POST", PATH, TOKEN)] * 3


def test_a_file_that_is_there_is_not_overwritten_unless_told(server: FileServer, target: Path) -> None:
    target.write_bytes(b"precious")
    assert type(failure(lambda: fetch(server, target))) is Refused
    assert target.read_bytes() == b"precious"
    assert server.seen == []
    fetch(server, target, overwrite=True)
    assert is_whole(target)


# --- connections that break


@pytest.mark.parametrize("seed", range(12))
def test_connections_cut_at_random_bytes_end_in_the_whole_file(
    server: FileServer, target: Path, seed: int
) -> None:
    chance = random.Random(seed)
    server.script = [
        Answer(cut=chance.randrange(70_000, 1_200_000), reset=chance.random() < 0.5)
        for _ in range(chance.randrange(1, 9))
    ]
    assert fetch(server, target, size=len(CONTENT)).sha1 == SHA1
    assert is_whole(target)
    assert all(each.range for each in server.seen[1:]), "every later request goes on where it stopped"


@pytest.mark.parametrize("cut", [0, 1, 2, 4095, 4096, 4097, 1 << 20, len(CONTENT) - 1])
def test_what_was_cut_at_an_edge_is_gone_on_with(server: FileServer, target: Path, cut: int) -> None:
    server.script = [Answer(cut=cut)]
    fetch(server, target)
    assert is_whole(target)


def test_a_connection_that_never_gets_on_is_given_up_and_the_part_stays(
    server: FileServer, target: Path
) -> None:
    server.script = [Answer(cut=500_000)]
    server.otherwise = Answer(cut=0)
    error = failure(lambda: fetch(server, target, attempts=3))
    assert type(error) is Unreachable
    assert "goes on" in str(error.hint)
    assert part(target).read_bytes() == CONTENT[:500_000]
    assert not target.exists()
    server.otherwise = Answer()
    server.seen.clear()
    assert fetch(server, target).resumed_from == 500_000
    assert server.seen[0].range == "bytes=500000-"
    assert is_whole(target)


def test_a_server_that_stops_sending_is_not_waited_for_forever(target: Path) -> None:
    held = threading.Event()

    def hold() -> Answer:
        held.wait(10)
        return Answer()

    with serving(CONTENT) as server:
        server.script = [hold]
        service = WebService(server.url, Secret(TOKEN), timeout=(1, 0.2))
        service.patience = Patience(attempts=1, sleep=lambda _: None)
        url = f"{server.url}/pluginfile.php/11/backup/course/x.mbz"
        assert failure(lambda: service.download(url, target)).code == "timeout"
        service.close()
        held.set()


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_gateway_in_trouble_is_asked_again(server: FileServer, target: Path, status: int) -> None:
    page = Answer(status=status, body=b"<html><title>Gateway</title></html>", kind="text/html")
    server.script = [page, Answer(cut=100_000), page]
    fetch(server, target)
    assert is_whole(target)


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_download_goes_on_where_it_was_killed(server: FileServer, target: Path, seed: int) -> None:
    stop_at = random.Random(seed).randrange(100_000, 2_900_000)
    gate = threading.Event()

    def dawdle() -> Answer:
        return Answer(cut=stop_at)

    def hold() -> Answer:
        gate.wait(20)
        return Answer()

    server.script = [dawdle, hold]
    program = (
        "import sys; from pathlib import Path; from moodlectl.secret import Secret\n"
        "from moodlectl.site.webservice import WebService\n"
        "WebService(sys.argv[1], Secret(sys.stdin.read())).download(sys.argv[2], Path(sys.argv[3]))\n"
    )
    url = f"{server.url}/pluginfile.php/11/backup/course/x.mbz"
    words = [sys.executable, "-c", program, server.url, url, str(target)]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        assert process.stdin
        process.stdin.write(TOKEN.encode())
        process.stdin.close()
        deadline = time.monotonic() + 20
        while len(server.seen) < 2 and time.monotonic() < deadline:
            threading.Event().wait(0.02)
        process.send_signal(signal.SIGKILL)
    gate.set()
    assert not target.exists()
    there = part(target).stat().st_size
    assert 0 < there <= stop_at
    assert fetch(server, target).resumed_from == there
    assert is_whole(target)


# --- servers that lie or do not know ranges


def test_a_200_is_never_appended(server: FileServer, target: Path) -> None:
    server.script = [Answer(cut=700_000), Answer(ranges=False)]
    assert fetch(server, target).resumed_from == 0
    assert is_whole(target)


def test_a_range_that_begins_elsewhere_is_never_appended(server: FileServer, target: Path) -> None:
    wrong = {"Content-Range": f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}"}
    server.script = [Answer(cut=700_000), Answer(headers=dict(wrong))]
    fetch(server, target)
    assert is_whole(target)


def test_a_416_begins_anew(server: FileServer, target: Path) -> None:
    server.script = [Answer(cut=700_000), Answer(status=416, body=b"", kind="text/html")]
    fetch(server, target)
    assert is_whole(target)


def test_a_file_that_changed_meanwhile_is_begun_anew_and_never_mixed(target: Path) -> None:
    with serving(OTHER) as server:
        server.script = [Answer(cut=700_000)]
        server.otherwise = Answer(cut=0)
        failure(lambda: fetch(server, target, attempts=2))
        assert part(target).stat().st_size == 700_000
        server.content, server.otherwise = CONTENT, Answer()
        assert fetch(server, target).resumed_from == 0
        assert is_whole(target)


def test_a_file_that_changed_while_it_was_downloaded_is_begun_anew(target: Path) -> None:
    with serving(OTHER) as server:

        def change() -> Answer:
            server.content = CONTENT
            return Answer()

        server.script = [Answer(cut=700_000), change]
        fetch(server, target)
        assert is_whole(target)


def test_a_file_that_keeps_changing_is_given_up(target: Path) -> None:
    with serving(CONTENT) as server:

        def change() -> Answer:
            server.content = b"\x1f\x8b" + os.urandom(len(CONTENT) - 2)
            return Answer(cut=200_000)

        server.script = [change] * 40
        error = failure(lambda: fetch(server, target))
        assert (type(error), error.code) == (Failed, "changing")
        assert not target.exists()


def test_a_server_without_etags_is_gone_on_with_only_if_date_and_size_are_the_same(
    server: FileServer, target: Path
) -> None:
    bare: dict[str, str | None] = {"Etag": None}
    server.script = [Answer(cut=700_000, headers=dict(bare)), Answer(headers=dict(bare))]
    fetch(server, target)
    assert is_whole(target)
    target.unlink()
    later = {**bare, "Last-Modified": "Tue, 24 Nov 2026 12:00:00 GMT"}
    server.script = [Answer(cut=700_000, headers=dict(bare)), Answer(headers=later), Answer(headers=later)]
    server.seen.clear()
    fetch(server, target)
    assert is_whole(target)
    assert [each.range is None for each in server.seen] == [True, False, True]


def test_a_part_of_unknown_origin_is_not_gone_on_with(server: FileServer, target: Path) -> None:
    part(target).write_bytes(OTHER[:900_000])
    assert fetch(server, target).resumed_from == 0
    assert server.seen[0].range is None
    assert is_whole(target)


def test_a_damaged_part_is_noticed_and_downloaded_anew(server: FileServer, target: Path) -> None:
    server.script = [Answer(cut=700_000)]
    server.otherwise = Answer(cut=0)
    failure(lambda: fetch(server, target, attempts=2))
    with part(target).open("r+b") as file:
        file.seek(350_000)
        file.write(b"rotten")
    server.otherwise = Answer()
    fetch(server, target)
    assert is_whole(target)


@pytest.mark.parametrize("state", ["", "not json", "[]", '{"etag": 1}', '{"url": "x"}'])
def test_a_strange_note_beside_the_part_is_not_believed(server: FileServer, target: Path, state: str) -> None:
    part(target).write_bytes(OTHER[:900_000])
    part(target).with_name("x.mbz.part.json").write_text(state)
    fetch(server, target)
    assert is_whole(target)


def test_a_list_with_another_size_is_told_before_anything_is_downloaded(
    server: FileServer, target: Path
) -> None:
    error = failure(lambda: fetch(server, target, size=len(CONTENT) + 1))
    assert (type(error), error.code) == (Failed, "changed")
    assert not target.exists()


def test_a_list_with_another_sha1_is_told(server: FileServer, target: Path) -> None:
    error = failure(lambda: fetch(server, target, sha1="0" * 40))
    assert (type(error), error.code) == (Failed, "changed")


def test_content_that_is_not_its_etag_is_never_given_its_name(server: FileServer, target: Path) -> None:
    server.otherwise = Answer(headers={"Etag": '"' + "0" * 40 + '"'})
    assert type(failure(lambda: fetch(server, target))) is Failed
    assert not target.exists()


@pytest.mark.parametrize("lie", [len(CONTENT) + 1000, len(CONTENT) - 1000])
def test_a_length_that_is_a_lie_never_makes_a_file(server: FileServer, target: Path, lie: int) -> None:
    server.otherwise = Answer(headers={"Content-Length": str(lie)}, ranges=False)
    assert isinstance(failure(lambda: fetch(server, target, attempts=2)), Failed | Unreachable)
    assert not target.exists()


def test_a_length_nobody_told_is_fine_where_the_list_tells_it(server: FileServer, target: Path) -> None:
    server.script = [Answer(cut=700_000, length=False), Answer(length=False)]
    fetch(server, target, size=len(CONTENT))
    assert is_whole(target)


def test_without_any_length_the_etag_still_shows_a_file_cut_short(server: FileServer, target: Path) -> None:
    server.otherwise = Answer(cut=700_000, length=False)
    assert type(failure(lambda: fetch(server, target))) is Failed
    assert not target.exists()


# --- answers that are no file


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("invalidtoken", 200, AccessError),
        ("accessexception", 200, AccessError),
        ("sitemaintenance", 200, Unreachable),
        ("filenotfound", 404, NotFound),
    ],
)
@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/vnd.moodle.backup"])
def test_an_error_is_never_saved_as_a_backup(
    server: FileServer, target: Path, code: str, status: int, kind: type[MoodlectlError], content_type: str
) -> None:
    words = json.dumps({"error": f"No {TOKEN}", "errorcode": code, "stacktrace": None}).encode()
    server.otherwise = Answer(status=status, body=words, kind=content_type)
    error = failure(lambda: fetch(server, target))
    assert (type(error), error.code) == (kind, code)
    assert list(target.parent.iterdir()) == []


def test_a_web_page_is_never_saved_as_a_backup(server: FileServer, target: Path) -> None:
    server.otherwise = Answer(body=b"<!DOCTYPE html><html><title>Sign in</title></html>", kind="text/html")
    assert failure(lambda: fetch(server, target)).code == "webpage"
    assert not target.exists()


def test_a_redirect_is_not_followed_with_the_token(server: FileServer, target: Path) -> None:
    with serving(CONTENT) as elsewhere:
        login = {"Location": f"{elsewhere.url}/login/index.php"}
        server.otherwise = Answer(status=303, body=b"", headers=dict(login))
        assert failure(lambda: fetch(server, target)).code == "loginpage"
        assert elsewhere.seen == []


def test_what_is_neither_gzip_nor_zip_is_no_backup(server: FileServer, target: Path) -> None:
    server.otherwise = Answer(body=b"GIF89a" + bytes(5000))
    assert failure(lambda: fetch(server, target)).code == "notabackup"
    assert list(target.parent.iterdir()) == []


def test_an_error_in_the_middle_leaves_the_part(server: FileServer, target: Path) -> None:
    words = json.dumps({"error": "No", "errorcode": "invalidtoken"}).encode()
    server.script = [Answer(cut=700_000), Answer(body=words, kind="application/json")]
    assert type(failure(lambda: fetch(server, target))) is AccessError
    assert part(target).stat().st_size == 700_000
    assert fetch(server, target).resumed_from == 700_000


# --- this machine


def test_a_disk_without_room_is_said_before_anything_is_downloaded(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = room.shutil.disk_usage(target.parent)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    error = failure(lambda: fetch(server, target, size=len(CONTENT)))
    assert (type(error), error.code) == (Refused, "nospace")
    assert "1,000 bytes are free" in error.message
    assert server.seen == []


def test_a_disk_that_fills_up_on_the_way_is_said_in_its_own_words(target: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(Refused, match="bytes are free"), room.room_told(target):
        raise Failed("Cannot write.") from full
    with pytest.raises(Failed, match="Cannot write"), room.room_told(target):
        raise Failed("Cannot write.") from OSError(errno.EIO, "Input/output error")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk: needs root")
def test_a_disk_that_fills_up_keeps_what_has_arrived(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]
    mounted = subprocess.run(mount, capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount here")
    try:
        with serving(CONTENT) as server:
            server.otherwise = Answer(length=False)
            error = failure(lambda: fetch(server, small / "x.mbz"))
        assert (type(error), error.code) == (Refused, "nospace")
        assert part(small / "x.mbz").stat().st_size > 0
        assert not (small / "x.mbz").exists()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_two_downloads_do_not_write_the_same_part(server: FileServer, target: Path) -> None:
    with room.only_one(target):
        error = failure(lambda: fetch(server, target))
    assert (type(error), error.code) == (Refused, "busy")
    fetch(server, target)
    assert is_whole(target)


def test_memory_does_not_grow_with_the_file(target: Path) -> None:
    import tracemalloc

    with serving(b"\x1f\x8b" + bytes(64 << 20)) as server:
        tracemalloc.start()
        fetch(server, target)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 16 << 20
