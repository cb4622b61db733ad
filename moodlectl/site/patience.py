"""Asking again: only what reads is repeated, and only on trouble that passes."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar

from moodlectl.errors import MoodlectlError, Unreachable

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Patience:
    """How reads are repeated: at most ``attempts`` times within ``total`` seconds.

    Waits grow from ``first`` to ``longest`` seconds with jitter. A ``Retry-After`` is honoured; one that
    does not
    fit into ``total`` ends the attempts.
    """

    attempts: int = 5
    total: float = 120.0
    first: float = 0.5
    longest: float = 30.0
    sleep: Callable[[float], None] = time.sleep

    def wait(self, attempt: int, error: BaseException | None) -> float:
        """Seconds to wait after that attempt (from 1) ended with that error."""
        said = retry_after(error.details.get("retry_after")) if isinstance(error, MoodlectlError) else None
        if said is not None:
            return said
        return min(self.longest, self.first * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)


RETRIED = frozenset(
    {"connection", "timeout", "truncated", "toomanyrequests", "gateway", "unavailable", "maintenance"}
)
"""The codes of an Unreachable that another attempt may well not meet."""


def retry_after(said: object) -> float | None:
    """Seconds that a Retry-After header asks for; it holds seconds or a date. None where it holds neither."""
    text = str(said or "").strip()
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def repeat(ask: Callable[[], Answer], patience: Patience) -> Answer:
    """Ask again while the trouble is one that passes. For reads only. Raises the last error."""
    from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt
    from tenacity.stop import stop_base

    class WithinTotal(stop_base):
        def __call__(self, state: RetryCallState) -> bool:
            spent = max(state.idle_for, state.seconds_since_start or 0.0)
            return spent + wait(state) > patience.total

    def wait(state: RetryCallState) -> float:
        return patience.wait(state.attempt_number, state.outcome.exception() if state.outcome else None)

    def tell(state: RetryCallState) -> None:
        log.info("%s Trying again in %.1f s.", state.outcome.exception() if state.outcome else "",
                 state.upcoming_sleep)  # fmt: skip

    return Retrying(
        retry=retry_if_exception(passes),
        stop=stop_after_attempt(patience.attempts) | WithinTotal(),
        wait=wait,
        sleep=patience.sleep,
        before_sleep=tell,
        reraise=True,
    )(ask)


def passes(error: BaseException) -> bool:
    """Whether the trouble is one that may be gone at the next attempt."""
    return isinstance(error, Unreachable) and error.code in RETRIED
