"""A secret never shows itself."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
import traceback

import pytest

from moodlectl.secret import Secret

TEXT = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize("shown", [str, repr, "{}".format, "{!r}".format, "{:>10}".format, "%s".__mod__])
def test_no_way_of_printing_shows_it(shown: object) -> None:
    assert callable(shown)
    words = shown(Secret(TEXT))
    assert TEXT not in words
    assert "***" in words


def test_only_reveal_gives_the_text() -> None:
    assert Secret(TEXT).reveal() == TEXT


def test_secrets_are_compared_by_their_text() -> None:
    assert Secret(TEXT) == Secret(TEXT)
    assert Secret(TEXT) != Secret("other")
    assert Secret(TEXT) != TEXT
    assert hash(Secret(TEXT)) == hash(Secret(TEXT))
    assert not Secret("")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_cannot_be_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(Secret(TEXT), protocol)


def test_a_copy_is_itself_so_that_records_holding_one_can_be_copied() -> None:
    @dataclasses.dataclass
    class Holder:
        token: Secret

    holder = Holder(Secret(TEXT))
    assert copy.copy(holder.token) is holder.token
    assert dataclasses.asdict(holder)["token"] is holder.token
    assert TEXT not in repr(holder)


def test_it_does_not_change_and_has_no_dictionary() -> None:
    secret = Secret(TEXT)
    with pytest.raises(AttributeError):
        secret.value = "x"  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        vars(secret)


def test_json_refuses_it() -> None:
    with pytest.raises(TypeError):
        json.dumps({"token": Secret(TEXT)})


def test_logs_and_tracebacks_do_not_hold_it(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("moodlectl").warning("token %s", Secret(TEXT))
    assert TEXT not in caplog.text
    assert "***" in caplog.text

    def fail(token: Secret) -> None:
        raise ValueError(f"bad {token}")

    try:
        fail(Secret(TEXT))
    except ValueError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "***" in shown
    assert "bad" in shown
