"""Pieces of a site's file over HTTP: one POST with a ``Range`` for each, the token in its body.

Moodle honours ``Range`` on POST (``lib/filelib.php`` byteserving_send_file, 3.9 to 5.1); a server that sends files in
Moodle's stead may not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import requests
import urllib3

from moodlectl.errors import Failed, MoodlectlError
from moodlectl.site.fileurl import file_url
from moodlectl.site.network import network_error
from moodlectl.site.patience import repeat
from moodlectl.site.pieces import BLOCK, Pieces
from moodlectl.site.replies import Asked, Reply, blot, error_of
from moodlectl.site.transfer import Origin

if TYPE_CHECKING:
    from moodlectl.site.webservice import WebService

_SMALL = 1 << 16


def pieces(service: WebService, name: str, listed: str, size: int) -> Pieces | None:
    """A file of the site to be read in pieces; None where the server only sends it whole. Reads only.

    Raises AccessError, NotFound, Unreachable, and Failed where it is not the size it was listed with.
    """
    road = _Road(service, name, file_url(service, listed), size)
    head = road.first(min(size, BLOCK))
    return None if head is None else Pieces(name, size, road.fetch, head)


class _Road:
    """One file, asked for piece by piece, seen to stay the same."""

    def __init__(self, service: WebService, name: str, url: str, size: int) -> None:
        self._service, self._size = service, size
        self._asked = Asked(f"a piece of {name}", url)
        self._origin: Origin | None = None

    def first(self, length: int) -> bytes | None:
        """The beginning; None where the server knows no ranges."""
        return repeat(lambda: self._ask(0, length), self._service.patience) if length else b""

    def fetch(self, offset: int, length: int) -> bytes:
        """Those bytes. Raises Failed ``changed`` where the file is another by now, or ranges have gone."""
        data = repeat(lambda: self._ask(offset, length), self._service.patience)
        if data is None:
            raise self._changed("is no longer sent in pieces")
        return data

    def _ask(self, offset: int, length: int) -> bytes | None:
        headers = {"Accept-Encoding": "identity", "Range": f"bytes={offset}-{offset + length - 1}"}
        form = {"token": self._service.token.reveal()}
        with self._service.post(self._asked, form, headers=headers, stream=True) as response:
            if response.status_code != 206:
                return self._otherwise(response)
            told = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", "").strip())
            if not told or (int(told[1]), int(told[2])) != (offset, offset + length - 1):
                return None
            if int(told[3]) != self._size:
                raise self._changed(f"has {told[3]} bytes, but was listed with {self._size}")
            origin = Origin.of(self._asked.url, response.headers, self._size)
            if self._origin is not None and not self._origin.same(origin) and (origin.etag or origin.modified):
                raise self._changed("has become another file while it was read")
            self._origin = origin
            return self._body(response, length)

    def _body(self, response: requests.Response, most: int) -> bytes:
        try:
            return response.raw.read(most, decode_content=True)
        except (urllib3.exceptions.HTTPError, OSError) as problem:
            raise network_error(problem, self._asked) from problem

    def _otherwise(self, response: requests.Response) -> bytes | None:
        """An answer that is no piece: the whole file (None), or Moodle's words why there is none."""
        kind = response.headers.get("Content-Type", "").split(";")[0].strip().lower()
        if response.status_code == 200 and not kind.endswith(("json", "html", "xml")):
            return None
        headers = {name.lower(): value for name, value in response.headers.items()}
        reply = Reply(response.status_code, kind, self._body(response, _SMALL), headers)
        if error := error_of(reply, self._asked):
            blot(error, self._service.token)
            raise error
        return None

    def _changed(self, what: str) -> MoodlectlError:
        return Failed(
            f"{self._asked.what} could not be read: the file {what}.",
            "List the backups again, then look again.",
            code="changed",
            details=self._asked.evidence(),
        )
