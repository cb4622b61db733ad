<?php
// Running the site's automated backups now.

/**
 * Run the automated backups that are due: what Moodle's own command does and, in releases that only put them into the
 * queue (3.8 and later), then the queue's backups. Returns what became of each course that was due.
 *
 * Moodle decides what is due: a course it has never looked at is only given its next time
 * (backup/util/helper/backup_cron_helper.class.php, lib/classes/task/course_backup_task.php).
 */
function moodlectl_call_automated_run(array $params, moodlectl_io $io) {
    global $CFG;
    if (!is_siteadmin()) {
        throw new moodlectl_error('access', 'not_administrator', 'Only an administrator may run the automated backups.',
            'Act as an administrator (--as USERNAME).');
    }
    moodlectl_backup_load();
    require_once($CFG->dirroot . '/backup/util/helper/backup_cron_helper.class.php');
    if (!(int)get_config('backup', 'backup_auto_active')) {
        throw new moodlectl_error('refused', 'automated_disabled', 'Automated backups are switched off on this site.',
            'Site administration > Courses > Backups > Automated backup setup: Enabled or Manual.',
            ['config' => 'backup/backup_auto_active']);
    }
    moodlectl_automated_free();
    $before = moodlectl_automated_rows();
    $due = moodlectl_automated_due();
    $io->begun();
    backup_cron_automated_helper::run_automated_backup(backup_cron_automated_helper::RUN_IMMEDIATELY);
    moodlectl_automated_queue($io, count($due));
    return moodlectl_automated_result($due, $before);
}

/**
 * Refuse where somebody else runs them now: Moodle's command would end without a word.
 */
function moodlectl_automated_free() {
    $factory = \core\lock\lock_config::get_lock_factory('automated_backup');
    $lock = $factory->get_lock('queue_backup_jobs_running', 1);
    if (!$lock) {
        throw new moodlectl_error('refused', 'automated_running', 'The automated backups are being run already.',
            'Wait until the site\'s cron is done with them.');
    }
    $lock->release();
}

function moodlectl_automated_rows() {
    global $DB;
    return $DB->get_records('backup_courses', null, '', 'courseid, laststatus, laststarttime, lastendtime, nextstarttime');
}

/**
 * The courses that Moodle will look at now, as its get_courses does, and those it has in its queue already.
 */
function moodlectl_automated_due() {
    global $DB;
    return $DB->get_records_sql('SELECT c.id, c.shortname FROM {course} c
        LEFT JOIN {backup_courses} bc ON bc.courseid = c.id
        WHERE bc.nextstarttime IS NULL OR bc.nextstarttime < ? OR bc.laststatus = ? ORDER BY c.sortorder', [time(), '6']);
}

/**
 * Do the queued backups here and now, each under the lock that cron would hold
 * (lib/classes/task/manager.php get_next_adhoc_task, adhoc_task_complete).
 */
function moodlectl_automated_queue(moodlectl_io $io, $total) {
    global $DB;
    $factory = \core\lock\lock_config::get_lock_factory('cron');
    $done = 0;
    $ids = $DB->get_fieldset_select('task_adhoc', 'id', 'classname = ? ORDER BY id', ['\\core\\task\\course_backup_task']);
    foreach ($ids as $id) {
        $lock = $factory->get_lock('adhoc_' . $id, 0);
        $record = $lock ? $DB->get_record('task_adhoc', ['id' => $id]) : false;
        if (!$record) {
            if ($lock) {
                $lock->release();
            }
            continue;
        }
        $task = \core\task\manager::adhoc_task_from_record($record);
        $task->set_lock($lock);
        try {
            $io->progress('backup', $done, max($total, count($ids)), 'steps', '');
            $task->execute();
            \core\task\manager::adhoc_task_complete($task);
        } catch (Throwable $problem) {
            \core\task\manager::adhoc_task_failed($task);
            $io->log($problem->getMessage());
        }
        $done++;
    }
    $io->progress('backup', $total, $total, 'steps', '');
}

/**
 * What became of the courses that were due, as port.AutomatedRun with the status before.
 */
function moodlectl_automated_result(array $due, array $before) {
    $words = ['error', 'ok', 'unfinished', 'skipped', 'warning', 'notyetrun', 'queued'];
    $after = moodlectl_automated_rows();
    $result = [];
    foreach ($due as $course) {
        if (!isset($after[$course->id])) {
            continue;
        }
        $row = $after[$course->id];
        $earlier = isset($before[$course->id]) ? $words[(int)$before[$course->id]->laststatus] : null;
        $result[] = [
            'course_id' => (int)$course->id,
            'shortname' => $course->shortname,
            'status' => $words[(int)$row->laststatus],
            'before' => $earlier,
            'started' => (int)$row->laststarttime,
            'ended' => (int)$row->lastendtime,
            'next' => (int)$row->nextstarttime,
        ];
    }
    return $result;
}
