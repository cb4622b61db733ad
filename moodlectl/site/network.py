"""What network trouble means: which part of the road is broken, and whether anything can have happened."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import requests

from moodlectl.errors import ConfigError, MoodlectlError, OutcomeUnknown, Unreachable
from moodlectl.site.replies import Asked

_NO_BUNDLE = "TLS CA certificate bundle"  # requests says so in a bare OSError


@contextmanager
def network_trouble(asked: Asked) -> Iterator[None]:
    """Turn what requests raises inside into Unreachable, or OutcomeUnknown for a write that was under way."""
    try:
        yield
    except requests.RequestException as problem:
        raise network_error(problem, asked) from problem
    except OSError as problem:
        if _NO_BUNDLE not in str(problem):
            raise
        raise network_error(problem, asked) from problem


def network_error(problem: BaseException, asked: Asked) -> MoodlectlError:
    """The error for an exception of requests or its libraries.

    Trouble before the request was sent is always Unreachable; after it, a write's outcome is unknown.
    """
    host = urlsplit(asked.url).netloc
    causes = list(_causes(problem))
    names = {type(cause).__name__ for cause in causes}
    details = asked.evidence(problem=str(causes[-1])[:300])
    for words, hint, code in _before_sending(host, problem, causes, names):
        kind = ConfigError if code == "address" else Unreachable
        return kind(words, hint, code=code, details=details)
    timed_out = isinstance(problem, requests.Timeout | TimeoutError) or "ReadTimeoutError" in names
    if timed_out:
        words, code = f"{host} did not answer {asked.what} in time", "timeout"
    elif "IncompleteRead" in names or isinstance(problem, requests.exceptions.ChunkedEncodingError):
        words, code = f"The answer of {host} to {asked.what} broke off", "truncated"
    else:
        words, code = f"The connection to {host} broke over {asked.what}", "connection"
    if asked.writes:
        return OutcomeUnknown(
            f"{words}; the site may have done it or still be at it.",
            "Look at the site before you try again, or let `moodlectl job resume` find out.",
            code=code,
            details=details,
        )
    return Unreachable(f"{words}.", "Try again; look whether the site answers in a browser.",
                       code=code, details=details)  # fmt: skip


def _before_sending(
    host: str, problem: BaseException, causes: list[BaseException], names: set[str]
) -> Iterator[tuple[str, str, str]]:
    """The troubles that arise before anything of the request has left this machine."""
    if isinstance(problem, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        yield f"{host or 'The address'} is no valid web address.", "Check the site's address.", "address"
    if isinstance(problem, OSError) and _NO_BUNDLE in str(problem):
        yield f"{problem}.", "Check ca_bundle of the site.", "address"
    if isinstance(problem, requests.exceptions.ProxyError):
        yield (f"The proxy on the way to {host} does not let the request through.",
               "Check HTTPS_PROXY and NO_PROXY in the environment.", "proxy")  # fmt: skip
    if any("NO_CERTIFICATE_OR_CRL_FOUND" in str(cause) for cause in causes):
        yield "The file named as ca_bundle holds no certificate (PEM).", "Check ca_bundle of the site.", "address"
    if names & {"SSLError", "SSLCertVerificationError"}:
        yield _tls(host, causes)
    if names & {"gaierror", "NameResolutionError"}:
        yield (f"There is no host named {host.rsplit(':', 1)[0]}.",
               "Check the site's address and the network.", "dns")  # fmt: skip
    if "ConnectionRefusedError" in names:
        yield (f"{host} refuses the connection: no web server runs there.",
               "Check the site's address and port, and whether its web server runs.",
               "connection")  # fmt: skip
    if isinstance(problem, requests.ConnectTimeout) or names & {"NewConnectionError", "ConnectTimeoutError"}:
        yield (f"{host} cannot be reached.",
               "Check the network, a VPN the site may need, and the site's address.",
               "connection")  # fmt: skip


def _tls(host: str, causes: list[BaseException]) -> tuple[str, str, str]:
    why = next((c.verify_message for c in causes if isinstance(c, ssl.SSLCertVerificationError)), "")
    if why:
        return (
            f"The certificate of {host} cannot be trusted: {why.rstrip('.')}.",
            "If it comes from an authority of your own, name its certificate file as ca_bundle of the site. "
            "Otherwise the site's certificate has to be put in order.",
            "tls",
        )
    return (
        f"No encrypted connection to {host} came about: {str(causes[-1])[:150]}.",
        "Check whether the site speaks https on that port.",
        "tls",
    )


def _causes(problem: BaseException) -> Iterator[BaseException]:
    """The exception and everything it wraps, however requests and urllib3 pass it on."""
    seen: set[int] = set()
    queue = [problem]
    while queue:
        cause = queue.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        inner = [*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__]
        queue += [each for each in inner if isinstance(each, BaseException)]
