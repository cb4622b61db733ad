"""One PHP process on the host: started through the hops, greeted, asked, ended."""

from __future__ import annotations

import collections
import contextlib
import fcntl
import logging
import os
import secrets
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from moodlectl import spent
from moodlectl.errors import MoodlectlError
from moodlectl.site import frames, program, trouble
from moodlectl.site.port import BEGUN, OnProgress, Progress
from moodlectl.site.shell import Shell

log = logging.getLogger(__name__)

LAST_LINES: Final = 25


@dataclass(frozen=True)
class Hello:
    """Who answers on the host: Moodle's release, PHP, the system user, who acts, and the state of the site.

    ``more`` is the whole event; ``identifier_hash`` is the md5 that backups of this site carry.
    """

    release: str
    version: str
    php: str
    user: str
    dataroot_owner: str
    wwwroot: str
    acting_id: int
    acting: str
    identifier_hash: str | None
    upgrade_pending: bool
    maintenance: bool
    more: Mapping[str, Any]

    @classmethod
    def parse(cls, event: Mapping[str, Any]) -> Hello:
        """From the ``hello`` event of ``php/core.php``."""
        return cls(
            release=str(event["release"]),
            version=str(event["version"]),
            php=str(event["php"]),
            user=str(event["user"]),
            dataroot_owner=str(event["dataroot_owner"]),
            wwwroot=str(event["wwwroot"]),
            acting_id=int(event["acting"]["id"]),
            acting=str(event["acting"]["username"]),
            identifier_hash=event.get("identifier_hash"),
            upgrade_pending=bool(event.get("upgrade_pending")),
            maintenance=bool(event.get("maintenance") or event.get("cli_maintenance")),
            more=dict(event),
        )


@dataclass(frozen=True)
class Start:
    """What a session is started with; ``patience`` is how many seconds Moodle may take to start.

    ``code_cache`` is the host's folder for compiled code, empty where none is known yet, None where none is wanted.
    """

    shell: Shell
    moodle_dir: str
    php: str
    acting: str | None
    token_user: str | None
    patience: float
    deed: bool = False
    plain_database: bool = False
    code_cache: str | None = ""


@dataclass(frozen=True)
class Manner:
    """How a request is to be taken. ``deed`` is for one that changes something in a session that was not started for
    it: the host looks first whether it is in a state to be written to. ``fresh``: it forgets first what it remembers of
    courses."""

    deed: bool = False
    fresh: bool = False


PLAIN: Final = Manner()


