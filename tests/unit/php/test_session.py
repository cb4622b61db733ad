"""The conversation with a real PHP: what gets through, and what a site may do to spoil it."""

from __future__ import annotations

import hashlib
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from moodlectl.errors import AccessError, Failed, NotFound, OutcomeUnknown, Refused, Unreachable, UsageError
from moodlectl.site import frames, program
from moodlectl.site.port import Progress
from moodlectl.site.runner import Runner, had_begun

MakeRunner = Callable[..., Runner]


def call(body: str, name: str = "try") -> str:
    return f"function moodlectl_call_{name}(array $p, moodlectl_io $io) {{ {body} }}"


WHO = call("return [getmypid(), $io->acting->username, $GLOBALS['USER']->id];", "who")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


# --- hello and who acts -------------------------------------------------------------------------------------


def test_the_host_says_who_answers(runner_for: MakeRunner) -> None:
    hello = runner_for().hello
    assert hello.release == "4.5.6 (Build: 20250811)"
    assert hello.wwwroot == "https://standin.example"
    assert hello.identifier_hash == hashlib.md5(b"standin", usedforsecurity=False).hexdigest()
    assert (hello.acting_id, hello.acting) == (2, "admin")
    assert hello.user and hello.dataroot_owner and hello.php[0].isdigit()
    assert not hello.upgrade_pending and not hello.maintenance


def test_it_acts_as_the_named_user_else_the_owner_of_the_token_else_the_first_admin(
    runner_for: MakeRunner,
) -> None:
    assert runner_for(WHO).ask("who", {})[1:] == ["admin", 2]
    assert runner_for(WHO, token_user="anna").ask("who", {})[1:] == ["anna", 3]
    both = runner_for(WHO, token_user="admin", acting="Anna")
    assert both.ask("who", {})[1:] == ["anna", 3]
    assert both.ask("who", {}, acting="admin")[1:] == ["admin", 2]


def test_a_user_the_site_has_not_got_is_named(runner_for: MakeRunner) -> None:
    with pytest.raises(NotFound, match="nobody1") as caught:
        _ = runner_for(acting="nobody1").hello
    assert caught.value.code == "user_unknown"
    with pytest.raises(NotFound, match="web service token.*nobody2") as caught:
        _ = runner_for(token_user="nobody2").hello
    assert "--moodle-dir" in (caught.value.hint or "")


def test_a_suspended_user_does_not_act(runner_for: MakeRunner) -> None:
    with pytest.raises(AccessError, match="suspended") as caught:
        _ = runner_for(acting="gone").hello
    assert caught.value.code == "user_suspended"


# --- sites that do not start --------------------------------------------------------------------------------


def test_a_directory_without_a_moodle_is_named_with_the_paths_looked_at(
    runner_for: MakeRunner, tmp_path: Path
) -> None:
    runner = runner_for()
    (tmp_path / "config.php").unlink()
    with pytest.raises(NotFound, match="has no config.php") as caught:
        _ = runner.hello
    assert caught.value.code == "moodle_dir"
    assert caught.value.details["paths"] == [f"{tmp_path}/config.php"]


def test_config_php_is_found_above_public(runner_for: MakeRunner, tmp_path: Path) -> None:
    runner_for()
    (tmp_path / "public").mkdir()
    from moodlectl.site.shell import Shell

    runner = Runner(Shell(), str(tmp_path / "public"))
    try:
        assert runner.hello.more["config"] == f"{tmp_path}/config.php"
    finally:
        runner.close()


def test_a_config_php_of_something_else_is_told_apart(runner_for: MakeRunner, tmp_path: Path) -> None:
    runner = runner_for()
    (tmp_path / "config.php").write_text("<?php\n$settings = ['drupal' => true];\n")
    with pytest.raises(NotFound, match="does not start a Moodle"):
        _ = runner.hello


def test_a_config_php_that_exits_is_quoted(runner_for: MakeRunner) -> None:
    runner = runner_for(before="echo '<h1>Sorry,</h1> closed for today'; exit(0);")
    with pytest.raises(Failed, match="Sorry, closed for today") as caught:
        _ = runner.hello
    assert caught.value.code == "php_exit"


