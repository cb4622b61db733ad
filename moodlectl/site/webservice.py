"""Moodle's web services over HTTP: calls, the site's own description, a token for a password.

The token travels in request bodies only, to the one host it belongs to; no redirect is followed.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests

from moodlectl import spent
from moodlectl.errors import AccessError, ConfigError, Unreachable
from moodlectl.secret import Secret
from moodlectl.site.network import network_trouble
from moodlectl.site.patience import Patience, repeat
from moodlectl.site.port import OnProgress, no_progress
from moodlectl.site.replies import Asked, guarded, read_reply, reply_of
from moodlectl.version import __version__

if TYPE_CHECKING:
    from moodlectl.site.transfer import Downloaded

Params = Mapping[str, Any]
Timeout = tuple[float, float]

_READS = re.compile(r"_(get|search)_")


def writes(function: str) -> bool:
    """Whether a web-service function may change the site: all do but those that get or search.

    Moodle's names say it (``core_course_get_contents``, ``core_course_search_courses``); a doubtful one
    counts as
    a write, which is never repeated.
    """
    return not _READS.search(function)


def flatten(params: Params) -> dict[str, str]:
    """Parameters as Moodle's REST server reads them: ``{"a": [{"b": 1}]}`` becomes ``{"a[0][b]": "1"}``.

    Booleans become 0 and 1; None is left out.
    """
    flat: dict[str, str] = {}

    def walk(name: str, value: Any) -> None:
        if value is None:
            return
        if isinstance(value, Mapping):
            for key, inner in value.items():
                walk(f"{name}[{key}]" if name else str(key), inner)
        elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
            for index, inner in enumerate(value):
                walk(f"{name}[{index}]", inner)
        else:
            flat[name] = str(int(value)) if isinstance(value, bool) else str(value)

    walk("", params)
    return flat


def site_url(url: str, *, allow_http: bool = False) -> str:
    """The address of a site in the form everything else builds on: no slash at the end, no script name.

    Raises ConfigError for what is no http address, for one with a password in it, and for plain http to
    another
    machine where that was not allowed.
    """
    parts = urlsplit(url.strip())
    try:
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"{_without_login(url)!r} is no web address of a site.",
                          "Give it as https://moodle.example.org or https://example.org/moodle.")  # fmt: skip
    if parts.username or parts.password:
        raise ConfigError(f"The address of the site at {host} has a user name or password in it.",
                          "Give the bare address; the token says who you are.")  # fmt: skip
    if parts.scheme == "http" and not allow_http and not _is_loopback(host):
        raise ConfigError(
            f"http://{parts.netloc} would send the token unencrypted through the network.",
            "Use https. If the network is safe, allow plain http for this site with allow_http = true.",
            code="plainhttp",
        )
    path = re.sub(r"/(index\.php|login/index\.php|my/?(index\.php)?)?/*$", "", parts.path.rstrip("/") + "/")
    return f"{parts.scheme}://{parts.netloc.lower()}{path}"


class WebService:
    """One site's web services, asked as the owner of a token.

    ``ca_bundle`` names a file with the authorities to trust for this site; certificates are always checked.
    ``timeout`` is seconds to connect and to wait for the next byte. ``patience`` rules how reads are
    repeated.
    """

    def __init__(
        self,
        url: str,
        token: Secret,
        *,
        ca_bundle: str | Path | None = None,
        allow_http: bool = False,
        timeout: Timeout = (10, 60),
        session: requests.Session | None = None,
    ) -> None:
        self.url = site_url(url, allow_http=allow_http)
        self.token = token
        self.timeout = timeout
        self.patience = Patience()
        self.session = session or requests.Session()
        self.session.headers["User-Agent"] = f"moodlectl/{__version__}"
        self.session.verify = str(ca_bundle) if ca_bundle else True
        self._site_info: dict[str, Any] | None = None

    def call(self, function: str, params: Params | None = None, *, timeout: Timeout | None = None) -> Any:
        """The answer of one web-service function, with the ``warnings`` Moodle puts in it.

        Texts come as Moodle stores them (``moodlewssettingraw``). Functions that only get or search are
        repeated
        on connection trouble, others never. Reads or writes as the function does. Raises AccessError,
        NotFound,
        Refused, Failed, Unreachable, and OutcomeUnknown where a write got no answer.
        """
        body = flatten(params or {}) | {
            "wsfunction": function,
            "moodlewsrestformat": "json",
            "moodlewssettingraw": "1",
            "moodlewssettinglang": "en",
        }
        asked = Asked(function, f"{self.url}/webservice/rest/server.php", writes(function))
        return self._patiently(asked, lambda: self._post(asked, body, "wstoken", timeout))

    def site_info(self) -> dict[str, Any]:
        """What the site says about itself, the token's user and the functions of the service. Reads only.

        ``core_webservice_get_site_info`` (``webservice/externallib.php``, 3.9 to 5.1); asked once.
        """
        if self._site_info is None:
            info = self.call("core_webservice_get_site_info")
            if not isinstance(info, dict) or "userid" not in info:
                raise Unreachable(f"{self.url} does not say who it is.", "Check the site's address.",
                                  code="invalidanswer")  # fmt: skip
            self._site_info = info
        return dict(self._site_info)

    def download(
        self,
        url: str,
        destination: Path,
        *,
        size: int | None = None,
        sha1: str | None = None,
        overwrite: bool = False,
        on_progress: OnProgress = no_progress,
    ) -> Downloaded:
        """Bring one file of the site down to ``destination``; see ``transfer.download``. Reads only."""
        from moodlectl.site.transfer import Source, download

        source = Source(url, size, sha1)
        with spent.on("download", spent.NETWORK):
            return download(self, source, destination, overwrite=overwrite, on_progress=on_progress)

    def upload(self, path: Path, *, itemid: int = 0, on_progress: OnProgress = no_progress) -> dict[str, Any]:
        """Send one file to the user's draft area; see ``upload.upload``. Writes to the site."""
        from moodlectl.site.upload import upload

        return upload(self, path, itemid=itemid, on_progress=on_progress)

    def close(self) -> None:
        """Let go of the connections."""
        self.session.close()

    def post(self, asked: Asked, body: Any, **options: Any) -> requests.Response:
        """One POST to the site, no redirect followed. Raises Unreachable or OutcomeUnknown on network
        trouble."""
        with network_trouble(asked):
            return self.session.post(asked.url, data=body, allow_redirects=False,
                                     # said with each request: REQUESTS_CA_BUNDLE would overrule the session's
                                     verify=self.session.verify,
                                     **{"timeout": self.timeout, **options})  # fmt: skip

    def _post(self, asked: Asked, body: dict[str, str], token_name: str, timeout: Timeout | None) -> Any:
        if asked.writes:
            self.session.close()  # a fresh connection: one gone stale must not make a write's outcome unknown
        with network_trouble(asked), spent.on("web services", spent.NETWORK):
            form = body | {token_name: self.token.reveal()}
            reply = reply_of(self.post(asked, form, timeout=timeout or self.timeout))
        return guarded(lambda: read_reply(reply, asked), self.token)

    def _patiently(self, asked: Asked, ask: Callable[[], Any]) -> Any:
        if asked.writes:
            return ask()
        return repeat(ask, self.patience)


def token_login(
    url: str, username: str, password: Secret, service: str = "moodle_mobile_app", **options: Any
) -> Secret:
    """A token for a user name and password (``login/token.php``, 3.9 to 5.1); ``options`` as for WebService.

    Writes to the site: a token is made where there is none yet. Raises AccessError, Unreachable.
    """
    client = WebService(url, password, **options)
    asked = Asked("the sign-in", f"{client.url}/login/token.php")
    try:
        answer = client._post(asked, {"username": username, "service": service}, "password", None)
    finally:
        client.close()
    if not isinstance(answer, dict) or not answer.get("token"):
        raise AccessError(f"{client.url} gave no token.", "Let an administrator make one.", code="notoken")
    return Secret(str(answer["token"]))


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _without_login(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)
