"""The backup file, read by us: what it is, who is in it, whether it is whole; no Moodle at hand, nothing
unpacked.

Every reading is one pass in near constant memory, and treats the file as a stranger's: a hostile one is
refused with a named reason (``Refused.code``) before it can do harm. Texts come as stored; ``printable``
makes them safe to show.
"""

from __future__ import annotations

from moodlectl.mbz.archive import Archive, Member, open_backup
from moodlectl.mbz.checks import Problem, VerifyReport, verified, verify
from moodlectl.mbz.inflate import engine
from moodlectl.mbz.inspection import inspect, parse_manifest
from moodlectl.mbz.limits import LIMITS, Limits
from moodlectl.mbz.manifest import (
    ActivityFacts,
    ArchiveCounts,
    CourseFacts,
    Danger,
    Dependency,
    FileCounts,
    Manifest,
    OriginalSite,
    Plugins,
    SectionFacts,
)
from moodlectl.mbz.people import UserRecord, people_in, read_people, read_users
from moodlectl.mbz.poolfiles import PoolFile, pool_files
from moodlectl.mbz.sources import FileSource, Source
from moodlectl.mbz.text import is_printable, printable

__all__ = [
    "LIMITS",
    "ActivityFacts",
    "Archive",
    "ArchiveCounts",
    "CourseFacts",
    "Danger",
    "Dependency",
    "FileCounts",
    "FileSource",
    "Limits",
    "Manifest",
    "Member",
    "OriginalSite",
    "Plugins",
    "PoolFile",
    "Problem",
    "SectionFacts",
    "Source",
    "UserRecord",
    "VerifyReport",
    "engine",
    "inspect",
    "is_printable",
    "open_backup",
    "parse_manifest",
    "people_in",
    "pool_files",
    "printable",
    "read_people",
    "read_users",
    "verified",
    "verify",
]
