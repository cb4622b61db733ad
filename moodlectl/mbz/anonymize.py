"""What is personal in a backup, by the names Moodle gives it, and what stands in its place.

People become nobody as Moodle's own anonymiser makes them (``backup_anonymizer_helper``, 3.9 to 5.1), so that a
restore recognises them as such.
"""

from __future__ import annotations

import hashlib
import re

from moodlectl.mbz.xmlstream import NULL

# What a user's record may keep: choices that tell nobody from another. All other fields are emptied, also those a
# plugin or a later Moodle brings.
_HARMLESS = frozenset(
    {
        *("confirmed", "policyagreed", "deleted", "lang", "mailformat", "maildigest", "maildisplay"),
        *("autosubscribe", "trackforums", "trustbitmask", "calendartype", "roles", "theme"),
    }
)
_NUMBERED = frozenset(
    {
        *("firstname", "lastname", "firstnamephonetic", "lastnamephonetic"),
        *("middlename", "alternatename"),
    }
)
_FIXED = {
    **{"auth": "manual", "city": "Perth", "country": "AU", "lastip": "127.0.0.1", "timezone": "99"},
    **dict.fromkeys(
        ("picture", "descriptionformat", "firstaccess", "lastaccess", "lastlogin", "currentlogin"), "0"
    ),
    **dict.fromkeys(("timecreated", "timemodified"), "0"),
}


def anonymous(field: str, text: str, number: int) -> str | None:
    """What stands in a user's field once they are nobody; None to keep it."""
    if field == "username":
        return f"anon{number}"
    if field == "email":
        return f"anon{number}@doesntexist.invalid"
    if field in _NUMBERED:
        return f"anon{field}{number}"
    if field in _FIXED:
        return _FIXED[field]
    # A group without entries is blank, not empty: Moodle's parser would take an empty one for a text.
    return None if field in _HARMLESS or text == NULL or not text.strip() else ""


def stand_in(site_hash: str, user_id: int) -> int:
    """The number of the nobody who stands in for a person: always the same for one person, never another's."""
    digest = hashlib.sha256(f"{site_hash}:{user_id}".encode()).digest()
    return 10**12 + int.from_bytes(digest[:6], "big")


SCRUBBED = {
    **dict.fromkeys(("ip", "lastip", "ipaddress", "hostip"), ""),
    **dict.fromkeys(("issuerurl", "issuercontact", "imageauthoremail", "imageauthorurl"), ""),
    **dict.fromkeys(("issuername", "imageauthorname"), "anon"),
}
"""Fields emptied wherever they stand: addresses of machines, issuers and authors of badges."""

LOGS = ("logs.xml", "logstores.xml")

# Areas whose files people handed in, component and area; those named only in lists may lose their names too, the
# others are named inside a text.
ATTACHED = frozenset(
    {
        ("assignsubmission_file", "submission_files"),
        ("assignfeedback_file", "feedback_files"),
        ("mod_forum", "attachment"),
        ("mod_glossary", "attachment"),
        ("mod_workshop", "submission_attachment"),
        ("mod_workshop", "overallfeedback_attachment"),
        ("question", "response_attachments"),
    }
)
SUBMITTED = frozenset(
    {
        ("assignsubmission_file", "submission_files"),
        ("assignsubmission_onlinetext", "submissions_onlinetext"),
        ("mod_workshop", "submission_attachment"),
        ("mod_workshop", "submission_content"),
        ("question", "response_attachments"),
        ("question", "response_answer"),
    }
)
HANDED_IN = (
    ATTACHED
    | SUBMITTED
    | {
        *(("mod_forum", "post"), ("mod_glossary", "entry"), ("mod_data", "content"), ("mod_wiki", "attachments")),
        *(("mod_workshop", "instructauthors_comment"), ("mod_workshop", "overallfeedback_content")),
        *(("mod_lesson", "essay_responses"), ("mod_lesson", "essay_answers"), ("mod_chat", "message")),
    }
)
_HANDED_IN_BY = re.compile(r"assignsubmission_|assignfeedback_|user$")


def handed_in(component: str, area: str) -> bool:
    """Whether files of that component and area come from people at work in the course, not from its makers."""
    return (component, area) in HANDED_IN or bool(_HANDED_IN_BY.match(component))


def plain_filename(name: str, file_id: str) -> str:
    """A name that tells nothing but the kind of file."""
    ending = re.search(r"\.([A-Za-z0-9]{1,8})$", name)
    return f"file{file_id}.{ending[1].lower()}" if ending else f"file{file_id}"


def plain_folder(path: str, salt: bytes) -> str:
    """A folder such as ``/Jane Doe/draft/`` with names that tell nothing, the same for the same folder."""
    parts = [part for part in path.split("/") if part]
    names = [hashlib.blake2b(salt + part.encode(), digest_size=4).hexdigest() for part in parts]
    return "/" + "".join(f"folder-{name}/" for name in names)


# Fields of a record that hold words of Moodle's, never of a person's.
MOODLES_WORDS = frozenset(
    {
        *("component", "status", "action", "source", "itemtype", "itemmodule", "area", "filearea", "ratingarea"),
        *("commentarea", "behaviour", "state", "preferredbehaviour", "responsesummary_format", "eventtype"),
        *("aggregationstatus", "plugintype", "type", "hash", "contenthash", "contextid", "modulename", "stateid"),
        *("capability", "assignment", "enrol", "uuid", "mimetype", "license", "layout", "currentpage", "sid"),
        *("uniqueid", "subtype", "pagetype", "variant", "sequence", "attemptstate", "contentformat", "format"),
    }
)