def test_a_data_directory_that_is_not_writable_says_which_hop_is_missing(runner_for: MakeRunner) -> None:
    said = "Fatal error: $CFG->dataroot is not writable, admin has to fix directory permissions! Exiting."
    with pytest.raises(AccessError, match="may not write") as caught:
        _ = runner_for(before=f"echo '{said}'; exit(1);").hello
    assert caught.value.code == "dataroot"
    assert "user:www-data" in (caught.value.hint or "")


def test_a_database_that_is_down_is_reported(runner_for: MakeRunner) -> None:
    runner = runner_for(
        "throw new moodle_exception('dbconnectionfailed', '<p>Database &amp; co. failed</p>');"
    )
    with pytest.raises(Failed, match=r"^Database & co\. failed$") as caught:
        _ = runner.hello
    assert caught.value.code == "dbconnectionfailed"
    assert "database" in (caught.value.hint or "")


def test_a_syntax_error_in_config_php_is_reported_with_its_line(
    runner_for: MakeRunner, tmp_path: Path
) -> None:
    with pytest.raises(Failed, match="syntax error") as caught:
        _ = runner_for("this is not PHP").hello
    assert caught.value.details["at"].startswith(f"{tmp_path}/config.php:")


def test_questions_are_answered_before_an_upgrade_and_deeds_refused(runner_for: MakeRunner) -> None:
    runner = runner_for("$CFG->standin_pending = true;" + WHO)
    assert runner.hello.upgrade_pending
    assert runner.ask("who", {})
    with pytest.raises(Refused) as caught:
        runner.do("who", {})
    assert caught.value.code == "upgrade_pending"
    assert had_begun(caught.value) is False


def test_deeds_are_refused_while_somebody_works_on_the_site(runner_for: MakeRunner, tmp_path: Path) -> None:
    (tmp_path / "climaintenance.html").touch()
    runner = runner_for(f"$CFG->dataroot = '{tmp_path}';" + WHO)
    assert runner.hello.maintenance
    with pytest.raises(Refused) as caught:
        runner.do("who", {})
    assert caught.value.code == "maintenance"


def test_a_site_that_does_not_start_in_time_is_given_up(runner_for: MakeRunner, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    runner = runner_for(before=f"file_put_contents('{pid_file}', getmypid()); sleep(60);", patience=1.0)
    began = time.monotonic()
    with pytest.raises(Unreachable, match="did not start within 1 seconds"):
        _ = runner.hello
    assert time.monotonic() - began < 8
    assert wait_until(lambda: not alive(int(pid_file.read_text())))


# --- noise --------------------------------------------------------------------------------------------------

NOISE = {
    "echoed": "echo 'Deprecated: x in y on line 3'; return 7;",
    "straight to standard output": r"fwrite(STDOUT, 'half a line'); return 7;",
    "behind the buffer's back": "while (ob_get_level()) { ob_end_clean(); } echo 'boo'; return 7;",
    "a buffer left open": "ob_start(); echo 'inside'; ob_start(); echo 'deeper'; return 7;",
    "by another process": "passthru('printf \"\\nno frame J 3\\n{}\\n\"'); return 7;",
    "frames without the marker": (
        r"fwrite(STDOUT, \"\n00000000000000000000000000000000 J 2\n{}\"); return 7;".replace('\\"', '"')
    ),
    "megabytes": "for ($i = 0; $i < 300; $i++) { echo str_repeat('noise ', 1000) . PHP_EOL; } return 7;",
    "no text at all": "echo random_bytes(300000); fwrite(STDOUT, random_bytes(300000)); return 7;",
    "a warning": "$x = []; $y = @$x['a'] . $x['b']; trigger_error('hm', E_USER_DEPRECATED); return 7;",
}


@pytest.mark.parametrize("body", NOISE.values(), ids=NOISE.keys())
def test_what_a_site_prints_is_never_taken_for_an_answer(runner_for: MakeRunner, body: str) -> None:
    runner = runner_for(call(body) + WHO, before="echo 'printed by config.php';")
    assert runner.ask("try", {}) == 7
    assert runner.ask("try", {}) == 7
    assert runner.ask("who", {})[1] == "admin"


def test_what_a_site_prints_is_in_the_log(runner_for: MakeRunner, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    runner_for(call("echo 'Notice: aha'; return 1;")).ask("try", {})
    assert "Notice: aha" in caplog.text


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("usage", UsageError), ("access", AccessError), ("notfound", NotFound), ("refused", Refused)]
    + [("failed", Failed), ("unheard of", Failed)],
)
def test_an_error_keeps_its_class_code_hint_and_details(
    runner_for: MakeRunner, kind: str, expected: type[Exception]
) -> None:
    runner = runner_for(call(f"throw new moodlectl_error('{kind}', 'why', 'Because.', 'Do.', ['a' => [1]]);"))
    with pytest.raises(expected) as caught:
        runner.ask("try", {})
    error = caught.value
    assert isinstance(error, UsageError | AccessError | NotFound | Refused | Failed)
    assert type(error) is expected
    assert (error.message, error.code, error.hint, error.details) == ("Because.", "why", "Do.", {"a": [1]})


