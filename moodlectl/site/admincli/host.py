"""The two ways to the host: Moodle's scripts as the web server's user, files as whoever logs in.

A sudo rule that allows nothing but ``php …/admin/cli/SCRIPT.php`` is enough; everything else is done, without a
shell's help, by the user of the hop before, in ``exchange_dir``.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import io
import logging
import os
import re
import secrets
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from moodlectl.config import SiteConfig
from moodlectl.errors import AccessError, Failed, MoodlectlError, OutcomeUnknown, Refused
from moodlectl.site.admincli import refusals, scripts
from moodlectl.site.admincli.scripts import Said
from moodlectl.site.port import OnProgress, Progress
from moodlectl.site.shell import Shell
from moodlectl.site.trouble import End, explain

log = logging.getLogger(__name__)

CHUNK: Final = 1 << 20
_KEPT_LINES: Final = 50_000
_SAID = re.compile(r"^(sudo|ssh|docker|kubectl|Error from server|OCI runtime)\b.*:|password is required", re.M)
_FATAL = re.compile(r"Fatal error: |Parse error: ")
_RULE = (
    "On the host, allow the scripts in sudoers: YOURNAME ALL=(www-data) NOPASSWD: "
    "/usr/bin/php {root}/admin/cli/backup.php *, … restore_backup.php *, … automated_backups.php, … delete_course.php *"
)


@dataclass(frozen=True)
class Done:
    """How a command for files ended."""

    status: int
    output: bytes
    errors: str


class Host:
    """One site's host, by its settings. ``close`` ends shared connections."""

    def __init__(self, config: SiteConfig) -> None:
        self._config = config
        self._roots = list(scripts.roots(config.moodle_dir or "."))
        self._scripts = Shell(config.via, config.ssh_config)
        carrier = config.via[:-1] if config.via and config.via[-1].startswith("user:") else config.via
        self._files = Shell(carrier, config.ssh_config)
        self._options: dict[str, frozenset[str]] = {}

    # --- scripts --------------------------------------------------------------------------------------------------

    def script(
        self,
        name: str,
        options: Sequence[str],
        *,
        deed: bool = False,
        on_line: Callable[[str], None] | None = None,
    ) -> Said:
        """Run ``admin/cli/NAME`` and wait for its end, however long that takes; ``deed`` may change the site.

        Raises Refused (``engine_cannot``) where the release has no such script, what the hops mean where it did not
        start, and OutcomeUnknown where a deed was cut off at work.
        """
        last: MoodlectlError | None = None
        for root in tuple(self._roots):
            said = self._run(root, name, options, deed=deed, on_line=on_line)
            if scripts.no_such_script(said):
                why = f"there is no {scripts.script_path(root, name)}; this release may lack it, or moodle_dir is wrong"
                last = last or refusals.cannot(f"run {name}", why)
                continue
            trouble = self._not_started(root, said)
            if trouble is None:
                self._roots = [root]
                return said
            last = trouble
        assert last is not None
        raise last

    def options(self, name: str) -> frozenset[str]:
        """The options that this release's script knows, by its help. Reads only. Raises as ``script`` does."""
        if name not in self._options:
            self._options[name] = scripts.options_in(self.script(name, ["--help"]))
        return self._options[name]

    def _run(
        self,
        root: str,
        name: str,
        options: Sequence[str],
        *,
        deed: bool,
        on_line: Callable[[str], None] | None,
    ) -> Said:
        output: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
        command = [self._config.php, scripts.script_path(root, name), *options]
        try:
            with _started(self._scripts, command) as (process, errors):
                assert process.stdin is not None and process.stdout is not None
                process.stdin.close()
                with _buffered(process.stdout) as stdout:
                    for raw in stdout:
                        line = raw.decode(errors="replace").rstrip("\r\n")
                        output.append(line)
                        log.debug("%s: %s", name, line)
                        if on_line is not None:
                            on_line(line)
                status = process.wait()
        except BaseException as error:
            if deed:
                # What it says may still be on its way here: silence is no proof that it had not begun.
                begun = "had begun" if scripts.has_begun(tuple(output)) else "had begun or was about to"
                error.add_note(f"{name} {begun}; it may go on on the host to its end.")
            raise
        said = Said(status, tuple(output), tuple(errors().splitlines()))
        if deed and self._is_cut_off(said):
            raise OutcomeUnknown(
                f"{self._scripts}: the connection ended while admin/cli/{name} was at work.",
                "Look at the site: the script may have gone on to its end, or still be at it.",
                code="cut_off",
                details={"script": name, **said.evidence},
            )
        return said

    def _is_cut_off(self, said: Said) -> bool:
        """Whether a script at work came to an end that is not its own: the link broke, or it was killed."""
        if not scripts.has_begun(said.output):
            return False
        if said.status == 255:  # ssh's own, but PHP's too after a fatal error, which it then tells of
            return bool(self._scripts.words) and not any(_FATAL.search(line) for line in said.lines)
        return said.status < 0 or said.status in (129, 130, 137, 143)

    def _not_started(self, root: str, said: Said) -> MoodlectlError | None:
        """What kept the script from running at all, None where it ran."""
        if said.status == 0 or scripts.has_begun(said.output):
            return None
        text = "\n".join(said.errors)
        if said.status not in (126, 127, 137, 255) and said.status > 0 and not _SAID.search(text):
            return None
        if said.status == 255 and any(_FATAL.search(line) for line in said.lines):
            return None
        trouble = explain(End(str(self._scripts), self._config.php, said.status, list(said.lines[-10:])))
        if (trouble.code or "").startswith("sudo_"):
            trouble.hint = _RULE.format(root=root)
        return trouble

    # --- files ----------------------------------------------------------------------------------------------------

    def file(self, *command: str) -> Done:
        """Run a command for files as the user who logs in. Raises what the hops mean where it did not start."""
        with _started(self._files, command) as (process, errors):
            assert process.stdin is not None and process.stdout is not None
            process.stdin.close()
            with _buffered(process.stdout) as stdout:
                output = stdout.read()
            done = Done(process.wait(), output, "")
        return self._ended(Done(done.status, done.output, errors()))

    def fetch(self, path: str, offset: int, take: Callable[[bytes], None]) -> None:
        """The bytes of a file on the host from ``offset`` on, piece by piece. Reads only. Raises AccessError."""
        with _started(self._files, ["tail", "-c", f"+{offset + 1}", "--", path]) as (process, errors):
            assert process.stdin is not None and process.stdout is not None
            process.stdin.close()
            while piece := process.stdout.read(CHUNK):
                take(piece)
            status = process.wait()
        done = self._ended(Done(status, b"", errors()))
        if done.status != 0:
            raise self._unusable(f"{path} cannot be read there", done)

    @contextlib.contextmanager
    def carried(self, path: Path, on_progress: OnProgress) -> Iterator[str]:
        """A local file on the host for the length of the block; yields its path there. Writes to the host.

        It lies in ``exchange_dir`` under a name nobody can guess, since the web server's user must be able to read
        it, is compared by sha1, and is removed afterwards whatever happens. Raises AccessError, Refused
        (``nospace``), Failed.
        """
        folder = self._config.exchange_dir
        if folder is None:
            raise refusals.no_exchange(self._config, "restoring")
        there = f"{folder.rstrip('/')}/moodlectl-{secrets.token_hex(16)}.mbz"
        try:
            sha1 = self._send(path, there, on_progress)
            self._checked("chmod", "0644", "--", there)
            arrived = self._checked("sha1sum", "--", there).output.decode(errors="replace").lstrip("\\")[:40]
            if arrived != sha1:
                raise Failed(
                    f"{path.name} did not arrive on the host as it is here.",
                    "Try again; nothing was changed on the site.",
                    code="upload",
                    details={"sha1": sha1, "arrived": arrived},
                )
            yield there
        finally:
            self._remove(there)

    def _send(self, path: Path, there: str, on_progress: OnProgress) -> str:
        digest, sent, size = hashlib.sha1(usedforsecurity=False), 0, path.stat().st_size
        with _started(self._files, ["dd", f"of={there}", "bs=1048576", "conv=excl"]) as (process, errors):
            assert process.stdin is not None
            with path.open("rb") as source, contextlib.suppress(BrokenPipeError):
                while piece := source.read(CHUNK):
                    _write(process.stdin, piece)
                    digest.update(piece)
                    sent += len(piece)
                    on_progress(Progress("upload", sent, size, "bytes"))
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            status = process.wait()
        done = self._ended(Done(status, b"", errors()))
        if "No space left" in done.errors or "quota exceeded" in done.errors.lower():
            raise Refused(
                f"There is no room for {path.name} in {self._config.exchange_dir} on the host.",
                f"It needs {size:,} bytes there, and again what it unpacks to in Moodle's data directory.",
                code="nospace",
                details={"said": done.errors.strip()},
            )
        if done.status != 0:
            raise self._unusable("you cannot write to it", done)
        return digest.hexdigest()

    def _remove(self, there: str) -> None:
        """Take a file away again; that it cannot be is no reason to hide what happened before."""
        try:
            done = self.file("rm", "-f", "--", there)
            said = done.errors.strip() if done.status != 0 else ""
        except MoodlectlError as trouble:
            said = trouble.message
        if said:
            log.warning("The backup sent to the host may still lie there: %s (%s)", there, said)

    def _checked(self, *command: str) -> Done:
        done = self.file(*command)
        if done.status != 0:
            raise self._unusable(f"{command[0]} failed there", done)
        return done

    def _ended(self, done: Done) -> Done:
        """The end of a file command, or what it means where the hops did not let it run."""
        if done.status in (126, 127, 255) or (done.status != 0 and _SAID.search(done.errors)):
            lines = done.errors.splitlines()[-10:]
            raise explain(End(str(self._files), "command", done.status, lines))
        return done

    def _unusable(self, what: str, done: Done) -> AccessError:
        return AccessError(
            f"exchange_dir {self._config.exchange_dir} on the host: {what}.",
            "Name a folder there that both you and the web server's user may use.",
            code="exchange_dir",
            details={"exit_status": done.status, "said": done.errors.strip()[-1000:]},
        )

    def close(self) -> None:
        """End shared connections."""
        self._scripts.close()
        self._files.close()


# --- processes -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _started(
    shell: Shell, command: Sequence[str]
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], str]]]:
    """A command at the end of the hops, ended with the block; its standard error is collected meanwhile."""
    process = shell.start(command)
    pieces: collections.deque[bytes] = collections.deque(maxlen=64)
    listener = threading.Thread(target=_collect, args=(process.stderr, pieces), daemon=True)

    def errors() -> str:
        listener.join(5)
        return b"".join(pieces).decode(errors="replace")

    try:  # a Ctrl-C from here on ends the command, also one before it said anything
        listener.start()
        yield process, errors
    except BaseException:
        _end(process)
        raise
    finally:
        if listener.is_alive():
            listener.join(1)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError, ValueError):
                    stream.close()


def _buffered(stream: IO[bytes]) -> io.BufferedReader:
    assert isinstance(stream, io.RawIOBase)  # the pipes come unbuffered
    return io.BufferedReader(stream)


def _collect(stream: IO[bytes], pieces: collections.deque[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError), stream:
        while piece := os.read(stream.fileno(), 65536):
            pieces.append(piece)


def _write(stream: IO[bytes], piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[stream.write(view) or 0 :]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole group; what runs behind ssh ends, or not, by itself."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2.0)
            return
