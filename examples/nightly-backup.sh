#!/bin/sh
# Every night: back up a few courses with everything in them, keep the files here, leave nothing on the site.
#
#   15 2 * * *  /usr/local/bin/nightly-backup.sh /srv/moodle-backups BIO101 CHEM200 "idnumber:X9"
#
# Exit status: 0 when every course was backed up and its file checked; 7 when some failed (the others are done); other
# statuses as in the README. cron mails what is printed, so a night when all went well prints nothing.
set -eu

if [ $# -lt 2 ]; then
    echo "usage: $0 FOLDER COURSE…" >&2
    exit 2
fi
folder=$1
shift
night="$folder/$(date +%Y-%m-%d)"

# The site and its token come from the settings file and, on a server without a keyring, from a file that only this
# user can read:  token = "file:/etc/moodlectl/token"
status=0
moodlectl --quiet --yes backup create "$@" --download "$night" --remove-remote --output json \
    >"$folder/last-night.json" || status=$?

# The files are read once more, every content re-hashed, before anybody relies on them.
for file in "$night"/*.mbz; do
    [ -e "$file" ] || continue
    moodlectl --quiet backup verify "$file" >/dev/null || status=1
done
exit "$status"
