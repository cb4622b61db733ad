"""Whatever a gateway makes of a copy inside one web request: the truth is found out, and nothing is sent twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from moodlectl import ledger
from moodlectl.actions import copying, gateway, resuming
from moodlectl.errors import Failed, MoodlectlError, OutcomeUnknown, Refused, Unreachable
from moodlectl.secret import Secret
from moodlectl.site.live import webdeeds
from moodlectl.site.port import (
    WEB_COPY,
    WEB_IMPORT,
    Controller,
    Course,
    CourseRef,
    ItemChoice,
    RestoreRequest,
    RestoreSource,
    WebCopy,
    WebImport,
)
from moodlectl.site.practice import PracticeSite
from moodlectl.site.webservice import WebService
from tests.faults.gateways import gateway as gateway_before

GAVE_UP = OutcomeUnknown("The gateway got no answer in time (504); Moodle may still be working.", code="gateway")


class WebSite(PracticeSite):
    """A practice site reached by web services alone; ``fate`` is what becomes of the next web request.

    ``late`` (done when somebody has looked ``looks`` times), ``half`` (an unfinished course is left), ``never`` (it
    never got there), ``told`` (Moodle itself says it broke off, and leaves half a course), ``mute`` (done, but then
    nobody answers any more).
    """

    def __init__(self, folder: Path, fate: str) -> None:
        self.fate, self.looks, self.sent = fate, 2, 0
        self.records: tuple[Controller, ...] | None = None
        self.silent = False
        self._later: Callable[[], object] | None = None
        super().__init__(folder, "practice")

    def has_host(self) -> bool:
        return False

    def controllers(self, course_ids: object, since: object) -> tuple[Controller, ...] | None:  # type: ignore[override]
        return self.records

    def course(self, ref: CourseRef) -> Course:
        if self.silent:
            raise Unreachable("nobody answers")
        if self._later is not None:
            self.looks -= 1
            if self.looks < 0:
                later, self._later = self._later, None
                later()
        return super().course(ref)

    def web_copy(self, copy: WebCopy) -> int:
        self.sent += 1
        if self.fate in ("half", "told"):
            part = ItemChoice(only_sections=frozenset(), only_activities=frozenset())
            source = RestoreSource(course=copying.CourseSource(copy.course_id, "copy", {"users": False}, part))
            self.restore(RestoreRequest(
                source, "new", category_id=copy.category_id, shortname=copy.shortname, fullname="In the making",
                visible=False, settings={"users": False}))  # fmt: skip
            if self.fate == "told":
                raise Failed("Can not find the file.", code="dmlread", details={"errorcode": "dmlread"})
        elif self.fate == "late":
            self._later = lambda: super(WebSite, self).web_copy(copy)
        elif self.fate == "mute":
            super().web_copy(copy)
            self.silent = True
        raise GAVE_UP

    def web_import(self, wanted: WebImport) -> None:
        self.sent += 1
        if self.fate == "late":
            self._later = lambda: super(WebSite, self).web_import(wanted)
        raise GAVE_UP


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MOODLECTL_STATE", str(tmp_path / "state"))
    monkeypatch.setattr("moodlectl.actions.webwatch.time.sleep", lambda _: None)
    monkeypatch.setattr("moodlectl.actions.webwatch.SETTLE", 0.05)


@pytest.fixture
def site_of(tmp_path: Path) -> Iterator[Callable[[str], WebSite]]:
    made: list[WebSite] = []

    def make(fate: str) -> WebSite:
        made.append(WebSite(tmp_path / "site", fate))
        return made[-1]

    yield make
    for site in made:
        site.close()


WANTED = copying.WantedCopy("RICH101", "Science / Biology", "WEB-9", visible=True)


def copy(site: WebSite, wait: float = 0.05) -> gateway.WebDone:
    return gateway.run(site, copying.plan_copy(site, WANTED), copying.asked(WANTED), wait=wait)


def the_job() -> ledger.Job:
    return ledger.job(ledger.jobs(limit=1)[0].id)


def there(site: WebSite) -> list[str]:
    return [one.shortname for one in site.courses() if one.shortname.startswith("WEB-9")]


def test_a_copy_that_moodle_finishes_after_the_gateway_gave_up_is_done(site_of: Callable[[str], WebSite]) -> None:
    site = site_of("late")
    done = copy(site, wait=60)
    assert (done.course.shortname, done.differences, site.sent) == ("WEB-9", (), 1)
    assert done.gave_up == GAVE_UP.message
    assert (the_job().state, the_job().items[0].facts["course"]) == ("done", done.course.id)


def test_a_copy_left_unfinished_is_removed_because_it_is_ours(site_of: Callable[[str], WebSite]) -> None:
    site = site_of("half")
    with pytest.raises(Failed) as problem:
        copy(site)
    assert problem.value.details["course_removed"] is True
    assert (there(site), the_job().state, site.sent) == ([], "failed", 1)


def test_an_unfinished_copy_that_cannot_be_removed_is_named(
    site_of: Callable[[str], WebSite], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = site_of("half")

    def may_not(course_id: int) -> None:
        raise Refused("You may not delete it.")

    monkeypatch.setattr(site, "delete_course", may_not)
    with pytest.raises(Failed) as problem:
        copy(site)
    assert "is still there: You may not delete it." in problem.value.message
    assert problem.value.details["left"] in [one.url for one in site.courses()]
    assert "delete.php" in (problem.value.hint or "")


def test_a_copy_moodle_says_it_broke_off_is_removed_without_waiting(site_of: Callable[[str], WebSite]) -> None:
    site = site_of("told")
    with pytest.raises(Failed) as problem:
        copy(site, wait=3600)
    assert problem.value.code == "dmlread"
    assert there(site) == []


def test_nothing_to_be_seen_is_unknown_where_nobody_can_tell_and_nothing_where_moodle_has_no_record(
    site_of: Callable[[str], WebSite],
) -> None:
    site = site_of("never")
    with pytest.raises(OutcomeUnknown) as problem:
        copy(site)
    assert (problem.value.exit_status, the_job().state) == (8, "unknown")
    assert f"moodlectl job resume {the_job().id}" in (problem.value.hint or "")
    site.records = ()
    with pytest.raises(Unreachable) as nothing:
        resuming.resume(site, the_job())
    assert (nothing.value.exit_status, the_job().state, site.sent) == (6, "failed", 1)


def test_a_site_that_falls_silent_is_unknown_and_resumed_later(site_of: Callable[[str], WebSite]) -> None:
    site = site_of("mute")
    with pytest.raises(OutcomeUnknown):
        copy(site)
    site.silent = False
    found = resuming.resume(site, the_job())
    assert found.state == "done" and found.course is not None and found.course.shortname == "WEB-9"
    assert (the_job().state, site.sent) == ("done", 1)


def test_an_import_is_done_when_all_of_it_has_arrived(site_of: Callable[[str], WebSite]) -> None:
    site = site_of("late")
    wanted = copying.WantedImport("RICH101", "EMPTY1")
    done = gateway.run(site, copying.plan_import(site, wanted), copying.asked(wanted), wait=60)
    assert (done.course.shortname, done.differences, site.sent) == ("EMPTY1", (), 1)
    assert the_job().kind == "import"


def test_contents_are_never_deleted_without_a_shell(site_of: Callable[[str], WebSite]) -> None:
    site = site_of("late")
    wanted = copying.WantedImport("RICH101", "EMPTY1", delete_contents=True)
    with pytest.raises(Refused) as problem:
        gateway.run(site, copying.plan_import(site, wanted), copying.asked(wanted))
    assert (problem.value.code, site.sent) == ("needs_shell", 0)


def test_a_stored_backup_that_moodle_would_overwrite_stops_it(
    site_of: Callable[[str], WebSite], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = site_of("late")
    listed = site.backups(site.course(CourseRef("shortname", "RICH101")).id, ["course"])
    files = tuple(replace(one, filename="backup.mbz") for one in listed.files)
    monkeypatch.setattr(site, "backups", lambda *_, **__: replace(listed, files=files))
    with pytest.raises(Refused) as problem:
        copy(site)
    assert (problem.value.code, site.sent) == ("would_overwrite", 0)


# --- over the wire ----------------------------------------------------------------------------------------------------


class _Slow(BaseHTTPRequestHandler):
    """A site that never answers in time."""

    go = threading.Event()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def do_POST(self) -> None:
        self.go.wait(30)


@pytest.fixture
def slow() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Slow)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    _Slow.go.set()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("how", ["504", "502", "page", "drop", "reset"])
def test_no_way_of_giving_up_is_taken_for_an_answer(slow: str, how: str) -> None:
    _Slow.go.clear()
    with gateway_before(slow, how, seconds=0.2) as gate:
        service = WebService(gate.url, Secret("0" * 32))
        with pytest.raises(MoodlectlError) as problem:
            webdeeds.copy(service, WebCopy(2, 1, "Copy", "COPY", True, WEB_COPY))
        service.close()
    error = problem.value
    assert isinstance(error, OutcomeUnknown) or gateway._is_strange_answer(error), error
    assert gate.forwarded == 1


def test_every_option_is_sent_so_that_nobody_is_copied_unasked() -> None:
    params = webdeeds.copy_params(WebCopy(2, 1, "Copy", "COPY", True, gateway.settings_of({}, WEB_COPY)))
    assert {one["name"]: one["value"] for one in params["options"]} == dict(WEB_COPY)
    assert gateway.settings_of({"users": True}, WEB_COPY)["userscompletion"] is True
    assert gateway.settings_of({"blocks": False}, WEB_IMPORT) == {"activities": True, "blocks": False, "filters": True}
