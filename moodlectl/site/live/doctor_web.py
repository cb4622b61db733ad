"""The web half of a site check: address, TLS, redirects, web services, the token and what it may do."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from moodlectl.config import SiteConfig
from moodlectl.errors import MoodlectlError
from moodlectl.secret import Secret
from moodlectl.site.live.findings import Finding, count, error, failed, ok, skipped, warning

if TYPE_CHECKING:
    from moodlectl.site.webservice import WebService

FUNCTIONS: tuple[str, ...] = (
    "core_webservice_get_site_info",
    "core_course_get_categories",
    "core_course_get_contents",
    "core_course_get_courses_by_field",
    "core_course_search_courses",
    "core_files_get_files",
)
"""What moodlectl asks of a site by web service."""

STAGES = ("address", "TLS", "redirects", "web services", "REST", "token", "token's user")

_STAGE_OF: Mapping[str, str] = {
    "tls": "TLS",
    "redirected": "redirects",
    "loginpage": "redirects",
    "webservicesoff": "web services",
    "enablewsdescription": "web services",
    "forbidden": "web services",
    "invalidtoken": "token",
    "accessexception": "token",
    "servicenotavailable": "token",
    "servicerequireslogin": "token",
    "notoken": "token",
    "usernotfullysetup": "token's user",
    "forcepasswordchangenotice": "token's user",
    "sitepolicynotagreed": "token's user",
    "requireloginerror": "token's user",
}


@dataclass(frozen=True)
class WebProbe:
    """What asking the site over HTTP brought.

    ``info`` is the answer of core_webservice_get_site_info, or ``problem`` the error it ended with.
    ``token_problem`` is why there is no token to ask with; ``certificate_ends`` when the site's certificate
    expires; ``services_on`` whether web services are on, as far as login/token.php tells.
    """

    info: Mapping[str, Any] | None = None
    problem: MoodlectlError | None = None
    token_problem: MoodlectlError | None = None
    has_token: bool = True
    certificate_ends: datetime | None = None
    services_on: bool | None = None


# --- asking -------------------------------------------------------------------------------------------------


def probe(config: SiteConfig, webservice: WebService | None) -> WebProbe:
    """Ask the site over HTTP; without a token it is asked with a wrong one, which tells as much of the road.

    Reads only.
    """
    token_problem: MoodlectlError | None = None
    if webservice is None and config.token is not None:
        from moodlectl import credentials

        try:
            credentials.token_for(config)
        except MoodlectlError as problem:
            token_problem = problem
    asker = webservice
    try:
        asker = asker or _anonymous(config)
        info, problem_found = asker.site_info(), None
    except MoodlectlError as problem:
        info, problem_found = None, problem
    off = problem_found is not None and problem_found.code == "webservicesoff"
    services = _services_on(asker) if asker and off else None
    if webservice is None and asker is not None:
        asker.close()
    return WebProbe(
        info=info,
        problem=problem_found,
        token_problem=token_problem,
        has_token=webservice is not None,
        certificate_ends=certificate_end(config),
        services_on=services,
    )


def _anonymous(config: SiteConfig) -> WebService:
    from moodlectl.site.webservice import WebService

    service = WebService(
        config.url,
        Secret("0" * 32),
        ca_bundle=config.ca_bundle,
        allow_http=config.allow_http,
        timeout=(10, config.timeout),
    )
    service.patience = replace(service.patience, attempts=2)
    return service


def _services_on(asker: WebService) -> bool | None:
    """Whether web services are on though REST says nothing: ``appsitecheck`` of login/token.php (3.10)."""
    from moodlectl.site.replies import Asked, read_reply, reply_of

    asked = Asked("whether web services are on", f"{asker.url}/login/token.php")
    try:
        read_reply(reply_of(asker.post(asked, {"appsitecheck": "1"})), asked)
    except MoodlectlError as problem:
        return False if problem.code == "enablewsdescription" else None
    return True


def certificate_end(config: SiteConfig) -> datetime | None:
    """When the site's certificate expires; None for plain http, behind a proxy, or where it cannot be had."""
    parts = urlsplit(config.url)
    if parts.scheme != "https" or not parts.hostname:
        return None
    if getproxies().get("https") and not proxy_bypass(parts.hostname):
        return None
    with contextlib.suppress(OSError, ValueError):
        context = ssl.create_default_context(cafile=str(config.ca_bundle) if config.ca_bundle else None)
        with (
            socket.create_connection((parts.hostname, parts.port or 443), timeout=10) as raw,
            context.wrap_socket(raw, server_hostname=parts.hostname) as secure,
        ):
            ends = (secure.getpeercert() or {}).get("notAfter")
            if isinstance(ends, str):
                return datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), UTC)
    return None


# --- judging ------------------------------------------------------------------------------------------------


def judge(config: SiteConfig, found: WebProbe, now: datetime) -> list[Finding]:
    """The lines about the web half. Pure."""
    if not found.has_token and config.token is None:
        return _without_token(config, found, now)
    problem = found.problem
    if problem is not None and not found.has_token and problem.code in ("invalidtoken", "accessexception"):
        problem = found.token_problem or problem  # the road is good; it is the token that is missing
        return _ladder(config, found, now, problem, "token")
    if problem is not None:
        return _ladder(config, found, now, problem, _stage(problem, found))
    lines = [_good(config, stage, found, now) for stage in STAGES]
    if found.token_problem is not None:  # cannot be: somebody without a token was let in
        lines.append(failed("token", found.token_problem))
    info = found.info or {}
    return [
        *lines,
        _same_address(config, info),
        _functions(config, info),
        _downloads(config, info),
        _uploads(info),
    ]