def test_an_unknown_call_is_an_error_of_ours(runner_for: MakeRunner) -> None:
    with pytest.raises(UsageError) as caught:
        runner_for().ask("no_such_thing", {})
    assert caught.value.code == "unknown_call"


def test_a_session_goes_on_after_an_error_and_its_transaction_is_rolled_back(runner_for: MakeRunner) -> None:
    runner = runner_for(
        call("$GLOBALS['DB']->open = true; throw new moodle_exception('oops', 'Oops', 'secret?');")
        + call("return $GLOBALS['DB']->open;", "open")
        + WHO
    )
    pid = runner.ask("who", {})[0]
    with pytest.raises(Failed, match="Oops") as caught:
        runner.ask("try", {})
    assert caught.value.code == "oops"
    assert "debuginfo" not in caught.value.details
    assert runner.ask("open", {}) is False
    assert runner.ask("who", {})[0] == pid


def test_debug_information_is_shown_where_the_site_debugs(runner_for: MakeRunner) -> None:
    body = "throw new moodle_exception('oops', 'Oops', 'SELECT 1');"
    with pytest.raises(Failed) as caught:
        runner_for("$CFG->debugdeveloper = true;" + call(body)).ask("try", {})
    assert caught.value.details["debuginfo"] == "SELECT 1"


def test_a_missing_capability_is_a_matter_of_access(runner_for: MakeRunner) -> None:
    runner = runner_for(call("throw new required_capability_exception('nopermissions', 'You may not.');"))
    with pytest.raises(AccessError, match="You may not") as caught:
        runner.ask("try", {})
    assert "--as" in (caught.value.hint or "")


def test_a_bug_in_php_is_named_by_exception_and_place(runner_for: MakeRunner) -> None:
    runner = runner_for(call("no_such_function();") + call("$io->event('no array');", "ours"))
    with pytest.raises(Failed, match="no_such_function") as caught:
        runner.ask("try", {})
    assert caught.value.details["exception"] == "Error"
    # What was evaluated is named by the file it came from.
    with pytest.raises(Failed) as caught:
        runner.ask("ours", {})
    name, line = caught.value.details["at"].split(":")
    source = Path(program.__file__).parent / "php" / name
    assert "function event(" in source.read_text().splitlines()[int(line) - 1]


def test_memory_that_ran_out_is_told_with_the_remedy(runner_for: MakeRunner) -> None:
    body = "ini_set('memory_limit', '32M'); $x = []; while (true) { $x[] = str_repeat('x', 100000); }"
    with pytest.raises(Failed, match="Allowed memory size") as caught:
        runner_for(call(body)).ask("try", {})
    assert caught.value.code == "php_fatal"
    assert "memory_limit" in (caught.value.hint or "")


def test_an_exit_in_the_middle_is_told_with_the_last_words(runner_for: MakeRunner) -> None:
    runner = runner_for(call("ob_start(); echo 'The last words.'; exit(0);") + WHO)
    with pytest.raises(Failed, match="The last words") as caught:
        runner.ask("try", {})
    assert caught.value.code == "php_exit"
    assert runner.ask("who", {})[1] == "admin"


def test_an_answer_that_is_no_json_is_an_error(runner_for: MakeRunner) -> None:
    with pytest.raises(Failed) as caught:
        runner_for(call("return NAN;")).ask("try", {})
    assert caught.value.code == "unencodable"


