<?php
// The controller of a restore: made, prechecked, carried out, and what is left of it removed.

/** Classes that extend Moodle's can be declared only when Moodle is there. */
function moodlectl_restore_classes() {
    if (class_exists('moodlectl_restore_progress', false)) {
        return;
    }
    /** Moodle's progress as events; a new course is given up when nobody waits for it any more. */
    class moodlectl_restore_progress extends \core\progress\base {
        /** @var moodlectl_restore_job */
        private $job;
        /** @var float */
        private $asked = 0.0;

        public function __construct(moodlectl_restore_job $job) {
            $this->job = $job;
        }

        public function start_progress($description, $max = self::INDETERMINATE, $parentcount = 1) {
            moodlectl_steps::look();
            parent::start_progress($description, $max, $parentcount);
        }

        protected function update_progress() {
            list($done) = $this->get_progress_proportion_range();
            $phase = $this->job->state === 'executing' ? 'restore' : 'check';
            if ($phase === 'restore') {
                $this->job->deed->step('executing', round($done * 1000));
            }
            // Moodle names its steps for itself, not for people.
            $this->job->io->progress($phase, round($done * 1000), 1000, 'steps', '');
            if ($this->job->mode === 'new' && microtime(true) - $this->asked > 0.5) {
                $this->asked = microtime(true);
                $this->job->checkpoint();
            }
        }
    }
    /** The packer's progress. */
    class moodlectl_restore_unpacking implements file_progress {
        /** @var moodlectl_restore_job */
        private $job;

        public function __construct(moodlectl_restore_job $job) {
            $this->job = $job;
        }

        public function progress($progress = self::INDETERMINATE, $max = self::INDETERMINATE) {
            if ($progress !== self::INDETERMINATE) {
                $this->job->io->progress('unpack', $progress, $max === self::INDETERMINATE ? null : $max);
            }
        }
    }
    /** A door to Moodle's protected rules for people (restore_dbops::precheck_user, 3.9 to 5.1). */
    abstract class moodlectl_restore_people extends restore_dbops {
        public static function look($user, $samesite, $hash) {
            return self::precheck_user($user, $samesite, $hash);
        }
    }
}

/** Makes a controller and keeps account of it. INTERACTIVE_YES: nothing is saved before finish_ui. */
function moodlectl_restore_controller(moodlectl_restore_job $job, $courseid, $userid) {
    $targets = ['new' => backup::TARGET_NEW_COURSE, 'merge' => backup::TARGET_EXISTING_ADDING,
        'replace' => backup::TARGET_EXISTING_DELETING];
    $job->controller = new restore_controller($job->tempdir, $courseid, backup::INTERACTIVE_YES,
        $job->import ? backup::MODE_IMPORT : backup::MODE_GENERAL, $userid, $targets[$job->mode],
        new moodlectl_restore_progress($job));
    $job->restoreids[] = $job->controller->get_restoreid();
    $job->deed->note(['ids' => $job->restoreids]);
    return $job->controller;
}

/**
 * Opens the backup with the settings asked for. A new course does not exist yet: its plan is then made against the
 * front page by an administrator, which writes nothing, and the acting user's permissions are applied to it as they
 * are in the category (backup/controller/restore_controller.class.php, restore_check.class.php, 3.9 to 5.1). So is the
 * plan for somebody who may not restore at all, to tell what else stands against it.
 */
function moodlectl_restore_open(moodlectl_restore_job $job) {
    moodlectl_restore_close($job);
    if ($job->mode === 'new' || moodlectl_restore_lacks($job)) {
        $course = $job->mode === 'new' ? SITEID : $job->course->id;
        $controller = moodlectl_restore_controller($job, $course, get_admin()->id);
        moodlectl_restore_lock_as($job, $controller->get_plan());
    } else {
        $controller = moodlectl_restore_controller($job, $job->course->id, $job->userid);
    }
    moodlectl_restore_configure($job, $controller);
}

