"""What a restore on a live site would make of the people of a backup: asked of the site, or computed by web service."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from moodlectl.site.port import OnProgress, Person, Progress, UserFate, UsersAgainst, UsersQuestion
from moodlectl.site.runner import Runner
from moodlectl.site.webservice import WebService

_AT_ONCE_HOST = 500
_AT_ONCE_WEB = 100
FUNCTION = "core_user_get_users_by_field"
_FIELDS = ("id", "username", "email", "firstname", "lastname", "firstaccess", "deleted", "mnethosturl")
_NOTES = (
    "Computed from web services: accounts that were deleted on the site, and the site's own switches for restores, "
    "cannot be seen that way. A shell lets the site itself be asked.",
    "Whether the token's user may create accounts by restoring cannot be told by web service.",
)

Account = Mapping[str, Any]


# --- asked of the site ------------------------------------------------------------------------------------------


def on_host(
    runner: Runner, people: Sequence[Person], question: UsersQuestion, acting: str | None, on_progress: OnProgress
) -> UsersAgainst:
    """The fate of each by Moodle's own rules, some hundred people at a time (``php/against.php``). Reads only."""
    fates: list[UserFate] = []
    same = False
    for begin in range(0, max(len(people), 1), _AT_ONCE_HOST):
        batch = people[begin : begin + _AT_ONCE_HOST]
        reply = runner.ask("users_against", host_params(batch, question), acting=acting)
        same = bool(reply["same_site"])
        fates += read_fates(reply)
        on_progress(Progress("check", len(fates), len(people)))
    return UsersAgainst(same, "site", tuple(fates))


def host_params(people: Sequence[Person], question: UsersQuestion) -> dict[str, Any]:
    """What ``moodlectl_call_users_against`` is asked with."""
    return {
        "users": [{name: getattr(one, name) for name in _FIELDS} for one in people],
        "url": question.url,
        "identifier_hash": question.identifier_hash,
        "category_id": question.category_id,
        "course_id": question.course_id,
    }


def read_fates(reply: Mapping[str, Any]) -> list[UserFate]:
    """What ``moodlectl_call_users_against`` answered."""
    return [UserFate(outcome, rule, id_, username) for outcome, rule, id_, username in reply["fates"]]


# --- computed by web service ------------------------------------------------------------------------------------


def by_web(
    ws: WebService, people: Sequence[Person], question: UsersQuestion, on_progress: OnProgress
) -> UsersAgainst:
    """The fate of each by the same rules, as far as accounts can be looked up by web service. Reads only."""
    own = str(ws.site_info().get("siteurl") or ws.url)
    same = (question.url or "").rstrip("/") == own.rstrip("/")
    fates: list[UserFate] = []
    for begin in range(0, len(people), _AT_ONCE_WEB):
        batch = people[begin : begin + _AT_ONCE_WEB]
        by_name = _look_up(ws, "username", [one.username for one in batch])
        gone = [one for one in batch if one.deleted]
        by_id = _look_up(ws, "id", [str(one.id) for one in gone]) if same and gone else {}
        by_email = _look_up(ws, "email", [_without_time(one.username) for one in gone]) if gone and not same else {}
        for one in batch:
            there = by_name.get(one.username.lower())
            other = by_id.get(str(one.id)) or by_email.get(_without_time(one.username).lower())
            fates.append(_same_site(one, there, other) if same else _other_site(one, there, other))
        on_progress(Progress("check", len(fates), len(people)))
    return UsersAgainst(same, "web service", tuple(fates), _NOTES)


def _look_up(ws: WebService, field: str, values: Sequence[str]) -> dict[str, Account]:
    """Accounts by that field, lower-cased (``user/externallib.php`` get_users_by_field, 3.9 to 5.1)."""
    wanted = list(dict.fromkeys(value for value in values if value))
    if not wanted:
        return {}
    reply: Sequence[Account] = ws.call(FUNCTION, {"field": field, "values": wanted})
    if all(each.get(field) for each in reply):
        return {str(each[field]).lower(): each for each in reply}
    found = {}  # who may not see that field is told by what was asked for
    for value in wanted:
        for each in ws.call(FUNCTION, {"field": field, "values": [value]}):
            found[value.lower()] = each
    return found


def _same_site(one: Person, there: Account | None, by_id: Account | None) -> UserFate:
    if there is not None and int(there["id"]) == one.id:
        return _match("1A", there, one)
    if there is not None and is_anonymous(one):
        return _match("1B", there, one)
    if by_id is not None and one.deleted:
        email = by_id.get("email")
        if email is None:
            return UserFate("unknown", "1D", int(by_id["id"]), by_id.get("username"))
        if str(email)[:89].upper() == _without_time(one.username).upper():
            return _match("1D", by_id, one)
    if there is not None:
        return UserFate("conflict", "1E", int(there["id"]), str(there.get("username") or one.username))
    return UserFate("create", "1F")


def _other_site(one: Person, there: Account | None, by_email: Account | None) -> UserFate:
    if there is not None:
        email, seen = there.get("email"), there.get("firstaccess")
        if email is not None and str(email).upper() == one.email.upper():
            return _match("2A1", there, one)
        if seen and int(seen) == one.firstaccess:
            return _match("2A1", there, one)
        if email is None or seen is None:
            return UserFate("unknown", None, int(there["id"]), str(there.get("username") or one.username))
    if by_email is not None and one.firstaccess and int(by_email.get("firstaccess") or 0) == one.firstaccess:
        return _match("2C", by_email, one)
    if there is not None:
        return UserFate("conflict", "2D", int(there["id"]), str(there.get("username") or one.username))
    return UserFate("create", "2E")


def _match(rule: str, account: Account, one: Person) -> UserFate:
    return UserFate("match", rule, int(account["id"]), str(account.get("username") or one.username))


def _without_time(username: str) -> str:
    """A deleted user's name is his address with the time of deletion at its end; Moodle's own pattern."""
    return re.sub(r"(.*?)\.[0-9]+.?$", r"\1", username)


def is_anonymous(one: Person) -> bool:
    """Whether the backup was anonymised (``backup_anonymizer_helper::is_anonymous_user``, 3.9 to 5.1)."""
    return bool(
        re.fullmatch(r"anon\d*", one.username)
        and re.fullmatch(r"anonfirstname\d*", one.firstname)
        and re.fullmatch(r"anonlastname\d*", one.lastname)
        and re.fullmatch(r"anon\d*@doesntexist\.(com|invalid)", one.email)
    )
