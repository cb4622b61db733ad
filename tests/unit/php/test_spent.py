"""Where the time of a request goes, and what is set for the database session of a deed: with a real PHP."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from moodlectl import spent
from moodlectl.site.runner import Runner

MakeRunner = Callable[..., Runner]

DATABASE = """
class moodle_database {
    protected $dboptions = ['dbport' => 5432];
    public $said = [];
    public $queries = 0;
    public $family = 'postgres';
    public $inside = false;
    public function get_dbfamily() { return $this->family; }
    public function execute($sql) { $this->said[] = $sql; $this->queries++; return true; }
    public function perf_get_queries() { return $this->queries; }
    public function perf_get_queries_time() { return 0.001 * $this->queries; }
    public function options() { return $this->dboptions; }
    public function is_transaction_started() { return $this->inside; }
}
"""

DEED = """
function moodlectl_call_tuned(array $p, moodlectl_io $io) {
    global $DB;
    $DB = new moodle_database();
    $DB->family = $p['family'];
    $DB->inside = !empty($p['inside']);
    moodlectl_spent::begin();
    moodlectl_session_reads();
    moodlectl_session_writes();
    moodlectl_session_writes();
    for ($i = 0; $i < 5; $i++) {
        $DB->execute('SELECT');
    }
    moodlectl_spent::lap('backup by Moodle');
    usleep(30000);
    moodlectl_session_settle();
    moodlectl_session_settle();
    $told = [$DB->said, $DB->options()];
    $DB = new standin_database();
    return $told;
}
"""


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[spent.Spent]:
    monkeypatch.setattr(spent, "_account", None)
    yield spent.keep()


def deed(runner_for: MakeRunner, *, plain: bool = False, **params: object) -> tuple[list[str], dict[str, int]]:
    runner = runner_for(DATABASE + DEED)
    runner.plain_database = plain
    said, options = runner.do("tuned", {"family": "postgres", **params})
    return said, options


def test_a_deed_on_postgresql_reads_without_cursors_and_waits_for_the_disk_once_at_its_end(
    runner_for: MakeRunner, account: spent.Spent
) -> None:
    said, options = deed(runner_for)
    assert options == {"fetchbuffersize": 0, "dbport": 5432}
    assert [word for word in said if word != "SELECT"] == [
        "SET synchronous_commit TO off",
        "RESET synchronous_commit",
        "CREATE TEMPORARY TABLE moodlectl_settled (id int)",
        "DROP TABLE moodlectl_settled",
    ]
    assert account.session == {"no cursors", "asynchronous commit, made lasting at the end"}


def test_inside_a_transaction_its_own_commit_is_what_waits(runner_for: MakeRunner) -> None:
    said, _ = deed(runner_for, inside=True)
    assert said[-1] == "RESET synchronous_commit"


@pytest.mark.parametrize(("family", "plain"), [("mysql", False), ("postgres", True)])
def test_other_databases_and_sites_that_want_it_so_keep_their_sessions_as_they_are(
    runner_for: MakeRunner, account: spent.Spent, family: str, plain: bool
) -> None:
    said, options = deed(runner_for, plain=plain, family=family)
    assert set(said) == {"SELECT"}
    assert options == {"dbport": 5432}
    assert account.session == set()


def test_the_steps_of_the_host_are_told_with_their_round_trips(runner_for: MakeRunner, account: spent.Spent) -> None:
    deed(runner_for)
    steps = {step.name: step for step in account.steps}
    moodle = steps["backup by Moodle"]
    assert (moodle.whose, moodle.times, moodle.queries) == (spent.MOODLE, 1, 6)
    assert moodle.database == pytest.approx(0.006)
    assert steps["tuned"].seconds >= 0.03  # what nothing else claims has the name of the request
    assert steps["start Moodle"].seconds > 0
    assert steps["on the way to the host"].whose == spent.NETWORK
