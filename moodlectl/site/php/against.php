<?php
// What a restore on this site would make of the people of a backup, told by Moodle's own rules. Reads only.

/**
 * The fate of each of {users} (id, username, email, firstname, lastname, firstaccess, deleted, mnethosturl) of a backup
 * made at {url} with {identifier_hash}; {category_id} or {course_id} is where it would go, which decides whether the
 * acting user may create accounts (backup/util/dbops/restore_dbops.class.php precheck_included_users, 3.9 to 5.1).
 */
function moodlectl_call_users_against(array $params, moodlectl_io $io) {
    global $CFG, $DB;
    moodlectl_restore_includes();
    $info = new stdClass();
    $info->original_wwwroot = (string)$params['url'];
    $info->original_site_identifier_hash = (string)$params['identifier_hash'];
    $same = backup_general_helper::backup_is_samesite($info);
    $hash = $info->original_site_identifier_hash !== '' ? $info->original_site_identifier_hash : null;
    $own = $same && empty($CFG->forcedifferentsitecheckingusersonrestore);
    $create = moodlectl_against_may_create($params, $io);
    $hosts = $DB->get_records_menu('mnet_host', [], '', 'wwwroot, id');
    $fates = [];
    foreach ($params['users'] as $fields) {
        $user = (object)$fields;
        $url = (string)$user->mnethosturl;
        $user->mnethostid = $url !== '' && $url !== $CFG->wwwroot && isset($hosts[$url]) ? $hosts[$url]
            : $CFG->mnet_localhost_id;
        $fates[] = moodlectl_against_fate($user, $same, $own, $hash, $create);
    }
    return ['same_site' => (bool)$same, 'rules' => $own ? 1 : 2, 'may_create' => $create, 'fates' => $fates];
}

/** Whether the acting user may create accounts by restoring there; without a place, on the whole site. */
function moodlectl_against_may_create(array $params, moodlectl_io $io) {
    global $CFG;
    if (!empty($params['course_id'])) {
        $context = context_course::instance((int)$params['course_id']);
    } else if (!empty($params['category_id'])) {
        $context = context_coursecat::instance((int)$params['category_id']);
    } else {
        $context = context_system::instance();
    }
    return empty($CFG->disableusercreationonrestore)
        && has_all_capabilities(['moodle/restore:createuser', 'moodle/restore:userinfo'], $context, $io->acting->id);
}

/** One person: [outcome, rule, account id, account username], the rule being the branch of precheck_user that decides. */
function moodlectl_against_fate($user, $same, $own, $hash, $create) {
    global $CFG, $DB;
    $found = moodlectl_restore_people::look($user, $same, $hash);
    if (is_object($found)) {
        return ['match', moodlectl_against_rule($user, $found, $own), (int)$found->id, $found->username];
    }
    if ($found) {
        return [$create ? 'create' : 'cannot_create', $own ? '1F' : '2E', null, null];
    }
    // Of an admin in conflict Moodle makes `admin_…` where the site allows that; of anybody else a broken second account.
    if ($user->username === 'admin' && $user->mnethostid == $CFG->mnet_localhost_id
            && get_config('backup', 'import_general_duplicate_admin_allowed')) {
        return [$create ? 'create' : 'cannot_create', '2A2', null, 'admin_' . $hash];
    }
    $there = $DB->get_record('user', ['username' => $user->username, 'mnethostid' => $user->mnethostid], 'id, username');
    return ['conflict', $own ? '1E' : '2D', $there ? (int)$there->id : null, $there ? $there->username : null];
}

/** The rule by which an account was matched: the first whose conditions hold, in the order of precheck_user. */
function moodlectl_against_rule($user, $found, $own) {
    $name = $found->username === $user->username && $found->mnethostid == $user->mnethostid;
    if ($own) {
        if ($name && $found->id == $user->id) {
            return '1A';
        }
        if ($found->username === $user->username && backup_anonymizer_helper::is_anonymous_user($user)) {
            return '1B';
        }
        return $found->deleted ? '1C' : '1D';
    }
    if ($name) {
        return '2A1';
    }
    if (!$found->deleted) {
        return strpos($found->username, 'admin_') === 0 && $user->username === 'admin' ? '2A2' : '2C';
    }
    return $found->email !== '' && $found->email === md5($user->username) ? '2B1' : '2B2';
}
