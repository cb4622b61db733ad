"""Where a listed file is really fetched from, and the name it may safely have on this machine."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

from moodlectl.errors import MoodlectlError, Refused

if TYPE_CHECKING:
    from moodlectl.site.webservice import WebService

_LONGEST_NAME = 240  # bytes; a file system takes 255, and ".part.json" is added


def file_url(service: WebService, listed: str) -> str:
    """The address that takes a token for a file the site lists, always on the site's own host. May read the
    site.

    ``/pluginfile.php`` becomes ``/webservice/pluginfile.php``. The item id 0 that ``core_files_get_files``
    puts into
    addresses of automated backups is dropped: they are served without it (``lib/filelib.php``, 3.9 to 5.1).
    Raises
    Refused for a file of another host: the token is not for it.
    """
    parts = urlsplit(listed)
    base = _base_of(parts)
    if base is None or not _is_ours(service, base):
        raise Refused(
            f"{parts.scheme}://{parts.netloc}{parts.path} is no file of {service.url}; the token stays here.",
            "If it is the same site under another name, give its right address with `moodlectl site add … "
            "--url`.",
            code="foreignurl",
        )
    rest = parts.path.split("pluginfile.php", 1)[1]
    if rest.strip("/"):
        return f"{service.url}/webservice/pluginfile.php{_without_zero(rest)}"
    argument = (parse_qs(parts.query).get("file") or [""])[0]  # a site without slash arguments
    return f"{service.url}/webservice/pluginfile.php?file={quote(_without_zero(argument))}"


def browser_url(listed: str) -> str:
    """The address of a listed file for a browser where somebody is signed in; an automated one is put
    right."""
    return _without_zero(listed)


def safe_filename(name: str, default: str = "backup.mbz") -> str:
    """A file name from a stranger made one that names a file here and nothing else.

    Separators, control characters and leading dots go; it is at most 240 bytes long and keeps its ending.
    """
    kept = "".join(
        "_" if c in '/\\:*?"<>|' else c
        for c in unicodedata.normalize("NFC", name)
        if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
    )
    kept = kept.strip().lstrip(".").strip()
    if not kept.strip("_. "):
        return default
    stem, dot, ending = kept.rpartition(".")
    if not dot or len(ending) > 10:
        stem, ending = kept, ""
    else:
        ending = dot + ending
    room = _LONGEST_NAME - len(ending.encode())
    return stem.encode()[:room].decode(errors="ignore") + ending


def _without_zero(path: str) -> str:
    return re.sub(r"(/backup/automated)/0(?=/)", r"\1", path)


def _base_of(parts: SplitResult) -> tuple[str, str] | None:
    """Host and path of the Moodle that a file's address belongs to, None where it is no such address."""
    found = re.fullmatch(r"(.*?)(?:/webservice)?/pluginfile\.php(?:/.*)?", parts.path)
    if parts.scheme not in ("http", "https") or not found or parts.username or parts.password:
        return None
    return _place(parts.scheme, parts.netloc), found.group(1)


def _is_ours(service: WebService, base: tuple[str, str]) -> bool:
    own = urlsplit(service.url)
    if base == (_place(own.scheme, own.netloc), own.path):
        return True
    try:
        said = urlsplit(str(service.site_info().get("siteurl", "")))
    except MoodlectlError:
        return False
    return base == (_place(said.scheme, said.netloc), said.path.rstrip("/"))


def _place(scheme: str, netloc: str) -> str:
    """Host and port, the usual ports left out; http and https of one host are the same place."""
    return re.sub(r":(80|443)$", "", netloc.lower())
