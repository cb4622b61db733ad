"""One course from site to site: moodlectl beside the shell loop an admin would write.

    python tests/bench/roundtrip.py MOODLE_SOURCE [--size S] [--runs 3]

Starts a private Moodle from that source directory (as the live suite does), generates a course, and moves it twice per
round, in turn: (a) ``admin/cli/backup.php`` on the host, ``scp`` to here and back, ``admin/cli/restore_backup.php``;
(b) ``moodlectl backup create --download`` and ``moodlectl restore --new``. Prints the medians, the ratio b/a, and the
largest resident memory of a moodlectl process here.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "live"))

from rig import LiveMoodle, start_site  # type: ignore[import-not-found]


def timed(deed: Callable[[], None]) -> float:
    start = time.perf_counter()
    deed()
    return time.perf_counter() - start


def run(*argv: str | Path, **options: object) -> str:
    return subprocess.run([str(a) for a in argv], check=True, capture_output=True, text=True, **options).stdout  # type: ignore[call-overload,no-any-return]


def shell_loop(moodle: LiveMoodle, course: str, folder: Path) -> None:
    remote = f"/tmp/bench-{os.getpid()}"
    ssh = ["ssh", "-F", str(moodle.ssh_config), moodle.ssh_alias]
    sudo = f"sudo -n -u {moodle.web_user}"
    cli = f"{moodle.moodle_dir}/admin/cli"
    run(*ssh, f"{sudo} mkdir -p {remote}")
    run(*ssh, f"{sudo} php {cli}/backup.php --courseshortname={course} --destination={remote}")
    name = run(*ssh, f"ls {remote}").split()[0]
    scp = ["scp", "-q", "-F", str(moodle.ssh_config)]
    run(*scp, f"{moodle.ssh_alias}:{remote}/{name}", folder / name)
    run(*scp, folder / name, f"{moodle.ssh_alias}:{remote}/back.mbz")
    run(*ssh, f"chmod 644 {remote}/back.mbz")
    run(*ssh, f"{sudo} php {cli}/restore_backup.php --file={remote}/back.mbz --categoryid=1")
    run(*ssh, f"rm -rf {remote}")


def measured(*argv: str | Path) -> int:
    """Run a command and return its largest resident memory in kilobytes."""
    process = subprocess.Popen([str(a) for a in argv], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return used.ru_maxrss


def moodlectl(config: Path, course: str, folder: Path, *, number: int) -> int:
    command = [sys.executable, "-m", "moodlectl", "--config", str(config), "--quiet"]
    backup = measured(*command, "backup", "create", course, "--download", folder, "--remove-remote")
    newest = max(folder.glob("*.mbz"), key=lambda p: p.stat().st_mtime)
    name = f"bench-{os.getpid()}-{number}"
    return max(backup, measured(*command, "restore", newest, "--new", "id:1", "--shortname", name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--size", default="S")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    moodle = start_site(options.source, size=options.size)
    course = f"GEN_{options.size}"
    try:
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work)
            config = folder / "config.toml"
            config.write_text(
                f'default = "bench"\n[sites.bench]\nurl = "{moodle.url}"\ntoken = "file:{folder}/token"\n'
                f'via = ["ssh:{moodle.ssh_alias}", "user:{moodle.web_user}"]\n'
                f'ssh_config = "{moodle.ssh_config}"\nmoodle_dir = "{moodle.moodle_dir}"\n'
            )
            token = folder / "token"
            token.touch(mode=0o600)
            token.write_text(moodle.tokens["admin"])
            loop, ours, memory = [], [], []
            for number in range(options.runs):
                a, b = folder / f"a{number}", folder / f"b{number}"
                a.mkdir()
                b.mkdir()
                loop.append(timed(lambda a=a: shell_loop(moodle, course, a)))
                ours.append(timed(lambda b=b, n=number: memory.append(moodlectl(config, course, b, number=n))))
                print(f"round {number + 1}: loop {loop[-1]:.1f} s, moodlectl {ours[-1]:.1f} s")
            ratio = statistics.median(b / a for a, b in zip(loop, ours, strict=True))
            peak = max(memory) / 1024
            print(f"median of moodlectl/loop: {ratio:.2f}; largest memory of moodlectl here: {peak:.0f} MB")
    finally:
        moodle.stop()


if __name__ == "__main__":
    main()
