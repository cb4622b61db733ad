"""The fate of a backup's people as computed from web-service replies, and as the host's answer is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from moodlectl.mbz import UserRecord
from moodlectl.site.live import against
from moodlectl.site.port import UserFate, UsersQuestion, no_progress
from moodlectl.site.webservice import WebService

HERE = "https://moodle.example.org"
AWAY = UsersQuestion("https://other.example.org", "0" * 32)


class Service:
    """Answers as ``core_user_get_users_by_field`` does; ``hidden`` are fields the token's owner may not see."""

    url = HERE

    def __init__(self, accounts: Sequence[dict[str, Any]], hidden: Sequence[str] = ()) -> None:
        self.accounts, self.hidden = accounts, hidden

    def site_info(self) -> dict[str, Any]:
        return {"siteurl": HERE, "userid": 2}

    def call(self, function: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        assert function == "core_user_get_users_by_field"
        wanted = {value.lower() for value in params["values"]}
        return [
            {name: value for name, value in one.items() if name not in self.hidden}
            for one in self.accounts
            if str(one[params["field"]]).lower() in wanted
        ]


ANNA = {"id": 7, "username": "anna", "email": "anna@example.org", "firstaccess": 1_700_000_000}


def fates(service: Service, people: Sequence[UserRecord], question: UsersQuestion) -> list[UserFate]:
    told = against.by_web(cast(WebService, service), people, question, no_progress)
    assert told.source == "web service"
    assert told.notes
    return list(told.fates)


def test_on_another_site_email_or_first_access_decides() -> None:
    people = [
        UserRecord(1, "anna", "ANNA@example.org"),
        UserRecord(2, "anna", "x@example.org", firstaccess=1_700_000_000),
        UserRecord(3, "anna", "x@example.org"),
        UserRecord(4, "berta", "b@example.org"),
        UserRecord(5, "anna@example.org.1690000000", "", firstaccess=1_700_000_000, deleted=True),
    ]
    assert [(one.outcome, one.rule, one.account_id) for one in fates(Service([ANNA]), people, AWAY)] == [
        ("match", "2A1", 7),
        ("match", "2A1", 7),
        ("conflict", "2D", 7),
        ("create", "2E", None),
        ("match", "2C", 7),
    ]


def test_on_the_same_site_the_id_decides() -> None:
    anonymous = {"id": 9, "username": "anon5", "email": "anon5@doesntexist.invalid", "firstaccess": 0}
    people = [
        UserRecord(7, "anna", "new@example.org"),
        UserRecord(8, "anna", "anna@example.org"),
        UserRecord(44, "anon5", "anon5@doesntexist.invalid", "anonfirstname5", "anonlastname5"),
        UserRecord(7, "anna@example.org.1690000000", "", deleted=True),
        UserRecord(12, "berta"),
    ]
    told = fates(Service([ANNA, anonymous]), people, UsersQuestion(HERE + "/"))
    assert [(one.outcome, one.rule) for one in told] == [
        ("match", "1A"),
        ("conflict", "1E"),
        ("match", "1B"),
        ("match", "1D"),
        ("create", "1F"),
    ]


def test_what_the_site_hides_is_not_guessed() -> None:
    service = Service([ANNA], hidden=["email", "firstaccess", "username"])
    people = [UserRecord(1, "anna", "anna@example.org"), UserRecord(2, "berta")]
    assert [(one.outcome, one.account_id) for one in fates(service, people, AWAY)] == [("unknown", 7), ("create", None)]


def test_the_hosts_answer_is_read_in_the_order_asked() -> None:
    reply = {"same_site": True, "fates": [["match", "1A", 3, "x"], ["cannot_create", "1F", None, None]]}
    assert against.read_fates(reply) == [UserFate("match", "1A", 3, "x"), UserFate("cannot_create", "1F")]
    asked = against.host_params([UserRecord(3, "x", mnethosturl="https://idp.example.org")], AWAY)
    assert asked["users"][0]["mnethosturl"] == "https://idp.example.org"
    assert asked["identifier_hash"] == "0" * 32