def test_text_that_is_not_utf_8_arrives_mended(runner_for: MakeRunner) -> None:
    assert runner_for(call(r'return "a\xffb";')).ask("try", {}) == "a\ufffdb"


# --- sessions -----------------------------------------------------------------------------------------------


def test_questions_share_a_session_and_deeds_have_their_own(runner_for: MakeRunner) -> None:
    runner = runner_for(WHO)
    first = runner.ask("who", {})[0]
    assert runner.ask("who", {})[0] == first
    other = runner.ask("who", {}, acting="anna")[0]
    deed = runner.do("who", {})[0]
    assert len({first, other, deed, runner.do("who", {})[0]}) == 4
    assert runner.ask("who", {})[0] == first
    runner.close()
    assert wait_until(lambda: not any(alive(pid) for pid in (first, other, deed)))


FORGOTTEN = call("return isset($GLOBALS['forgotten']) ? $GLOBALS['forgotten'] : [];")


def test_a_session_forgets_what_it_remembers_when_a_deed_has_changed_a_course(runner_for: MakeRunner) -> None:
    runner = runner_for(FORGOTTEN)
    assert runner.ask("try", {}) == []
    assert runner.do("try", {}) == []  # a process of its own
    assert runner.ask("try", {}) == ["modules", "rights", "caches"]
    assert runner.ask("try", {}) == ["modules", "rights", "caches"]  # once


def test_a_deed_that_failed_ends_the_sessions_that_were_idle(runner_for: MakeRunner) -> None:
    runner = runner_for(WHO + call("throw new moodlectl_error('failed', 'x', 'It broke.');"))
    first = runner.ask("who", {})[0]
    with pytest.raises(Failed):
        runner.do("try", {})
    assert runner.ask("who", {})[0] != first


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moodlectl.site.runner._BRIEF", frozenset({"who", "try"}))


@pytest.mark.usefixtures("brief")
def test_a_deed_of_a_moment_takes_the_process_of_a_question_and_leaves_it(runner_for: MakeRunner) -> None:
    runner = runner_for(WHO)
    first = runner.ask("who", {})[0]
    assert runner.do("who", {})[0] == first
    assert runner.ask("who", {})[0] == first


@pytest.mark.usefixtures("brief")
def test_a_deed_of_a_moment_starts_anew_where_that_process_was_killed(runner_for: MakeRunner) -> None:
    runner = runner_for(WHO)
    first = runner.ask("who", {})[0]
    os.kill(first, 9)
    assert runner.do("who", {})[0] != first


@pytest.mark.usefixtures("brief")
def test_a_deed_of_a_moment_that_died_after_it_began_is_unknown_and_not_repeated(
    runner_for: MakeRunner, tmp_path: Path
) -> None:
    mark = tmp_path / "done"
    deed = f"file_put_contents('{mark}', 'x', FILE_APPEND); $io->begun(); posix_kill(getmypid(), 9);"
    runner = runner_for(WHO + call(deed))
    runner.ask("who", {})
    with pytest.raises(OutcomeUnknown) as caught:
        runner.do("try", {})
    assert had_begun(caught.value) is True
    assert mark.read_text() == "x"


@pytest.mark.usefixtures("brief")
def test_a_deed_of_a_moment_is_refused_when_maintenance_has_begun_since_the_question(
    runner_for: MakeRunner, tmp_path: Path
) -> None:
    runner = runner_for(WHO + f"$CFG->dataroot = '{tmp_path}';")
    first = runner.ask("who", {})[0]
    (tmp_path / "climaintenance.html").write_text("closed")
    with pytest.raises(Refused, match="maintenance"):
        runner.do("who", {})
    (tmp_path / "climaintenance.html").unlink()
    assert runner.do("who", {})[0] != first


def test_an_idle_session_that_was_killed_is_replaced(runner_for: MakeRunner) -> None:
    runner = runner_for(WHO)
    pid = runner.ask("who", {})[0]
    os.kill(pid, 9)
    assert runner.ask("who", {})[0] != pid


def test_threads_do_not_mix_their_answers(runner_for: MakeRunner) -> None:
    runner = runner_for(call("usleep(1000); return $p['n'];"))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda n: runner.ask("try", {"n": n}), range(60))) == [*range(60)]