/** What restore_check::check_security will lock for the acting user in a new course of the category. */
function moodlectl_restore_lock_as(moodlectl_restore_job $job, $plan) {
    $may = function($capability) use ($job) {
        return has_capability($capability, $job->context, $job->userid);
    };
    $lock = function($name, $value) use ($plan) {
        if ($plan->setting_exists($name)) {
            $setting = $plan->get_setting($name);
            $setting->set_status(base_setting::NOT_LOCKED);
            $setting->set_value($value);
            $setting->set_status(base_setting::LOCKED_BY_PERMISSION);
        }
    };
    if (!$may('moodle/restore:userinfo') && $plan->get_setting('users')->get_value()) {
        $lock('users', false);
    }
    if (!$may('moodle/restore:configure')) {
        foreach ($plan->get_settings() as $setting) {
            $setting->set_status(base_setting::LOCKED_BY_PERMISSION);
        }
    }
    foreach (['restore:rolldates' => 'course_startdate', 'course:changefullname' => 'course_fullname',
            'course:changeshortname' => 'course_shortname', 'course:update' => 'overwrite_conf'] as $capability => $name) {
        if (!$may('moodle/' . $capability)) {
            $lock($name, false);
        }
    }
    if (!$may('moodle/course:enrolconfig')) {
        $lock('enrolments', backup::ENROL_NEVER);
    }
}

/** Destroys the controller and everything Moodle keeps of it, except the record of a restore that was carried out. */
function moodlectl_restore_close(moodlectl_restore_job $job) {
    global $DB;
    if ($job->controller) {
        $controller = $job->controller;
        $job->controller = null;
        $controller->destroy();
    }
    if (!$job->restoreids) {
        return;
    }
    // A failed restore leaves its temporary tables behind in this database session.
    moodlectl_restore_quietly($job, 'temporary tables', function() use ($DB) {
        foreach (['backup_ids_temp', 'backup_files_temp'] as $table) {
            if ($DB->get_manager()->table_exists($table)) {
                $DB->get_manager()->drop_table(new xmldb_table($table));
            }
        }
        restore_dbops::reset_backup_ids_cached();
    });
    if ($job->state !== 'done') {
        list($in, $values) = $DB->get_in_or_equal($job->restoreids);
        $DB->delete_records_select('backup_controllers', "backupid $in", $values);
        $DB->delete_records_select('backup_logs', "backupid $in", $values);
        moodlectl_restore_remove_stray_banks($job);
    }
}

/**
 * From 5.0 on the pre-check itself makes a question bank activity for questions that belonged to a course
 * (restore_dbops::prechek_precheck_qbanks_by_level); a restore that was not carried out must not leave it.
 */
function moodlectl_restore_remove_stray_banks(moodlectl_restore_job $job) {
    global $DB, $CFG;
    if ($job->cmsbefore === null || $job->state !== 'prechecked' || !$job->course || $job->mode === 'new') {
        return;
    }
    foreach ($DB->get_fieldset_select('course_modules', 'id', 'course = ?', [$job->course->id]) as $cmid) {
        if (!in_array($cmid, $job->cmsbefore)) {
            // Not by way of the recycle bin, in this process only.
            $CFG->forced_plugin_settings['tool_recyclebin']['coursebinenable'] = 0;
            course_delete_module($cmid);
        }
    }
}

/** Moodle's own pre-check, word for word: {errors, warnings} (backup/util/helper/restore_prechecks_helper.class.php). */
function moodlectl_restore_precheck(moodlectl_restore_job $job) {
    global $DB;
    $job->cmsbefore = $DB->get_fieldset_select('course_modules', 'id', 'course = ?', [$job->course->id]);
    $job->deed->note(['cms' => $job->mode === 'new' ? null : array_map('intval', $job->cmsbefore)]);
    $controller = $job->controller;
    $job->state = 'prechecked';
    $controller->finish_ui();
    // True drops the temporary tables: the ones of the pre-check know questions that a replace is about to delete.
    $controller->execute_precheck(true);
    $found = $controller->get_precheck_results();
    return ['errors' => isset($found['errors']) ? array_values($found['errors']) : [],
        'warnings' => isset($found['warnings']) ? array_values($found['warnings']) : []];
}

/** What the pre-check will say of a course that does not exist yet, as far as that can be known. */
function moodlectl_restore_foresee(moodlectl_restore_job $job) {
    global $CFG;
    $result = ['errors' => moodlectl_restore_people_words($job), 'warnings' => []];
    if ($CFG->version < $job->info->moodle_version) {
        $result['warnings'][] = get_string('noticenewerbackup', '', (object)['serverversion' => $CFG->version,
            'serverrelease' => $CFG->release, 'backupversion' => $job->info->moodle_version,
            'backuprelease' => $job->info->moodle_release]);
    }
    $users = $job->controller->get_plan()->get_setting('users')->get_value();
    if (!$job->samesite && $users && (int)$job->info->mnet_remoteusers) {
        $may = has_capability('moodle/user:create', context_system::instance(), $job->userid);
        $string = 'mnetrestore_extusers_' . ($may ? 'admin' : 'noadmin');
        $result[$may ? 'warnings' : 'errors'][] = get_string($string, 'admin');
    }
    return $result;
}

