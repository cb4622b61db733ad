<?php
// What stands against a restore: found out before anything is changed, collected, and told all at once.

/**
 * Writes one finding down (findings.Finding): severity forbidden, danger (stops until its name is in `allow`), warning
 * or note; access: it is a permission that is missing.
 */
function moodlectl_restore_find(moodlectl_restore_job $job, $name, $severity, $message, $remedy = '',
        array $details = [], $access = false) {
    foreach ($job->findings as $known) {
        if ($known['name'] === $name && $known['message'] === $message) {
            return;
        }
    }
    $job->findings[] = ['name' => $name, 'severity' => $severity, 'message' => $message, 'remedy' => $remedy,
        'details' => (object)$details, 'access' => $access];
}

/** Refuses a deed that something stands against; a plan goes on looking. */
function moodlectl_restore_refuse(moodlectl_restore_job $job) {
    $stopping = array_values(array_filter($job->findings, function($finding) use ($job) {
        return $finding['severity'] === 'forbidden' || ($finding['severity'] === 'danger'
            && !in_array($finding['name'], $job->params['allow'], true));
    }));
    if ($job->dryrun || !$stopping) {
        return;
    }
    usort($stopping, function($a, $b) {
        $weight = function($f) {
            return $f['access'] ? 0 : ($f['severity'] === 'forbidden' ? 1 : 2);
        };
        return $weight($a) - $weight($b);
    });
    $first = $stopping[0];
    $dangers = [];
    foreach ($stopping as $finding) {
        if ($finding['severity'] === 'danger') {
            $dangers[] = $finding['name'];
        }
    }
    throw new moodlectl_error($first['access'] ? 'access' : 'refused', $first['name'], $first['message'], $first['remedy'],
        (array)$first['details'] + ['dangers' => $dangers, 'findings' => $job->findings]);
}

/** An error that ends the looking takes along what had been found until then. */
function moodlectl_restore_tell_findings(moodlectl_restore_job $job, $e) {
    if ($e instanceof moodlectl_error && $job->findings && $job->state !== 'executing'
            && !isset($e->details['findings'])) {
        $e->details['findings'] = $job->findings;
    }
}

/** Whom to ask for a capability: people who have it there, and administrators, who can give it. */
function moodlectl_whom_to_ask($capability, context $context) {
    $names = [];
    foreach (get_users_by_capability($context, $capability, 'u.*', 'u.lastaccess DESC', 0, 2) as $user) {
        $names[$user->id] = fullname($user) . " ({$user->username})";
    }
    foreach (array_slice(get_admins(), 0, 2) as $user) {
        $names[$user->id] = fullname($user) . " ({$user->username}), a site administrator";
    }
    return implode('; ', $names);
}

/** Writes down that the acting user lacks a capability, with whom to ask. */
function moodlectl_restore_need(moodlectl_restore_job $job, $capability) {
    if (has_capability($capability, $job->context, $job->userid)) {
        return;
    }
    $username = $job->io->acting->username;
    $where = $job->category ? "the category {$job->category->name}" : "the course {$job->course->shortname}";
    $ask = moodlectl_whom_to_ask($capability, $job->context);
    moodlectl_restore_find($job, 'no_capability', 'forbidden', "The user $username lacks $capability in $where.",
        "Act as somebody who has it (--as USERNAME), or ask for a role that allows it: $ask.",
        ['capability' => $capability, 'username' => $username, 'ask' => $ask], true);
}

/** Whether the acting user lacks something without which Moodle would not even open the backup. */
function moodlectl_restore_lacks(moodlectl_restore_job $job) {
    foreach ($job->findings as $finding) {
        if ($finding['access'] && $finding['severity'] === 'forbidden') {
            return true;
        }
    }
    return false;
}

