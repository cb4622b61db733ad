"""The host and the file reader must make the same of the same values, or everything would differ."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import moodlectl
from moodlectl.mbz import identities, likeness

SCRIPT = Path(moodlectl.__file__).parent / "site" / "php" / "identities.php"
TEXTS = [
    "",
    " \n\t",
    "72.00000",
    "-0.00000",
    "0.0",
    "10",
    "1.5.2",
    "Élève 🌱 l'été",
    "<p>a</p>\r\n<p>b\rc</p>\x00\x08\x0b\x7f",
    '<a href="https://moodle.example/mod/quiz/view.php?id=5&amp;a=b#c">x</a> https://example.org/plain',
    '<a href="$@QUIZVIEWBYID*5@$">x</a> costs $@ 5',
    "x" * 100,
    "x" * 101,
    "é" * 50,
    "é" * 51,
    '{"op":"&","c":[{"type":"date","d":">=","t":1700000000}],"showc":[true]}',
    '{"op":"|","show":false,"c":[{"v":"é/\\"x\\"","id":12,"type":"profile"},{}]}',
    "{broken",
    "null",
]
CODE = """
require($argv[1]);
$texts = json_decode(stream_get_contents(STDIN), true);
$found = [];
foreach ($texts as $text) {
    $found[] = [moodlectl_identity_plain($text), moodlectl_identity_digest($text), moodlectl_identity_shape($text)];
}
echo json_encode($found);
"""


def php(code: str, *words: str, stdin: str = "") -> str:
    done = subprocess.run(
        ["php", "-d", "error_reporting=-1", "-d", "display_errors=stderr", "-r", code, "--", str(SCRIPT), *words],
        input=stdin, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


def test_values_become_the_same_on_the_host_and_here() -> None:
    there = json.loads(php(CODE, stdin=json.dumps(TEXTS)))
    here = [[likeness.plain(text), likeness.digest(text), likeness.shape(text)] for text in TEXTS]
    assert there == here


@pytest.mark.parametrize(
    "area",
    ["mod_forum/attachment", "mod_forum/intro", "question/response_answer", "question/questiontext",
     "assignsubmission_file/submission_files", "mod_data/content", "mod_page/content",
     "assignfeedback_file/feedback_files", "grade/feedback",
     "mod_workshop/submission_content"],
)  # fmt: skip
def test_files_of_people_are_the_same_ones(area: str) -> None:
    component, _, name = area.partition("/")
    told = php("require($argv[1]); echo json_encode(moodlectl_identity_personal($argv[2], $argv[3]));", component, name)
    assert json.loads(told) is identities.personal_area(component, name)


def test_only_words_get_into_a_query() -> None:
    code = """
    class moodlectl_error extends Exception { public function __construct($a, $b, $c) { parent::__construct($c); } }
    require($argv[1]);
    try { moodlectl_identity_word($argv[2]); echo 'let in'; } catch (moodlectl_error $e) { echo 'refused'; }
    """
    assert php(code, "forum_posts") == "let in"
    assert php(code, "x; DROP TABLE y") == "refused"
