"""The practice site: a small Moodle in a folder, answering as a live one does.

A course lives here in the form in which Moodle backs it up, a set of documents (``package``): a backup cuts
out what was chosen (``settings``, ``cut``) and writes it down (``writer``); a restore reads it (``reader``),
gives it new ids (``renumber``) and puts it into a course (``merge``, ``restorer``). ``store`` is the SQLite
database and the file pool, ``seed`` what a fresh site holds, ``answers`` the port.
"""

from __future__ import annotations

from moodlectl.site.practice.answers import PracticeSite

__all__ = ["PracticeSite"]