/** The state of the site, apart from what core.php refuses for every deed (lib/setup.php, 3.9 to 5.1). */
function moodlectl_restore_find_state(moodlectl_restore_job $job) {
    global $CFG;
    if (!empty($CFG->maintenance_enabled)) {
        moodlectl_restore_find($job, 'maintenance', 'danger', 'The site is in maintenance mode: somebody works on it.',
            'Wait until it has ended, or end it: Site administration > Server > Maintenance mode. If it is you who works '
            . 'on it: --allow maintenance');
    }
    if (!empty($CFG->maintenance_later) && $CFG->maintenance_later < time() + 3600) {
        moodlectl_restore_find($job, 'maintenance_soon', 'warning', 'The site goes into maintenance mode at '
            . userdate($CFG->maintenance_later) . '.', 'Be done by then, or wait until it has ended.',
            ['at' => (int)$CFG->maintenance_later]);
    }
}

/** Whether somebody or something is at work in the course that the restore changes. */
function moodlectl_restore_find_use(moodlectl_restore_job $job) {
    if (!$job->course) {
        return;
    }
    $running = moodlectl_course_running($job->course->id);
    if ($running) {
        moodlectl_restore_find($job, 'in-use', 'danger', "Something is at work in the course {$job->course->shortname}: "
            . implode('; ', $running) . '.', 'Wait until it has ended. What was broken off and will never end can be '
            . 'passed over: --allow in-use', ['running' => $running]);
    }
    $active = moodlectl_course_active($job->course->id, $job->userid);
    if ($active) {
        $people = $active === 1 ? 'One person was' : "$active people were";
        $replace = $job->mode === 'replace';
        moodlectl_restore_find($job, 'in-use', $replace ? 'danger' : 'warning', "$people in the course "
            . "{$job->course->shortname} within the last five minutes.", 'Choose a quieter time, or tell them'
            . ($replace ? '; to go on: --allow in-use' : '.'), ['active' => $active]);
    }
}

/** Backups, restores and copies of a course that run or are queued, a sentence each (table backup_controllers, all). */
function moodlectl_course_running($courseid) {
    global $DB;
    // Statuses 700 awaiting, 800 executing; execution 2 is for cron; purpose 80 is a copy. What has not moved for a day
    // was broken off. A backup of an activity or section has that one's number.
    $sql = "SELECT b.*, u.username FROM {backup_controllers} b LEFT JOIN {user} u ON u.id = b.userid
             WHERE (((b.type = 'course' OR b.operation = 'restore') AND b.itemid = :c1)
                 OR (b.type = 'activity' AND b.operation = 'backup'
                     AND b.itemid IN (SELECT id FROM {course_modules} WHERE course = :c2))
                 OR (b.type = 'section' AND b.operation = 'backup'
                     AND b.itemid IN (SELECT id FROM {course_sections} WHERE course = :c3)))
               AND ((b.status = 800 AND b.timemodified > :day1) OR (b.status = 700 AND b.execution = 2)
                 OR (b.purpose = 80 AND b.status < 900 AND b.timemodified > :day2))
          ORDER BY b.id";
    $day = time() - DAYSECS;
    $found = [];
    foreach ($DB->get_records_sql($sql, ['c1' => $courseid, 'c2' => $courseid, 'c3' => $courseid, 'day1' => $day,
            'day2' => $day]) as $row) {
        $what = (int)$row->purpose === 80 ? 'copy' : $row->operation;
        $state = (int)$row->status === 800 ? 'runs' : 'is queued';
        $found[] = "a $what that {$row->username} began at " . userdate($row->timecreated, '%Y-%m-%d %H:%M') . " $state";
    }
    return $found;
}

/** How many people were in a course within the last five minutes, without one (table user_lastaccess, all). */
function moodlectl_course_active($courseid, $userid) {
    global $DB;
    return $DB->count_records_select('user_lastaccess', 'courseid = ? AND timeaccess > ? AND userid <> ?',
        [$courseid, time() - 300, $userid]);
}

/**
 * Tags in the backup's course names: no restore of Moodle's takes those (base_setting::validate_value, all releases),
 * though enrolment plugins can give a course such names. They are left out, as a form would; the manifest that Moodle
 * is about to read is changed in its unpacked copy.
 */
