"""The type of everything that must never be shown: tokens and passwords."""

from __future__ import annotations

import hmac
from typing import NoReturn, final


@final
class Secret:
    """A token or password that shows itself as ``***`` wherever it is printed, logged or formatted.

    Only ``reveal`` gives the text,
    at the one place that sends it. It cannot be pickled or changed; a copy of it
    is itself.
    """

    __slots__ = ("__value",)
    __value: str

    def __init__(self, value: str) -> None:
        object.__setattr__(self, "_Secret__value", value)

    def reveal(self) -> str:
        """The text itself, for the request body or the standard input it goes to."""
        return self.__value

    def __str__(self) -> str:
        return "***"

    def __repr__(self) -> str:
        return "***"

    def __format__(self, format_spec: str) -> str:
        return format("***", format_spec)

    def __bool__(self) -> bool:
        return bool(self.__value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__value.encode(), other.__value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self.__value))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a secret does not change")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a secret does not change")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not written down: it cannot be pickled")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a secret is not written down: it cannot be pickled")
