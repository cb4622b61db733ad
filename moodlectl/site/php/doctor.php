<?php
// The state of the site, for `moodlectl site check`. Everything here only reads.
//
// PHP 7.2 syntax. Each part is asked for on its own, so that one that fails does not hide the others.

/**
 * Everything a backup, a restore or the queue depends on. Params: {service: shortname|null}.
 * Answers {part: value}, or {part: {problem: text}} where a part could not be found out.
 */
function moodlectl_call_site_state(array $params, moodlectl_io $io) {
    $parts = ['environment', 'upgrade', 'space', 'cron', 'tasks', 'automated', 'settings', 'capabilities',
        'webservices'];
    $answer = ['now' => time()];
    foreach ($parts as $part) {
        $function = 'moodlectl_doctor_' . $part;
        try {
            $answer[$part] = $function($params, $io);
        } catch (Throwable $e) {
            $answer[$part] = ['problem' => get_class($e) . ': ' . $e->getMessage()];
        }
    }
    return $answer;
}

/**
 * What Moodle's own environment check finds wrong with this PHP and database (lib/environmentlib.php,
 * check_moodle_environment, 3.9 to 5.1). A list of {part, info, level, current, needed}.
 */
function moodlectl_doctor_environment(array $params, moodlectl_io $io) {
    global $CFG;
    require_once($CFG->libdir . '/environmentlib.php');
    list($ok, $results) = check_moodle_environment(normalize_version($CFG->release), ENV_SELECT_RELEASE);
    unset($ok);
    $wrong = [];
    foreach ($results as $result) {
        // Custom checks (async backup, https, …) are advice for the administration page; the rest can stop a deed.
        if (!in_array($result->getPart(), ['php', 'php_extension', 'php_setting', 'database'], true)) {
            continue;
        }
        if (!$result->getStatus() || $result->getRestrictStr()) {
            $wrong[] = [
                'part' => $result->getPart(), 'info' => (string)$result->getInfo(), 'level' => $result->getLevel(),
                'current' => (string)$result->getCurrentVersion(), 'needed' => (string)$result->getNeededVersion(),
            ];
        }
    }
    return $wrong;
}

/** Whether an upgrade runs right now (lib/upgradelib.php, upgrade_started: $CFG->upgraderunning is when it times out). */
function moodlectl_doctor_upgrade(array $params, moodlectl_io $io) {
    global $CFG;
    return ['running' => !empty($CFG->upgraderunning) && $CFG->upgraderunning > time()];
}

/**
 * Room where backups are unpacked and where files are stored, in bytes; null where PHP cannot tell.
 * $CFG->backuptempdir: lib/setup.php (3.9 to 5.1). A file system of another class keeps files elsewhere.
 */
function moodlectl_doctor_space(array $params, moodlectl_io $io) {
    global $CFG, $DB;
    $places = [];
    foreach (['temp' => $CFG->backuptempdir, 'data' => $CFG->dataroot] as $name => $dir) {
        $there = $dir;
        while (!@is_dir($there) && dirname($there) !== $there) {
            $there = dirname($there); // Moodle makes it when it is first needed.
        }
        $free = @disk_free_space($there);
        $stat = @stat($there);
        $places[$name] = [
            'dir' => $dir, 'free' => $free === false ? null : (int)$free, 'writable' => is_writable($there),
            'device' => $stat ? $stat['dev'] : null,
        ];
    }
    $largest = $DB->get_field_sql("SELECT MAX(filesize) FROM {files} WHERE component = 'backup'");
    return [
        'places' => $places, 'largest_backup' => (int)$largest,
        'filesystem' => isset($CFG->alternative_file_system_class) ? (string)$CFG->alternative_file_system_class : '',
    ];
}

/** When cron last began (config tool_task/lastcronstart, set by lib/cronlib.php or lib/classes/cron.php), null if never. */
function moodlectl_doctor_cron(array $params, moodlectl_io $io) {
    global $CFG, $DB;
    $last = (int)get_config('tool_task', 'lastcronstart');
    $ran = (int)$DB->get_field_sql('SELECT MAX(lastruntime) FROM {task_scheduled}');
    return ['last' => max($last, $ran) ?: null, 'enabled' => !isset($CFG->cron_enabled) || !empty($CFG->cron_enabled)];
}

/** Tasks that are due and those that fail (tables task_adhoc, task_scheduled; fields there since 3.9). */
function moodlectl_doctor_tasks(array $params, moodlectl_io $io) {
    global $DB;
    $now = time();
    $like = '(' . $DB->sql_like('classname', ':a') . ' OR ' . $DB->sql_like('classname', ':b') . ')';
    $ours = ['a' => '%asynchronous_%', 'b' => '%course_backup_task%'];
    $failing = $DB->get_fieldset_select('task_scheduled', 'classname', 'faildelay > 0 AND disabled = 0');
    return [
        'due' => $DB->count_records_select('task_adhoc', 'nextruntime < :now', ['now' => $now]),
        'oldest' => (int)$DB->get_field_sql('SELECT MIN(nextruntime) FROM {task_adhoc}') ?: null,
        'failing' => $DB->count_records_select('task_adhoc', 'faildelay > 0'),
        'backups_waiting' => $DB->count_records_select('task_adhoc', $like, $ours),
        'backups_failing' => $DB->count_records_select('task_adhoc', "faildelay > 0 AND $like", $ours),
        'scheduled_failing' => array_values($failing),
    ];
}

