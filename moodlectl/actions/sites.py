"""Set sites up, change them, take them out, and look them over."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moodlectl import config as settings
from moodlectl import config_words as words
from moodlectl import credentials
from moodlectl.config import Config, SiteConfig
from moodlectl.errors import AccessError, Failed, MoodlectlError, Refused, Unreachable, UsageError
from moodlectl.secret import Secret
from moodlectl.site import opening
from moodlectl.site.opening import Introduced
from moodlectl.site.port import Check, Verdict


@dataclass(frozen=True)
class Login:
    """A user and password to get a token with."""

    username: str
    password: Secret


@dataclass(frozen=True)
class Added:
    """A site as it now stands in the settings; ``owner`` is None where nobody was asked."""

    site: SiteConfig
    owner: Introduced | None
    is_default: bool


def wanted(config: Config, name: str, given: dict[str, Any], *, replace: bool) -> SiteConfig:
    """The site's settings from what was given; with ``replace`` what was not given stays. Reads only.

    A token in the keyring belongs to one address: it does not stay where the address changes. Raises Refused
    for a name that is taken, UsageError, ConfigError.
    """
    words.check_name(name)
    old = config.sites.get(name)
    if old is not None and not replace:
        raise Refused(
            f"There is a site '{name}' already, at {old.url or old.folder}.",
            "Add --replace to change it (what is not given stays), or choose another name.",
            code="exists",
        )
    said = {key: value for key, value in given.items() if value is not None}
    if "url" not in said and (old is None or old.kind != "live"):
        raise UsageError("The site's address is missing.", "Give it with --url.")
    base = old if old is not None and old.kind == "live" else SiteConfig(name)
    site = dataclasses.replace(base, **said)
    if old is not None and site.url != old.url and "token" not in said and old.token == "keyring":
        site = dataclasses.replace(site, token=None)
    return settings.whole(site, config.path)


def add(
    config: Config,
    site: SiteConfig,
    *,
    token: Secret | Login | None = None,
    check: bool = True,
) -> Added:
    """Try the site's token, put it in the keyring if it was given here, and write the settings.

    ``token`` is a token for the keyring, or a login to get one with; None where it comes from elsewhere or
    there is none. Nothing is written where anything fails. Raises AccessError, ConfigError, Unreachable.
    """
    opening.check_address(site)
    if isinstance(token, Login):
        token = opening.sign_in(site, token.username, token.password)
    if token is not None:
        site = dataclasses.replace(site, token="keyring")
    owner = _owner(site, token) if check else None
    if token is not None:
        credentials.store(site, token)
    first = config.default is None and site.name not in config.sites and not config.sites
    try:
        now = settings.save_site(config.path, site, make_default=first)
    except MoodlectlError:
        if token is not None:
            credentials.forget(site)
        raise
    _forget_old(config.sites.get(site.name), site)
    return Added(now.sites[site.name], owner, now.default == site.name)


def remove(config: Config, name: str) -> str | None:
    """Take a site out of the settings, and its token out of the keyring. Returns what was left."""
    site = config.site(name)
    settings.remove_site(config.path, site.name)
    if site.kind == "practice":
        return f"Its folder is still there: {site.folder}"
    return _forget(site)


def make_default(path: Path, config: Config, name: str) -> Config:
    """Make a site the one that is meant when nobody names one. Raises NotFound."""
    return settings.save_default(path, config.site(name).name)


def check(site: SiteConfig) -> Sequence[Check]:
    """Look the site over, line by line. Reads only."""
    with closing(opening.open_site(site, forgiving=True)) as opened:
        return opened.check()


def verdict(name: str, lines: Sequence[Check]) -> MoodlectlError | None:
    """The error a check amounts to, of the class that fits its first error line; None where all is well."""
    errors = [line for line in lines if line.verdict is Verdict.ERROR]
    if not errors:
        return None
    status = getattr(errors[0], "exit_status", 1)
    kind = {3: AccessError, 6: Unreachable}.get(status, Failed)
    number = f"{len(errors)} errors, the first" if len(errors) > 1 else "one error"
    return kind(
        f"The check of '{name}' found {number}: {errors[0].name}.",
        errors[0].hint,
        code="check",
        details={"errors": [line.name for line in errors]},
    )


def _owner(site: SiteConfig, token: Secret | None) -> Introduced | None:
    found = token if token is not None else credentials.token_for(site)
    return opening.introduce(site, found) if found is not None else None


def _forget_old(old: SiteConfig | None, new: SiteConfig) -> None:
    if old is not None and old.token == "keyring" and (new.token != "keyring" or new.url != old.url):
        _forget(old)


def _forget(site: SiteConfig) -> str | None:
    """Take the site's token out of the keyring; why it is still there, where it is."""
    if site.token != "keyring":
        return None
    try:
        credentials.forget(site)
    except AccessError as problem:
        return f"Its token may still be in the keyring: {problem.message}"
    return None