class Session:
    """A PHP process that has started Moodle and waits for requests. Raises what its host reports.

    ``hello`` is what it greeted with; ``changes`` is for its runner to keep count with. One request at a time; after an
    exception other than an error the host reported, the session is ``broken`` and good for nothing but ``end``.
    """

    def __init__(self, start: Start) -> None:
        self._start = start
        self._arriving = memoryview(bytearray(frames.CHUNK))
        self._lines: collections.deque[str] = collections.deque(maxlen=LAST_LINES)
        self._out: Iterator[bytes] = iter(())
        self._pending = memoryview(b"")
        self._deadline: float | None = None
        self._noise = b""
        self.begun = False
        self._deed = start.deed
        self.broken = False
        self.answered = 0
        self.changes = 0
        self._greeted = False
        began = time.monotonic()
        self._process = start.shell.start(program.command(start.php, start.code_cache or ""))
        process = self._process
        assert process.stdin and process.stdout and process.stderr
        self._stdin, self._stdout = process.stdin, process.stdout
        os.set_blocking(self._stdin.fileno(), False)
        _widen(self._stdout.fileno())
        _widen(self._stdin.fileno())
        self._listener = threading.Thread(target=self._listen, args=(process.stderr,), daemon=True)
        self._listener.start()
        marker = secrets.token_hex(16)
        self._frames = frames.FrameReader(self._read, marker, self._printed)
        try:
            self.hello = self._greet(marker)
        except BaseException:
            self.broken = True
            self.end(grace=1.0)
            raise
        spent.add("start Moodle", time.monotonic() - began, spent.MOODLE)
        if start.code_cache:
            spent.used(spent.CODE_CACHE)

    def call(
        self,
        name: str,
        params: Mapping[str, Any],
        *,
        sink: Callable[[bytes], None] | None = None,
        source: Iterable[bytes] | None = None,
        on_progress: OnProgress | None = None,
        manner: Manner = PLAIN,
    ) -> Any:
        """Ask one thing and wait for its result; file content goes to ``sink`` and comes from ``source``."""
        self._deed = manner.deed or self._start.deed
        self.begun = False
        asked = {"call": name, "params": params, "deed": manner.deed, "fresh": manner.fresh}
        self._send([frames.request(asked)], source)
        self.broken = True  # until the answer is there
        began = time.monotonic()
        try:
            while True:
                frame = self._next()
                if isinstance(frame, bytes):
                    if sink is not None:
                        sink(frame)
                elif frame.get("event") == "result":
                    break
                else:
                    self._event(frame, on_progress)
        except _Reported as reported:
            # The host waits for the next request, unless PHP has ended or never took all of an upload.
            self.broken = reported.ending or source is not None
            raise reported.error from None
        self.broken = False
        self.answered += 1
        spent.of_host(frame, time.monotonic() - began)
        return frame.get("value")

    def end(self, grace: float = 5.0, *, force: bool = True) -> None:
        """Let the process end by itself, as its closed pipes ask it to; after the grace, make it, or leave it be."""
        process = self._process
        for pipe in (self._stdin, self._stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            if force:
                self._kill()
        except BaseException:
            if force:
                self._kill()
            raise
        self._listener.join(0.5)

    # --- the conversation -----------------------------------------------------------------------------------

    def _greet(self, marker: str) -> Hello:
        start = self._start
        text = program.program()
        first = {
            "marker": marker,
            "moodle_dir": start.moodle_dir,
            "as": start.acting,
            "token_user": start.token_user,
            "lang": "en",
            "deed": start.deed,
            "plain_database": start.plain_database,
            "code_cache": start.code_cache is not None,
        }
        self._deadline = time.monotonic() + start.patience
        self._send([b"%d\n" % len(text), text, frames.request(first)])
        try:
            while True:
                frame = self._next()
                if isinstance(frame, dict) and frame.get("event") == "hello":
                    break
                if isinstance(frame, dict):
                    self._event(frame, None)
        except _Reported as reported:
            raise reported.error from None
        self._deadline = None
        self._greeted = True
        return Hello.parse(frame)

    def _event(self, event: Mapping[str, Any], on_progress: OnProgress | None) -> None:
        match event.get("event"):
            case "progress":
                if on_progress is not None:
                    on_progress(_progress(event))
            case "log":
                for line in str(event.get("text", "")).splitlines():
                    self._note("printed", line)
            case "begun":
                self.begun = True
                if on_progress is not None:
                    on_progress(Progress(BEGUN, float(event.get("course") or 0)))
            case "error":
                error = trouble.translate(event, _placed(event.get("details")))
                raise _Reported(error, ending=bool(event.get("ending")))
            case other:
                log.debug("unknown event %r", other)

    def _next(self) -> Any:
        try:
            return self._frames.next()
        except frames.StreamEnded:
            raise self._explained() from None
        except frames.BadFrame as error:
            raise self._explained(f"the host's answer cannot be read: {error}") from error

    def _explained(self, what: str = "") -> MoodlectlError:
        """The error for an answer that will not come."""
        self.broken = True
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.1 if what else 5)
            self._listener.join(1.0)
        start = self._start
        return trouble.explain(
            trouble.End(
                where=str(start.shell),
                php=start.php,
                status=self._process.poll(),
                lines=[*self._lines],
                greeted=self._greeted,
                begun=self.begun,
                deed=self._deed,
                what=what,
            )
        )

    # --- bytes ----------------------------------------------------------------------------------------------

    def _send(self, parts: Iterable[bytes], source: Iterable[bytes] | None = None) -> None:
        def everything() -> Iterator[bytes]:
            yield from parts
            if source is not None:
                yield from frames.content(source)

        self._out = everything()
        self._pending = memoryview(b"")

    def _read(self, wanted: int) -> bytes:
        """Up to that many bytes of the answer; meanwhile what is to be sent goes out. Empty at the end."""
        while True:
            if not self._pending:
                self._pending = memoryview(next(self._out, b""))
            writing = [self._stdin] if self._pending else []
            wait = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
            readable, writable, _ = select.select([self._stdout], writing, [], wait)
            if readable:
                # By way of memory of our own: what os.read takes and gives back in part lets the process grow.
                came = os.readv(self._stdout.fileno(), [self._arriving[:wanted]])
                return bytes(self._arriving[:came])
            if writable:
                self._write()
            elif wait is not None:
                raise self._explained(f"Moodle did not start within {self._start.patience:g} seconds")

    def _write(self) -> None:
        try:
            written = os.write(self._stdin.fileno(), self._pending[: frames.CHUNK])
            self._pending = self._pending[written:]
        except BlockingIOError:
            return
        except BrokenPipeError:
            # The other side has ended; what it said last is still to be read.
            self._out, self._pending = iter(()), memoryview(b"")

    def _listen(self, stderr: Any) -> None:
        with contextlib.suppress(OSError, ValueError), stderr:
            rest = b""
            while chunk := os.read(stderr.fileno(), 65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._note("stderr", line.decode(errors="replace"))
                rest = rest[-65536:]
            self._note("stderr", rest.decode(errors="replace"))

    def _printed(self, noise: bytes) -> None:
        *lines, self._noise = (self._noise + noise[-65536:]).split(b"\n")
        for line in [*lines, self._noise]:
            self._note("stdout", line.decode(errors="replace"))
        self._noise = b""

    def _note(self, origin: str, line: str) -> None:
        line = line.rstrip()[:1000]
        if line:
            self._lines.append(line)
            log.debug("%s: %s", origin, line)

    def _kill(self) -> None:
        """End the whole group. What runs behind sudo or ssh ends by itself when its pipes are closed."""
        for how, wait in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(wait)
                return


class _Reported(Exception):
    """The host has answered with an error."""

    def __init__(self, error: MoodlectlError, *, ending: bool) -> None:
        super().__init__(error.message)
        self.error = error
        self.ending = ending


def _progress(event: Mapping[str, Any]) -> Progress:
    total = event.get("total")
    return Progress(
        phase=str(event.get("phase", "")),
        done=float(event.get("done") or 0),
        total=None if total is None else float(total),
        unit="bytes" if event.get("unit") == "bytes" else "steps",
        message=str(event.get("message") or ""),
    )


def _placed(details: Any) -> dict[str, Any]:
    """Details with a place in the program, which was evaluated, named by the file and line it came from."""
    placed = dict(details) if isinstance(details, dict) else {}
    if "at" in placed:
        placed["at"] = program.place(str(placed["at"]))
    return placed


def _widen(descriptor: int) -> None:
    """Let a pipe hold a whole frame, where the system can: fewer and larger reads."""
    with contextlib.suppress(AttributeError, OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, frames.CHUNK)