function moodlectl_restore_mend_names(moodlectl_restore_job $job) {
    $mended = [];
    foreach (['fullname', 'shortname'] as $name) {
        $held = (string)$job->info->{'original_course_' . $name};
        $clean = clean_param($held, PARAM_TEXT);
        if ($clean != $held) { // As Moodle compares.
            $mended[$name] = trim($clean) === '' ? "course-{$job->info->original_course_id}" : $clean;
        }
    }
    if (!$mended) {
        return;
    }
    $path = $job->base . '/moodle_backup.xml';
    $text = file_get_contents($path);
    foreach ($mended as $name => $clean) {
        $tag = 'original_course_' . $name;
        $text = preg_replace_callback("~<$tag>.*?</$tag>~s", function() use ($tag, $clean) {
            return "<$tag>" . htmlspecialchars($clean, ENT_NOQUOTES, 'UTF-8') . "</$tag>";
        }, $text);
    }
    file_put_contents($path, $text);
    $job->info = backup_general_helper::get_backup_information($job->tempdir);
    foreach ($mended as $name => $clean) {
        if ($job->text($name) !== null) {
            continue;
        }
        moodlectl_restore_find($job, 'names', 'warning', "The $name of the backup's course holds tags, which Moodle does not "
            . "allow; they are left out: $clean", "Choose another with --$name.", [$name => $clean]);
    }
}

/** Names that are longer than this site's can be, which the database would refuse after everything else was done. */
function moodlectl_restore_find_long_names(moodlectl_restore_job $job) {
    if ($job->mode !== 'new') {
        return;
    }
    foreach (moodlectl_course_name_limits() as $name => $limit) {
        if ($name !== 'idnumber' && $job->text($name) === null
                && core_text::strlen((string)$job->info->{'original_course_' . $name}) > $limit) {
            moodlectl_restore_find($job, $name . '_long', 'forbidden', "The $name of the backup's course is longer than the "
                . "$limit characters that this site allows.", "Give it a shorter one with --$name.", ['limit' => $limit]);
        }
    }
}

/** How many characters the names of a course may have here (lib/db/install.xml; a full name 254 in 4.5, 1333 in 5.1). */
function moodlectl_course_name_limits() {
    global $DB;
    $columns = $DB->get_columns('course');
    $limits = [];
    foreach (['fullname', 'shortname', 'idnumber'] as $name) {
        $limits[$name] = (int)$columns[$name]->max_length;
    }
    return $limits;
}

/** Names that are taken, or will not be what the backup says (restore_dbops::calculate_course_names, all releases). */
function moodlectl_restore_find_names(moodlectl_restore_job $job) {
    global $DB;
    if ($job->mode !== 'new') {
        return;
    }
    $info = $job->info;
    list($fullname, $shortname) = moodlectl_restore_final_names($job);
    $told = [];
    foreach (['fullname' => $fullname, 'shortname' => $shortname] as $name => $final) {
        if ($job->text($name) === null && $final !== (string)$info->{'original_course_' . $name}) {
            $told[$name] = $final;
        }
    }
    if ($told) {
        moodlectl_restore_find($job, 'names', 'warning', 'The names of the backup\'s course are taken here; the new course '
            . 'will be ' . "$fullname ($shortname).", 'Choose them with --fullname and --shortname.', $told);
    }
    if ($job->text('fullname') !== null && $DB->record_exists('course', ['fullname' => $job->text('fullname')])) {
        moodlectl_restore_find($job, 'names', 'warning', "Another course is called {$job->text('fullname')}, too.",
            'Choose another with --fullname.');
    }
    $record = moodlectl_restore_first_record($job->base . '/course/course.xml', 'course');
    $idnumber = $record && isset($record->idnumber) ? (string)$record->idnumber : '';
    if ($idnumber !== '' && $job->text('idnumber') === null
            && (!$job->samesite || $DB->record_exists('course', ['idnumber' => $idnumber]))) {
        moodlectl_restore_find($job, 'idnumber', 'note', "The ID number $idnumber is not carried over: "
            . ($job->samesite ? 'another course has it.' : 'Moodle does so on its own site only.'),
            'Give the new course one with --idnumber.', ['idnumber' => $idnumber]);
    }
}

