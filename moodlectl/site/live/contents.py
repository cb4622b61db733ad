"""The file pool of a live site, content by content, over the shell (``php/contents.php``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from moodlectl.site.port import BackupFile, Content, ContentsTaken, HeldContent, OnProgress, no_progress
from moodlectl.site.runner import Runner

_AT_ONCE: Final = 5000


class LivePool:
    """The pool of the site that a runner asks; see ``port.Pool``."""

    def __init__(self, runner: Runner, acting: str | None) -> None:
        self._runner, self._acting = runner, acting

    def of_course(self, course_id: int, *, users: bool = False) -> Sequence[Content]:
        """The contents of a course's files, and of its people's pictures, once each. Reads only."""
        params = {"course_id": course_id, "users": users}
        reply = self._runner.ask("contents_of_course", params, acting=self._acting)
        return [Content(str(sha1), int(size)) for sha1, size in reply]

    def lacking(self, contents: Sequence[Content]) -> Sequence[Content]:
        """Those the pool has not got (``file_system::is_file_readable_*``, 3.9 to 5.1). Reads only.

        Asked of none, the site still says whether it may be asked.
        """
        found: list[Content] = []
        for some in [*_some(contents)] or [()]:
            names = set(self._runner.ask("contents_lacking", _asked(some), acting=self._acting))
            found += [one for one in some if one.sha1 in names]
        return found

    def send(self, contents: Sequence[Content], receive: Callable[[bytes], None], *, pack: bool = False) -> None:
        """Those contents as one stream. Reads only."""
        for some in _some(contents):
            self._runner.fetch("contents_send", {**_asked(some), "pack": pack}, receive, acting=self._acting)

    def take(
        self,
        stream: Iterable[bytes],
        coming: Sequence[Content],
        on_progress: OnProgress = no_progress,
        *,
        more: int = 0,
    ) -> ContentsTaken:
        """Put a stream of contents into the pool (``file_storage::create_file_from_pathname``). Writes to the site."""
        sizes = [one.size for one in coming]
        params = {"bytes": sum(sizes), "largest": max(sizes, default=0), "more": more}
        reply = self._runner.do("contents_receive", params, acting=self._acting, source=stream, on_progress=on_progress)
        return read_taken(reply)

    def backup_without_files(self, file: BackupFile, receive: Callable[[bytes], None]) -> bool:
        """A stored backup without its file pool (``php/lean.php``). Reads only."""
        params = {"locator": dict(file.locator)}
        return bool(self._runner.fetch("backup_without_files", params, receive, acting=self._acting))

    def held(self) -> Sequence[HeldContent]:
        """What was put there ahead, oldest first. Reads only."""
        return [read_held(each) for each in self._runner.ask("contents_held", {}, acting=self._acting)]

    def release(self, sha1s: Sequence[str], *, unclaimed: bool = False) -> int:
        """Let go of those that files have claimed, or of all. Writes to the site."""
        if not sha1s:
            return 0
        params = {"contents": [*sha1s], "unclaimed": unclaimed}
        return int(self._runner.do("contents_release", params, acting=self._acting))


def read_taken(reply: Any) -> ContentsTaken:
    """What ``moodlectl_call_contents_receive`` answered."""
    return ContentsTaken(int(reply["count"]), int(reply["bytes"]), tuple(reply["missing"]), tuple(reply["refused"]))


def read_held(reply: Any) -> HeldContent:
    """One of what ``moodlectl_call_contents_held`` answered."""
    since = datetime.fromtimestamp(int(reply["since"]), UTC)
    return HeldContent(str(reply["sha1"]), int(reply["size"]), since, bool(reply["claimed"]))


def _asked(contents: Sequence[Content]) -> dict[str, Any]:
    return {"contents": [[one.sha1, one.size] for one in contents]}


def _some(contents: Sequence[Content]) -> Iterator[Sequence[Content]]:
    for begin in range(0, len(contents), _AT_ONCE):
        yield contents[begin : begin + _AT_ONCE]
