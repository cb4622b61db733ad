<?php
// Making one backup: which items take part, room for it, the run, what is left when it fails.

/**
 * Make one backup of {course_id} with the {settings} (by name) and {items} (port.ItemChoice) asked for, as the web
 * form would, and store it where Moodle stores such backups. A deed: one PHP process for it alone.
 */
function moodlectl_call_backup(array $params, moodlectl_io $io) {
    global $CFG;
    moodlectl_backup_load();
    $course = moodlectl_require_backup($params['course_id']);
    $deed = moodlectl_deed_open($params, 'backup', $io);
    moodlectl_end_on_signals();
    $usual = $CFG->backuptempdir;
    try {
        return moodlectl_backup_make($params, $io, $deed, $course, moodlectl_backup_is_small($params));
    } catch (moodlectl_memory_full $full) {
        $CFG->backuptempdir = $usual;
        return moodlectl_backup_make($params, $io, $deed, $course, false);
    }
}

/** Whether a backup has nothing in it that may be large: neither files nor logs nor histories. */
function moodlectl_backup_is_small(array $params) {
    global $CFG;
    $settings = isset($params['settings']) ? $params['settings'] : [];
    return isset($settings['files']) && !$settings['files'] && empty($settings['logs']) && empty($settings['grade_histories'])
        && empty($CFG->keeptempdirectoriesonbackup) && !moodlectl_spent::$plain;
}

/** The backup itself, its little files in memory where it is small and the host can. */
function moodlectl_backup_make(array $params, moodlectl_io $io, moodlectl_deed $deed, $course, $small) {
    global $USER;
    $started = microtime(true);
    $settings = isset($params['settings']) ? $params['settings'] : [];
    $temp = ($small ? moodlectl_backup_memory($deed) : null) ?: moodlectl_backup_temp($course);
    $deed->note(['directories' => [basename($temp)]]);
    moodlectl_database_begin('backup', $course->id);
    $controller = new backup_controller(backup::TYPE_1COURSE, $course->id, backup::FORMAT_MOODLE,
        backup::INTERACTIVE_YES, backup::MODE_GENERAL, $USER->id);
    $run = moodlectl_backup_run_state($controller, $temp);
    register_shutdown_function('moodlectl_backup_take_back', $run);
    try {
        moodlectl_plan_apply($controller, moodlectl_backup_wanted($controller->get_plan(), $settings, $params));
        moodlectl_backup_room($controller, $course);
        $run->area = moodlectl_backup_area($controller, $course);
        $run->filename = moodlectl_backup_name($controller, $course, $run->area);
        $controller->set_progress(moodlectl_backup_progress($io));
        $used = moodlectl_backup_used($controller->get_plan());
        moodlectl_backup_fast_reads($used);
        // The IMSCC converter looks for its sheets below the current directory (backup/cc/includes/constants.php).
        chdir($GLOBALS['CFG']->dirroot . '/backup');
        $deed->phase('begun', ['course' => (int)$course->id, 'ids' => [$run->backupid],
            'area' => $run->area, 'filename' => $run->filename]);
        moodlectl_backup_progress::$deed = $deed;
        $io->begun(['course' => (int)$course->id]);
        $run->begun = true;
        moodlectl_backup_watch_copies($run);
        moodlectl_spent::lap('prepare the backup');
        moodlectl_session_writes();
        $controller->finish_ui();
        moodlectl_steps_of_backup($controller->get_plan());
        $controller->execute_plan();
        moodlectl_spent::lap('backup by Moodle');
        restore_error_handler();
        $results = $controller->get_results();
        if ($io->client_gone()) {
            throw new moodlectl_error('failed', 'client_gone', 'Whoever asked for the backup has gone away.');
        }
        moodlectl_session_settle();
        $file = moodlectl_backup_check_stored($results, $course);
        moodlectl_spent::lap('check what was stored');
        $warnings = moodlectl_backup_warnings($results, $run, $course);
    } catch (Throwable $problem) {
        moodlectl_backup_take_back($run);
        if ($problem instanceof moodlectl_memory_full) {
            backup_controller_dbops::drop_backup_ids_temp_table($run->backupid);
            $GLOBALS['moodlectl_backup_name_lock']->release();
            throw $problem;
        }
        $problem = moodlectl_backup_failed($problem, $run);
        $deed->failed($problem);
        throw $problem;
    }
    $run->done = true;
    $result = [
        'file' => moodlectl_stored_record($file, $course),
        'settings' => (object)$used,
        'warnings' => $warnings,
        'seconds' => round(microtime(true) - $started, 3),
    ];
    $deed->phase('done', ['result' => $result]);
    $controller->destroy();
    if (empty($GLOBALS['CFG']->keeptempdirectoriesonbackup)) {
        fulldelete($temp);
    }
    return $result;
}