/** The first element of that name at the top of an XML file, as a record of its plain children. */
function moodlectl_restore_first_record($path, $name) {
    $found = null;
    moodlectl_restore_walk_xml($path, function($reader, $depth) use ($name, &$found) {
        if ($found === null && $depth === 0 && $reader->name === $name) {
            $found = moodlectl_restore_record($reader->expand());
            return 'next';
        }
        return null;
    });
    return $found;
}

/** What the site's settings or the acting user's rights leave out of the restore though the backup holds it. */
function moodlectl_restore_find_left_out(moodlectl_restore_job $job) {
    $asked = $job->params['settings'];
    $out = [];
    foreach ($job->controller->get_plan()->get_settings() as $name => $setting) {
        if ($setting->get_level() !== backup_setting::ROOT_LEVEL || isset($asked[$name]) || $setting->get_value()
                || empty($job->info->root_settings[$name]) || $setting->get_status() === base_setting::LOCKED_BY_HIERARCHY) {
            continue;
        }
        $lock = moodlectl_restore_lock($setting);
        $out[$name] = $lock ? $lock[0] : 'default';
    }
    if (isset($out['users']) && is_file($job->base . '/users.xml') && !$job->withoutpeople) {
        moodlectl_restore_find_without_people($job, $out['users']);
    }
    unset($out['users']);
    if ($out) {
        $names = implode(', ', array_keys($out));
        moodlectl_restore_find($job, 'left_out', 'warning', 'The site\'s settings for restores, or the acting user\'s '
            . "rights, leave out what the backup holds: $names.", "To have it all the same: --with $names. To be told no "
            . "more: --without $names", ['settings' => $out]);
    }
}

function moodlectl_restore_find_without_people(moodlectl_restore_job $job, $lock) {
    $people = 'The backup holds people. They and their work are left out: ';
    $all = 'To restore without them: --without users (or --allow without-people).';
    if ($lock === 'permission') {
        $username = $job->io->acting->username;
        $ask = moodlectl_whom_to_ask('moodle/restore:userinfo', $job->context);
        moodlectl_restore_find($job, 'without-people', 'danger', "{$people}the user $username lacks moodle/restore:userinfo.",
            "Act as somebody who may bring them (--as USERNAME), or ask: $ask. $all",
            ['capability' => 'moodle/restore:userinfo', 'username' => $username, 'ask' => $ask], true);
    } else if ($lock === 'config') {
        moodlectl_restore_find($job, 'without-people', 'danger', $people . 'the administrator\'s configuration of restores '
            . 'locks them out.', 'An administrator can unlock it: Site administration > Courses > Backups > General restore '
            . "defaults. $all", ['locked_by' => 'config']);
    } else {
        moodlectl_restore_find($job, 'without-people', 'danger', $people . 'that is the site\'s default for restores.',
            "To bring them: --with users. $all", ['locked_by' => null]);
    }
}

/**
 * Roles that people have in the chosen part of the backup and that cannot be given here: without a counterpart, or not
 * by the acting user (restore_dbops::get_best_assignable_role, all releases). People come without them.
 */