def test_close_leaves_no_process(runner_for: MakeRunner) -> None:
    runner = runner_for(WHO)
    pid = runner.ask("who", {})[0]
    runner.close()
    assert not alive(pid)


# --- bytes --------------------------------------------------------------------------------------------------

MIB = 1 << 20


def test_a_large_file_arrives_whole_in_little_memory(runner_for: MakeRunner) -> None:
    body = (
        "$c = str_repeat(md5($p['n']), 32768);for ($i = 0; $i < 64; $i++) { $io->send($c); } return sha1($c);"
    )
    runner = runner_for(call(body))
    size, largest, last = 0, 0, hashlib.sha1(usedforsecurity=False)

    def sink(piece: bytes) -> None:
        nonlocal size, largest
        if size < MIB:
            last.update(piece[: MIB - size])
        size, largest = size + len(piece), max(largest, len(piece))

    tracemalloc.start()
    try:
        result = runner.fetch("try", {"n": "7"}, sink)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 64 * MIB
    assert largest <= MIB
    assert last.hexdigest() == result
    assert peak < 8 * MIB


def test_bytes_that_look_like_frames_pass_unchanged(runner_for: MakeRunner) -> None:
    # Only code that is handed the runner's own object could even know the marker.
    body = r"""
        $marker = (function () { return $this->marker; })->call($io);
        $bytes = "\n$marker J 5\n{\"a\"" . random_bytes(100000) . "\n$marker ";
        $io->send($bytes); return sha1($bytes);
    """
    got: list[bytes] = []
    runner = runner_for(call(body))
    assert (
        runner.fetch("try", {}, got.append) == hashlib.sha1(b"".join(got), usedforsecurity=False).hexdigest()
    )


UPLOAD = call(
    """
    $io->begun(); $n = 0; $hash = hash_init('sha1');
    for ($i = 0; $i < $p['chatter']; $i++) { $io->log(str_repeat('x', 60000)); }
    while (($bytes = $io->receive()) !== null) {
        hash_update($hash, $bytes); $n += strlen($bytes);
        $io->progress('upload', $n, $p['size'], 'bytes', 'so far');
        if ($p['chatter']) { $io->log(str_repeat('y', 60000)); }
    }
    return [$n, hash_final($hash)];
    """
)


def chunks(count: int, size: int) -> Iterator[bytes]:
    for n in range(count):
        yield bytes([n % 251]) * size


@pytest.mark.parametrize("chatter", [0, 100])
def test_an_upload_arrives_whole_though_the_host_talks_meanwhile(
    runner_for: MakeRunner, chatter: int
) -> None:
    expected = hashlib.sha1(usedforsecurity=False)
    for chunk in chunks(20, 3 * MIB + 17):
        expected.update(chunk)
    size = 20 * (3 * MIB + 17)
    seen: list[Progress] = []
    result = runner_for(UPLOAD).do(
        "try",
        {"chatter": chatter, "size": size},
        source=chunks(20, 3 * MIB + 17),
        on_progress=seen.append,
    )
    assert result == [size, expected.hexdigest()]
    assert seen[-1] == Progress("upload", size, size, "bytes", "so far")


def test_progress_is_not_told_more_often_than_a_person_can_read(runner_for: MakeRunner) -> None:
    body = "for ($i = 1; $i <= 10000; $i++) { $io->progress('scan', $i, 10000); } return 1;"
    seen: list[Progress] = []
    runner_for(call(body)).do("try", {}, on_progress=seen.append)
    assert 2 <= len(seen) < 100
    assert seen[-1].done == 10000


def test_an_upload_the_host_refuses_ends_with_its_reason(runner_for: MakeRunner) -> None:
    runner = runner_for(call("$io->receive(); throw new moodlectl_error('refused', 'disk', 'No room.');"))
    with pytest.raises(Refused, match="No room"):
        runner.do("try", {}, source=chunks(200, MIB))


def test_a_source_that_breaks_ends_the_deed_and_tells_the_host(
    runner_for: MakeRunner, tmp_path: Path
) -> None:
    note = tmp_path / "note"

    def breaking() -> Iterator[bytes]:
        yield b"x" * MIB
        raise OSError("the disk is gone")

    runner = runner_for(
        call(
            "try { while ($io->receive() !== null) { continue; } } catch (moodlectl_error $e) {"
            f" file_put_contents('{note}', $e->errcode); throw $e; }}"
        )
    )
    with pytest.raises(OSError, match="the disk is gone") as caught:
        runner.do("try", {}, source=breaking())
    assert had_begun(caught.value) is False
    assert wait_until(lambda: note.exists() and note.read_text() == "client_gone")


