"""What a Moodle's HTTP answer means: the value in it, or the one error that says what went wrong and what to
do.

Moodle answers web services nearly always with status 200, errors included (``webservice/rest/locallib.php``,
3.9 to 5.1), so the meaning is taken from ``errorcode``, never from the exception's class, whose name changed
in 4.5.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from moodlectl.errors import (
    AccessError,
    Failed,
    MoodlectlError,
    NotFound,
    OutcomeUnknown,
    Refused,
    Unreachable,
)
from moodlectl.secret import Secret
from moodlectl.site.errorcodes import LOOK_HINT, WAIT_HINT, WS_OFF_HINT, classify

if TYPE_CHECKING:
    import requests

EXCERPT = 400
"""How many characters of a strange answer are kept as evidence."""

@dataclass(frozen=True)
class Asked:
    """What was asked of whom: for the words and the evidence of an error. ``writes`` if it could change the
    site."""

    what: str
    url: str
    writes: bool = False

    def evidence(self, **more: Any) -> dict[str, Any]:
        """The details every error of this question carries."""
        return {"asked": self.what, "url": self.url, **{k: v for k, v in more.items() if v not in (None, "")}}


@dataclass(frozen=True)
class Reply:
    """An HTTP answer taken apart; ``body`` is at most what an error needs, or the whole of a small answer."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str]

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")


def read_reply(reply: Reply, asked: Asked) -> Any:
    """The value in an answer of a web service or one of Moodle's small scripts (token, upload).

    Raises the error that the answer is, if it is one.
    """
    if error := error_of(reply, asked):
        raise error
    return json.loads(reply.body)


def error_of(reply: Reply, asked: Asked) -> MoodlectlError | None:
    """The error in an answer, None where it is a good one: JSON and no exception in it."""
    if 300 <= reply.status < 400:
        return _redirect(reply, asked)
    value, bad = _json(reply)
    if isinstance(value, dict) and (found := moodle_error(value, asked, reply.status)):
        return found
    if reply.status >= 400:
        return _http_error(reply, asked)
    if bad is None:
        return None
    return _xml_error(reply, asked) or _no_json(reply, asked, bad)


def moodle_error(value: Mapping[str, Any], asked: Asked, status: int = 200) -> MoodlectlError | None:
    """The error a JSON object of Moodle's is, None where it is none.

    Web services say ``exception, errorcode, message``; the token and file scripts ``error, errorcode``.
    """
    if "exception" not in value and "errorcode" not in value:
        return None
    code = str(value.get("errorcode") or "").rsplit("/", 1)[-1] or "exception"
    words = str(value.get("message") or value.get("error") or code).strip()
    details = asked.evidence(
        errorcode=code,
        exception=value.get("exception"),
        debuginfo=value.get("debuginfo"),
        http_status=status if status != 200 else None,
    )
    cause, hint = classify(code)
    return cause(f"{_site(asked)} refuses {asked.what}: {_sentence(words)}" if cause in (AccessError, Refused)
                 else f"{asked.what} at {_site(asked)}: {_sentence(words)}",
                 hint, code=code, details=details)  # fmt: skip


def _redirect(reply: Reply, asked: Asked) -> MoodlectlError:
    """Nothing is followed: the token would go where nobody meant it to go."""
    target = urljoin(asked.url, reply.headers.get("location", ""))
    there = urlsplit(target)
    here = urlsplit(asked.url)
    shown = f"{there.scheme}://{there.netloc}{there.path}"
    details = asked.evidence(http_status=reply.status, location=shown)
    if re.search(r"/(login|saml|sso|oauth|cas|auth)\b", there.path, re.IGNORECASE):
        return AccessError(
            f"{_site(asked)} sends {asked.what} to a sign-in page, {shown}.",
            "A sign-in in front of the site (SSO, a proxy) must let web services through: /webservice/ and "
            "/login/token.php. If the site itself asks, check that web services are on.",
            code="loginpage",
            details=details,
        )
    base = f"{there.scheme}://{there.netloc}" + re.sub(
        r"/(webservice|login)/.*$|/(index\.php)?$", "", there.path
    )
    moved = (there.scheme, there.netloc) != (here.scheme, here.netloc)
    return AccessError(
        f"{_site(asked)} sends {asked.what} on to {shown}; the token was not sent there.",
        f"If {base} is the site's right address, say so with `moodlectl site add … --url {base}`."
        if moved or base
        else "Give the address that the site itself shows in the browser.",
        code="redirected",
        details=details,
    )