/**
 * A directory of this deed alone inside Moodle's own for backups, so that all it leaves can be removed, whatever the
 * names (an IMSCC export makes a second one). Moodle's clean-up after a week finds it there if PHP itself is killed
 * (lib/setuplib.php make_backup_temp_directory; backup_helper::delete_old_backup_dirs).
 */
function moodlectl_backup_temp($course) {
    global $CFG;
    $temp = make_backup_temp_directory('moodlectl-' . $course->id . '-' . random_string(20));
    $CFG->backuptempdir = $temp;
    return $temp;
}

/** The same in memory, where the host has room for far more than such a backup takes; null where it has not. */
function moodlectl_backup_memory(moodlectl_deed $deed) {
    global $CFG;
    $temp = moodlectl_memory_directory(moodlectl_memory_watch::MOST / 2);
    if ($temp === null) {
        return null;
    }
    $deed->note(['memory' => $temp]); // Before it is made: a kill in between is cleared up, too.
    if (!@mkdir($temp, 0700)) {
        return null;
    }
    moodlectl_memory_watch::begin($temp);
    $CFG->backuptempdir = $temp;
    return $temp;
}

/**
 * What must be known about a run to take it back: its names in the temporary directory, and where the file goes.
 */
function moodlectl_backup_run_state($controller, $temp) {
    $run = new stdClass();
    $run->controller = $controller;
    $run->backupid = $controller->get_backupid();
    $run->temp = $temp;
    $run->log = $controller->get_plan()->get_basepath() . '.log';
    $run->area = null;
    $run->filename = null;
    $run->missing = [];
    $run->begun = false;
    $run->done = false;
    return $run;
}

/**
 * Note files whose content is missing on the site: Moodle's copy of them fails with nothing but a PHP warning, and the
 * backup ends as if it were whole (lib/filestorage/file_system_filedir.php copy_content_from_storedfile, 3.9 to 5.1).
 */
function moodlectl_backup_watch_copies($run) {
    $previous = null;
    $previous = set_error_handler(function($level, $message, $file, $line) use ($run, &$previous) {
        if (preg_match('~^copy\(.*/([0-9a-f]{40})\): ~i', $message, $match)) {
            $run->missing[$match[1]] = true;
        }
        return $previous ? call_user_func($previous, $level, $message, $file, $line) : false;
    });
}

/**
 * Take back what a backup that did not come to its end has made: temporary files, log, rows, a file already stored.
 */
function moodlectl_backup_take_back($run) {
    global $DB;
    if ($run->done) {
        return;
    }
    $run->done = true;
    $run->evidence = is_readable($run->log) ? array_slice(file($run->log, FILE_IGNORE_NEW_LINES) ?: [], -25) : [];
    try {
        $run->controller->destroy();
    } catch (Throwable $ignored) {
        unset($ignored);
    }
    if (is_dir($run->temp)) {
        fulldelete($run->temp);
    }
    try {
        if ($DB->is_transaction_started()) {
            $DB->force_transaction_rollback();
        }
        if ($run->begun && $run->filename !== null) {
            list($contextid, $component, $filearea) = $run->area;
            $file = get_file_storage()->get_file($contextid, $component, $filearea, 0, '/', $run->filename);
            if ($file) {
                $file->delete();
            }
        }
        $DB->delete_records('backup_controllers', ['backupid' => $run->backupid]);
        $DB->delete_records('backup_logs', ['backupid' => $run->backupid]);
    } catch (Throwable $problem) {
        $run->evidence[] = 'Cleaning up: ' . $problem->getMessage();
    }
}

/**
 * The failure in the client's words, with the end of Moodle's own log as evidence.
 */
