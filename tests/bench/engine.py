"""What the engine itself costs: batches of steps that do nothing, planned, run and reported, each in a process of its own.

    python tests/bench/engine.py [COUNT …]        counts of courses, else 1000 10000 50000

Prints seconds and the peak of memory, and the processor time of one course as a ratio to that in the smallest batch.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moodlectl.actions import engine, reporting, reportpage
from moodlectl.actions.steps import Planned, Step, Work
from moodlectl.ledger_batch import Reader
from moodlectl.site.practice import PracticeSite


class Nothing:
    """Three steps for each course, which note one fact each and do nothing."""

    kind = "bench"
    sites: Sequence[str] = ("practice",)

    def steps(self, spec: Mapping[str, Any]) -> Sequence[Step]:
        return (
            Step("backup", "practice", "backup", self.note),
            Step("fetch", "practice", "transfer", self.note),
            Step("restore", "practice", "restore", self.last),
        )

    def note(self, work: Work) -> None:
        pass

    def last(self, work: Work) -> None:
        work.note(url=f"https://practice.example/course/view.php?id={work.seq}", bytes=1_000_000)


def one(count: int) -> dict[str, Any]:
    """Plan, run and report so many courses; how long each took, in seconds."""
    told: dict[str, Any] = {"courses": count}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path, recipe = folder / "ledger.sqlite", Nothing()
        began = time.perf_counter()
        planned = (Planned(f"COURSE{n}", "bench", f"old: COURSE{n}", "Science", {"n": n}) for n in range(count))
        job = engine.begin(recipe, planned, {}, key="bench", path=path)
        told["plan"] = time.perf_counter() - began
        around = engine.Around(lambda site: PracticeSite(folder / "site", site), path=path)
        ended = engine.run(job, recipe, engine.Terms(jobs=8), around)
        assert ended.totals["done"] == count, ended
        told["run"] = time.perf_counter() - began - told["plan"]
        reader = Reader(job, path)
        reportpage.write(reader, reporting.summary(reader), folder / "report.html")
        told["report"] = time.perf_counter() - began - told["plan"] - told["run"]
        told["page"] = (folder / "report.html").stat().st_size
        show = time.perf_counter()
        reader.refresh()
        reader.totals()
        list(reader.items(limit=50))
        told["show"] = time.perf_counter() - show
        reader.close()
    told["seconds"] = told["plan"] + told["run"] + told["report"]
    told["cpu"] = time.process_time()
    told["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return told


def main(counts: list[int]) -> None:
    first = None
    for count in counts:
        argv = [sys.executable, __file__, "--one", str(count)]
        told = json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
        each = told["cpu"] / count
        first = first or each
        print(
            f"{count:>7} courses: {told['seconds']:7.1f} s (plan {told['plan']:.1f}, run {told['run']:.1f}, "
            f"report {told['report']:.1f}), {told['cpu']:.1f} s of processor, peak {told['peak'] / 1e6:.0f} MB, show {told['show']:.3f} s, "
            f"page {told['page'] / 1e6:.1f} MB; one course {1000 * each:.2f} ms, ratio {each / first:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(int(sys.argv[2]))))
    else:
        main([int(word) for word in sys.argv[1:]] or [1000, 10_000, 50_000])
