"""Accounts of a site by username: whom a user map makes the people of a backup. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moodlectl.mbz.usermap import Account
from moodlectl.site.runner import Runner
from moodlectl.site.webservice import WebService

_AT_ONCE = 100
FUNCTION = "core_user_get_users_by_field"


def by_web(ws: WebService, usernames: Sequence[str]) -> list[Account]:
    """Those usernames that are accounts; email and first access as far as the token's owner may see them."""
    found: list[Account] = []
    for begin in range(0, len(usernames), _AT_ONCE):
        names = list(usernames[begin : begin + _AT_ONCE])
        reply = _ask(ws, names)
        if len(names) > 1 and any("username" not in each for each in reply):
            # Who may not see usernames is told by what was asked for.
            for name in names:
                found += read_accounts(_ask(ws, [name]), name)
        else:
            found += read_accounts(reply, names[0])
    return found


def _ask(ws: WebService, names: list[str]) -> Sequence[Mapping[str, Any]]:
    reply: Sequence[Mapping[str, Any]] = ws.call(FUNCTION, {"field": "username", "values": names})
    return reply


def read_accounts(reply: Sequence[Mapping[str, Any]], asked: str) -> list[Account]:
    """``core_user_get_users_by_field`` (``user/externallib.php``, 3.9 to 5.1), or ``moodlectl_call_accounts``."""
    return [
        Account(
            username=str(each.get("username") or asked),
            id=int(each["id"]),
            email=str(each["email"]) if each.get("email") else None,
            firstaccess=int(each["firstaccess"]) if each.get("firstaccess") is not None else None,
        )
        for each in reply
    ]


def on_host(runner: Runner, usernames: Sequence[str], acting: str | None = None) -> list[Account]:
    """Those usernames that are accounts, asked of the host's PHP."""
    return read_accounts(runner.ask("accounts", {"usernames": list(usernames)}, acting=acting), "")
