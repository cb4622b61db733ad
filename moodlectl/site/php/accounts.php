<?php
// Accounts of the site by username, as a user map needs to know them. Reads only.

/**
 * Those of {usernames} that are accounts of this site, not deleted: id, username, and, where the acting user may see
 * them, email and first access (lib/dml/moodle_database.php get_in_or_equal, all releases).
 */
function moodlectl_call_accounts(array $params, moodlectl_io $io) {
    global $CFG, $DB;
    $context = context_system::instance();
    $sees = has_capability('moodle/user:viewalldetails', $context, $io->acting->id)
        || has_capability('moodle/user:update', $context, $io->acting->id);
    $result = [];
    foreach (array_chunk(array_map('strval', $params['usernames']), 500) as $names) {
        list($in, $values) = $DB->get_in_or_equal($names);
        $values[] = $CFG->mnet_localhost_id;
        $found = $DB->get_records_select('user', "username $in AND mnethostid = ? AND deleted = 0", $values, 'id',
            'id, username, email, firstaccess');
        foreach ($found as $user) {
            $result[] = ['id' => (int)$user->id, 'username' => $user->username,
                'email' => $sees ? $user->email : null, 'firstaccess' => $sees ? (int)$user->firstaccess : null];
        }
    }
    return $result;
}
