"""Where the time of a command went: a table on standard error, after everything else."""

from __future__ import annotations

import sys

from moodlectl.spent import CODE_CACHE, MOODLE, Spent, Step

_LEAST = 0.005  # seconds


def tell(account: Spent) -> None:
    """Print each step, the longest first, and what can be done about Moodle's own part."""
    steps = [step for step in account.steps if step.seconds >= _LEAST]
    elapsed = account.elapsed
    lines = [f"{'SECONDS':>9}  {'TIMES':>6}  {'QUERIES':>8}  {'DATABASE':>9}  {'WHOSE':<9}  STEP"]
    lines += [_line(step) for step in steps]
    told = sum(step.seconds for step in steps)
    if told < elapsed:
        lines.append(f"{elapsed - told:9.2f}  {'':6}  {'':8}  {'':9}  {'moodlectl':<9}  everything else here")
    lines.append(f"{elapsed:9.2f}  in all" + (", steps side by side" if told > elapsed * 1.02 else ""))
    lines.append("used: " + (", ".join(sorted(account.session)) or "as the site has it"))
    lines += advice(steps, account.session)
    sys.stderr.write("\n".join(lines) + "\n")


def advice(steps: list[Step], session: set[str]) -> list[str]:
    """What an administrator can do about the time that is Moodle's own."""
    moodle = [step for step in steps if step.whose == MOODLE]
    seconds = sum(step.seconds for step in moodle)
    database = sum(step.database for step in moodle)
    queries = sum(step.queries for step in moodle)
    said = []
    if seconds > 1 and database > 0.4 * seconds and queries:
        each = 1000 * database / queries
        said.append(
            f"{100 * database / seconds:.0f} % of Moodle's own time is its database: {queries} round trips of "
            f"{each:.2f} ms. A database server near the host, reached over a socket, makes each of them shorter"
            + (
                "."
                if any("asynchronous" in word for word in session)
                else "; on MariaDB and MySQL so does innodb_flush_log_at_trx_commit = 2 while courses are moved."
            )
        )
    starts = next((step for step in moodle if step.name == "start Moodle"), None)
    if starts and starts.seconds > 0.5 * starts.times and CODE_CACHE not in session:
        said.append("Moodle starts slowly: opcache.enable_cli with opcache.file_cache on the host helps.")
    return said


def _line(step: Step) -> str:
    queries = str(step.queries) if step.queries else ""
    database = f"{step.database:.2f}" if step.queries else ""
    return f"{step.seconds:9.2f}  {step.times:6}  {queries:>8}  {database:>9}  {step.whose:<9}  {step.name}"
