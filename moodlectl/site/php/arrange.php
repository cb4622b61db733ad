<?php
// A course's place on its site: who is enrolled and how, where it came from; and deeds that arrange it.

/**
 * The course {course_id} as port.CourseFacts. Needs moodle/course:viewparticipants or to see all
 * (tables enrol, user_enrolments, role_assignments; course.originalcourseid: 3.10 and later).
 */
function moodlectl_call_course_facts(array $params, moodlectl_io $io) {
    $course = moodlectl_visible_course($params['course_id']);
    $context = context_course::instance($course->id);
    require_capability('moodle/course:viewparticipants', $context, $io->acting->id);
    return [
        'course' => moodlectl_course_record($course),
        'original_course_id' => empty($course->originalcourseid) ? null : (int)$course->originalcourseid,
        'startday' => moodlectl_day($course->startdate, $io),
        'endday' => moodlectl_day($course->enddate, $io),
        'people' => moodlectl_people($course->id, $context, $io),
        'methods' => moodlectl_methods($course->id),
    ];
}

/** A time as the day it is where the acting user lives, null for none. */
function moodlectl_day($time, moodlectl_io $io) {
    if (!$time) {
        return null;
    }
    $date = new DateTime('@' . (int)$time);
    $date->setTimezone(core_date::get_user_timezone_object($io->acting));
    return $date->format('Y-m-d');
}

