"""From a site's settings to the site itself, and the two questions asked before a site is set up.

Everything heavy is imported when it is needed: HTTP if there is a token, the runner if there is a shell.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moodlectl import credentials
from moodlectl.config import SiteConfig
from moodlectl.errors import AccessError, ConfigError, MoodlectlError
from moodlectl.secret import Secret

if TYPE_CHECKING:
    from moodlectl.site.port import Site
    from moodlectl.site.webservice import WebService

MOBILE_SERVICE = "moodle_mobile_app"


@dataclass(frozen=True)
class Introduced:
    """Whom a token belongs to and what answers there: ``url`` is how the site calls itself."""

    username: str
    fullname: str
    site: str
    release: str
    url: str


def open_site(config: SiteConfig, *, forgiving: bool = False) -> Site:
    """The site of these settings, ready to be asked; whoever opens it closes it.

    ``forgiving`` is for ``site check``: a token that cannot be had, or does not work, is left to the check to
    tell. Raises AccessError where there is a token but it cannot be had, ConfigError, and what asking for the
    token's owner raises where the shell is to act as him.
    """
    if config.kind == "practice":
        return _practice(config)
    webservice = _webservice(config, forgiving=forgiving)
    if config.engine == "admin-cli":
        from moodlectl.site.admincli import AdminCliSite

        return AdminCliSite(config, webservice)
    if webservice is None and not config.has_shell and not forgiving:
        raise AccessError(
            f"The site '{config.name}' has neither a token nor a shell.",
            f"Give it one: moodlectl site add {config.name} --replace with --token-stdin or --moodle-dir.",
            code="notoken",
        )
    from moodlectl.site.live import LiveSite

    return LiveSite(config, webservice, _runner(config, webservice, forgiving=forgiving))


def introduce(config: SiteConfig, token: Secret) -> Introduced:
    """Who the token's owner is and what site answers. Reads only. Raises AccessError, Unreachable."""
    service = _with(config, token)
    try:
        info = service.site_info()
    finally:
        service.close()
    return Introduced(
        username=str(info.get("username") or ""),
        fullname=str(info.get("fullname") or ""),
        site=str(info.get("sitename") or ""),
        release=str(info.get("release") or "?"),
        url=str(info.get("siteurl") or config.url),
    )


def sign_in(config: SiteConfig, username: str, password: Secret) -> Secret:
    """A token of the site's service for a user's password. Writes to the site: the token is made there.

    Raises AccessError, Unreachable.
    """
    from moodlectl.site.webservice import token_login

    return token_login(config.url, username, password, config.service or MOBILE_SERVICE, **_http(config))


def check_address(config: SiteConfig) -> None:
    """Nothing, when a token may be sent to the site's address. Raises ConfigError for http to elsewhere."""
    from moodlectl.site.webservice import site_url

    site_url(config.url, allow_http=config.allow_http)


def _practice(config: SiteConfig) -> Site:
    from moodlectl.site.practice import PracticeSite

    if config.folder is None:
        raise ConfigError(f"At 'sites.{config.name}': a practice site needs 'folder'.")
    return PracticeSite(config.folder, config.name, as_user=config.acting or "admin")


def _webservice(config: SiteConfig, *, forgiving: bool) -> WebService | None:
    try:
        token = credentials.token_for(config)
        if token is None:
            return None
        service = _with(config, token)
        if forgiving:
            service.patience = dataclasses.replace(service.patience, attempts=2)  # a check is not patient
        return service
    except MoodlectlError:
        if forgiving:
            return None
        raise


def _with(config: SiteConfig, token: Secret) -> WebService:
    from moodlectl.site.webservice import WebService

    return WebService(config.url, token, **_http(config))


def _http(config: SiteConfig) -> dict[str, Any]:
    return {
        "ca_bundle": config.ca_bundle,
        "allow_http": config.allow_http,
        "timeout": (10, config.timeout),
    }


def _runner(config: SiteConfig, webservice: WebService | None, *, forgiving: bool) -> Any:
    """The runner, acting as ``as``, else as the owner of the token, else as the first administrator."""
    if config.moodle_dir is None:
        return None
    from moodlectl.site.runner import Runner
    from moodlectl.site.shell import Shell

    owner: str | None = None
    if config.acting is None and webservice is not None:
        try:
            owner = str(webservice.site_info().get("username") or "") or None
        except MoodlectlError:
            if not forgiving:
                raise  # to act as an administrator because the token is dead would be a surprise
    runner = Runner(
        Shell(config.via, config.ssh_config),
        config.moodle_dir,
        php=config.php,
        acting=config.acting,
        token_user=owner,
        patience=config.timeout,
    )
    runner.plain_database = config.plain_database
    runner.code_cache = config.code_cache
    return runner