function moodlectl_backup_failed($problem, $run) {
    if ($problem instanceof moodlectl_error) {
        return $problem;
    }
    $code = isset($problem->errorcode) ? $problem->errorcode : get_class($problem);
    $details = ['exception' => get_class($problem), 'where' => basename($problem->getFile()) . ':' . $problem->getLine()];
    if (!empty($run->evidence)) {
        $details['log'] = $run->evidence;
    }
    if (!empty($problem->debuginfo)) {
        $details['debuginfo'] = substr((string)$problem->debuginfo, 0, 2000);
    }
    return new moodlectl_error('failed', $code, 'The backup failed: ' . $problem->getMessage(),
        'Nothing of it was kept. Disk space, file permissions and the site\'s log are the first places to look.', $details);
}

/**
 * Progress of Moodle's own plan, told to the client; ends the run when the client has gone
 * (lib/classes/progress/base.php, all releases). The line to the client is static, so it is not saved with the
 * controller.
 */
function moodlectl_backup_progress(moodlectl_io $io) {
    if (!class_exists('moodlectl_backup_progress', false)) {
        class moodlectl_backup_progress extends \core\progress\base {
            public static $io;
            public static $phase = 'backup';
            /** @var moodlectl_deed|null */
            public static $deed = null;

            protected function get_time() {
                return (int)(microtime(true) * 5);
            }

            public function start_progress($description, $max = self::INDETERMINATE, $parentcount = 1) {
                moodlectl_steps::look();
                parent::start_progress($description, $max, $parentcount);
            }

            public function update_progress() {
                if (self::$io->client_gone()) {
                    throw new moodlectl_error('failed', 'client_gone', 'Whoever asked for this has gone away.');
                }
                moodlectl_memory_watch::look();
                $range = $this->get_progress_proportion_range();
                if (self::$deed) {
                    self::$deed->step('executing', round(1000 * $range[0]));
                }
                self::$io->progress(self::$phase, round(1000 * $range[0]), 1000, 'steps',
                    $this->is_in_progress_section() ? (string)$this->get_current_description() : '');
            }
        }
    }
    moodlectl_backup_progress::$io = $io;
    return new moodlectl_backup_progress();
}

/**
 * A terminated deed cleans up: signals become exceptions where PHP can do that.
 */
function moodlectl_end_on_signals() {
    if (!function_exists('pcntl_async_signals')) {
        return;
    }
    pcntl_async_signals(true);
    foreach ([SIGTERM, SIGINT, SIGHUP] as $signal) {
        pcntl_signal($signal, function($signal) {
            throw new moodlectl_error('failed', 'terminated', "Ended by signal $signal.");
        });
    }
}

/**
 * Refuse where there is no room: the files once in the temporary directory, the archive beside them, and the archive
 * again in Moodle's file pool (backup/moodle2/backup_final_task.class.php: copy, zip, store).
 */
function moodlectl_backup_room($controller, $course) {
    global $CFG;
    $plan = $controller->get_plan();
    $bytes = 0;
    if (!$plan->setting_exists('files') || $plan->get_setting('files')->get_value()) {
        $bytes = moodlectl_backup_bytes($plan, context_course::instance($course->id));
    }
    $temp = make_backup_temp_directory('');
    $pool = isset($CFG->filedir) ? $CFG->filedir : $CFG->dataroot;
    $small = 16 * 1024 * 1024;
    $tempstat = @stat($temp);
    $poolstat = @stat($pool);
    $same = $tempstat && $poolstat && $tempstat['dev'] === $poolstat['dev'];
    $needs = [$temp => ($same ? 3 : 2) * $bytes + $small];
    if (!$same) {
        $needs[$pool] = $bytes + $small;
    }
    foreach ($needs as $path => $need) {
        $free = @disk_free_space($path);
        if ($free !== false && $free < $need) {
            throw new moodlectl_error('refused', 'no_space',
                'There is not enough room on the site for this backup: ' . display_size((int)$need)
                . ' may be needed in ' . $path . ', ' . display_size((int)$free) . ' are free.',
                'Free some space there, or leave files out of the backup (--without files).',
                ['path' => $path, 'free' => (int)$free, 'needed' => (int)$need, 'file_bytes' => $bytes]);
        }
    }
}

/**
 * Bytes of the files a backup takes along at most: each content once, without those of activities left out and,
 * without users, without what users handed in.
 */