/**
 * How the site makes automated backups, and how they went (config backup/backup_auto_*, table backup_courses:
 * backup/util/helper/backup_cron_helper.class.php, 3.9 to 5.1).
 */
function moodlectl_doctor_automated(array $params, moodlectl_io $io) {
    global $DB;
    $config = get_config('backup');
    $value = function ($name) use ($config) {
        return isset($config->$name) ? $config->$name : null;
    };
    $destination = (string)$value('backup_auto_destination');
    $statuses = $DB->get_records_sql_menu('SELECT laststatus, COUNT(*) FROM {backup_courses} GROUP BY laststatus');
    $task = $DB->get_record('task_scheduled', ['classname' => '\core\task\automated_backup_task'], 'disabled, lastruntime');
    return [
        'active' => (int)$value('backup_auto_active'), 'storage' => (int)$value('backup_auto_storage'),
        'weekdays' => (string)$value('backup_auto_weekdays'),
        'destination' => $destination,
        'destination_there' => $destination !== '' && @is_dir($destination),
        'destination_writable' => $destination !== '' && @is_writable($destination),
        'max_kept' => (int)$value('backup_auto_max_kept'), 'min_kept' => (int)$value('backup_auto_min_kept'),
        'delete_days' => (int)$value('backup_auto_delete_days'),
        'task_disabled' => $task ? (bool)$task->disabled : null,
        'statuses' => (object)array_map('intval', $statuses),
    ];
}

/** Settings that change what a backup or a restore does without saying so. */
function moodlectl_doctor_settings(array $params, moodlectl_io $io) {
    global $CFG;
    return [
        'async' => !empty($CFG->enableasyncbackup),
        'keep_temp' => !empty($CFG->keeptempdirectoriesonbackup),
        // backup/util/dbops/restore_dbops.class.php, precheck_user: conflicting accounts are duplicated for it.
        'duplicate_admin' => (bool)get_config('backup', 'import_general_duplicate_admin_allowed'),
        'recyclebin' => (bool)get_config('tool_recyclebin', 'coursebinenable'),
    ];
}

/**
 * Where the acting user has the capabilities of facts 1.5 and 2.5: site, some (a course at least) or none.
 * lib/accesslib.php: has_capability, get_user_capability_course (3.9 to 5.1).
 */
function moodlectl_doctor_capabilities(array $params, moodlectl_io $io) {
    global $CFG;
    $wanted = [
        'moodle/backup:backupcourse', 'moodle/backup:userinfo', 'moodle/backup:configure', 'moodle/backup:anonymise',
        'moodle/backup:downloadfile', 'moodle/restore:viewautomatedfilearea', 'moodle/restore:restorecourse',
        'moodle/restore:userinfo', 'moodle/restore:configure', 'moodle/restore:createuser',
        'moodle/restore:rolldates', 'moodle/course:create',
    ];
    $found = [];
    foreach ($wanted as $capability) {
        if (!get_capability_info($capability)) {
            continue;
        }
        if (has_capability($capability, context_system::instance(), $io->acting)) {
            $found[$capability] = 'site';
        } else if (get_user_capability_course($capability, $io->acting->id, true, '', '', 1)
                || ($capability === 'moodle/course:create' && moodlectl_doctor_may_create($io->acting))) {
            $found[$capability] = 'some';
        } else {
            $found[$capability] = 'none';
        }
    }
    return ['username' => $io->acting->username, 'where' => $found];
}

/** Whether the user may make a course in any category (course/classes/category.php). */
function moodlectl_doctor_may_create($user) {
    global $DB;
    $categories = $DB->get_fieldset_select('course_categories', 'id', '1 = 1');
    foreach ($categories as $id) {
        if (has_capability('moodle/course:create', context_coursecat::instance($id), $user)) {
            return true;
        }
    }
    return false;
}

/** What the site's own settings say about web services: why a token may be of no use (lib/db/services.php). */
function moodlectl_doctor_webservices(array $params, moodlectl_io $io) {
    global $CFG, $DB;
    $protocols = empty($CFG->webserviceprotocols) ? [] : explode(',', $CFG->webserviceprotocols);
    $service = null;
    if (!empty($params['service'])) {
        $fields = 'id, enabled, restrictedusers, downloadfiles, uploadfiles';
        $service = $DB->get_record('external_services', ['shortname' => $params['service']], $fields) ?: false;
    }
    return ['enabled' => !empty($CFG->enablewebservices), 'rest' => in_array('rest', $protocols, true), 'service' => $service];
}
