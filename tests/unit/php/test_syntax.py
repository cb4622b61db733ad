"""Every PHP file runs on every host from PHP 7.2 on, though only a newer PHP may be at hand to look at it."""

from __future__ import annotations

import json
import re
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from moodlectl.site import program

FOLDER = Path(str(resources.files("moodlectl.site") / "php"))
FILES = sorted(FOLDER.glob("*.php"))

Token = tuple[str, str, int]
"""Name (the character itself for punctuation), text and line."""

DUMP = r"""
$all = [];
foreach (token_get_all(stream_get_contents(STDIN)) as $t) {
    if (is_array($t) && in_array($t[0], [T_WHITESPACE, T_COMMENT, T_DOC_COMMENT])) { continue; }
    $all[] = is_array($t) ? [token_name($t[0]), $t[1], $t[2]] : [$t, $t, 0];
}
echo json_encode($all);
"""


def tokens(source: str) -> list[Token]:
    run = subprocess.run(["php", "-r", DUMP], input=source.encode(), capture_output=True, check=True)
    found, line = [], 1
    for name, text, at in json.loads(run.stdout):
        line = at or line
        found.append((name, text, line))
    return found


NEW_TOKENS = {
    "T_FN": "an arrow function (7.4)",
    "T_COALESCE_EQUAL": "??= (7.4)",
    "T_MATCH": "match (8.0)",
    "T_NULLSAFE_OBJECT_OPERATOR": "?-> (8.0)",
    "T_ATTRIBUTE": "an attribute (8.0)",
    "T_ENUM": "an enum (8.1)",
    "T_READONLY": "readonly (8.1)",
}
NEW_FUNCTIONS = {
    *[
        "str_contains",
        "str_starts_with",
        "str_ends_with",
        "array_key_first",
        "array_key_last",
        "is_countable",
    ],
    *["hrtime", "mb_str_split", "get_debug_type", "get_resource_id", "array_is_list", "fdiv", "array_find"],
    *[
        "array_find_key",
        "array_any",
        "array_all",
        "mb_str_pad",
        "mb_trim",
        "json_validate",
        "fsync",
        "fdatasync",
    ],
    *["gc_status", "preg_last_error_msg", "array_first", "array_last"],
}
NEW_NAMES = {
    "JSON_THROW_ON_ERROR",
    "WeakMap",
    "WeakReference",
    "Stringable",
    "JsonException",
    "UnhandledMatchError",
}
VISIBILITY = {"T_PUBLIC", "T_PROTECTED", "T_PRIVATE", "T_VAR"}
NAMES = {"T_STRING", "T_ARRAY", "T_CALLABLE", "T_NAME_QUALIFIED", "T_NAME_FULLY_QUALIFIED"}
BEFORE_EXPRESSION = {"T_COALESCE", "?", "=", "T_DOUBLE_ARROW", "T_BOOLEAN_AND", "T_BOOLEAN_OR", "(", ",", "!"}


def newer_than_7_2(source: str) -> list[str]:
    """What PHP 7.2 would not read in this source, one sentence each with its line."""
    found = tokens(source)
    wrong = []
    opened: list[tuple[str, str]] = []  # the bracket, and what it belongs to
    for n, (name, text, line) in enumerate(found):
        before = found[n - 1][0] if n else ""
        after = found[n + 1][0] if n + 1 < len(found) else ""
        after_that = found[n + 2][0] if n + 2 < len(found) else ""

        def say(what: str, line: int = line) -> None:
            wrong.append(f"line {line}: {what}")

        if name in NEW_TOKENS:
            say(NEW_TOKENS[name])
        ours = before in ("T_OBJECT_OPERATOR", "T_DOUBLE_COLON", "T_FUNCTION")
        newer = text in NEW_NAMES or (text.lower() in NEW_FUNCTIONS and after == "(")
        if name == "T_STRING" and newer and not ours:
            say(f"{text} is newer")
        if name in ("T_LNUMBER", "T_DNUMBER") and "_" in text:
            say("a number with underscores (7.4)")
        if name in VISIBILITY or (name == "T_STATIC" and before in VISIBILITY):
            typed = after in NAMES or (after == "?" and after_that in NAMES)
            if typed and "(" not in {found[m][0] for m in range(n, min(n + 3, len(found)))}:
                say("a typed property (7.4)")
            if opened and opened[-1] == ("(", "function"):
                say("a promoted property (8.0)")
        if name == "T_STRING" and after == ":" and before in ("(", ","):
            say("a named argument (8.0)")
        if name == "T_THROW" and before in BEFORE_EXPRESSION:
            say("throw as an expression (8.0)")
        if name == "T_ELLIPSIS" and opened and opened[-1][0] == "[":
            say("spread in an array (7.4)")
        if name == "T_CATCH" and "T_VARIABLE" not in [t[0] for t in until(found, n, ")")]:
            say("catch without a variable (8.0)")
        if name == "|" and opened and opened[-1] == ("(", "function") and before in NAMES:
            say("a union type (8.0)")
        if name == "T_DOUBLE_COLON" and before == "T_VARIABLE" and after == "T_CLASS":
            say("::class of an object (8.0)")
        if name == "T_END_HEREDOC" and text[:1].isspace():
            say("an indented heredoc (7.3)")
        if name == ")" and before == "," and opened and opened[-1][1] not in ("T_ARRAY", "T_LIST"):
            say("a comma after the last argument (7.3)")
        if name in ("(", "[", "{", "T_CURLY_OPEN", "T_DOLLAR_OPEN_CURLY_BRACES"):
            owner = before
            if name == "(" and (before == "T_FUNCTION" or (n > 1 and found[n - 2][0] == "T_FUNCTION")):
                owner = "function"
            opened.append((name, owner))
        elif name in (")", "]", "}") and opened:
            opened.pop()
    return wrong


