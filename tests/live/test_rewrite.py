"""Rewritten backups on real sites: what was refused restores, and everything hangs on the right people."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rig

from moodlectl.actions import rewriting
from moodlectl.errors import Refused, UsageError
from moodlectl.mbz import read_users, verify
from moodlectl.site.live import accounts
from moodlectl.site.live.backup import make
from moodlectl.site.live.backups import download
from moodlectl.site.live.restore import restore
from moodlectl.site.port import BackupRequest, Restored, RestoreRequest, RestoreSource
from moodlectl.site.runner import Runner
from moodlectl.site.shell import Shell

DATA = Path(__file__).parents[1] / "data" / "mbz"
RICH = DATA / "course-4.5-tgz-rich-users.mbz"
OTHER_ADMIN = DATA / "course-4.5-tgz-users.mbz"
OTHER_ADMIN_ZIP = DATA / "course-4.5-zip-users.mbz"
NUMBERS = itertools.count()

MAKE_CATEGORY = "echo core_course_category::create(['name' => 'Rewrites ' . $arguments['name']])->id;"
DELETE_CATEGORY = """
$CFG->forced_plugin_settings['tool_recyclebin'] = ['categorybinenable' => 0, 'coursebinenable' => 0];
core_course_category::get($arguments['id'])->delete_full(false);
foreach ($DB->get_records_select('user', $DB->sql_like('username', '?') . ' AND deleted = 0', ['rw-%']) as $user) {
    delete_user($user);
}
"""
MAKE_USERS = """
require_once($CFG->dirroot . '/lib/phpunit/classes/util.php');
$ids = [];
foreach ($arguments['people'] as $username => $email) {
    $ids[$username] = (int)phpunit_util::get_data_generator()->create_user(
        ['username' => $username, 'email' => $email])->id;
}
echo json_encode($ids);
"""
# Everything in a course that hangs on people, by username.
FACTS = """
$c = $arguments['course'];
$queries = [
    'enrolled' => 'SELECT ue.id, u.username, e.enrol AS what FROM {user_enrolments} ue
        JOIN {enrol} e ON e.id = ue.enrolid JOIN {user} u ON u.id = ue.userid WHERE e.courseid = ?',
    'roles' => 'SELECT ra.id, u.username, r.shortname AS what FROM {role_assignments} ra
        JOIN {context} x ON x.id = ra.contextid AND x.contextlevel = 50 JOIN {role} r ON r.id = ra.roleid
        JOIN {user} u ON u.id = ra.userid WHERE x.instanceid = ?',
    'groups' => 'SELECT gm.id, u.username, g.name AS what FROM {groups_members} gm
        JOIN {groups} g ON g.id = gm.groupid JOIN {user} u ON u.id = gm.userid WHERE g.courseid = ?',
    'grades' => "SELECT gg.id, u.username, gi.itemtype || ' ' || COALESCE(gi.itemname, '') || ' ' || gg.finalgrade
        AS what FROM {grade_grades} gg JOIN {grade_items} gi ON gi.id = gg.itemid JOIN {user} u ON u.id = gg.userid
        WHERE gi.courseid = ? AND gg.finalgrade IS NOT NULL",
    'posts' => 'SELECT p.id, u.username, p.message AS what FROM {forum_posts} p
        JOIN {forum_discussions} d ON d.id = p.discussion LEFT JOIN {user} u ON u.id = p.userid WHERE d.course = ?',
    'submissions' => 'SELECT s.id, u.username, s.status AS what FROM {assign_submission} s
        JOIN {assign} a ON a.id = s.assignment LEFT JOIN {user} u ON u.id = s.userid WHERE a.course = ?',
    'attempts' => 'SELECT qa.id, u.username, qa.sumgrades AS what FROM {quiz_attempts} qa
        JOIN {quiz} q ON q.id = qa.quiz LEFT JOIN {user} u ON u.id = qa.userid WHERE q.course = ?',
    'steps' => "SELECT s.id, u.username, s.state AS what FROM {question_attempt_steps} s
        JOIN {question_attempts} a ON a.id = s.questionattemptid
        JOIN {quiz_attempts} qa ON qa.uniqueid = a.questionusageid
        JOIN {quiz} q ON q.id = qa.quiz LEFT JOIN {user} u ON u.id = s.userid WHERE q.course = ?",
    'entries' => 'SELECT e.id, u.username, e.concept AS what FROM {glossary_entries} e
        JOIN {glossary} g ON g.id = e.glossaryid LEFT JOIN {user} u ON u.id = e.userid WHERE g.course = ?',
    'versions' => 'SELECT v.id, u.username, v.version AS what FROM {wiki_versions} v
        JOIN {wiki_pages} p ON p.id = v.pageid JOIN {wiki_subwikis} s ON s.id = p.subwikiid
        JOIN {wiki} w ON w.id = s.wikiid LEFT JOIN {user} u ON u.id = v.userid WHERE w.course = ?',
    'answers' => 'SELECT a.id, u.username, o.text AS what FROM {choice_answers} a
        JOIN {choice_options} o ON o.id = a.optionid JOIN {choice} c ON c.id = a.choiceid
        LEFT JOIN {user} u ON u.id = a.userid WHERE c.course = ?',
    'completion' => 'SELECT m.id, u.username, m.completionstate AS what FROM {course_modules_completion} m
        JOIN {course_modules} cm ON cm.id = m.coursemoduleid LEFT JOIN {user} u ON u.id = m.userid WHERE cm.course = ?',
    'files' => "SELECT f.id, u.username, f.filename AS what FROM {files} f JOIN {context} x ON x.id = f.contextid
        JOIN {course_modules} cm ON cm.id = x.instanceid AND x.contextlevel = 70
        LEFT JOIN {user} u ON u.id = f.userid
        WHERE cm.course = ? AND f.component = 'assignsubmission_file' AND f.filename <> '.'",
];
$facts = [];
foreach ($queries as $name => $sql) {
    if ($DB->get_dbfamily() === 'mysql') {
        $sql = str_replace("gi.itemtype || ' ' || COALESCE(gi.itemname, '') || ' ' || gg.finalgrade",
            "CONCAT(gi.itemtype, ' ', COALESCE(gi.itemname, ''), ' ', gg.finalgrade)", $sql);
    }
    $facts[$name] = [];
    foreach ($DB->get_records_sql($sql, [$c]) as $row) {
        $facts[$name][] = [(string)$row->username, (string)$row->what];
    }
}
echo json_encode($facts);
"""
# Opens the forums of a course as a reader does, with every discussion and its posts.
READ_FORUMS = """
$vault = mod_forum\\local\\container::get_vault_factory();
$posts = 0;
foreach ($DB->get_records('forum_discussions', ['course' => $arguments['course']]) as $row) {
    $forum = $vault->get_forum_vault()->get_from_id($row->forum);
    $discussion = $vault->get_discussion_vault()->get_from_id($row->id);
    $PAGE->set_context($forum->get_context());
    $found = $vault->get_post_vault()->get_from_discussion_id(get_admin(), $row->id, true);
    $built = mod_forum\\local\\container::get_builder_factory()->get_exported_posts_builder()->build(
        get_admin(), [$forum], [$discussion], $found);
    $posts += count($built);
}
echo $posts;
"""

Facts = dict[str, list[list[str]]]


@dataclass
class Desk:
    """A category of our own on a site, and the way to its host."""

    site: rig.LiveMoodle
    runner: Runner
    category: int
    work: Path

    # What rewriting asks of a site.
    def accounts(self, usernames: Any, *, as_user: str | None = None) -> Any:
        return accounts.on_host(self.runner, usernames, as_user)

    def info(self) -> Any:
        from moodlectl.site.live import shell_courses

        return shell_courses.info(self.runner)

    def rewrite(self, path: Path, against: bool = True, **words: Any) -> Path:
        output = self.work / f"{next(NUMBERS)}.mbz"
        asked = rewriting.Asked(output=output, **words)
        rewriting.rewrite(str(path), asked, self if against else None)  # type: ignore[arg-type]
        assert verify(output).ok
        return output

    def restore(self, path: Path) -> Restored:
        done = restore(self.runner, RestoreRequest(RestoreSource(path=path), "new", category_id=self.category))
        assert not [warning for warning in done.warnings if "debug" not in warning]
        return done

    def facts(self, done: Restored) -> Facts:
        found: Facts = json.loads(self.site.php(FACTS, course=done.course.id))
        # Links into the course name its id.
        return {
            name: sorted([who, re.sub(r"view\.php\?id=\d+", "view.php", what)] for who, what in rows)
            for name, rows in found.items()
        }

    def people(self, **people: str) -> dict[str, int]:
        ids: dict[str, int] = json.loads(self.site.php(MAKE_USERS, people=people))
        return ids

    def prefix(self) -> str:
        return f"rw-{os.getpid()}-{next(NUMBERS)}."

    def variant(self, prefix: str) -> Path:
        """The rich course with people whom no site knows yet: rich1.s01 is PREFIXs01."""
        output, tar = self.work / f"{prefix}mbz", io.BytesIO()
        with tarfile.open(RICH) as old, tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as new:
            for member in old:
                body = old.extractfile(member)
                content = body.read() if body else b""
                if member.name == ".ARCHIVE_INDEX":
                    continue
                if member.name == "users.xml":
                    content = content.replace(b">rich1.", b">" + prefix.encode())
                member.size = len(content)
                new.addfile(member, io.BytesIO(content))
        output.write_bytes(gzip.compress(tar.getvalue(), 1))
        return output


@pytest.fixture(scope="module")
def desks(moodles: dict[str, rig.LiveMoodle], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Desk]]:
    made: dict[str, Desk] = {}
    yield made
    for desk in made.values():
        desk.runner.close()
        desk.site.php(DELETE_CATEGORY, id=desk.category)


@pytest.fixture
def desk(
    moodle: rig.LiveMoodle, desks: dict[str, Desk], tmp_path_factory: pytest.TempPathFactory
) -> Desk:
    if moodle.name not in desks:
        category = int(moodle.php(MAKE_CATEGORY, name=str(os.getpid())))
        runner = Runner(Shell(moodle.via, ssh_config=moodle.ssh_config), str(moodle.moodle_dir))
        desks[moodle.name] = Desk(moodle, runner, category, tmp_path_factory.mktemp("rewrites"))
    return desks[moodle.name]


def renamed(facts: Facts, names: dict[str, str]) -> Facts:
    return {kind: sorted([names.get(who, who), what] for who, what in rows) for kind, rows in facts.items()}


@pytest.mark.parametrize("backup", [OTHER_ADMIN, OTHER_ADMIN_ZIP], ids=["tgz", "zip"])
def test_the_admin_of_another_site_becomes_the_admin_of_this_one(desk: Desk, backup: Path) -> None:
    with pytest.raises(Refused) as refused:
        desk.restore(backup)
    assert refused.value.code == "user_conflict"
    before = desk.site.sql("SELECT COUNT(*) FROM {user}")
    done = desk.restore(desk.rewrite(backup, pairs=["admin=admin"]))
    facts = desk.facts(done)
    assert ["admin", "editingteacher"] in facts["roles"] or ["admin", "manual"] in facts["enrolled"] or facts["posts"]
    assert {who for who, _ in facts["posts"]} <= {"admin", "tool_generator_000001"} and facts["posts"]
    grown = int(desk.site.sql("SELECT COUNT(*) FROM {user}")[0][0]) - int(before[0][0])
    assert grown == done.users.created
    assert done.users.matched + done.users.created == 2


def test_people_who_conflict_are_mapped_and_all_of_theirs_hangs_on_their_accounts(desk: Desk) -> None:
    prefix = desk.prefix()
    backup = desk.variant(prefix)
    as_made = desk.facts(desk.restore(backup))
    assert all(as_made[kind] for kind in as_made)
    # The same usernames come to belong to other people.
    desk.site.sql(f"UPDATE {{user}} SET email = CONCAT('x', email), firstaccess = 7 WHERE username LIKE '{prefix}%'"
                  " RETURNING id" if desk.site.db == "pgsql" else
                  f"UPDATE {{user}} SET email = CONCAT('x', email), firstaccess = 7 WHERE username LIKE '{prefix}%'")
    with pytest.raises(Refused) as refused:
        desk.restore(backup)
    assert refused.value.code == "user_conflict"
    old = [person.username for person in read_users(backup)]
    new = {name: f"{desk.prefix()}{name.rpartition('.')[2]}" for name in old}
    ids = desk.people(**{name: f"{name}@new.example.org" for name in new.values()})
    table = desk.work / "map.csv"
    rows = [f"{name};{new[name]}" for name in old]
    rows[3] = f"{old[3]}@example.org;{new[old[3]]}"
    table.write_text("\n".join(["old;new", *rows]) + "\n", encoding="utf-8-sig")
    done = desk.restore(desk.rewrite(backup, user_map=table))
    assert (done.users.matched, done.users.created) == (len(ids), 0)
    assert desk.facts(done) == renamed(as_made, new)


def test_a_map_that_names_no_account_of_the_site_is_refused(desk: Desk) -> None:
    with pytest.raises(UsageError, match="no account 'nobody-here'"):
        desk.rewrite(OTHER_ADMIN, pairs=["admin=nobody-here"])


def test_a_student_left_out_leaves_nothing_but_what_others_answered(desk: Desk) -> None:
    prefix = desk.prefix()
    backup = desk.variant(prefix)
    out = f"{prefix}s02"
    whole = desk.facts(desk.restore(backup))
    people = desk.site.sql(f"SELECT username FROM {{user}} WHERE username = '{out}'")
    assert people == [[out]]
    shared = {"posts", "entries", "versions"}
    done = desk.restore(desk.rewrite(backup, pairs=[f"{out}=-"]))
    facts = desk.facts(done)
    assert any(who == out for kind in whole for who, _ in whole[kind])
    for kind, rows in whole.items():
        theirs = [row for row in rows if row[0] == out]
        others = [row for row in rows if row[0] != out]
        if kind in shared:
            nobody = [[who, what] for who, what in facts[kind] if who.startswith("anon1")]
            assert sorted(what for _, what in nobody) == sorted(what for _, what in theirs), kind
            assert sorted(row for row in facts[kind] if row not in nobody) == others, kind
        elif kind == "grades":
            assert [row for row in facts[kind] if row[0] == out] == []
            assert len(facts[kind]) == len(others)
        else:
            assert facts[kind] == others, kind
    assert int(desk.site.php(READ_FORUMS, course=done.course.id)) == len(whole["posts"])


def test_a_teacher_left_out_takes_no_work_of_the_students_along(desk: Desk) -> None:
    prefix = desk.prefix()
    backup = desk.variant(prefix)
    whole = desk.facts(desk.restore(backup))
    done = desk.restore(desk.rewrite(backup, pairs=[f"{prefix}t1=-", f"{prefix}t2=-"]))
    facts = desk.facts(done)
    students = {kind: [row for row in rows if f"{prefix}s" in row[0]] for kind, rows in whole.items()}
    found = {kind: [row for row in rows if f"{prefix}s" in row[0]] for kind, rows in facts.items()}
    assert found == students
    assert not any(f"{prefix}t" in who for rows in facts.values() for who, _ in rows)
    assert int(desk.site.php(READ_FORUMS, course=done.course.id)) == len(whole["posts"])


def test_an_anonymised_copy_restores_and_names_nobody(desk: Desk) -> None:
    prefix = desk.prefix()
    backup = desk.variant(prefix)
    whole = desk.facts(desk.restore(backup))
    copy = desk.rewrite(backup, against=False, anonymize=True, forget_site=True)
    with tarfile.open(copy) as tar:
        for member in tar:
            if member.name.endswith(".xml") and (body := tar.extractfile(member)):
                text = body.read().decode()
                assert prefix not in text, member.name
                assert "rich1." not in text or member.name == "groups.xml", member.name
                assert "127.0.0.1:8405" not in text, member.name
    done = desk.restore(copy)
    facts = desk.facts(done)
    assert {kind: len(rows) for kind, rows in facts.items()} == {kind: len(rows) for kind, rows in whole.items()}
    names = {who for rows in facts.values() for who, _ in rows}
    assert names
    assert all(name.startswith("anon") and name[4:].isdigit() for name in names), names
    assert all(what.startswith("file") for _, what in facts["files"])


def test_a_copy_without_users_restores_with_nobody(desk: Desk) -> None:
    done = desk.restore(desk.rewrite(OTHER_ADMIN, against=False, without_users=True))
    assert (done.users.matched, done.users.created) == (0, 0)
    assert not any(desk.facts(done).values())
    done = desk.restore(desk.rewrite(RICH, against=False, without_users=True))
    assert not any(desk.facts(done).values())


def test_somebody_with_a_new_account_under_the_old_username_gets_their_work_back(desk: Desk) -> None:
    """On its own site Moodle goes by ids, and refuses a known username with another id (rule 1E)."""
    prefix = desk.prefix()
    done = desk.restore(desk.variant(prefix))
    as_made = desk.facts(done)
    made = make(desk.runner, BackupRequest(done.course.id))
    backup = desk.work / f"{prefix}same.mbz"
    download(desk.runner, made.file, backup)
    desk.site.php("$DB->set_field('user', 'username', $arguments['to'], ['username' => $arguments['name']]);",
                  name=f"{prefix}s01", to=f"{prefix}formerly-s01")
    desk.people(**{f"{prefix}s01": "again@new.example.org"})
    with pytest.raises(Refused) as refused:
        desk.restore(backup)
    assert refused.value.code == "user_conflict"
    again = desk.restore(desk.rewrite(backup, pairs=[f"{prefix}s01={prefix}s01"]))
    assert again.users.created == 0
    assert desk.facts(again) == as_made