def test_a_long_answer_arrives_and_a_senseless_one_is_given_up(
    runner_for: MakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runner_for(call("return str_repeat('ä', $p['n']);"))
    assert len(runner.ask("try", {"n": 20_000_000})) == 20_000_000
    monkeypatch.setattr(frames, "LONGEST_JSON", 1000)
    with pytest.raises(Unreachable, match="more than 1000"):
        runner.ask("try", {"n": 1000})


def test_a_long_request_arrives(runner_for: MakeRunner) -> None:
    text = "ü" * 3_000_000
    assert (
        runner_for(call("return sha1($p['t']);")).ask("try", {"t": text})
        == hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    )


# --- ends ---------------------------------------------------------------------------------------------------

KILL = "posix_kill(getmypid(), 9); sleep(10);"


def test_php_killed_before_a_deed_began_means_nothing_happened(runner_for: MakeRunner) -> None:
    with pytest.raises(Unreachable, match="killed by signal 9 .nothing was changed.") as caught:
        runner_for(call(KILL)).do("try", {})
    assert caught.value.code == "killed"
    assert had_begun(caught.value) is False


def test_php_killed_after_a_deed_began_means_unknown(runner_for: MakeRunner) -> None:
    with pytest.raises(OutcomeUnknown) as caught:
        runner_for(call("$io->begun(); fwrite(STDERR, 'out of luck' . PHP_EOL);" + KILL)).do("try", {})
    assert had_begun(caught.value) is True
    assert "out of luck" in caught.value.details["last_lines"]


def test_an_error_after_a_deed_began_is_what_the_host_says(runner_for: MakeRunner) -> None:
    body = "$io->begun(); throw new moodlectl_error('failed', 'plan', 'Taken back.');"
    with pytest.raises(Failed, match="Taken back"):
        runner_for(call(body)).do("try", {})


def test_a_killed_question_is_unreachable_and_the_next_one_is_answered(runner_for: MakeRunner) -> None:
    runner = runner_for(call(KILL) + WHO)
    with pytest.raises(Unreachable):
        runner.ask("try", {})
    assert runner.ask("who", {})[1] == "admin"


def test_a_sink_that_breaks_ends_the_host_too(runner_for: MakeRunner, tmp_path: Path) -> None:
    note = tmp_path / "note"
    body = (
        "register_shutdown_function(function () {"
        f" file_put_contents('{note}', 'ended'); }});"
        "while (true) { $io->send(str_repeat('x', 1 << 20)); }"
    )
    runner = runner_for(call(body) + WHO)

    def full(_: bytes) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        runner.fetch("try", {}, full)
    assert wait_until(note.exists)
    assert runner.ask("who", {})[1] == "admin"


@pytest.mark.parametrize("begun", [True, False])
def test_an_interrupt_lets_the_host_take_back_and_knows_whether_it_had_begun(
    runner_for: MakeRunner, tmp_path: Path, begun: bool
) -> None:
    note = tmp_path / "note"
    body = ("$io->begun();" if begun else "") + (
        "$io->progress('restore', 1, 2);"
        "while (!$io->client_gone()) { usleep(10000); }"
        f"file_put_contents('{note}', 'taken back');"
    )

    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        runner_for(call(body)).do("try", {}, on_progress=interrupt)
    assert had_begun(caught.value) is begun
    assert note.read_text() == "taken back"


def test_a_deed_does_not_begin_when_nobody_listens_any_more(runner_for: MakeRunner, tmp_path: Path) -> None:
    note = tmp_path / "note"
    body = (
        "$io->progress('restore', 1, 2); while (!$io->client_gone()) { usleep(10000); }"
        f"try {{ $io->begun(); }} catch (moodlectl_error $e) {{ file_put_contents('{note}', $e->errcode); }}"
    )

    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner_for(call(body)).do("try", {}, on_progress=interrupt)
    assert note.read_text() == "client_gone"