def _http_error(reply: Reply, asked: Asked) -> MoodlectlError:
    site, status = _site(asked), reply.status
    details = asked.evidence(http_status=status, answer=_excerpt(reply))
    if status == 503:
        return _unavailable(reply, asked, details)
    if status == 429:
        details["retry_after"] = reply.headers.get("retry-after")
        return Unreachable(f"{site} says that it was asked too often (429).", "Wait a little and try again.",
                           code="toomanyrequests", details=details)  # fmt: skip
    if status in (502, 504):
        gateway = f"The gateway of {site} got no answer in time ({status}) to {asked.what}"
        if asked.writes:
            return OutcomeUnknown(f"{gateway}; Moodle may still be working.", LOOK_HINT,
                                  code="gateway", details=details)  # fmt: skip
        return Unreachable(f"{gateway}.", "Try again; if it stays so, the site or its proxy is in trouble.",
                           code="gateway", details=details)  # fmt: skip
    if status == 403 and not reply.body.strip():
        return AccessError(f"{site} forbids web services (403, empty answer).", WS_OFF_HINT,
                           code="webservicesoff", details=details)  # fmt: skip
    if status in (401, 403, 407, 511):
        return AccessError(f"Something before {site} forbids {asked.what} ({status}).",
                           "Ask whoever runs the proxy or firewall to let /webservice/ and "
                           "/login/token.php through.",
                           code="forbidden", details=details)  # fmt: skip
    if status in (404, 405, 410):
        return NotFound(f"There is no Moodle web service at {asked.url} ({status}).",
                        "Check the site's address, with the path of Moodle if it has one: "
                        "https://host/moodle.",
                        code="nomoodle", details=details)  # fmt: skip
    if status == 413:
        return Refused(f"{site} takes nothing as large as that (413).",
                       "Raise the web server's limit for request bodies, or use a shell.",
                       code="toolarge", details=details)  # fmt: skip
    broken = f"{site} broke down over {asked.what} ({status})"
    hint = "The site's administrator finds the cause in the web server's error log."
    if asked.writes and status >= 500:
        return OutcomeUnknown(f"{broken}; what it did is not known.", f"{hint} {LOOK_HINT}",
                              code=f"http{status}", details=details)  # fmt: skip
    return Failed(f"{broken}.", hint, code=f"http{status}", details=details)


def _unavailable(reply: Reply, asked: Asked, details: dict[str, Any]) -> MoodlectlError:
    """503: Moodle's own CLI maintenance page (``lib/setup.php``, all releases), or a server without room."""
    wait = reply.headers.get("retry-after")
    details["retry_after"] = wait
    if wait or "maintenance" in reply.text[:20000].lower():
        again = f" It asks to be tried again after {wait} seconds." if wait and wait.isdigit() else ""
        return Unreachable(f"{_site(asked)} is under maintenance (503).{again}", WAIT_HINT,
                           code="maintenance", details=details)  # fmt: skip
    if asked.writes:
        return OutcomeUnknown(f"{_site(asked)} was not available (503) for {asked.what}; it may have begun.",
                              LOOK_HINT, code="unavailable", details=details)  # fmt: skip
    return Unreachable(f"{_site(asked)} is not available (503).", "Try again later.",
                       code="unavailable", details=details)  # fmt: skip


def _json(reply: Reply) -> tuple[Any, str | None]:
    try:
        return json.loads(reply.body), None
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        return None, str(error)