function moodlectl_backup_bytes($plan, context $context) {
    global $DB;
    list($below, $values) = moodlectl_below_sql($context);
    $extra = '';
    if (!$plan->get_setting('users')->get_value()) {
        $extra .= " AND f.component NOT IN ('assignsubmission_file', 'assignsubmission_onlinetext', 'assignfeedback_file',
            'assignfeedback_comments', 'assignfeedback_editpdf', 'mod_forum', 'mod_workshop', 'mod_data', 'question')";
    }
    list(, $activities) = moodlectl_backup_plan_items($plan);
    $out = [];
    foreach ($activities as $id => $activity) {
        if (!$plan->get_setting($activity['name'] . 'included')->get_value()) {
            $out[] = (int)$id;
        }
    }
    if ($out) {
        list($not, $outvalues) = $DB->get_in_or_equal($out, SQL_PARAMS_QM, 'param', false);
        $extra .= " AND (ctx.contextlevel <> " . CONTEXT_MODULE . " OR ctx.instanceid $not)";
        $values = array_merge($values, $outvalues);
    }
    return (int)$DB->get_field_sql("SELECT COALESCE(SUM(x.filesize), 0) FROM (
        SELECT DISTINCT f.contenthash, f.filesize FROM {files} f JOIN {context} ctx ON ctx.id = f.contextid
        WHERE $below AND f.filename <> '.' AND f.component NOT IN ('backup', 'tool_recyclebin') $extra) x", $values);
}

/**
 * Where Moodle will store the file: context, component, area
 * (backup/util/helper/backup_helper.class.php store_backup_file; backup/converter/imscc11/backuplib.php).
 */
function moodlectl_backup_area($controller, $course) {
    global $USER;
    $plan = $controller->get_plan();
    $private = !$plan->get_setting('users')->get_value() || $plan->get_setting('anonymize')->get_value()
        || moodlectl_backup_converter($plan) !== null;
    if ($private) {
        return [context_user::instance($USER->id)->id, 'user', 'backup'];
    }
    return [context_course::instance($course->id)->id, 'backup', 'course'];
}

/**
 * The export format that is switched on, such as imscc11, or null.
 */
function moodlectl_backup_converter($plan) {
    global $CFG;
    require_once($CFG->dirroot . '/backup/util/helper/convert_helper.class.php');
    foreach (convert_helper::available_converters(false) as $name) {
        if ($plan->setting_exists($name) && $plan->get_setting($name)->get_value()) {
            return $name;
        }
    }
    return null;
}

/**
 * Name the file as Moodle's web pages do, in the acting user's language, but never as one that is there already:
 * Moodle would overwrite it. Returns the name it will be stored under
 * (backup/util/dbops/backup_plan_dbops.class.php get_default_backup_filename).
 */
function moodlectl_backup_name($controller, $course, array $area) {
    $plan = $controller->get_plan();
    $files = !$plan->setting_exists('files') || $plan->get_setting('files')->get_value();
    $named = function($idonly) use ($controller, $course, $plan, $files) {
        $name = backup_plan_dbops::get_default_backup_filename($controller->get_format(), $controller->get_type(),
            $course->id, (bool)$plan->get_setting('users')->get_value(),
            (bool)$plan->get_setting('anonymize')->get_value(), $idonly, (bool)$files);
        return substr($name, 0, -4);
    };
    $language = force_current_language('');
    try {
        $stem = moodlectl_backup_short_name($named(false), $named(true));
    } finally {
        force_current_language($language);
    }
    $extension = moodlectl_backup_converter($plan) === null ? '.mbz' : '.imscc';
    // Two backups of the same minute must not both find the name free: it is reserved until this process ends.
    $factory = \core\lock\lock_config::get_lock_factory('moodlectl_backup');
    for ($n = 1; ; $n++) {
        $stored = $n === 1 ? $stem : $stem . '-' . $n;
        $lock = $factory->get_lock(sha1(implode('/', $area) . '/' . $stored), 0);
        if ($lock && !get_file_storage()->file_exists($area[0], $area[1], $area[2], 0, '/', $stored . $extension)) {
            $GLOBALS['moodlectl_backup_name_lock'] = $lock;
            break;
        }
        if ($lock) {
            $lock->release();
        }
    }
    $plan->get_setting('filename')->set_value($stored . '.mbz');
    return $stored . $extension;
}

