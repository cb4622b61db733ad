<?php
// Backups already lying in RICH101: one in the course's own area, one in the automated area. Run by
// tests/live/rig.py with $arguments['mode'] ('course' or 'automated'): one PHP process makes one backup.
// Rests on backup/controller/backup_controller.class.php and backup/util/helper/backup_cron_helper.class.php.

require_once($CFG->dirroot . '/backup/util/includes/backup_includes.php');
require_once($CFG->dirroot . '/backup/util/helper/backup_cron_helper.class.php');

$course = $DB->get_record('course', ['shortname' => 'RICH101'], '*', MUST_EXIST);
$admin = get_admin();
ob_start();
if ($arguments['mode'] === 'automated') {
    // The helper decides by itself where the file goes: backup_auto_storage 0 is the course's automated area.
    backup_cron_automated_helper::launch_automated_backup($course, time(), $admin->id);
} else {
    $controller = new backup_controller(backup::TYPE_1COURSE, $course->id, backup::FORMAT_MOODLE,
        backup::INTERACTIVE_NO, backup::MODE_GENERAL, $admin->id);
    $controller->get_plan()->get_setting('filename')->set_value('rig-course-backup.mbz');
    $controller->execute_plan();
    $controller->destroy();
}
ob_end_clean();
$files = get_file_storage()->get_area_files(context_course::instance($course->id)->id, 'backup', $arguments['mode'],
    0, 'id', false);
echo 'RIG:' . json_encode(["{$arguments['mode']}_backups" => array_map(
    fn($file) => ['filename' => $file->get_filename(), 'size' => (int)$file->get_filesize(),
        'sha1' => $file->get_contenthash()], array_values($files))]);