def _without_token(config: SiteConfig, found: WebProbe, now: datetime) -> list[Finding]:
    """The web half of a site that is used over its shell alone: what is off is no fault."""
    stage = _stage(found.problem, found) if found.problem else "token"
    lines = [_good(config, each, found, now) for each in STAGES[: min(STAGES.index(stage), 3)]]
    if found.problem is not None and stage in STAGES[:3]:
        broken = failed(stage, found.problem)
        lines.append(warning(stage, broken.message, broken.hint) if config.has_shell else broken)
    if config.has_shell:
        return [*lines, ok("token", "none, and none needed: everything goes over the shell")]
    hint = f"Give it one: moodlectl site add {config.name} --replace --url {config.url} --token-stdin"
    return [*lines, error("token", "the site has neither a token nor a shell", hint, status=3)]


def _ladder(
    config: SiteConfig, found: WebProbe, now: datetime, problem: MoodlectlError, stage: str
) -> list[Finding]:
    """What comes before the stage that failed is good, what comes after it could not be looked at."""
    at = STAGES.index(stage)
    why = f"the {stage} check failed" if stage != "token's user" else "its user may not call anything"
    after = [*STAGES[at + 1 :], "functions", "downloads", "uploads"]
    return [
        *(_good(config, each, found, now) for each in STAGES[:at]),
        failed(stage, problem),
        *(skipped(each, why) for each in after),
    ]


def _stage(problem: MoodlectlError, found: WebProbe) -> str:
    if problem.code == "webservicesoff" and found.services_on:
        return "REST"
    if problem.code.startswith("wsaccessuser"):
        return "token's user"
    return _STAGE_OF.get(problem.code, "address")


def _good(config: SiteConfig, stage: str, found: WebProbe, now: datetime) -> Finding:
    info = found.info or {}
    match stage:
        case "address":
            release = f", Moodle {info['release']}" if info.get("release") else ""
            return ok(stage, f"{config.url} answers{release}")
        case "TLS":
            return _tls(config, found.certificate_ends, now)
        case "redirects":
            return ok(stage, "none")
        case "token":
            return ok(stage, f"alive, of user {info.get('username')} ({info.get('fullname')})")
        case "token's user":
            admin = ", a site administrator" if info.get("userissiteadmin") else ""
            return ok(stage, f"the account is complete and may call web services{admin}")
        case _:
            return ok(stage, "on")


def _tls(config: SiteConfig, ends: datetime | None, now: datetime) -> Finding:
    if urlsplit(config.url).scheme == "http":
        if config.allow_http:
            return warning("TLS", "plain http: the token travels readable", "Use https if the site has it.")
        return ok("TLS", "plain http, to this machine only")
    if ends is None:
        return ok("TLS", "the certificate is trusted")
    days = (ends - now).days
    if days < 14:
        return warning(
            "TLS", f"the certificate expires in {count(days, 'day')}, on {ends:%Y-%m-%d}", "Have it renewed."
        )
    return ok("TLS", f"the certificate is trusted, until {ends:%Y-%m-%d}")


def _same_address(config: SiteConfig, info: Mapping[str, Any]) -> Finding:
    theirs = str(info.get("siteurl") or "").rstrip("/")
    if theirs and theirs.lower() != config.url.lower():
        return warning(
            "site address",
            f"the site calls itself {theirs}, the settings say {config.url}",
            f"Use the site's own: moodlectl site add {config.name} --replace --url {theirs} …",
        )
    return ok("site address", "the site calls itself the same")


def missing_functions(info: Mapping[str, Any]) -> list[str]:
    """The functions that the token's service lacks. Pure."""
    there = {str(each.get("name")) for each in info.get("functions") or [] if isinstance(each, Mapping)}
    return [name for name in FUNCTIONS if name not in there]


def _functions(config: SiteConfig, info: Mapping[str, Any]) -> Finding:
    missing: Sequence[str] = missing_functions(info)
    if missing:
        return _lacking(
            config,
            "functions",
            f"the service lacks {count(len(missing), 'function')}: {', '.join(missing)}",
            "Add them: Site administration > Server > Web services > External services > Functions > Add "
            f"functions. To paste: {','.join(missing)}",
        )
    return ok("functions", f"all {len(FUNCTIONS)} that are needed")


def _lacking(config: SiteConfig, name: str, message: str, hint: str) -> Finding:
    """What a token cannot do, the shell does where there is one (unless it is Moodle's own scripts only)."""
    if config.has_shell and config.engine == "runner":
        return warning(name, f"{message}; the shell is used instead", hint)
    return error(name, message, hint, status=3)


def _downloads(config: SiteConfig, info: Mapping[str, Any]) -> Finding:
    if not info.get("downloadfiles"):
        return _lacking(
            config,
            "downloads",
            "the service does not allow downloads",
            "Tick 'Can download files' of the service: Site administration > Server > Web services > "
            "External services > Edit > Show more.",
        )
    return ok("downloads", "allowed (the user also needs moodle/backup:downloadfile)")


def _uploads(info: Mapping[str, Any]) -> Finding:
    if not info.get("uploadfiles"):
        return ok("uploads", "not allowed, and not needed: restores send their file over the shell")
    return ok("uploads", "allowed")
