"""Moodle's own error codes: which kind of error each is, and what a person can do about it."""

from __future__ import annotations

from collections.abc import Mapping

from moodlectl.errors import AccessError, Failed, MoodlectlError, NotFound, Refused, Unreachable

_TOKEN_HINT = (
    "Make a new token (Site administration > Server > Web services > Manage tokens) and store it with "
    "`moodlectl site add`."
)
_SERVICE_HINT = (
    "Look at the service of the token (Site administration > Server > Web services > External services): the "
    "function must be in it, the user authorised and allowed `webservice/rest:use`, and the token's IP "
    "restriction, "
    "expiry and the service's 'Can download files' must fit."
)
_PERMISSION_HINT = (
    "Give the token's user a role with that permission there, or use a token of somebody "
    "who has it."
)
_ACCOUNT_HINT = "Put the account of the token's user in order on the site, or use a token of another user."
WS_OFF_HINT = (
    "On the site, switch on web services (Site administration > Advanced features) and the REST protocol "
    "(Server > Web services > Manage protocols). If they are on, a firewall in front of the site says no."
)
WAIT_HINT = "Wait until the maintenance is over and try again."
LOOK_HINT = "Look at the site before you try again, or let `moodlectl job resume` find out."

_ACCESS: Mapping[str, str] = {
    "invalidtoken": _TOKEN_HINT,
    "accessexception": _SERVICE_HINT,
    "servicenotavailable": "Name the short name of a service that exists and is enabled with --service.",
    "servicerequireslogin": _TOKEN_HINT,
    "enablewsdescription": WS_OFF_HINT,
    "nopermissions": _PERMISSION_HINT,
    "nopermission": _PERMISSION_HINT,
    "cannotviewreport": _PERMISSION_HINT,
    "requireloginerror": _PERMISSION_HINT,
    "errorcoursecontextnotvalid": "The token's user must be able to enter the course: enrol the user "
    "there, or give "
    "a role with `moodle/course:view`; check also that the course is there.",
    "errorcatcontextnotvalid": "The token's user must be able to see that category.",
    "coursehidden": "The token's user needs `moodle/course:viewhiddencourses` there.",
    "usernotfullysetup": "The profile of the token's user is not complete: fill in the names and the email "
    "address.",
    "forcepasswordchangenotice": "Sign in to the site once as the token's user and change the password.",
    "restoredaccountresetpassword": "Sign in to the site once as that user and set a new password.",
    "passwordisexpired": "Sign in to the site once as that user and set a new password.",
    "sitepolicynotagreed": "Sign in to the site once as the token's user and accept the site policy.",
    "usernotconfirmed": _ACCOUNT_HINT,
    "invalidlogin": "Check user name and password. A site that signs in elsewhere (SSO) gives no token "
    "this way: "
    "let an administrator make one.",
    "cannotcreatetoken": "The user needs `webservice:createtoken`, and a site administrator gets no token "
    "for an own "
    "service this way: make it under Site administration > Server > Web services > Manage tokens.",
}
_AWAY: Mapping[str, str] = {"sitemaintenance": WAIT_HINT, "upgraderunning": WAIT_HINT}
_MISSING: Mapping[str, str] = {
    "invalidrecord": "What was asked for is not there, or the Moodle of the site is too old to have the "
    "function.",
    "invalidrecordunknown": "What was asked for is not there, or the Moodle of the site is too old to have "
    "the "
    "function.",
    "invalidcourseid": "List the courses with `moodlectl course list`.",
    "unknowncourse": "List the courses with `moodlectl course list`.",
    "unknowncategory": "List the categories with `moodlectl category list`.",
    "invaliduser": "Check the user's name.",
    "filenotfound": "List the backups again: the file is gone, or the token's user may not read it "
    "(`moodle/backup:downloadfile`; automated backups also `moodle/restore:userinfo`).",
}
_REFUSED: Mapping[str, str] = {
    "shortnametaken": "Choose another short name.",
    "courseidnumbertaken": "Choose another ID number.",
    "backupprecheckerrors": "See the details for what Moodle's pre-check says.",
    "upload_error_ini_size": "Raise upload_max_filesize and post_max_size of the site's PHP, or use a shell.",
    "filenameexist": "Choose another name.",
    "fileoversized": "The file is larger than the site lets this user upload.",
}
_WRONG: Mapping[str, str] = {
    "invalidparameter": "What was asked for may not exist; otherwise the site wants other values: see the "
    "details.",
    "dmlreadexception": "The site's database has a trouble: its administrator finds it in the web server's "
    "log.",
    "dmlwriteexception": "The site's database has a trouble: its administrator finds it in the web "
    "server's log.",
    "missingparam": "The site did not get what was sent: PHP's post_max_size may be too small, or a proxy "
    "drops "
    "request bodies.",
}


def classify(code: str) -> tuple[type[MoodlectlError], str | None]:
    """The class of error that a Moodle errorcode is, and the remedy, None where there is no known one."""
    for table, cause in ((_ACCESS, AccessError), (_AWAY, Unreachable), (_MISSING, NotFound),
                         (_REFUSED, Refused), (_WRONG, Failed)):  # fmt: skip
        if code in table:
            return cause, table[code]
    if code.startswith("wsaccessuser"):
        return AccessError, _ACCOUNT_HINT
    return Failed, None