function moodlectl_restore_find_roles(moodlectl_restore_job $job) {
    $plan = $job->controller->get_plan();
    foreach (['users', 'role_assignments'] as $name) {
        if (!$plan->setting_exists($name) || !$plan->get_setting($name)->get_value()) {
            return;
        }
    }
    $used = [];
    $people = false;
    foreach (moodlectl_restore_included_tasks($job) as $task) {
        $file = $task->get_taskbasepath() . '/roles.xml';
        moodlectl_restore_walk_xml($file, function($reader, $depth) use (&$used, &$people) {
            $people = $depth === 1 ? $reader->name === 'role_assignments' : $people;
            if ($people && $depth === 3 && $reader->name === 'roleid') {
                $id = (int)$reader->readString();
                $used[$id] = isset($used[$id]) ? $used[$id] + 1 : 1;
            }
        });
    }
    $there = moodlectl_restore_assignable($job);
    $lost = [];
    moodlectl_restore_records($job->base . '/roles.xml', 'role', function($role) use ($used, $there, &$lost) {
        $archetype = isset($role->archetype) ? (string)$role->archetype : '';
        $match = isset($there[$role->shortname]) || in_array($archetype, $there, true)
            || ($role->shortname === 'editingteacher' && isset($there['teacher']));
        if (isset($used[(int)$role->id]) && !$match) {
            $lost[$role->shortname] = $used[(int)$role->id];
        }
    });
    if (!$lost) {
        return;
    }
    $names = implode(', ', array_keys($lost));
    $ask = moodlectl_whom_to_ask('moodle/role:assign', $job->context);
    moodlectl_restore_find($job, 'missing-roles', 'danger', 'People have roles in the backup that cannot be given here: '
        . "$names (" . array_sum($lost) . ' assignments). They come without them.', 'Make such a role on the site, or have '
        . "one who may assign it restore: $ask. To go without: --allow missing-roles", ['roles' => $lost, 'ask' => $ask]);
}

/** Roles the acting user may give in a course there: [shortname => archetype] (accesslib.php get_assignable_roles, all). */
function moodlectl_restore_assignable(moodlectl_restore_job $job) {
    global $DB;
    if (!has_capability('moodle/role:assign', $job->context, $job->userid)) {
        return [];
    }
    $sql = 'SELECT DISTINCT r.shortname, r.archetype FROM {role} r JOIN {role_context_levels} l ON l.roleid = r.id';
    $values = ['level' => CONTEXT_COURSE];
    if (!is_siteadmin($job->userid)) {
        list($in, $values) = $DB->get_in_or_equal($job->context->get_parent_context_ids(true), SQL_PARAMS_NAMED);
        $sql .= " JOIN {role_allow_assign} a ON a.allowassign = r.id JOIN {role_assignments} s ON s.roleid = a.roleid
            AND s.userid = :userid AND s.contextid $in";
        $values += ['level' => CONTEXT_COURSE, 'userid' => $job->userid];
    }
    return $DB->get_records_sql_menu($sql . ' WHERE l.contextlevel = :level', $values);
}

/** Moodle's own pre-check as findings, as far as they are not told in better words already. */
function moodlectl_restore_find_precheck(moodlectl_restore_job $job, array $precheck) {
    $told = array_column($job->findings, 'name');
    foreach ($precheck['errors'] as $text) {
        if (!array_intersect(['user_conflict', 'cannot_create_users'], $told)) {
            moodlectl_restore_find($job, 'precheck', 'forbidden', "Moodle's pre-check found: $text",
                'Remove the cause, or leave out the part of the backup it belongs to.', ['precheck' => [$text]]);
        }
    }
    $newer = in_array('newer-backup', $told, true);
    foreach ($precheck['warnings'] as $text) {
        if (!$newer || strpos($text, (string)$job->info->moodle_version) === false) {
            moodlectl_restore_find($job, 'precheck', 'warning', "Moodle's pre-check warns: $text");
        }
    }
}

/**
 * Who and what stands in the way of changing a course, as port.Standing. Reads only.
 *
 * params: course_id.
 */