/** Everybody enrolled, as port.Enrolled. */
function moodlectl_people($courseid, context_course $context, moodlectl_io $io) {
    global $DB;
    $all = has_capability('moodle/user:viewalldetails', context_system::instance(), $io->acting->id);
    $roles = [];
    $rows = $DB->get_recordset_sql('SELECT ra.id, ra.userid, r.shortname FROM {role_assignments} ra
        JOIN {role} r ON r.id = ra.roleid WHERE ra.contextid = ? ORDER BY r.sortorder, ra.id', [$context->id]);
    foreach ($rows as $row) {
        $roles[$row->userid][$row->shortname] = true;
    }
    $rows->close();
    $people = [];
    $rows = $DB->get_recordset_sql('SELECT ue.id, ue.status, e.enrol, e.status AS off, u.id AS userid, u.username, u.email,
            u.firstname, u.lastname, u.firstaccess FROM {user_enrolments} ue JOIN {enrol} e ON e.id = ue.enrolid
            JOIN {user} u ON u.id = ue.userid WHERE e.courseid = ? AND u.deleted = 0 ORDER BY u.id, ue.id', [$courseid]);
    foreach ($rows as $row) {
        if (!isset($people[$row->userid])) {
            $people[$row->userid] = ['id' => (int)$row->userid, 'username' => $row->username,
                'email' => $all ? $row->email : '', 'firstname' => $row->firstname, 'lastname' => $row->lastname,
                'firstaccess' => $all ? (int)$row->firstaccess : 0,
                'roles' => array_keys(isset($roles[$row->userid]) ? $roles[$row->userid] : []), 'methods' => [],
                'active' => false];
        }
        $person = &$people[$row->userid];
        $person['methods'] = array_values(array_unique(array_merge($person['methods'], [$row->enrol])));
        $person['active'] = $person['active'] || ($row->status == ENROL_USER_ACTIVE && $row->off == ENROL_INSTANCE_ENABLED);
        unset($person);
    }
    $rows->close();
    return array_values($people);
}

/** The enrolment methods of a course, as port.EnrolMethod. */
function moodlectl_methods($courseid) {
    global $DB;
    $methods = [];
    foreach (enrol_get_instances($courseid, false) as $instance) {
        $methods[] = ['method' => $instance->enrol, 'active' => $instance->status == ENROL_INSTANCE_ENABLED,
            'people' => $DB->count_records('user_enrolments', ['enrolid' => $instance->id])];
    }
    return $methods;
}

/** The enrolment plugins there are, and which are switched on (lib/enrollib.php enrol_get_plugins, all releases). */
function moodlectl_call_enrolment_methods(array $params, moodlectl_io $io) {
    $on = enrol_get_plugins(true);
    $methods = [];
    foreach (array_keys(core_component::get_plugin_list('enrol')) as $name) {
        $methods[$name] = isset($on[$name]);
    }
    return (object)$methods;
}

/** The activity modules there are, and which are switched on (table modules, lib/classes/component.php, all releases). */
function moodlectl_call_modules(array $params, moodlectl_io $io) {
    global $DB;
    $on = $DB->get_records_menu('modules', null, '', 'name, visible');
    $modules = [];
    foreach (array_keys(core_component::get_plugin_list('mod')) as $name) {
        if (isset($on[$name])) { // one whose code alone is there was not installed
            $modules[$name] = (bool)$on[$name];
        }
    }
    return (object)$modules;
}

/** Answers with what {find} finds; where that is nothing, makes it, so that two of us at once make one. */
function moodlectl_locked($what, callable $do) {
    $factory = \core\lock\lock_config::get_lock_factory('moodlectl');
    $lock = $factory->get_lock($what, 60);
    if (!$lock) {
        throw new moodlectl_error('refused', 'busy', "Somebody else is at work on $what of the site.",
            'Try again in a minute.');
    }
    try {
        return $do();
    } finally {
        $lock->release();
    }
}

/**
 * The category of {path}, or with {idnumber}, made where it is not there, as port.Category
 * (course/classes/category.php core_course_category::create, 3.6 and later).
 */
function moodlectl_call_make_category(array $params, moodlectl_io $io) {
    $path = array_map('trim', array_map('strval', $params['path']));
    if (!$path || in_array('', $path, true)) {
        throw new moodlectl_error('usage', 'bad_category', 'A category needs a name, and so do all above it.');
    }
    $id = moodlectl_locked('categories', function() use ($path, $params, $io) {
        return moodlectl_find_or_make_category($path, (string)$params['idnumber'], $params['visible'], $io);
    });
    foreach (moodlectl_call_categories([], $io) as $category) {
        if ($category['id'] === $id) {
            return $category;
        }
    }
    throw new moodlectl_error('access', 'category_not_visible', 'The category is there but may not be seen.');
}

/** The id of that category; see moodlectl_call_make_category. */
function moodlectl_find_or_make_category(array $path, $idnumber, $visible, moodlectl_io $io) {
    global $DB;
    $known = $idnumber === '' ? null : $DB->get_record('course_categories', ['idnumber' => $idnumber]);
    $parent = 0;
    $found = null;
    foreach ($path as $depth => $name) {
        $last = $depth === count($path) - 1;
        if ($last && $known) {
            return (int)$known->id;
        }
        $found = $DB->get_records('course_categories', ['parent' => $parent, 'name' => $name], 'sortorder', '*', 0, 2);
        if (count($found) > 1) {
            throw new moodlectl_error('refused', 'ambiguous_category', "There are two categories '"
                . implode(' / ', array_slice($path, 0, $depth + 1)) . "'.", 'Name the one that is meant by its idnumber.');
        }
        $found = reset($found);
        if (!$found) {
            $found = moodlectl_new_category($parent, $name, $last ? $idnumber : '', $visible, $io);
        } else if ($last && $idnumber !== '') {
            if ((string)$found->idnumber === '') {
                throw new moodlectl_error('refused', 'category_without_idnumber', "The category '" . implode(' / ', $path)
                    . "' is there, but without the idnumber $idnumber.", 'Give it that idnumber, or name it by its path alone.');
            }
            throw new moodlectl_error('refused', 'category_taken', "The category '" . implode(' / ', $path)
                . "' is there, with another idnumber: {$found->idnumber}.", 'Name it by its path alone, or use that idnumber.');
        }
        $parent = (int)$found->id;
    }
    return $parent;
}

/** Makes one category, as the acting user may. */
function moodlectl_new_category($parent, $name, $idnumber, $visible, moodlectl_io $io) {
    $context = $parent ? context_coursecat::instance($parent) : context_system::instance();
    if (!has_capability('moodle/category:manage', $context, $io->acting->id)) {
        throw new moodlectl_error('access', 'nopermissions',
            "The user {$io->acting->username} may not make the category '$name': the capability moodle/category:manage "
            . 'is missing.', 'Ask a site administrator for it, or act as somebody who may (--as USERNAME).',
            ['capability' => 'moodle/category:manage', 'username' => $io->acting->username]);
    }
    $io->begun();
    return core_course_category::create(['name' => $name, 'parent' => $parent, 'idnumber' => $idnumber,
        'visible' => $visible ? 1 : 0, 'description' => '']);
}

/**
 * Arranges the course {course_id} as port.Arrangement says, and answers with it. All or nothing: one transaction
 * (course/lib.php update_course; lib/enrollib.php enrol_plugin; 3.9 and later).
 */
function moodlectl_call_arrange(array $params, moodlectl_io $io) {
    global $CFG, $DB;
    require_once($CFG->dirroot . '/course/lib.php');
    require_once($CFG->libdir . '/enrollib.php');
    $course = moodlectl_visible_course($params['course_id']);
    $change = moodlectl_arrange_change($course, $params['course'], $io);
    $people = moodlectl_arrange_people($course, $params['people'], $io);
    $become = isset($params['enrolments']) ? (string)$params['enrolments'] : '';
    if ($become !== '') {
        moodlectl_arrange_need($course, 'enrol/manual:manage', 'change enrolments', $io);
        moodlectl_arrange_need($course, 'moodle/course:enrolconfig', 'change enrolment methods', $io);
    }
    if (count((array)$change) > 1 || $people || $become !== '') {
        $do = function() use ($course, $change, $people, $become, $io) {
            $io->begun(['course' => (int)$course->id]);
            for ($try = 1; ; $try++) {
                try {
                    return moodlectl_arrange_do($course, $change, $people, $become);
                } catch (dml_exception $problem) {
                    // Somebody else's course was being moved or made. All of ours is taken back by now.
                    if ($try === 3 || stripos((string)$problem->debuginfo . $problem->getMessage(), 'deadlock') === false) {
                        throw $problem;
                    }
                    usleep(300000 * $try);
                }
            }
        };
        // A course that moves has all courses numbered anew (lib/datalib.php fix_course_sortorder): two at once deadlock.
        isset($change->category) ? moodlectl_locked('order', $do) : $do();
    }
    return moodlectl_course_record($DB->get_record('course', ['id' => $course->id], '*', MUST_EXIST));
}

/** All of it, or nothing. */
function moodlectl_arrange_do($course, $change, array $people, $become) {
    global $DB;
    $transaction = $DB->start_delegated_transaction();
    try {
        if (count((array)$change) > 1) {
            update_course($change);
        }
        moodlectl_enrol_by_hand($course, $people);
        if ($become === 'manual') {
            moodlectl_enrolments_manual($course);
        }
        if ($become === 'suspended') {
            moodlectl_enrolments_suspended($course);
        }
        $transaction->allow_commit();
    } catch (Throwable $problem) {
        // At once: in a transaction that is broken not even a lock can be given back.
        $transaction->is_disposed() ? $DB->force_transaction_rollback() : $transaction->rollback($problem);
        throw $problem;
    }
}

function moodlectl_arrange_need($course, $capability, $what, moodlectl_io $io, $context = null) {
    $context = $context ?: context_course::instance($course->id);
    if (!has_capability($capability, $context, $io->acting->id)) {
        throw new moodlectl_error('access', 'nopermissions', "The user {$io->acting->username} may not $what of "
            . "{$course->shortname}: the capability $capability is missing.",
            'Ask a site administrator for it, or act as somebody who may (--as USERNAME).',
            ['capability' => $capability, 'username' => $io->acting->username]);
    }
}

/** What is different of the course itself, checked against what is taken and what the acting user may. */
function moodlectl_arrange_change($course, $asked, moodlectl_io $io) {
    global $DB;
    $asked = (array)$asked;
    $change = (object)['id' => $course->id];
    $capabilities = ['fullname' => 'moodle/course:changefullname', 'shortname' => 'moodle/course:changeshortname',
        'idnumber' => 'moodle/course:changeidnumber', 'visible' => 'moodle/course:visibility',
        'category' => 'moodle/course:changecategory', 'startdate' => 'moodle/course:update',
        'enddate' => 'moodle/course:update'];
    foreach ($capabilities as $name => $capability) {
        if (!isset($asked[$name])) {
            continue;
        }
        $value = in_array($name, ['startdate', 'enddate'], true) ? moodlectl_arrange_day($asked[$name], $io) : $asked[$name];
        if (in_array($name, ['visible', 'category'], true)) {
            $value = (int)$value;
        }
        if ((string)$course->$name === (string)$value) {
            continue;
        }
        moodlectl_arrange_need($course, $capability, "change the $name", $io);
        if (in_array($name, ['shortname', 'idnumber'], true) && $value !== '') {
            $other = $DB->get_record_select('course', "$name = ? AND id <> ?", [$value, $course->id], 'id', IGNORE_MULTIPLE);
            if ($other) {
                throw new moodlectl_error('refused', $name . '_taken', "The $name $value belongs to another course.",
                    "Choose another $name.", ['course_id' => (int)$other->id, $name => $value]);
            }
        }
        if ($name === 'category') {
            if (!$DB->record_exists('course_categories', ['id' => $value])) {
                throw new moodlectl_error('notfound', 'category_not_found', "There is no category with the id $value.");
            }
            moodlectl_arrange_need($course, 'moodle/course:create', 'move it into the category', $io,
                context_coursecat::instance($value));
        }
        $change->$name = $value;
    }
    return moodlectl_arrange_dates($course, $change);
}

/** A course that would end before it starts is refused, as Moodle's form does (course/lib.php course_validate_dates). */
function moodlectl_arrange_dates($course, $change) {
    if (isset($change->startdate) || isset($change->enddate)) {
        $start = isset($change->startdate) ? $change->startdate : $course->startdate;
        $end = isset($change->enddate) ? $change->enddate : $course->enddate;
        if ($end && $end <= $start) {
            throw new moodlectl_error('refused', 'bad_dates', "The course {$course->shortname} would end before it starts.",
                'Give it another end.');
        }
        // Moodle checks one of them against the other only where it is given both.
        $change->startdate = $start;
        $change->enddate = $end;
    }
    return $change;
}

/** A day as Moodle's time: midnight where the acting user lives. */
function moodlectl_arrange_day($day, moodlectl_io $io) {
    if (!preg_match('/^([0-9]{4})-([0-9]{2})-([0-9]{2})$/', $day, $m) || !checkdate((int)$m[2], (int)$m[3], (int)$m[1])) {
        throw new moodlectl_error('usage', 'bad_day', "'$day' is no day as YYYY-MM-DD.");
    }
    return make_timestamp((int)$m[1], (int)$m[2], (int)$m[3], 0, 0, 0, core_date::get_user_timezone($io->acting));
}

/** Who is to be enrolled and is not yet so: [[user id, [role id]]]. Roles must be assignable in courses. */
function moodlectl_arrange_people($course, array $people, moodlectl_io $io) {
    global $DB, $CFG;
    if (!$people) {
        return [];
    }
    $context = context_course::instance($course->id);
    $assignable = array_flip(get_roles_for_contextlevels(CONTEXT_COURSE));
    $roles = $DB->get_records_menu('role', null, '', 'shortname, id');
    $todo = [];
    foreach ($people as $person) {
        list($username, $names) = $person;
        $user = $DB->get_record('user', ['username' => $username, 'mnethostid' => $CFG->mnet_localhost_id, 'deleted' => 0]);
        if (!$user) {
            throw new moodlectl_error('refused', 'user_unknown', "There is no account '$username' to enrol.");
        }
        $missing = [];
        foreach ($names as $name) {
            if (!isset($roles[$name]) || !isset($assignable[$roles[$name]])) {
                throw new moodlectl_error('refused', 'role_unknown', "There is no role '$name' that can be given in a course.",
                    'See Site administration > Users > Define roles.');
            }
            if (!$DB->record_exists('role_assignments', ['contextid' => $context->id, 'userid' => $user->id,
                    'roleid' => $roles[$name]])) {
                $missing[] = (int)$roles[$name];
            }
        }
        if ($missing || !is_enrolled($context, $user)) {
            $todo[] = [(int)$user->id, $missing];
        }
    }
    if ($todo) {
        moodlectl_arrange_need($course, 'enrol/manual:enrol', 'enrol people', $io);
        $may = get_assignable_roles($context, ROLENAME_SHORT, false, $io->acting);
        foreach ($todo as $person) {
            foreach ($person[1] as $role) {
                if (!isset($may[$role]) && !is_siteadmin($io->acting)) {
                    throw new moodlectl_error('access', 'nopermissions', "The user {$io->acting->username} may not give the role "
                        . array_search($role, $roles) . '.', 'Ask a site administrator, or act as somebody who may (--as USERNAME).');
                }
            }
        }
    }
    return $todo;
}

/** The manual enrolment method of a course, made where there is none (enrol/manual/lib.php, all releases). */
function moodlectl_manual_instance($course) {
    $plugin = enrol_is_enabled('manual') ? enrol_get_plugin('manual') : null;
    if (!$plugin) {
        throw new moodlectl_error('refused', 'no_manual_enrolment', 'Manual enrolments are switched off on the site.',
            'Switch them on under Site administration > Plugins > Enrolments.');
    }
    foreach (enrol_get_instances($course->id, false) as $instance) {
        if ($instance->enrol === 'manual') {
            return [$plugin, $instance];
        }
    }
    global $DB;
    $id = $plugin->add_instance($course, ['status' => ENROL_INSTANCE_ENABLED]);
    return [$plugin, $DB->get_record('enrol', ['id' => $id], '*', MUST_EXIST)];
}

function moodlectl_enrol_by_hand($course, array $people) {
    if (!$people) {
        return;
    }
    list($plugin, $instance) = moodlectl_manual_instance($course);
    $context = context_course::instance($course->id);
    foreach ($people as $person) {
        list($userid, $roles) = $person;
        if ($instance->status != ENROL_INSTANCE_ENABLED) {
            $plugin->update_status($instance, ENROL_INSTANCE_ENABLED);
        }
        $plugin->enrol_user($instance, $userid, null, 0, 0, ENROL_USER_ACTIVE);
        foreach ($roles as $role) {
            role_assign($role, $userid, $context->id);
        }
    }
}

/** Everybody gets a manual enrolment like the one they had; the other methods are switched off. */
function moodlectl_enrolments_manual($course) {
    global $DB;
    list($manual, $instance) = moodlectl_manual_instance($course);
    $context = context_course::instance($course->id);
    $there = $DB->get_records_menu('user_enrolments', ['enrolid' => $instance->id], '', 'userid, id');
    foreach (enrol_get_instances($course->id, false) as $other) {
        if ($other->enrol === 'manual' || $other->enrol === 'guest') {
            continue;
        }
        foreach ($DB->get_records('user_enrolments', ['enrolid' => $other->id], 'id') as $enrolment) {
            if (!isset($there[$enrolment->userid])) {
                $status = $other->status == ENROL_INSTANCE_ENABLED ? $enrolment->status : ENROL_USER_SUSPENDED;
                $manual->enrol_user($instance, $enrolment->userid, null, $enrolment->timestart, $enrolment->timeend, $status);
                $there[$enrolment->userid] = true;
            }
        }
        foreach ($DB->get_records('role_assignments', ['contextid' => $context->id, 'component' => 'enrol_' . $other->enrol,
                'itemid' => $other->id]) as $given) {
            role_assign($given->roleid, $given->userid, $context->id);
        }
    }
    if ($instance->status != ENROL_INSTANCE_ENABLED) {
        $manual->update_status($instance, ENROL_INSTANCE_ENABLED);
    }
    moodlectl_enrolments_off($course);
}

/** Everybody's enrolments are suspended, and nothing enrols anew. */
function moodlectl_enrolments_suspended($course) {
    global $DB;
    moodlectl_enrolments_off($course);
    foreach (enrol_get_instances($course->id, false) as $instance) {
        $plugin = enrol_get_plugin($instance->enrol);
        if (!$plugin) {
            continue;
        }
        foreach ($DB->get_records('user_enrolments', ['enrolid' => $instance->id], 'id') as $enrolment) {
            if ($enrolment->status != ENROL_USER_SUSPENDED) {
                $plugin->update_user_enrol($instance, $enrolment->userid, ENROL_USER_SUSPENDED);
            }
        }
    }
}

/** Switches off all methods but the manual one, so that none of them brings back what was changed. */
function moodlectl_enrolments_off($course) {
    foreach (enrol_get_instances($course->id, true) as $instance) {
        $plugin = enrol_get_plugin($instance->enrol);
        if ($plugin && $instance->enrol !== 'manual') {
            $plugin->update_status($instance, ENROL_INSTANCE_DISABLED);
        }
    }
}
