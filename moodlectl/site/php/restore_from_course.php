<?php
// A restore whose source is a course of this very site: backed up into the private directory of the restore, never
// zipped and never stored, and restored from there. Copies and imports.

/**
 * Backs up the course {course_id} for this restore alone, by the rules of `copy` (an ordinary backup) or `import`
 * (backup/import.php, all releases: rights of its own, no people), and leaves it unpacked in $job->base. Contents of
 * files stay in the site's pool, where the restore finds them. Nothing lasting is made.
 *
 * Moodle itself makes a backup and its restore in one process (course/externallib.php duplicate_course, import_course).
 */
function moodlectl_restore_from_course(moodlectl_restore_job $job, array $source) {
    global $CFG;
    moodlectl_backup_load();
    $course = moodlectl_restore_source_course($job, $source);
    $usual = isset($CFG->backuptempdir) ? $CFG->backuptempdir : null;
    $CFG->backuptempdir = $job->archivedir;
    try {
        moodlectl_database_begin('restore', $course->id);
        $controller = new backup_controller(backup::TYPE_1COURSE, $course->id, backup::FORMAT_MOODLE,
            backup::INTERACTIVE_YES, $job->import ? backup::MODE_IMPORT : backup::MODE_GENERAL, $job->userid);
        $job->restoreids[] = $controller->get_backupid();
        $job->deed->note(['ids' => $job->restoreids]);
        moodlectl_restore_back_up($job, $source, $controller, $course);
        $made = $job->archivedir . '/' . $controller->get_backupid();
        $controller->destroy();
    } finally {
        $CFG->backuptempdir = $usual;
    }
    if (!is_file($made . '/moodle_backup.xml') || !rmdir($job->base) || !rename($made, $job->base)) {
        throw new moodlectl_error('failed', 'backup_failed', 'Moodle ended the backup of the course without an error, but '
            . 'left nothing that could be restored.', 'Nothing was changed. The site\'s log may say why.');
    }
}

/** The course that is the source, which the acting user may back up or import from. */
function moodlectl_restore_source_course(moodlectl_restore_job $job, array $source) {
    $id = (int)$source['course_id'];
    if ($job->course && (int)$job->course->id === $id) {
        throw new moodlectl_error('usage', 'same_course', 'A course cannot be imported into itself.',
            'Name two courses. To have it twice: moodlectl copy COURSE --new CATEGORY --shortname T');
    }
    if (!$job->import) {
        return moodlectl_require_backup($id);
    }
    $course = moodlectl_visible_course($id);
    $context = context_course::instance($id);
    moodlectl_require_capability('moodle/backup:backuptargetimport', $context, "import from the course {$course->shortname}");
    moodlectl_backup_context($context);
    return $course;
}

/** Carries out the backup with the settings and items asked for. */
function moodlectl_restore_back_up(moodlectl_restore_job $job, array $source, backup_controller $controller, $course) {
    $plan = $controller->get_plan();
    $job->backupsettings = [];
    foreach ($plan->get_settings() as $name => $setting) {
        if (moodlectl_setting_level($setting) === 'root') {
            $job->backupsettings[] = $name;
        }
    }
    $settings = isset($source['settings']) ? (array)$source['settings'] : [];
    // The pool has them all: a copy of each in the temporary directory would be for nothing.
    if ($plan->setting_exists('files') && $plan->get_setting('files')->get_status() == base_setting::NOT_LOCKED) {
        $settings['files'] = false;
    }
    moodlectl_plan_apply($controller, moodlectl_backup_wanted($plan, $settings, $source));
    moodlectl_backup_room($controller, $course);
    $controller->set_progress(moodlectl_backup_progress($job->io));
    moodlectl_backup_fast_reads(moodlectl_backup_used($plan));
    try {
        $controller->finish_ui();
        if (!$job->import) {
            moodlectl_restore_leave_unpacked($plan);
        }
        moodlectl_spent::lap('prepare the backup');
        moodlectl_steps_of_backup($plan);
        $controller->execute_plan();
        moodlectl_spent::lap('backup by Moodle');
    } catch (moodlectl_error $e) {
        throw $e;
    } catch (Exception $e) {
        throw new moodlectl_error('failed', isset($e->errorcode) ? $e->errorcode : get_class($e),
            "The course {$course->shortname} could not be backed up: " . rtrim($e->getMessage(), '.') . '. Nothing was changed.',
            'Disk space, file permissions and the site\'s log are the first places to look.',
            ['exception' => get_class($e), 'at' => basename($e->getFile()) . ':' . $e->getLine()]);
    }
}

/**
 * Has an ordinary backup's last task neither zip nor store, and leave its directory, as an import's does
 * (backup/moodle2/backup_final_task.class.php build, 3.9 to 5.1; tasks are built when the plan is executed).
 */
function moodlectl_restore_leave_unpacked($plan) {
    if (!class_exists('moodlectl_unpacked_final_task', false)) {
        /** The last task of a backup that is not kept. */
        class moodlectl_unpacked_final_task extends backup_final_task {
            public function build() {
                parent::build();
                foreach ($this->steps as $key => $step) {
                    if ($step instanceof backup_zip_contents || $step instanceof backup_store_backup_file) {
                        unset($this->steps[$key]);
                    } else if ($step instanceof drop_and_clean_temp_stuff) {
                        $step->skip_cleaning_temp_dir(true);
                    }
                }
            }
        }
    }
    $change = function() {
        foreach ($this->tasks as $key => $task) {
            if ($task instanceof backup_final_task) {
                unset($this->tasks[$key]);
                new moodlectl_unpacked_final_task($task->get_name(), $this); // It adds itself at the end, where it belongs.
            }
        }
    };
    Closure::bind($change, $plan, 'base_plan')();
}