/** Whether what Moodle keeps of people, files and questions in its temporary tables fits into memory at once. */
function moodlectl_restore_small(moodlectl_restore_job $job) {
    $bytes = 0;
    foreach (['users.xml', 'files.xml', 'questions.xml'] as $name) {
        $bytes += (int)@filesize($job->base . '/' . $name);
    }
    return $bytes < 64 << 20;
}

/** Does it, and answers as port.Restored. */
function moodlectl_restore_do(moodlectl_restore_job $job) {
    global $DB;
    moodlectl_restore_signals($job);
    $expected = moodlectl_restore_expected($job);
    moodlectl_spent::lap('work out what it will bring');
    moodlectl_session_writes();
    if (moodlectl_restore_small($job)) {
        moodlectl_session_reads();
    }
    try {
        if ($job->mode === 'new') {
            moodlectl_restore_make_course($job);
            $before = null;
        } else {
            $before = moodlectl_count_course($job->course->id);
        }
        $precheck = moodlectl_restore_precheck($job);
        moodlectl_restore_refuse_errors($precheck);
        moodlectl_restore_find_precheck($job, $precheck);
        $job->checkpoint();
        if ($job->mode !== 'new') {
            moodlectl_restore_begin($job);
            moodlectl_restore_part_strays($job->context->id);
        }
        $methods = moodlectl_restore_read_methods($job); // Moodle removes the unpacked backup when it is done with it.
        $job->state = 'executing';
        $job->deed->phase($job->mode === 'replace' ? 'deleting' : 'executing', ['changed' => $job->mode !== 'new']);
        $since = time();
        $lastlog = moodlectl_restore_last_log($job);
        moodlectl_spent::lap('pre-check by Moodle');
        moodlectl_steps_of_restore($job->controller->get_plan());
        $job->controller->execute_plan();
        moodlectl_steps_end();
        moodlectl_spent::lap('restore by Moodle');
        if ($job->controller->get_status() != backup::STATUS_FINISHED_OK) {
            throw new moodlectl_error('failed', 'not_finished', 'Moodle ended the restore without finishing it.');
        }
        $activities = moodlectl_restore_mapping($job);
        $sections = moodlectl_restore_section_mapping($job);
        $settings = moodlectl_restore_settings_used($job);
        moodlectl_restore_place($job, $activities, $sections);
        moodlectl_restore_trim_history($job, $activities, !empty($settings['grade_histories']) ? $since : null);
        moodlectl_restore_trim_logs($job, !empty($settings['logs']) ? $lastlog : null);
        moodlectl_restore_results($job);
        moodlectl_restore_afterwards($job);
        if (moodlectl_restore_names_itself($job)) {
            $settings['course_fullname'] = $DB->get_field('course', 'fullname', ['id' => $job->course->id]);
        }
        moodlectl_restore_order_methods($job, $methods);
        moodlectl_restore_deadlines($job);
        moodlectl_keepsake_return($job);
        moodlectl_restore_put_back($job);
        $job->state = 'done';
        $job->madecourse = 0;
        moodlectl_spent::lap('what Moodle leaves to do');
    } catch (Throwable $e) {
        moodlectl_restore_failed($job, $e);
    }
    $job->course = $DB->get_record('course', ['id' => $job->course->id], '*', MUST_EXIST);
    return [
        'course' => moodlectl_course_record($job->course),
        'mode' => $job->mode,
        'precheck' => $precheck + ['missing_plugins' => $job->missing],
        'users' => moodlectl_restore_people_result($job),
        'expected' => $expected,
        'before' => $before,
        'after' => moodlectl_count_course($job->course->id),
        'activities' => (object)$activities,
        'sections' => (object)$sections,
        'settings' => (object)$settings,
        'backups_kept' => $job->putback,
        'findings' => $job->findings,
        'stayed' => (object)$job->stayed,
        'warnings' => $job->warnings,
    ];
}