def _xml_error(reply: Reply, asked: Asked) -> MoodlectlError | None:
    """An exception in XML, as Moodle sends it when something drops ``moodlewsrestformat`` from the
    request."""
    if not re.search(r"<(EXCEPTION|RESPONSE)\b", reply.text[:2000]):
        return None
    found = {
        name.lower(): html.unescape(text).strip()
        for name, text in re.findall(r"<(ERRORCODE|MESSAGE|DEBUGINFO)>(.*?)</\1>", reply.text, re.DOTALL)
    }
    if "errorcode" in found or "message" in found:
        return moodle_error({"exception": "xml", **found}, asked, reply.status)
    return _no_json(reply, asked, "XML instead of JSON")


def _no_json(reply: Reply, asked: Asked, bad: str) -> MoodlectlError:
    """200 with something that is no JSON: a web page, half an answer, or PHP's own noise around it."""
    site, text = _site(asked), reply.text
    details = asked.evidence(http_status=reply.status, content_type=reply.content_type,
                             answer=_excerpt(reply), problem=bad)  # fmt: skip
    page = re.search(r"<(!doctype html|html|head|body)\b", text[:4000], re.IGNORECASE)
    if page and not text.lstrip().startswith(("{", "[")):
        return AccessError(
            f"{site} answers {asked.what} with a web page{_title(text)}, not as a web service.",
            "Check the site's address and path. If they are right, a sign-in page or firewall answers in "
            "Moodle's "
            "stead.",
            code="webpage",
            details=details,
        )
    if asked.writes:
        return OutcomeUnknown(f"{site} answered {asked.what} with something that cannot be read.", LOOK_HINT,
                              code="invalidjson", details=details)  # fmt: skip
    if not text.strip() or text.lstrip().startswith(("{", "[")):
        return Unreachable(f"The answer of {site} to {asked.what} broke off after {len(reply.body)} bytes.",
                           "Try again; if it stays so, look into the web server's error log.",
                           code="truncated", details=details)  # fmt: skip
    return Failed(
        f"{site} answers {asked.what} with something that is no JSON.",
        "Switch off the display of debug messages on the site (Site administration > Development > "
        "Debugging).",
        code="invalidjson",
        details=details,
    )


def _title(text: str) -> str:
    found = re.search(r"<title[^>]*>(.*?)</title>", text, re.DOTALL | re.IGNORECASE)
    words = " ".join(html.unescape(found.group(1)).split())[:100] if found else ""
    return f' titled "{words}"' if words else ""


def _excerpt(reply: Reply) -> str:
    """The words of an answer, without markup, short enough to be shown."""
    text = re.sub(r"<(script|style)\b.*?</\1>", " ", reply.text[:20000], flags=re.DOTALL | re.IGNORECASE)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())[:EXCERPT]


def _sentence(words: str) -> str:
    return words if words.endswith((".", "!", "?")) else f"{words}."


def _site(asked: Asked) -> str:
    parts = urlsplit(asked.url)
    return f"{parts.scheme}://{parts.netloc}" + re.sub(r"/(webservice|login)/.*$", "", parts.path)


def reply_of(response: requests.Response) -> Reply:
    """An HTTP answer with its whole body, for reading."""
    return Reply(
        response.status_code,
        response.headers.get("Content-Type", ""),
        response.content,
        {name.lower(): value for name, value in response.headers.items()},
    )


def guarded(read: Callable[[], Any], secret: Secret) -> Any:
    """What ``read`` returns; should a site repeat the secret in an error, it is blotted out of it."""
    try:
        return read()
    except MoodlectlError as error:
        blot(error, secret)
        raise


def blot(error: MoodlectlError, secret: Secret) -> None:
    """Replace the secret by ``***`` wherever the site repeated it in an error."""
    text = secret.reveal()
    if not text:
        return
    error.message = error.message.replace(text, "***")
    error.args = (error.message,)
    for key, value in error.details.items():
        if isinstance(value, str):
            error.details[key] = value.replace(text, "***")
