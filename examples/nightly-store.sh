#!/bin/sh
# Every night: back up a few courses into a store that keeps every content of their files once, and take away what is
# older than the rule. Hundreds of nights cost little more than one; nothing is packed and nothing stays on the site.
#
#   15 2 * * *  /usr/local/bin/nightly-store.sh BIO101 CHEM200 "idnumber:X9"
#
# The store is where the settings file says (store = "/srv/moodle-backups" or "s3://bucket/prefix"). One of them back:
#
#   moodlectl store list BIO101
#   moodlectl store export BIO101@2026-11-20 -d .         or straight: moodlectl restore store:BIO101@2026-11-20 --new …
#
# Exit status: 0 when every course was backed up; 7 when some failed (the others are done); other statuses as in the
# README. cron mails what is printed, so a night when all went well prints nothing.
set -eu

if [ $# -lt 1 ]; then
    echo "usage: $0 COURSE…" >&2
    exit 2
fi

status=0
moodlectl --quiet backup create "$@" --download store: >/dev/null || status=$?

# Once a week everything in the store is read again, every content re-hashed.
if [ "$(date +%u)" = 7 ]; then
    moodlectl --quiet store verify >/dev/null || status=1
fi

# Of each course the last two, and all of the last year; --dry-run shows what would go.
moodlectl --quiet --yes store prune --keep-last 2 --keep-within 1y >/dev/null || status=1
exit "$status"