/** The last moment at which nothing has happened to a course that is there already. */
function moodlectl_restore_begin(moodlectl_restore_job $job) {
    global $DB;
    if (!$job->deed->phase('begun')) {
        throw new moodlectl_error('refused', 'no_space', 'What is done cannot be written down; the disk is full.',
            'Make room there, or point $CFG->backuptempdir at a larger disk.');
    }
    if ($job->mode === 'replace' && !$job->params['drop_backups']) {
        $token = $job->deed->get('id') ?: random_string(32);
        $job->aside = moodlectl_aside_take($job->course->id, $job->userid, $token, $job->deed);
    }
    if ($job->params['keepsake'] !== null) {
        $job->badgesbefore = $DB->get_fieldset_select('badge', 'id', 'courseid = ?', [$job->course->id]);
    }
    $job->io->begun(['course' => (int)$job->course->id]);
}

/** Puts the course's stored backups back where they were. */
function moodlectl_restore_put_back(moodlectl_restore_job $job) {
    if ($job->aside !== null) {
        $job->putback = moodlectl_aside_return($job->aside);
        $job->aside = null;
        $job->deed->note(['aside' => null]);
    }
}

/** When somebody ends PHP: a new course is given up, a course that is being changed is carried on to the end. */
function moodlectl_restore_signals(moodlectl_restore_job $job) {
    if (!function_exists('pcntl_async_signals') || !function_exists('pcntl_signal')) {
        return;
    }
    pcntl_async_signals(true);
    foreach ([1, 2, 15] as $signal) {
        pcntl_signal($signal, function() use ($job) {
            $job->stop = true;
        });
    }
}

/** Makes the hidden course and the controller for it. */
function moodlectl_restore_make_course(moodlectl_restore_job $job) {
    global $DB;
    moodlectl_restore_close($job);
    list($fullname, $shortname) = restore_dbops::calculate_course_names(0, get_string('restoringcourse', 'backup'),
        get_string('restoringcourseshortname', 'backup'));
    $job->deed->phase('begun', ['shortname' => $shortname, 'category' => (int)$job->category->id]);
    $job->io->begun();
    $job->madecourse = (int)restore_dbops::create_new_course($fullname, $shortname, $job->category->id);
    $job->deed->note(['course' => $job->madecourse]);
    $job->course = $DB->get_record('course', ['id' => $job->madecourse], '*', MUST_EXIST);
    $job->context = context_course::instance($job->madecourse);
    $controller = moodlectl_restore_controller($job, $job->madecourse, $job->userid);
    moodlectl_restore_configure($job, $controller);
}

function moodlectl_restore_refuse_errors(array $precheck) {
    if ($precheck['errors']) {
        throw new moodlectl_error('refused', 'precheck', 'Moodle\'s pre-check found: ' . implode(' ', $precheck['errors']),
            'Nothing was changed. Remove the cause, or leave out the part of the backup it belongs to.', $precheck);
    }
}

/**
 * From 5.0 on a restore that broke off leaves question categories in the course itself, where none belong. The next
 * restore of the same backup takes them for its own and dies of it, after a replace has emptied the course
 * (restore_move_module_questions_categories). A new stamp keeps the two apart and changes nothing else.
 */
function moodlectl_restore_part_strays($contextid) {
    global $DB;
    if (!class_exists('core_question\\local\\bank\\question_bank_helper')) {
        return;
    }
    $strays = $DB->get_records('question_categories', ['contextid' => $contextid], '', 'id, stamp');
    foreach ($strays as $stray) {
        $DB->set_field('question_categories', 'stamp', make_unique_id_code(), ['id' => $stray->id]);
    }
}

/** Course module ids of the backup => the new ones. */
function moodlectl_restore_mapping(moodlectl_restore_job $job) {
    $mapping = [];
    foreach ($job->controller->get_plan()->get_tasks() as $task) {
        if ($task instanceof restore_activity_task && $task->get_moduleid()) {
            $mapping[(int)$task->get_old_moduleid()] = (int)$task->get_moduleid();
        }
    }
    return $mapping;
}

/** Section ids of the backup => those in the course. */
function moodlectl_restore_section_mapping(moodlectl_restore_job $job) {
    $mapping = [];
    foreach ($job->controller->get_plan()->get_tasks() as $task) {
        // The setting's name has the old id; the task itself does not tell it.
        if ($task instanceof restore_section_task && $task->get_sectionid()
                && preg_match('~/section_([0-9]+)$~', $task->get_taskbasepath(), $m)) {
            $mapping[(int)$m[1]] = (int)$task->get_sectionid();
        }
    }
    return $mapping;
}

