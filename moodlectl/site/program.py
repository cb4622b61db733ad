"""The PHP that runs on the host: how it gets there, and which file a line of it came from."""

from __future__ import annotations

import functools
import re
from importlib import resources
from typing import Final

# Reads the program from standard input, a length and then the bytes, and runs it in the global scope. It
# holds no secrets, nothing that a login shell might mind, and is readable by any PHP, so that an old one can
# be told from a broken one.
LOADER: Final = (
    'if(PHP_VERSION_ID<70200){fwrite(STDERR,"moodlectl: PHP ".PHP_VERSION." is too old");exit(78);}'
    '$moodlectl_in=defined("STDIN")?STDIN:fopen("php://stdin","rb");'
    '$moodlectl_n=(int)fgets($moodlectl_in);$moodlectl_p="";'
    "while(strlen($moodlectl_p)<$moodlectl_n){"
    "$moodlectl_s=fread($moodlectl_in,$moodlectl_n-strlen($moodlectl_p));"
    'if($moodlectl_s===false||$moodlectl_s==="")exit(77);$moodlectl_p.=$moodlectl_s;}'
    "eval($moodlectl_p);"
)

FLAGS: Final = ("-d", "display_errors=stderr", "-d", "log_errors=0")


def command(php: str, code_cache: str = "") -> list[str]:
    """The command that waits for the program on its standard input.

    ``code_cache`` is a folder on the host where PHP keeps compiled code; a folder that has gone is done without.
    """
    return [php, *FLAGS, *(_caching(code_cache) if code_cache else ()), "-r", LOADER]


def _caching(folder: str) -> list[str]:
    # The times of files are looked at, whatever the host's settings are: code that was changed must not run as it was.
    asked = {"enable_cli": "1", "file_cache_only": "1", "file_cache": folder, "validate_timestamps": "1"}
    return [word for key, value in asked.items() for word in ("-d", f"opcache.{key}={value}")]


@functools.cache
def program() -> bytes:
    """All files of ``php/`` in one, the core first: its top-level code runs when all functions are known."""
    return b"".join(source for _, source in _sources())


def place(at: str) -> str:
    """A place in the program, such as ``eval()'d code:123``, named by the file and line it came from."""
    found = re.search(r"eval\(\)'d code:(\d+)$", at)
    if not found:
        return at
    line = int(found[1])
    for name, source in _sources():
        if line <= source.count(b"\n"):
            return f"{name}:{line}"
        line -= source.count(b"\n")
    return at


@functools.cache
def _sources() -> list[tuple[str, bytes]]:
    """Name and text of each file, without the opening tag but with its line, so that lines can be counted."""
    folder = resources.files("moodlectl.site") / "php"
    files = [entry for entry in folder.iterdir() if entry.name.endswith(".php")]
    files.sort(key=lambda entry: (entry.name != "core.php", entry.name))
    texts = [(file.name, file.read_bytes().replace(b"\r\n", b"\n")) for file in files]
    return [(name, text.removeprefix(b"<?php").rstrip() + b"\n") for name, text in texts]