/**
 * A name that fits into Moodle's table of files (255 characters) with its ending and a number: of a very long short
 * name the end is left out, which ``$idonly``, the same name without it, tells from the date after it.
 */
function moodlectl_backup_short_name($stem, $idonly) {
    if (core_text::strlen($stem) <= 230) {
        return $stem;
    }
    for ($tail = 0; $tail < strlen($idonly) && substr($stem, -$tail - 1) === substr($idonly, -$tail - 1); $tail++);
    $ending = substr($stem, strlen($stem) - $tail);
    return core_text::substr($stem, 0, 230 - core_text::strlen($ending)) . $ending;
}

/**
 * The root settings a backup is made with.
 */
function moodlectl_backup_used($plan) {
    $used = [];
    foreach ($plan->get_settings() as $name => $setting) {
        if ($name !== 'filename' && moodlectl_setting_level($setting) === 'root') {
            $used[$name] = moodlectl_setting_value($setting);
        }
    }
    return $used;
}

/**
 * The database session of a backup. Logs and histories can be too large to be held in memory.
 */
function moodlectl_backup_fast_reads(array $used) {
    if (empty($used['logs']) && empty($used['grade_histories'])) {
        moodlectl_session_reads();
    }
}

/**
 * The stored file, looked up anew and read through: it is there, is not empty, and is what its hash says.
 */
function moodlectl_backup_check_stored(array $results, $course) {
    $file = isset($results['backup_destination']) ? $results['backup_destination'] : null;
    $file = $file ? get_file_storage()->get_file_by_id($file->get_id()) : null;
    if (!$file || $file->get_filesize() == 0) {
        throw new moodlectl_error('failed', 'not_stored', 'Moodle ended the backup without an error, but stored no file.');
    }
    $hash = hash_init('sha1');
    $handle = $file->get_content_file_handle();
    hash_update_stream($hash, $handle);
    fclose($handle);
    if (hash_final($hash) !== $file->get_contenthash()) {
        throw new moodlectl_error('failed', 'stored_damaged', 'The stored backup is not what Moodle wrote: its content '
            . 'does not have the hash it is filed under.', 'Look at the disk under $CFG->dataroot.');
    }
    return $file;
}

/**
 * Moodle's warnings, word for word: those of the web page (backup/util/ui/backup_ui_stage.class.php, stage complete)
 * and those of the run's own log (backup/util/loggers/file_logger.class.php); and the files that were missing.
 */
function moodlectl_backup_warnings(array $results, $run, $course) {
    $warnings = [];
    $log = $run->log;
    if (!empty($results['include_file_references_to_external_content'])) {
        $warnings[] = get_string('filereferencesincluded', 'backup');
    }
    if (!empty($results['missing_files_in_pool']) || $run->missing) {
        $warnings[] = get_string('missingfilesinpool', 'backup');
    }
    $handle = is_readable($log) ? fopen($log, 'r') : false;
    while ($handle && ($line = fgets($handle)) !== false && count($warnings) < 200) {
        if (preg_match('/^\[[^\]]*\] \[(warn|error)\]\s+(.*)$/', rtrim($line), $match)) {
            $warnings[] = $match[2];
        }
    }
    if ($handle) {
        fclose($handle);
    }
    return array_values(array_unique(array_merge($warnings, moodlectl_backup_missing($run, $course))));
}

/**
 * One sentence for each file of the course whose content is missing on the site, at most fifty.
 */
function moodlectl_backup_missing($run, $course) {
    global $DB;
    if (!$run->missing) {
        return [];
    }
    list($in, $hashes) = $DB->get_in_or_equal(array_slice(array_keys($run->missing), 0, 1000));
    list($below, $values) = moodlectl_below_sql(context_course::instance($course->id));
    $files = $DB->get_records_sql("SELECT f.id, f.filename, f.component, f.filearea FROM {files} f
        JOIN {context} ctx ON ctx.id = f.contextid WHERE f.contenthash $in AND $below ORDER BY f.id",
        array_merge($hashes, $values), 0, 50);
    $sentences = [];
    foreach ($files as $file) {
        $sentences[] = "The content of {$file->filename} ({$file->component}, {$file->filearea}) is missing on the site, "
            . 'and so in the backup.';
    }
    return $sentences;
}