/** The settings that it was carried out with, also those of sections and activities: [name => value]. */
function moodlectl_restore_settings_used(moodlectl_restore_job $job) {
    $values = [];
    foreach (moodlectl_restore_all_settings($job->controller->get_plan()) as $name => $pair) {
        $value = $pair[0]->get_value();
        $values[$name] = is_scalar($value) ? $value : null;
    }
    return $values;
}

/** Moodle's results in words (restore_plan results, as restore_ui_stage_complete shows them). */
function moodlectl_restore_results(moodlectl_restore_job $job) {
    $results = (array)$job->controller->get_results();
    if (!empty($results['file_missing_in_backup'])) {
        $job->warnings[] = get_string('restorefileweremissing', 'backup');
    }
    if (!empty($results['file_aliases_restore_failures'])) {
        foreach ((array)$results['file_aliases_restore_failures'] as $failure) {
            $job->warnings[] = 'An alias of a file could not be restored: '
                . (is_scalar($failure) ? (string)$failure : json_encode($failure));
        }
    }
}

/**
 * What the plan cannot do: idnumber, visibility, names that Moodle has given a suffix although they were asked for,
 * and names and date of a target whose configuration is otherwise kept (course/lib.php update_course, all releases).
 */
function moodlectl_restore_afterwards(moodlectl_restore_job $job) {
    global $DB;
    $course = $DB->get_record('course', ['id' => $job->course->id], '*', MUST_EXIST);
    $change = (object)['id' => $course->id];
    foreach (['fullname', 'shortname', 'idnumber'] as $name) {
        if ($job->text($name) !== null && $course->$name !== $job->text($name)) {
            $change->$name = $job->text($name);
        }
    }
    if ($job->text('fullname') === null && moodlectl_restore_names_itself($job)) {
        $change->fullname = restore_dbops::calculate_course_names($course->id, $job->info->original_course_fullname,
            $job->text('shortname'))[0];
    }
    if ($job->text('visible') !== null && (bool)$course->visible !== (bool)$job->text('visible')) {
        $change->visible = (int)$job->text('visible');
    }
    if ($job->text('startdate') !== null) {
        $start = moodlectl_restore_startdate($job);
        if ((int)$course->startdate !== $start) {
            $change->startdate = $start;
            if ($course->enddate) {
                $change->enddate = $course->enddate + ($start - $course->startdate);
            }
        }
    }
    if (count((array)$change) > 1) {
        update_course($change);
    }
    rebuild_course_cache($course->id, true);
}

/** The names of the backup's enrolment methods in their order (course/enrolments.xml, all releases). */
function moodlectl_restore_read_methods(moodlectl_restore_job $job) {
    $names = [];
    $file = $job->base . '/course/enrolments.xml';
    $reader = new XMLReader();
    if ($job->mode !== 'replace' || $job->params['keep_enrolments'] || !is_file($file)
            || !$reader->open($file, null, LIBXML_NONET)) {
        return $names;
    }
    while ($reader->read()) {
        // <enrol id="1"><enrol>manual</enrol>…</enrol>: the inner one is the name.
        if ($reader->nodeType === XMLReader::ELEMENT && $reader->name === 'enrol' && !$reader->getAttribute('id')) {
            $names[] = $reader->readString();
        }
    }
    $reader->close();
    return $names;
}

/**
 * Emptying a course leaves switched off methods of enrolment where they are, and the others come after them; this puts
 * them in the order of the backup (lib/enrollib.php enrol_course_delete, add_instance, all releases).
 */
function moodlectl_restore_order_methods(moodlectl_restore_job $job, array $names) {
    global $DB;
    if (!$names) {
        return;
    }
    $have = [];
    foreach ($DB->get_records('enrol', ['courseid' => $job->course->id], 'sortorder, id', 'id, enrol') as $method) {
        $have[$method->enrol][] = $method->id;
    }
    $order = [];
    foreach ($names as $name) {
        if (!empty($have[$name])) {
            $order[] = array_shift($have[$name]);
        }
    }
    foreach ($have as $rest) {
        $order = array_merge($order, $rest);
    }
    foreach ($order as $place => $id) {
        $DB->set_field('enrol', 'sortorder', $place, ['id' => $id]);
    }
}