function moodlectl_call_course_standing(array $params, moodlectl_io $io) {
    global $DB;
    $id = (int)$params['course_id'];
    if (!$DB->record_exists('course', ['id' => $id])) {
        throw new moodlectl_error('notfound', 'course_not_found', "There is no course with the id $id.",
            'See which there are: moodlectl course list');
    }
    $me = (int)$io->acting->id;
    $lately = [$id, time() - 14 * DAYSECS, $me];
    return [
        'students' => moodlectl_standing_students($id),
        'grades' => $DB->count_records_sql("SELECT COUNT(g.id) FROM {grade_grades} g JOIN {grade_items} i ON i.id = g.itemid
            WHERE i.courseid = ? AND i.itemtype NOT IN ('course', 'category') AND g.finalgrade IS NOT NULL", [$id]),
        'submissions' => moodlectl_standing_work($id),
        'visitors' => $DB->count_records_select('user_lastaccess', 'courseid = ? AND timeaccess > ? AND userid <> ?', $lately),
        'last_visit' => (int)$DB->get_field_sql('SELECT MAX(timeaccess) FROM {user_lastaccess} WHERE courseid = ?
            AND userid <> ?', [$id, $me]) ?: null,
        'active' => moodlectl_course_active($id, $me),
        'running' => moodlectl_course_running($id),
        'restored' => moodlectl_standing_restored($id),
    ];
}

/** People enrolled who have a role that is graded ($CFG->gradebookroles, all releases). */
function moodlectl_standing_students($courseid) {
    global $DB, $CFG;
    $roles = array_filter(array_map('intval', explode(',', (string)$CFG->gradebookroles)));
    if (!$roles) {
        return 0;
    }
    list($in, $values) = $DB->get_in_or_equal($roles, SQL_PARAMS_NAMED);
    list($where, $more) = $DB->get_in_or_equal(context_course::instance($courseid)->get_parent_context_ids(true),
        SQL_PARAMS_NAMED);
    return $DB->count_records_sql("SELECT COUNT(DISTINCT ue.userid) FROM {user_enrolments} ue
        JOIN {enrol} e ON e.id = ue.enrolid JOIN {role_assignments} a ON a.userid = ue.userid
        WHERE e.courseid = :course AND a.roleid $in AND a.contextid $where",
        $values + $more + ['course' => $courseid]);
}

/** Work handed in and attempts made, as far as core's activities keep such (db/install.xml of each, 3.9 to 5.1). */
function moodlectl_standing_work($courseid) {
    global $DB;
    $kinds = [['assign', 'assign_submission', 'assignment', "x.status = 'submitted' AND x.latest = 1"],
        ['quiz', 'quiz_attempts', 'quiz', 'x.preview = 0'], ['workshop', 'workshop_submissions', 'workshopid', 'x.example = 0'],
        ['lesson', 'lesson_attempts', 'lessonid', '1 = 1'], ['h5pactivity', 'h5pactivity_attempts', 'h5pactivityid', '1 = 1'],
        ['choice', 'choice_answers', 'choiceid', '1 = 1'], ['feedback', 'feedback_completed', 'feedback', '1 = 1']];
    $sum = 0;
    foreach ($kinds as list($module, $table, $field, $where)) {
        if ($DB->get_manager()->table_exists($table) && $DB->get_manager()->table_exists($module)) {
            $sum += $DB->count_records_sql("SELECT COUNT(x.id) FROM {{$table}} x JOIN {{$module}} m ON m.id = x.$field
                WHERE m.course = ? AND $where", [$courseid]);
        }
    }
    return $sum;
}

/**
 * When something was restored into a course, newest first, and from which course of this site ([time, id or null]);
 * null where the site keeps no such log (\core\event\course_restored in logstore_standard, all releases).
 */
function moodlectl_standing_restored($courseid) {
    global $DB;
    if (!$DB->get_manager()->table_exists('logstore_standard_log')) {
        return null;
    }
    $rows = $DB->get_records_select('logstore_standard_log', 'courseid = ? AND eventname = ?',
        [$courseid, '\\core\\event\\course_restored'], 'timecreated DESC, id DESC', 'id, timecreated, other', 0, 20);
    return array_values(array_map(function($row) {
        // Before jsonformat was switched on it was serialised, which nobody should take from a database.
        $other = json_decode((string)$row->other, true);
        $from = is_array($other) && !empty($other['samesite']) && !empty($other['originalcourseid'])
            ? (int)$other['originalcourseid'] : null;
        return [(int)$row->timecreated, $from];
    }, $rows));
}
