"""PHP sessions on a site's host: questions share long ones, each deed gets a process of its own."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from moodlectl.errors import Unreachable
from moodlectl.site.port import OnProgress, no_progress
from moodlectl.site.session import Hello, Manner, Session, Start
from moodlectl.site.shell import Shell

__all__ = ["Hello", "Runner", "had_begun"]

# A database server may hang up on a connection that says nothing for long.
_IDLE_LIMIT: Final = 60.0

# What leaves all that idle sessions remember of courses true.
_CHANGES_NO_COURSE: Final = frozenset(
    {"backup", "backup_queue", "delete_backup", "contents_receive", "contents_release"}
)

# Deeds of a moment: they change one thing and leave nothing in their process that the next request would trip over, so
# they need not pay for a start of Moodle of their own. All say when they begin to change.
_BRIEF: Final = frozenset({"arrange", "make_category", "delete_backup", "contents_release"})

# How long an interrupted process may take to end by itself, in seconds: one that changes the site gets the
# time to take back what it has begun.
_GRACE: Final = 2.0
_GRACE_BEGUN: Final = 30.0


# Where each host keeps compiled code for us, by shell, PHP and Moodle's directory: one runner learns it for all.
_CODE_CACHES: Final[dict[tuple[str, ...], str]] = {}


class Runner:
    """Asks the PHP of a Moodle, over a shell. Sessions start when first needed and end with ``close``.

    ``acting`` is the username to act as, else ``token_user``, else the site's first administrator.
    ``patience`` is how many seconds Moodle may take to start; with ``plain_database`` deeds leave the settings of
    their database session alone, and without ``code_cache`` every process compiles Moodle's code anew. May be used by
    several threads at once: each then has its own session.

    Every method raises AccessError, NotFound or Unreachable where the host cannot be reached or has no Moodle
    there, and whatever class of error the PHP reports.
    """

    def __init__(
        self,
        shell: Shell,
        moodle_dir: str,
        *,
        php: str = "php",
        acting: str | None = None,
        token_user: str | None = None,
        patience: float = 60.0,
    ) -> None:
        self._shell = shell
        self._moodle_dir = moodle_dir
        self._php = php
        self._acting = acting
        self._token_user = token_user
        self._patience = patience
        self.plain_database = False
        self.code_cache = True
        self._lock = threading.Lock()
        self._idle: list[tuple[str | None, Session, float]] = []
        self._changes = 0  # how often a deed of ours has changed a course
        self._hello: Hello | None = None
        self._ending: list[threading.Thread] = []

    @property
    def hello(self) -> Hello:
        """Who answers: the site's release, its state, and the user acting by default. Reads only."""
        if self._hello is None:
            session = self._take(None)
            self._give_back(None, session)
            self._hello = session.hello
        return self._hello

    def ask(self, call: str, params: Mapping[str, Any], *, acting: str | None = None) -> Any:
        """The answer to a question. Reads only; asked again where an idle session turns out to be gone."""
        return self._question(call, params, None, acting)

    def fetch(
        self,
        call: str,
        params: Mapping[str, Any],
        sink: Callable[[bytes], None],
        *,
        acting: str | None = None,
        on_progress: OnProgress = no_progress,
    ) -> Any:
        """The answer to a question whose file content goes to ``sink`` piece by piece. Reads only."""
        return self._question(call, params, sink, acting, on_progress)

    def do(
        self,
        call: str,
        params: Mapping[str, Any],
        *,
        acting: str | None = None,
        source: Iterable[bytes] | None = None,
        on_progress: OnProgress = no_progress,
    ) -> Any:
        """Do something in a process of its own, sending it the bytes of ``source``. Writes to the site.

        A deed of a moment takes the process of a question.

        Raises OutcomeUnknown where the site went away after it had begun to change, Unreachable where before.
        An exception from here, KeyboardInterrupt too, knows which of the two it was: see ``had_begun``.
        """
        if call in _BRIEF and (idle := self._idle_one(acting)) is not None:
            with contextlib.suppress(_Gone):
                return self._deed(idle, call, params, acting)
        try:
            session = self._open(self._start(acting, deed=True))
        except BaseException as error:
            _note(error, begun=False)
            raise
        return self._deed(session, call, params, acting, source, on_progress)

    def _deed(
        self,
        session: Session,
        call: str,
        params: Mapping[str, Any],
        acting: str | None,
        source: Iterable[bytes] | None = None,
        on_progress: OnProgress = no_progress,
    ) -> Any:
        """A deed in a session of its own, or in one that has answered before; that may be gone, which raises _Gone."""
        clean, used = False, session.answered > 0
        try:
            manner = self._manner(session, deed=used)
            result = session.call(call, params, source=source, on_progress=on_progress, manner=manner)
            clean = True
            return result
        except BaseException as error:
            _note(error, begun=session.begun)
            if used and isinstance(error, Unreachable) and not session.begun:
                raise _Gone from error
            raise
        finally:
            self._changed(call, clean=clean)
            if clean and call in _BRIEF:
                self._give_back(acting, session)
            elif clean:
                self._let_end(session)
            else:
                # What changes a course is never killed in the middle of it: it ends by itself, heard or not.
                session.end(_GRACE_BEGUN if session.begun else _GRACE, force=not session.begun)

    def close(self) -> None:
        """End the sessions, and the connection they share."""
        self._end_idle()
        with self._lock:
            ending, self._ending = self._ending, []
        for thread in ending:
            thread.join()
        self._shell.close()

    def _let_end(self, session: Session) -> None:
        """Let a process that has answered end while others work: PHP takes its time to put things away."""
        thread = threading.Thread(target=session.end, args=(_GRACE,), name="ending", daemon=True)
        thread.start()
        with self._lock:
            self._ending = [*(one for one in self._ending if one.is_alive()), thread]

    def _question(
        self,
        call: str,
        params: Mapping[str, Any],
        sink: Callable[[bytes], None] | None,
        acting: str | None,
        on_progress: OnProgress = no_progress,
    ) -> Any:
        passed = False

        def watched(piece: bytes) -> None:
            nonlocal passed
            passed = True
            if sink is not None:
                sink(piece)

        with self._session(acting) as session:
            used = session.answered > 0
            try:
                manner = self._manner(session)
                return session.call(call, params, sink=watched, on_progress=on_progress, manner=manner)
            except Unreachable:
                if not used or passed:
                    raise
        self._end_idle()
        with self._session(acting) as session:
            return session.call(call, params, sink=sink, on_progress=on_progress)

    @contextlib.contextmanager
    def _session(self, acting: str | None) -> Iterator[Session]:
        """A session nobody else uses; afterwards it waits for the next question, unless it is broken."""
        session = self._take(acting)
        try:
            yield session
        finally:
            self._give_back(acting, session)

    def _take(self, acting: str | None) -> Session:
        return self._idle_one(acting) or self._open(self._start(acting))

    def _idle_one(self, acting: str | None) -> Session | None:
        stale: list[Session] = []
        found: Session | None = None
        with self._lock:
            now = time.monotonic()
            for entry in [*self._idle]:
                who, session, since = entry
                if now - since > _IDLE_LIMIT:
                    self._idle.remove(entry)
                    stale.append(session)
                elif who == acting and found is None:
                    self._idle.remove(entry)
                    found = session
        for session in stale:
            session.end()
        return found

    def _give_back(self, acting: str | None, session: Session) -> None:
        if session.broken:
            session.end(_GRACE)
            return
        with self._lock:
            self._idle.append((acting, session, time.monotonic()))

    def _changed(self, call: str, *, clean: bool) -> None:
        """A deed has ended: what idle sessions remember of courses is no longer true.

        Where it failed, what they remember of the site, such as its locks, may be what was wrong: they end.
        """
        if not clean:
            self._end_idle()
        elif call not in _CHANGES_NO_COURSE:
            self._changes += 1

    def _manner(self, session: Session, *, deed: bool = False) -> Manner:
        """How a session is asked now: it forgets first where it has last answered before the latest change."""
        fresh = session.answered > 0 and session.changes != self._changes
        session.changes = self._changes
        return Manner(deed=deed, fresh=fresh)

    def _end_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for _, session, _ in idle:
            session.end()

    def _start(self, acting: str | None, *, deed: bool = False) -> Start:
        return Start(
            shell=self._shell,
            moodle_dir=self._moodle_dir,
            php=self._php,
            acting=acting if acting is not None else self._acting,
            token_user=self._token_user,
            patience=self._patience,
            deed=deed,
            plain_database=self.plain_database,
            code_cache=_CODE_CACHES.get(self._place, "") if self.code_cache else None,
        )

    def _open(self, start: Start) -> Session:
        """A session; from its greeting on, others are started with the compiled code that lies on the host."""
        session = Session(start)
        if start.code_cache == "":
            _CODE_CACHES[self._place] = str(session.hello.more.get("code_cache") or "")
        return session

    @property
    def _place(self) -> tuple[str, ...]:
        return str(self._shell), self._php, self._moodle_dir


class _Gone(Exception):  # noqa: N818
    """The process that was to be asked is no longer there; it has done nothing."""


_NOTES: Final = {
    True: "The site had begun to change; what became of it is not known.",
    False: "Nothing had been changed on the site.",
}


def had_begun(error: BaseException) -> bool | None:
    """Whether the deed that this exception ended had begun to change the site; None where it was no deed."""
    notes = getattr(error, "__notes__", [])
    return next((begun for begun, note in _NOTES.items() if note in notes), None)


def _note(error: BaseException, *, begun: bool) -> None:
    error.add_note(_NOTES[begun])