/** Takes back what can be taken back, and says truthfully what is left. Always throws. */
function moodlectl_restore_failed(moodlectl_restore_job $job, $e) {
    global $DB;
    $executing = $job->state === 'executing';
    $known = $e instanceof moodlectl_error;
    if ($DB->is_transaction_started()) {
        moodlectl_restore_quietly($job, 'transaction', function() use ($DB) {
            $DB->force_transaction_rollback();
        });
    }
    moodlectl_restore_reconnect($job);
    moodlectl_restore_quietly($job, 'controller', function() use ($job) {
        moodlectl_restore_close($job);
    });
    moodlectl_restore_quietly($job, 'stored backups', function() use ($job) {
        moodlectl_restore_put_back($job);
    });
    if ($executing && $job->mode !== 'new') {
        moodlectl_restore_quietly($job, 'questions', function() use ($job) {
            moodlectl_restore_part_strays($job->context->id);
        });
    }
    $code = $known ? $e->errcode : (!empty($e->errorcode) ? $e->errorcode : get_class($e));
    $message = rtrim($e->getMessage(), '.') . '.';
    $details = $known ? $e->details
        : ['exception' => get_class($e), 'at' => basename($e->getFile()) . ':' . $e->getLine()];
    if (!$known && isset($e->a) && is_scalar($e->a)) {
        $details['a'] = (string)$e->a;
    }
    if ($job->mode === 'new') {
        $class = $known ? $e->class : 'failed';
        moodlectl_restore_failed_new($job, $class, $code, $message, $known ? $e->hint : '', $details);
    }
    if (!$executing) {
        throw $e;
    }
    $left = '';
    try {
        $counts = moodlectl_count_course($job->course->id);
        $details['left'] = $counts;
        $left = "it holds {$counts['sections']} sections and " . array_sum((array)$counts['activities']) . ' activities';
    } catch (Throwable $ignored) {
        $left = 'what it holds cannot be told';
    }
    $what = $job->mode === 'replace' ? 'Replacing empties a course first; now '
        : 'The course may hold a part of the backup; ';
    throw new moodlectl_error('failed', (string)$code, 'The restore broke off: ' . $message . ' ' . $what . $left . '.',
        $job->mode === 'replace' ? 'Put its former content back from the safety backup.'
            : 'Look at the course, and remove what came with the restore.', $details);
}

/** A database that has hung up is asked for a new connection, so that what is left can be seen and removed. */
function moodlectl_restore_reconnect(moodlectl_restore_job $job) {
    global $DB, $CFG;
    try {
        $DB->get_field_sql('SELECT 1 ' . $DB->sql_null_from_clause());
    } catch (Throwable $e) {
        moodlectl_restore_quietly($job, 'database', function() use ($DB, $CFG) {
            try {
                $DB->dispose();
            } catch (Throwable $ignored) {
                unset($ignored); // It stumbles over the temporary tables that went with the connection.
            }
            $DB->connect($CFG->dbhost, $CFG->dbuser, $CFG->dbpass, $CFG->dbname, $CFG->prefix, $CFG->dboptions);
        });
    }
}

/** A new course that did not come to be is removed, and that is said; always throws. */
function moodlectl_restore_failed_new(moodlectl_restore_job $job, $class, $code, $message, $hint, array $details) {
    $id = $job->madecourse;
    $trouble = '';
    if ((string)$code === 'shortnametaken') { // It was free when this restore began.
        $code = 'shortname_taken';
        $hint = 'Somebody else took it meanwhile. Choose another with --shortname.';
    }
    try {
        moodlectl_restore_remove_course($job);
    } catch (Throwable $e) {
        $trouble = $e->getMessage();
    }
    if ($trouble === '') {
        $said = $id ? ' The new course was removed again.' : ' No course was made.';
        $details['course_removed'] = (bool)$id;
        throw new moodlectl_error($class, (string)$code, $message . $said, $hint, $details);
    }
    $message .= " The unfinished course $id could not be removed: $trouble";
    throw new moodlectl_error('failed', 'course_left', $message,
        "Delete the course $id on the site.", $details + ['course_id' => $id]);
}

/** Deletes the unfinished course, past the recycle bin, and looks whether it is gone (restore_ui::cleanup, all). */
function moodlectl_restore_remove_course(moodlectl_restore_job $job) {
    global $DB;
    if (!$job->madecourse) {
        return;
    }
    $id = $job->madecourse;
    $course = $DB->get_record('course', ['id' => $id]);
    if ($course) {
        $course->deletesource = 'restore';
        delete_course($course, false);
        fix_course_sortorder();
    }
    if ($DB->record_exists('course', ['id' => $id])) {
        throw new moodlectl_error('failed', 'course_left', 'Moodle did not delete it.');
    }
    $job->madecourse = 0;
    $job->deed->note(['course_removed' => true]);
}