def until(found: list[Token], start: int, end: str) -> list[Token]:
    stop = next((n for n in range(start, len(found)) if found[n][0] == end), len(found))
    return found[start:stop]


def functions_and_other_code(source: str) -> tuple[list[str], list[str]]:
    """The functions a file declares, and the first token of whatever else stands at its top level."""
    depth, names, other, inside = 0, [], [], False
    found = tokens(source)
    for n, (name, text, line) in enumerate(found):
        if depth == 0 and not inside and name not in ("T_OPEN_TAG", "T_FUNCTION", "T_FINAL", "T_CLASS"):
            other.append(f"line {line}: {text}")
        if depth == 0 and name == "T_FUNCTION" and found[n + 1][0] == "T_STRING":
            names.append(found[n + 1][1])
        if name in ("T_FUNCTION", "T_CLASS", "T_FINAL"):
            inside = True
        if name in ("{", "T_CURLY_OPEN", "T_DOLLAR_OPEN_CURLY_BRACES"):
            depth += 1
        elif name == "}":
            depth -= 1
            inside = inside and depth > 0
    return names, other


NEWER = [
    "$f = fn($x) => $x;",
    "$a ??= 1;",
    "class A { public int $x = 1; }",
    "class A { private static ?array $x; }",
    "class A { function __construct(private $x) {} }",
    "echo match($x) { 1 => 2 };",
    "$x?->y();",
    "f(name: 1);",
    "f(1, name: 2);",
    "f(1, 2,);",
    "$x->f(1,\n);",
    "$a = [...$b];",
    "try { f(); } catch (Exception) { g(); }",
    "$x = $y ?? throw new Exception();",
    "function f(int|string $x) {}",
    "echo 1_000;",
    "echo str_contains($a, 'b');",
    "json_encode($a, JSON_THROW_ON_ERROR);",
    "echo $x::class;",
    "$x = <<<A\n  text\n  A;\n",
    "#[A]\nfunction f() {}",
]
OLD = """
class A extends B { const C = 1; public static $x = [1, 2,]; public $y;
private function f(?int $a = null): ?array {
    try { $x = $a ? self::C : f(...$a); } catch (E | F $e) { throw $e; }
    switch ($x) { case C: return null; default: list($a, , $b,) = array(1, 2,); }
    [$a, $b] = [$b, $a];
    return ['a' => $x[0] ?? 1, 'b' => function () use ($x) { return $x->str_contains(1); },];
} abstract protected function g(array ...$x): void; }
if ($x): echo "{$x['a']} ${y}"; endif; $x = <<<A
text
A;
$z = A::class; $b = $c | $d; echo $a ? B : C;
"""


@pytest.mark.parametrize("source", NEWER)
def test_newer_syntax_is_noticed(source: str) -> None:
    assert newer_than_7_2(f"<?php\n{source}\n")


def test_old_syntax_is_not_taken_for_newer() -> None:
    assert newer_than_7_2(f"<?php\n{OLD}\n") == []


def test_there_are_files_to_look_at() -> None:
    assert FOLDER / "core.php" in FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_is_php_of_7_2(file: Path) -> None:
    run = subprocess.run(["php", "-l", str(file)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert newer_than_7_2(file.read_text()) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_begins_with_the_tag_and_stays_in_php(file: Path) -> None:
    source = file.read_text()
    assert source.startswith("<?php\n")
    assert [
        name for name, _, _ in tokens(source) if name in ("T_CLOSE_TAG", "T_NAMESPACE", "T_DECLARE")
    ] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_names_cannot_clash_with_those_of_a_plugin(file: Path) -> None:
    names, other = functions_and_other_code(file.read_text())
    assert names
    assert [name for name in names if not name.startswith("moodlectl_")] == []
    classes = re.findall(r"^(?:final |abstract )*class (\w+)( extends \w+)?", file.read_text(), re.MULTILINE)
    assert [name for name, _ in classes if not name.startswith("moodlectl_")] == []
    if file.name != "core.php":
        # Only the core runs anything by itself, and Moodle's classes are not there when these are declared.
        assert other == []
        assert [parent for _, parent in classes if parent.removeprefix(" extends ") not in ("", "Exception")] == []


def test_all_files_together_are_one_program() -> None:
    text = b"<?php " + program.program()
    run = subprocess.run(["php", "-l"], input=text, capture_output=True, check=False)
    assert run.returncode == 0, run.stdout.decode()


def test_a_line_of_the_program_is_named_by_its_file() -> None:
    lines = program.program().decode().split("\n")
    for file in FILES:
        source = file.read_text().split("\n")
        at = next(n for n, line in enumerate(source) if line.startswith("function moodlectl_"))
        line = lines.index(source[at]) + 1
        assert program.place(f"Command line code(1) : eval()'d code:{line}") == f"{file.name}:{at + 1}"
    assert program.place("/srv/moodle/lib/setup.php:12") == "/srv/moodle/lib/setup.php:12"


def test_the_loader_survives_any_login_shell() -> None:
    assert not set("'\n!`\\") & set(program.LOADER)
