"""Files of a site brought down over HTTP: resumed where they broke off, checked before they get their name.

The token goes in the body of a POST, for a resumed piece too: Moodle honours ``Range`` on POST as on GET
(``lib/filelib.php`` readfile_accel, 3.9 to 5.1), so it stays out of the web server's log.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import requests
import urllib3

from moodlectl.errors import Failed, MoodlectlError, Refused, Unreachable
from moodlectl.site.arriving import Arriving
from moodlectl.site.fileurl import file_url
from moodlectl.site.network import network_error
from moodlectl.site.partfile import PartFile
from moodlectl.site.patience import passes
from moodlectl.site.port import OnProgress, Progress, no_progress
from moodlectl.site.replies import Asked, Reply, blot, error_of
from moodlectl.site.room import check_room, only_one, room_told

if TYPE_CHECKING:
    from moodlectl.site.webservice import WebService

log = logging.getLogger(__name__)

ARCHIVES = (b"\x1f\x8b", b"PK\x03\x04", b"PK\x05\x06")
"""What a backup begins with: gzip (.mbz since 2.6) or zip."""

_PROGRESS_EVERY = 0.1
_HEADWAY = 1 << 16
_SMALL = 1 << 20
_HEAD = 4096
_TELLING = 4  # bytes that tell an archive
_RESTARTS = 3


@dataclass(frozen=True)
class Source:
    """A file on the site: its address as the site lists it, and its size and sha1 where they are known."""

    url: str
    size: int | None = None
    sha1: str | None = None


@dataclass(frozen=True)
class Downloaded:
    """A file that arrived whole. ``resumed_from`` is how many bytes an earlier attempt had left, 0 for
    none."""

    path: Path
    size: int
    sha1: str
    resumed_from: int = 0


@dataclass(frozen=True)
class Origin:
    """What the first answer said about the content, kept beside the part: a resumed piece must be of the
    same.

    Moodle's ETag is the sha1 of the content; a server that sends the file in Moodle's stead may have its own.
    """

    url: str
    etag: str
    modified: str
    size: int | None

    @classmethod
    def of(cls, url: str, headers: Mapping[str, str], size: int | None) -> Origin:
        """The origin that response headers tell."""
        return cls(url, headers.get("ETag", "").strip(), headers.get("Last-Modified", "").strip(), size)

    @property
    def sha1(self) -> str | None:
        """The sha1 of the content, None where the ETag is none."""
        found = re.fullmatch(r'(?:W/)?"?([0-9a-f]{40})(?:[-;]gzip)?"?', self.etag)
        return found.group(1) if found else None

    def same(self, other: Origin) -> bool:
        """Whether both are surely the same content."""
        if self.size != other.size or not self.size:
            return False
        if self.etag or other.etag:
            return (self.sha1 or self.etag) == (other.sha1 or other.etag)
        return bool(self.modified) and self.modified == other.modified


def download(
    service: WebService,
    source: Source,
    destination: Path,
    *,
    overwrite: bool = False,
    on_progress: OnProgress = no_progress,
) -> Downloaded:
    """Bring a backup down to ``destination``, going on where an earlier attempt stopped. Reads only.

    Until it is whole and checked (size, sha1) it is ``destination.part``, kept when the connection breaks.
    Connections that break are taken up again a few times. Raises Refused (destination is there, disk full, a
    foreign address), AccessError, NotFound, Unreachable, and Failed where it is not what was listed.
    """
    if destination.exists() and not overwrite:
        raise Refused(f"{destination} is there already.",
                      "Overwrite it expressly, or choose another directory.",
                      code="exists", details={"path": str(destination)})  # fmt: skip
    url = file_url(service, source.url)
    with only_one(destination), room_told(destination):
        check_room(destination, source.size)
        return _Transfer(service, source, url, destination, on_progress).run()


class _Transfer:
    """One download under way: the part, what it is a part of, and how often it was begun again."""

    def __init__(
        self, service: WebService, source: Source, url: str, destination: Path, on_progress: OnProgress
    ) -> None:
        self.service = service
        self.source = source
        self.asked = Asked(f"the download of {destination.name}", url)
        self.on_progress = on_progress
        self.state = destination.with_name(destination.name + ".part.json")
        self.origin = self._remembered()
        self.part = PartFile(destination, resume=self.origin is not None)
        self.resumed_from = self.part.offset
        self.pieced = self.part.offset > 0
        self.restarts = 0
        self._told = 0.0

    def run(self) -> Downloaded:
        with self.part:
            try:
                self._all()
                sha1 = self.part.finish(size=self._size(), sha1=self._sha1())
            finally:
                self.part.close()
                if not self.part.path.exists():
                    self.state.unlink(missing_ok=True)
        self._tell(force=True)
        return Downloaded(self.part.destination, self.part.offset, sha1, self.resumed_from)

    def _all(self) -> None:
        """Rounds until every byte is there: broken connections are taken up again, changed files begun
        anew."""
        failures = 0
        patience = self.service.patience
        while not self._is_whole():
            before = self.part.offset
            try:
                self._round()
            except Unreachable as trouble:
                failures = 1 if self.part.offset - before >= _HEADWAY else failures + 1
                wait = patience.wait(failures, trouble)
                if not passes(trouble) or failures >= patience.attempts or wait > patience.total:
                    raise self._kept(trouble) from trouble
                log.info("%s Going on at byte %d in %.1f s.", trouble, self.part.offset, wait)
                patience.sleep(wait)

    def _is_whole(self) -> bool:
        """Whether all bytes are there; if what was pieced together is not right, it is begun anew, once."""
        size = self._size()
        if self.origin is None or size is None or self.part.offset < size:
            return False
        wanted = self._sha1()
        if self.pieced and (self.part.offset > size or (wanted and self.part.sha1 != wanted)):
            log.warning("What was pieced together is not the file; downloading it anew.")
            self._forget()
            return False
        return True

    def _round(self) -> None:
        """One request and all it brings."""
        headers = {"Accept-Encoding": "identity"}
        if self.part.offset:
            headers["Range"] = f"bytes={self.part.offset}-"
        form = {"token": self.service.token.reveal()}
        with self.service.post(self.asked, form, headers=headers, stream=True) as response:
            status = response.status_code
            if status == 416:
                return self._forget()
            if status not in (200, 206) or _is_words(response):
                raise self._said(response, b"")
            if status == 200:
                self._begins(response)
            elif self._continues(response):
                self.pieced = True
            else:
                return self._forget()
            return self._receive(response)

    def _begins(self, response: requests.Response) -> None:
        """A 200 is the whole file from its first byte, whatever was asked for."""
        if self.part.offset:
            log.info("The site sends %s from the start again.", self.part.destination.name)
            self._forget()
        length = response.headers.get("Content-Length", "")
        size = int(length) if length.isdigit() and not _is_encoded(response) else None
        origin = Origin.of(self.asked.url, response.headers, size)
        wanted = self.source
        if wanted.size is not None and size is not None and size != wanted.size:
            raise self._failed(f"has {size} bytes, but was listed with {wanted.size}", "changed")
        if wanted.sha1 and origin.sha1 and wanted.sha1 != origin.sha1:
            raise self._failed("has another content than was listed", "changed")
        check_room(self.part.destination, size)
        self.origin = origin
        self.state.write_text(json.dumps(asdict(origin)), encoding="utf-8")

    def _continues(self, response: requests.Response) -> bool:
        """Whether a 206 brings the very bytes that come next in the very same file."""
        told = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", "").strip())
        if not told or self.origin is None or _is_encoded(response):
            return False
        first, last, size = (int(number) for number in told.groups())
        here = Origin.of(self.asked.url, response.headers, size)
        return first == self.part.offset and last == size - 1 and self.origin.same(here)

    def _receive(self, response: requests.Response) -> None:
        """All bytes of one response into the part, in constant memory."""
        arriving = Arriving(response.raw, encoded=_is_encoded(response))
        size = self._size()
        while piece := self._read(arriving):
            if not self.part.offset and not bytes(piece).startswith(ARCHIVES):
                if len(piece) < _TELLING and (size is None or len(piece) < size):
                    raise Unreachable("The connection broke at the first bytes.", code="truncated")
                raise self._said(response, bytes(piece))
            self.part.write(piece)
            if size is not None and self.part.offset > size:
                raise self._failed(f"has more than the {size} bytes it was said to have", "changed")
            self._tell()
        if size is None and self.origin is not None:
            # Nobody said how long it is: the end of the connection has to be taken for the end of the file.
            self.origin = Origin(self.origin.url, self.origin.etag, self.origin.modified, self.part.offset)
        elif size is not None and self.part.offset < size:
            raise Unreachable(f"The connection broke at byte {self.part.offset} of {size}.", code="truncated")

    def _read(self, arriving: Arriving) -> bytes | memoryview:
        try:
            return arriving.into(self.part.buffer()) if self.part.offset else arriving.first(_HEAD)
        except (urllib3.exceptions.HTTPError, HTTPException, OSError) as problem:
            raise network_error(problem, self.asked) from problem

    def _said(self, response: requests.Response, head: bytes) -> MoodlectlError:
        """The error for an answer that is no archive: what Moodle says in it, else that it is none."""
        body = head
        with suppress(urllib3.exceptions.HTTPError, OSError):
            body += response.raw.read(_SMALL, decode_content=True)
        headers = {name.lower(): value for name, value in response.headers.items()}
        reply = Reply(response.status_code, headers.get("content-type", ""), body, headers)
        words = _is_words(response) or body[:1] in (b"{", b"[", b"<")
        if (words or response.status_code not in (200, 206)) and (error := error_of(reply, self.asked)):
            blot(error, self.service.token)
            return error
        return self._failed("is no Moodle backup: it is neither a gzip nor a zip archive", "notabackup")

    def _remembered(self) -> Origin | None:
        """What an earlier attempt noted of the file, if its part may be gone on with."""
        try:
            origin = Origin(**json.loads(self.state.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        wanted = self.source
        fits = (
            origin.url == self.asked.url
            and origin.same(origin)
            and wanted.size in (None, origin.size)
            and (not wanted.sha1 or wanted.sha1 == origin.sha1)
        )
        return origin if fits else None

    def _forget(self) -> None:
        """Throw away what is there: it is not of the file as it is now."""
        self.restarts += 1
        if self.restarts > _RESTARTS:
            raise self._failed("keeps changing while it is downloaded", "changing")
        self.part.restart()
        self.origin = None
        self.pieced = False
        self.resumed_from = 0
        self.state.unlink(missing_ok=True)

    def _size(self) -> int | None:
        return self.origin.size if self.origin and self.origin.size is not None else self.source.size

    def _sha1(self) -> str | None:
        return self.source.sha1 or (self.origin.sha1 if self.origin else None)

    def _tell(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if force or now - self._told >= _PROGRESS_EVERY:
            self._told = now
            self.on_progress(Progress("download", self.part.offset, self._size(), "bytes"))

    def _failed(self, what: str, code: str) -> Failed:
        return Failed(f"{self.part.destination.name} {what}.",
                      "List the backups again, then download it again.",
                      code=code, details=self.asked.evidence(path=str(self.part.path)))  # fmt: skip

    def _kept(self, trouble: Unreachable) -> Unreachable:
        """The trouble, with what is there already and that it is not lost."""
        size = self._size()
        details = {**trouble.details, "part": str(self.part.path), "received": self.part.offset, "size": size}
        message = f"{trouble.message} {self.part.offset} of {size or '?'} bytes are here."
        hint = f"Download it again: it goes on from {self.part.path.name}."
        hint_now = hint if self.part.offset else trouble.hint
        return Unreachable(message, hint_now, code=trouble.code, details=details)


def _is_words(response: requests.Response) -> bool:
    """Whether the answer is text about a file instead of the file: JSON, a page, XML."""
    kind = response.headers.get("Content-Type", "").split(";")[0].strip().lower()
    return kind in ("application/json", "text/html", "text/xml", "application/xml", "text/json")


def _is_encoded(response: requests.Response) -> bool:
    return response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity")
