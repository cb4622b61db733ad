"""Backup files made to hurt: each is refused with its reason, in bounded time and memory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import mbz_corpus as corpus
import pytest

from moodlectl import mbz
from moodlectl.errors import Refused
from moodlectl.mbz import Limits, inspect, open_backup, printable, read_users, verify

SECONDS = 30.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Each hostile file, alone in a folder, made once."""

    @cache
    def make(name: str) -> Path:
        path = tmp_path_factory.mktemp("hostile") / "hostile.mbz"
        corpus.HOSTILE[name][0](path)
        return path

    return make


@pytest.mark.parametrize("name", corpus.HOSTILE)
def test_a_hostile_file_is_refused_with_its_reason(name: str, made: Callable[[str], Path]) -> None:
    path, code = made(name), corpus.HOSTILE[name][1]
    begun = time.process_time()
    with pytest.raises(Refused) as refused:
        inspect(path)
    assert refused.value.code == code
    assert refused.value.message == printable(refused.value.message)
    assert refused.value.hint
    assert time.process_time() - begun < SECONDS
    assert [file.name for file in path.parent.iterdir()] == ["hostile.mbz"]


@pytest.mark.parametrize("name", corpus.HOSTILE)
def test_verify_lists_what_is_wrong_with_a_hostile_file(name: str, made: Callable[[str], Path]) -> None:
    path, code = made(name), corpus.HOSTILE[name][1]
    report = verify(path)
    assert not report.ok
    assert code in {problem.code for problem in report.problems}
    assert all(problem.message == printable(problem.message) for problem in report.problems)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured as Linux shows it")
def test_the_worst_files_are_refused_within_a_hundred_megabytes(made: Callable[[str], Path]) -> None:
    for name in (
        "ten gigabytes of zeros",
        "a million members",
        "zip: a million members, and says so",
        "gigantic attribute",
    ):
        program = (
            "import sys\nfrom pathlib import Path\nfrom moodlectl.mbz import verify\n"
            "assert not verify(Path(sys.argv[1])).ok\n"
            "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(made(name))], capture_output=True, text=True, check=True
        )
        assert int(done.stdout) < 100 * 1024, name


def test_entities_in_users_are_refused_while_reading_people(tmp_path: Path) -> None:
    laughing = corpus.LAUGHS.replace(b"moodle_backup", b"users")
    path = corpus.write_tgz(tmp_path / "x.mbz", [corpus.Piece("users.xml", laughing)])
    with pytest.raises(Refused) as refused:
        list(read_users(path))
    assert refused.value.code == "hostile_entity"


def test_a_user_whose_id_is_no_number_is_refused(tmp_path: Path) -> None:
    path = corpus.write_tgz(
        tmp_path / "x.mbz", [corpus.Piece("users.xml", b'<users><user id="1 OR 1"></user></users>')]
    )
    with pytest.raises(Refused) as refused:
        list(read_users(path))
    assert refused.value.code == "hostile_xml"


def test_escapes_in_titles_are_kept_but_never_printable(tmp_path: Path) -> None:
    # XML forbids the C0 escape; the C1 one, which terminals obey too, it lets through.
    source = corpus.replaced(corpus.MANIFEST, "<title>", "<title>\u009b31mred\u202e")
    manifest = inspect(corpus.write_tgz(tmp_path / "x.mbz", source))
    titles = [section.title for section in manifest.all_sections()]
    titles += [activity.title for activity in manifest.all_activities()]
    odd = [title for title in titles if "\u009b" in title]
    assert odd
    assert printable(odd[0]).startswith("\ufffd31mred\ufffd")


def test_the_limits_can_be_set_lower(tmp_path: Path) -> None:
    path = corpus.write_tgz(tmp_path / "x.mbz", corpus.pieces())
    with pytest.raises(Refused) as refused, open_backup(path, limits=Limits(members=10)) as archive:
        list(archive.members())
    assert refused.value.code == "too_many_members"


def test_the_library_offers_nothing_that_writes_what_is_in_an_archive() -> None:
    assert not any("extract" in name for name in mbz.__all__)
