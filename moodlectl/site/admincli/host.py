"""Running Moodle's own scripts, and nothing else, as the web server's user; carrying files as whoever logs in.

What a sudo rule such as ``admin ALL=(www-data) NOPASSWD: /usr/bin/php /var/www/moodle/admin/cli/*`` allows is enough.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from moodlectl.config import SiteConfig
from moodlectl.errors import AccessError, Failed, OutcomeUnknown, Refused, Unreachable
from moodlectl.site.port import OnProgress, Progress
from moodlectl.site.shell import Shell
from moodlectl.site.trouble import End, explain

CHUNK = 1 << 20


@dataclass(frozen=True)
class Ended:
    """How a script ended. Its exit status proves nothing (``admin/cli/backup.php`` ends with 0 after errors)."""

    status: int
    output: str
    errors: str

    @property
    def lines(self) -> list[str]:
        """What it said, without blank lines."""
        return [line.strip() for line in (self.output + "\n" + self.errors).splitlines() if line.strip()]


class Host:
    """The two ways to the host: as the web server's user for the scripts, as the person for the files."""

    def __init__(self, config: SiteConfig) -> None:
        self._config = config
        self._scripts = Shell(config.via, config.ssh_config)
        carrying = config.via[:-1] if config.via and config.via[-1].startswith("user:") else config.via
        self._files = Shell(carrying, config.ssh_config)

    def script(self, name: str, *options: str, writes: bool = False) -> Ended:
        """Run ``admin/cli/NAME`` with those options and wait for its end.

        Raises AccessError, NotFound, Unreachable where it did not start, OutcomeUnknown where a script that writes
        was cut off.
        """
        path = f"{(self._config.moodle_dir or '').rstrip('/')}/admin/cli/{name}"
        ended = self._run(self._scripts, [self._config.php, path, *options], cut_off=writes)
        if "Could not open input file" in ended.output + ended.errors:
            raise Refused(
                f"This Moodle has no admin/cli/{name} in {self._config.moodle_dir}.",
                "Check --moodle-dir; older releases lack some of the scripts. The engine 'runner' needs none of them.",
                code="engine_cannot",
                details={"last_lines": ended.lines[-5:]},
            )
        if ended.status in (126, 127, 255) or _sudo_refuses(ended):
            raise explain(End(str(self._scripts), self._config.php, ended.status, ended.lines[-10:]))
        return ended

    def has_option(self, script: str, option: str) -> bool:
        """Whether this release's script knows an option: asked of its help. Reads only."""
        return f"--{option}" in self.script(script, "--help").output

    @contextlib.contextmanager
    def carried(self, path: Path, on_progress: OnProgress) -> Iterator[str]:
        """A local file brought to the host for the length of the block; yields its path there.

        It lies in a folder of its own with a name nobody can guess, below ``exchange_dir``, and is removed afterwards.
        Raises Refused without ``exchange_dir``, Failed where it did not arrive whole.
        """
        base = self._config.exchange_dir
        if base is None:
            raise Refused(
                f"The site '{self._config.name}' has engine 'admin-cli' but no folder to put backups in on its host.",
                'Make one that both you and the web server may use, and add  exchange_dir = "/path"  to the settings.',
                code="engine_cannot",
            )
        folder = f"{base.rstrip('/')}/moodlectl-{secrets.token_hex(12)}"
        self._file(["mkdir", "-m", "0711", "--", folder])
        try:
            there = f"{folder}/{secrets.token_hex(8)}.mbz"
            size = path.stat().st_size
            self._file(["dd", f"of={there}", "bs=1M", "status=none"], _chunks(path, size, on_progress))
            self._file(["chmod", "0644", "--", there])
            arrived = self._file(["stat", "-c", "%s", "--", there]).output.strip()
            if arrived != str(size):
                raise Failed(f"{path.name} did not arrive whole on the host: {arrived} of {size} bytes.", code="upload")
            yield there
        finally:
            self._file(["rm", "-rf", "--", folder], quietly=True)

    def _file(self, command: list[str], stdin: Iterable[bytes] = (), *, quietly: bool = False) -> Ended:
        try:
            ended = self._run(self._files, command, stdin)
        except Unreachable:
            if quietly:
                return Ended(1, "", "")
            raise
        if ended.status != 0 and not quietly:
            raise AccessError(
                f"'{command[0]}' failed in {self._config.exchange_dir} on the host.",
                "Both you and the web server's user must be able to use that folder.",
                code="exchange_dir",
                details={"last_lines": ended.lines[-5:]},
            )
        return ended

    def _run(
        self, shell: Shell, command: Sequence[str], stdin: Iterable[bytes] = (), *, cut_off: bool = False
    ) -> Ended:
        process = shell.start(command)
        try:
            _feed(process, stdin)
            out, err = process.communicate()
        except BaseException as error:
            _end(process)
            if cut_off:
                error.add_note("The script may go on on the host to its end.")
            raise
        ended = Ended(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))
        if cut_off and (ended.status == 255 or ended.status < 0) and ended.output:
            raise OutcomeUnknown(
                f"{shell}: the connection ended while the script worked.",
                "Look at the site: the script may have gone on to its end.",
                code="cut_off",
                details={"last_lines": ended.lines[-10:]},
            )
        return ended

    def close(self) -> None:
        """End shared connections."""
        self._scripts.close()
        self._files.close()


def _sudo_refuses(ended: Ended) -> bool:
    return ended.status == 1 and not ended.output.strip() and "sudo:" in ended.errors


def _feed(process: subprocess.Popen[bytes], stdin: Iterable[bytes]) -> None:
    assert process.stdin is not None
    for piece in stdin:
        view = memoryview(piece)
        while view:
            view = view[process.stdin.write(view) or 0 :]


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGTERM)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    process.wait()


def _chunks(path: Path, size: int, on_progress: OnProgress) -> Iterator[bytes]:
    done = 0
    with path.open("rb") as stream:
        while piece := stream.read(CHUNK):
            yield piece
            done += len(piece)
            on_progress(Progress("upload", done, size, "bytes"))
