<?php
// What a course holds that Moodle's backups do not carry: taken down with a safety backup, given back by an undo.

/**
 * What {course_id} holds that no backup carries: which badges are active, notes about people, scales and outcomes that
 * no grade item uses, which settings the gradebook has not got. By the site's own ids, for moodlectl_keepsake_return on this site alone. Reads only.
 */
function moodlectl_call_keepsake(array $params, moodlectl_io $io) {
    global $DB;
    $id = (int)moodlectl_require_backup($params['course_id'])->id;
    $badges = $DB->get_records('badge', ['courseid' => $id], 'id', 'id, name, timecreated, status, nextcron');
    $notes = $DB->get_records('post', ['courseid' => $id, 'module' => 'notes'], 'id', 'id, userid, content, format, '
        . 'publishstate, created, lastmodified, usermodified, uniquehash, subject, summary, summaryformat');
    $scales = $DB->get_records('scale', ['courseid' => $id], 'id');
    $outcomes = $DB->get_records('grade_outcomes', ['courseid' => $id], 'id');
    $used = $DB->get_fieldset_sql('SELECT o.id FROM {grade_outcomes_courses} u JOIN {grade_outcomes} o ON o.id = u.outcomeid
        WHERE u.courseid = ? AND o.courseid IS NULL ORDER BY o.id', [$id]);
    $settings = $DB->get_records_menu('grade_settings', ['courseid' => $id], 'name', 'name, value');
    return ['grade_settings' => (object)$settings, 'badges' => array_values($badges), 'notes' => array_values($notes), 'scales' => array_values($scales),
        'outcomes' => array_values($outcomes), 'site_outcomes' => array_map('intval', $used)];
}

/**
 * What people have done in {course_id} since {since}, told by Moodle's standard log: {known, changes, people, last}.
 * Moodle's own scripts and restores do not count. Reads only.
 */
function moodlectl_call_work_since(array $params, moodlectl_io $io) {
    global $DB;
    $id = (int)moodlectl_visible_course($params['course_id'])->id;
    $stores = explode(',', (string)get_config('tool_log', 'enabled_stores'));
    if (!in_array('logstore_standard', $stores, true)) {
        return ['known' => false, 'changes' => 0, 'people' => [], 'last' => null];
    }
    $where = "l.courseid = ? AND l.timecreated > ? AND l.crud IN ('c', 'u', 'd') AND l.origin IN ('web', 'ws')";
    $values = [$id, (int)$params['since']];
    $all = $DB->get_record_sql("SELECT COUNT(*) AS changes, MAX(l.timecreated) AS last FROM {logstore_standard_log} l
        WHERE $where", $values);
    $people = $DB->get_fieldset_sql("SELECT DISTINCT u.username FROM {logstore_standard_log} l
        JOIN {user} u ON u.id = l.userid WHERE $where ORDER BY u.username", $values);
    return ['known' => true, 'changes' => (int)$all->changes, 'people' => $people,
        'last' => $all->last ? (int)$all->last : null];
}

/** Gives back what moodlectl_call_keepsake took, after the course has been restored. May be done again. */
function moodlectl_keepsake_return(moodlectl_restore_job $job) {
    $keepsake = $job->params['keepsake'];
    if ($keepsake === null || $job->mode !== 'replace') {
        return;
    }
    $steps = ['scales and outcomes' => 'moodlectl_keepsake_scales', 'notes about people' => 'moodlectl_keepsake_notes',
        'badges' => 'moodlectl_keepsake_badges', 'badges of what was replaced' => 'moodlectl_keepsake_strays',
        'settings of the gradebook' => 'moodlectl_keepsake_settings', 'totals of grades' => 'moodlectl_keepsake_totals'];
    foreach ($steps as $name => $function) {
        try {
            $function($job, $keepsake);
        } catch (Throwable $e) {
            $job->warnings[] = "Not all could be put back ($name): " . $e->getMessage();
        }
    }
}

/** Scales and outcomes that no grade item uses are in no backup (backup_scales_structure_step, all releases). */
function moodlectl_keepsake_scales(moodlectl_restore_job $job, array $keepsake) {
    global $DB;
    $id = (int)$job->course->id;
    $scales = [];
    foreach ($keepsake['scales'] as $scale) {
        $there = $DB->get_records_select('scale', 'courseid = ? AND name = ? AND ' . $DB->sql_compare_text('scale', 4000)
            . ' = ' . $DB->sql_compare_text('?', 4000), [$id, $scale['name'], $scale['scale']], 'id', 'id');
        $scales[$scale['id']] = $there ? (int)key($there)
            : (int)$DB->insert_record('scale', (object)(['courseid' => $id] + $scale));
    }
    foreach ($keepsake['outcomes'] as $outcome) {
        $here = $DB->get_field('grade_outcomes', 'id', ['courseid' => $id, 'shortname' => $outcome['shortname']]);
        if (!$here) {
            if (isset($scales[$outcome['scaleid']])) {
                $outcome['scaleid'] = $scales[$outcome['scaleid']];
            }
            $here = $DB->insert_record('grade_outcomes', (object)(['courseid' => $id] + $outcome));
        }
        moodlectl_keepsake_use_outcome($id, $here);
    }
    foreach ($keepsake['site_outcomes'] as $outcome) {
        if ($DB->record_exists('grade_outcomes', ['id' => $outcome])) {
            moodlectl_keepsake_use_outcome($id, $outcome);
        }
    }
}

function moodlectl_keepsake_use_outcome($courseid, $outcomeid) {
    global $DB;
    $use = ['courseid' => $courseid, 'outcomeid' => $outcomeid];
    if (!$DB->record_exists('grade_outcomes_courses', $use)) {
        $DB->insert_record('grade_outcomes_courses', (object)$use);
    }
}

/** Notes about people go with a course's content and are in no backup (notes/lib.php note_delete_all, all releases). */
function moodlectl_keepsake_notes(moodlectl_restore_job $job, array $keepsake) {
    global $DB;
    $id = (int)$job->course->id;
    foreach ($keepsake['notes'] as $note) {
        $same = "courseid = ? AND module = 'notes' AND userid = ? AND created = ? AND "
            . $DB->sql_compare_text('content', 4000) . ' = ' . $DB->sql_compare_text('?', 4000);
        $there = $DB->record_exists_select('post', $same, [$id, $note['userid'], $note['created'], $note['content']]);
        if (!$there && $DB->record_exists('user', ['id' => $note['userid'], 'deleted' => 0])) {
            $DB->insert_record('post', (object)(['courseid' => $id, 'module' => 'notes'] + $note));
        }
    }
}

/**
 * Emptying a course turns its badges into archived ones of the site, and people keep them; a restore makes others,
 * inactive and given to nobody (lib/badgeslib.php badges_handle_course_deletion, restore_badges_structure_step, all
 * releases). The former ones come back, with the criteria of the others, whose activities are there.
 */
function moodlectl_keepsake_badges(moodlectl_restore_job $job, array $keepsake) {
    global $DB;
    $id = (int)$job->course->id;
    foreach ($keepsake['badges'] as $kept) {
        $former = $DB->get_record('badge', ['id' => $kept['id'], 'timecreated' => $kept['timecreated']]);
        $made = $DB->get_records_select('badge', 'courseid = ? AND name = ? AND timecreated = ? AND id <> ?',
            [$id, $kept['name'], $kept['timecreated'], $kept['id']], 'id DESC');
        if (!$made) {
            continue;
        }
        $made = reset($made);
        if ($former && (int)$former->type === 1 && (int)$former->status === 4) { // BADGE_TYPE_SITE, BADGE_STATUS_ARCHIVED.
            moodlectl_keepsake_swap_badges($job, $former, $made);
            $made = $former;
        }
        // Without those it was given to there is nothing to lock: 3 is BADGE_STATUS_ACTIVE_LOCKED, 2 INACTIVE_LOCKED.
        $issued = $DB->record_exists('badge_issued', ['badgeid' => $made->id]);
        $status = !$issued && $kept['status'] >= 2 && $kept['status'] <= 3 ? $kept['status'] - 2 : $kept['status'];
        $DB->update_record('badge', (object)['id' => $made->id, 'status' => $status, 'nextcron' => $kept['nextcron']]);
    }
}

function moodlectl_keepsake_swap_badges(moodlectl_restore_job $job, $former, $made) {
    global $DB;
    $transaction = $DB->start_delegated_transaction();
    $old = $DB->get_records_menu('badge_criteria', ['badgeid' => $former->id], '', 'criteriatype, id');
    foreach ($DB->get_records('badge_criteria', ['badgeid' => $made->id]) as $criterion) {
        if (isset($old[$criterion->criteriatype])) {
            $DB->delete_records('badge_criteria_param', ['critid' => $old[$criterion->criteriatype]]);
            $DB->set_field('badge_criteria_param', 'critid', $old[$criterion->criteriatype], ['critid' => $criterion->id]);
            $DB->delete_records('badge_criteria', ['id' => $criterion->id]);
        } else {
            $DB->set_field('badge_criteria', 'badgeid', $former->id, ['id' => $criterion->id]);
        }
    }
    $fs = get_file_storage();
    $system = context_system::instance()->id;
    $course = context_course::instance($job->course->id)->id;
    $fs->delete_area_files($course, 'badges', 'badgeimage', $made->id);
    $fs->move_area_files_to_new_context($system, $course, 'badges', 'badgeimage', $former->id);
    $DB->delete_records('badge_manual_award', ['badgeid' => $made->id]);
    $DB->update_record('badge', (object)['id' => $former->id, 'type' => 2, 'courseid' => $job->course->id]);
    moodlectl_keepsake_drop_badge($made->id);
    $transaction->allow_commit();
}

/** What replaced the course had badges of its own; those nobody was given need not stay behind as archived ones. */
function moodlectl_keepsake_strays(moodlectl_restore_job $job, array $keepsake) {
    global $DB;
    foreach ($job->badgesbefore as $id) {
        $stray = $DB->get_record('badge', ['id' => $id, 'type' => 1, 'status' => 4]);
        if ($stray && !$DB->record_exists('badge_issued', ['badgeid' => $id])) {
            moodlectl_keepsake_drop_badge($id);
        }
    }
}

function moodlectl_keepsake_drop_badge($id) {
    global $CFG;
    require_once($CFG->libdir . '/badgeslib.php');
    $class = class_exists('core_badges\\badge') ? 'core_badges\\badge' : 'badge';
    (new $class($id))->delete(false);
}

/** A restore leaves a setting behind that the course may not have had (restore_gradebook_structure_step, all releases). */
function moodlectl_keepsake_settings(moodlectl_restore_job $job, array $keepsake) {
    global $DB, $CFG;
    require_once($CFG->libdir . '/gradelib.php');
    $kept = isset($keepsake['grade_settings']) ? $keepsake['grade_settings'] : [];
    $now = $DB->get_records_menu('grade_settings', ['courseid' => $job->course->id], '', 'name, value');
    foreach ($kept + array_fill_keys(array_keys(array_diff_key($now, $kept)), null) as $name => $value) {
        grade_set_setting($job->course->id, $name, $value); // null removes it.
    }
}

/** Moodle would compute them when somebody looks (lib/gradelib.php grade_regrade_final_grades, all releases). */
function moodlectl_keepsake_totals(moodlectl_restore_job $job, array $keepsake) {
    global $CFG;
    require_once($CFG->libdir . '/gradelib.php');
    grade_regrade_final_grades($job->course->id);
}

/**
 * Deadlines in the calendar, which a restore leaves to a queued task (backup/moodle2/restore_stepslib.php
 * restore_calendar_action_events; course/lib.php course_module_bulk_update_calendar_events, all releases).
 */
function moodlectl_restore_deadlines(moodlectl_restore_job $job) {
    $modules = [];
    foreach ($job->controller->get_plan()->get_tasks() as $task) {
        if ($task instanceof restore_activity_task && $task->get_moduleid()) {
            $modules[$task->get_modulename()] = true;
        }
    }
    foreach (array_keys($modules) as $module) {
        try {
            course_module_bulk_update_calendar_events($module, $job->course->id);
        } catch (Throwable $e) {
            $job->io->log("deadlines of $module: " . $e->getMessage()); // The queued task will do it.
        }
    }
}
