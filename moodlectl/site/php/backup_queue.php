<?php
// A backup that is left to the site's cron: Moodle's own asynchronous backup, and what has become of one.

/**
 * Queue one backup of {course_id} with the {settings} and {items} asked for, as the web pages do where asynchronous
 * backups are switched on: Moodle's cron makes it (lib/classes/task/asynchronous_backup_task.php, 4.1 to 5.1; before
 * that such a backup ignores the site's defaults). Its deed is {deed}; moodlectl_call_deed tells what became of it.
 */
function moodlectl_call_backup_queue(array $params, moodlectl_io $io) {
    global $CFG, $USER, $DB;
    moodlectl_backup_load();
    $course = moodlectl_require_backup($params['course_id']);
    if ((int)$CFG->branch < 401) {
        throw new moodlectl_error('refused', 'no_queue', 'Moodle queues backups by the site\'s own settings from 4.1 on only; '
            . "this is {$CFG->release}.", 'Make it at once, without --queue.');
    }
    $deed = moodlectl_deed_open($params, 'backup', $io);
    $controller = new backup_controller(backup::TYPE_1COURSE, $course->id, backup::FORMAT_MOODLE,
        backup::INTERACTIVE_YES, backup::MODE_ASYNC, $USER->id);
    $id = $controller->get_backupid();
    try {
        $settings = isset($params['settings']) ? $params['settings'] : [];
        moodlectl_plan_apply($controller, moodlectl_backup_wanted($controller->get_plan(), $settings, $params));
        moodlectl_backup_room($controller, $course);
        $area = moodlectl_backup_area($controller, $course);
        $filename = moodlectl_backup_queued_name($controller, $course, $area);
        $used = moodlectl_backup_used($controller->get_plan());
        $controller->finish_ui();
        $deed->phase('queued', ['course' => (int)$course->id, 'ids' => [$id], 'area' => $area, 'filename' => $filename,
            'settings' => $used, 'queued' => true]);
        $io->begun(['course' => (int)$course->id]);
        $task = new \core\task\asynchronous_backup_task();
        $task->set_custom_data(['backupid' => $id]);
        $task->set_userid($USER->id);
        \core\task\manager::queue_adhoc_task($task);
    } catch (Throwable $problem) {
        $DB->delete_records('backup_controllers', ['backupid' => $id]);
        $DB->delete_records('backup_logs', ['backupid' => $id]);
        $deed->failed($problem);
        throw $problem;
    } finally {
        $controller->destroy();
        @unlink(make_backup_temp_directory('') . "/$id.log");
    }
    return ['area' => $area[1] === 'user' ? 'private' : 'course', 'filename' => $filename,
        'cron' => (int)get_config('tool_task', 'lastcronstart') ?: null];
}

/**
 * A name that no other backup gets until cron comes to this one: Moodle would overwrite one of the same name, and the
 * minute in it is that of now.
 */
function moodlectl_backup_queued_name($controller, $course, array $area) {
    $name = moodlectl_backup_name($controller, $course, $area);
    $name = substr($name, 0, -4) . '-' . hexdec(substr($controller->get_backupid(), 0, 7)) . '.mbz';
    $controller->get_plan()->get_setting('filename')->set_value($name);
    return $name;
}

/** What has become of a queued backup: [whether it still waits or works, the account as it is now]. Reads only. */
function moodlectl_queued_look(array $account) {
    global $DB, $CFG;
    require_once($CFG->dirroot . '/backup/util/includes/backup_includes.php');
    $id = $account['ids'][0];
    // The task is looked for first: it is removed after the status was written.
    $task = $DB->record_exists_select('task_adhoc', $DB->sql_like('classname', '?') . ' AND '
        . $DB->sql_like('customdata', '?'), ['%asynchronous_backup_task', '%' . $DB->sql_like_escape($id) . '%']);
    $row = $DB->get_record('backup_controllers', ['backupid' => $id], 'status, progress, timecreated, timemodified');
    $status = $row ? (int)$row->status : 0;
    if ($status === backup::STATUS_FINISHED_OK) {
        return [false, moodlectl_queued_made($account, $row)];
    }
    if ($task && $status && $status < backup::STATUS_FINISHED_ERR) {
        return [true, ['progress' => (int)round(1000 * $row->progress),
            'phase' => $status === backup::STATUS_EXECUTING ? 'executing' : 'queued'] + $account];
    }
    $log = $DB->get_fieldset_select('backup_logs', 'message', 'backupid = ?', [$id]);
    $why = $status ? 'The site\'s cron could not make the backup.' : 'The site knows nothing of the queued backup any more.';
    return [false, moodlectl_queued_failed($account, $status ? 'queue_failed' : 'queue_lost', $why, array_slice($log, -25))];
}

function moodlectl_queued_made(array $account, $row) {
    global $DB;
    list($contextid, $component, $filearea) = $account['area'];
    $file = get_file_storage()->get_file($contextid, $component, $filearea, 0, '/', $account['filename']);
    if (!$file) {
        return moodlectl_queued_failed($account, 'not_stored', 'Moodle ended the backup without an error, but no file is '
            . 'there.', []);
    }
    $course = $DB->get_record('course', ['id' => $account['course']], '*', MUST_EXIST);
    return ['phase' => 'done', 'result' => ['file' => moodlectl_stored_record($file, $course),
        'settings' => (object)$account['settings'], 'warnings' => [],
        'seconds' => max(0, (int)$row->timemodified - (int)$row->timecreated)]] + $account;
}

function moodlectl_queued_failed(array $account, $code, $message, array $log) {
    return ['phase' => 'failed', 'error' => ['class' => 'failed', 'code' => $code, 'message' => $message,
        'hint' => 'Look at the log of the task on the site: Site administration > Server > Tasks > Task logs.',
        'details' => (object)($log ? ['log' => $log] : [])]] + $account;
}
