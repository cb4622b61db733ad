<?php
// Restoring a backup: as a new course, into a course, or in place of what a course holds. Plan and deed are one road:
// all that can stop a restore is found out before the first lasting change, and whatever was made on the way is
// removed again.

/** One restore on its way: what was asked, what was found out, and what must be removed at the end. */
final class moodlectl_restore_job {
    /** @var moodlectl_io */
    public $io;
    /** @var array the request, see moodlectl_call_restore */
    public $params;
    /** @var string new, merge or replace */
    public $mode;
    /** @var bool */
    public $dryrun;
    /** @var int */
    public $userid;
    /** @var stdClass|null the course restored into; for mode new once it is made */
    public $course = null;
    /** @var stdClass|null the category of a new course */
    public $category = null;
    /** @var context where capabilities are asked: the course's, or the new course's category */
    public $context = null;
    /** @var string directory of the archive's copy */
    public $archivedir = '';
    /** @var string path of the archive's copy */
    public $archive = '';
    /** @var string|null a directory in memory that holds the unpacked backup */
    public $memory = null;
    /** @var string name of the unpacked backup below $CFG->backuptempdir */
    public $tempdir = '';
    /** @var string its path */
    public $base = '';
    /** @var stdClass backup_general_helper::get_backup_information */
    public $info = null;
    /** @var bool */
    public $samesite = false;
    /** @var array {sections: [id => bool], activities: [cmid => bool]} */
    public $chosen = [];
    /** @var array[] what was found before it, see moodlectl_restore_find */
    public $findings = [];
    /** @var string[] frankenstyle names */
    public $missing = [];
    /** @var string[] frankenstyle names of what is there and switched off */
    public $disabled = [];
    /** @var string[] content hashes that neither archive nor pool hold */
    public $lost = [];
    /** @var restore_controller|null the controller in use */
    public $controller = null;
    /** @var string[] ids of all controllers made */
    public $restoreids = [];
    /** @var array {matched, created, conflicts, uncreatable, ids} */
    public $people = ['matched' => 0, 'created' => 0, 'conflicts' => [], 'uncreatable' => [], 'ids' => []];
    /** @var bool people are left out because they conflict */
    public $withoutpeople = false;
    /** @var string[] */
    public $warnings = [];
    /** @var int the course made by this restore, 0 when none or when it shall stay */
    public $madecourse = 0;
    /** @var int[]|null activities the target had before the pre-check */
    public $cmsbefore = null;
    /** @var string '' | prechecked | executing | done */
    public $state = '';
    /** @var bool somebody wants this to end */
    public $stop = false;
    /** @var bool */
    public $cleaned = false;
    /** @var int process that may clean */
    public $pid = 0;
    /** @var moodlectl_deed its account of itself */
    public $deed;
    /** @var array|null where the course's stored backups are meanwhile, see moodlectl_aside_take */
    public $aside = null;
    /** @var int[] sections of the backup that arrive as new ones, to be moved */
    public $placed = [];
    /** @var int|null how many of them were put back */
    public $putback = null;
    /** @var bool by the rules of Moodle's import */
    public $import = false;
    /** @var string[] root settings of the backup that was made for this restore alone */
    public $backupsettings = [];
    /** @var array method of enrolment => usernames that emptying leaves there, see moodlectl_restore_stay_enrolled */
    public $stayed = [];
    /** @var int[] badges of a course that is put back, before it is emptied, see moodlectl_keepsake_strays */
    public $badgesbefore = [];

    public function __construct(array $params, moodlectl_io $io) {
        $this->params = $params + ['texts' => [], 'settings' => [], 'items' => [], 'allow' => [], 'enrolments' => null,
            'keep_enrolments' => false, 'keep_groups' => false, 'overwrite_config' => false,
            'users_conflict' => 'stop', 'dry_run' => false, 'drop_backups' => false, 'placement' => null,
            'items_only' => false, 'wishes' => [], 'keepsake' => null];
        $this->io = $io;
        $this->mode = $this->params['mode'];
        $this->dryrun = (bool)$this->params['dry_run'];
        $this->userid = (int)$io->acting->id;
        $this->pid = getmypid();
        $this->deed = new moodlectl_deed();
        $source = $this->params['source'];
        $this->import = $source['kind'] === 'course' && $source['rules'] === 'import';
    }

    public function text($name) {
        return isset($this->params['texts'][$name]) ? $this->params['texts'][$name] : null;
    }

    /** Stops before anything lasting when nobody waits for the answer any more. */
    public function checkpoint() {
        if ($this->stop || $this->io->client_gone()) {
            throw new moodlectl_error('failed', 'client_gone', 'The client has gone away; the restore was given up.');
        }
    }
}

/**
 * Plans ({dry_run}) or does one restore. Writes to the site unless dry_run.
 *
 * params: mode new|merge|replace; category_id (new) or course_id; source {kind: upload, size, sha1, name},
 * {kind: stored, locator} or {kind: course, course_id, rules copy|import, settings, items} (see restore_from_course.php);
 * texts {fullname, shortname, idnumber, startdate YYYY-MM-DD, visible}; settings {name: value};
 * enrolments manual|with-users|always; keep_enrolments, keep_groups, overwrite_config; items (port.ItemChoice);
 * users_conflict stop|without-users; allow [danger]; drop_backups: let go of the backups stored in a course that is
 * replaced; placement {how: into|after, section_id}, items_only: nothing of the course itself (merge); wishes [setting
 * to switch on where that may be done]; deed: the number under which it keeps an account of itself (see deeds.php);
 * keepsake: what moodlectl_call_keepsake took, to be given back after a replace.
 */
function moodlectl_call_restore(array $params, moodlectl_io $io) {
    $job = new moodlectl_restore_job($params, $io);
    $started = microtime(true);
    register_shutdown_function('moodlectl_restore_after_death', $job);
    try {
        moodlectl_restore_includes();
        $job->deed = moodlectl_deed_open($params, 'restore', $io);
        moodlectl_restore_find_state($job);
        moodlectl_restore_find_target($job);
        moodlectl_restore_hold($job);
        moodlectl_restore_check_texts($job);
        moodlectl_restore_find_place($job);
        moodlectl_restore_switch_on_methods($job);
        moodlectl_restore_find_use($job);
        moodlectl_restore_refuse($job);
        moodlectl_spent::lap('look at the site');
        moodlectl_restore_receive($job);
        moodlectl_spent::lap('receive the backup');
        moodlectl_restore_unpack($job);
        moodlectl_spent::lap('unpack it');
        moodlectl_contents_fill($job->base);
        moodlectl_restore_read($job);
        moodlectl_restore_choose($job);
        moodlectl_restore_prepare_place($job);
        moodlectl_restore_leave_course($job);
        moodlectl_restore_find_dangers($job);
        moodlectl_restore_find_damage($job);
        moodlectl_restore_refuse($job);
        moodlectl_spent::lap('look for dangers');
        moodlectl_database_begin('restore', 0);
        moodlectl_restore_open($job);
        moodlectl_spent::lap('open the plan');
        moodlectl_restore_find_people($job);
        moodlectl_spent::lap('look for its people');
        moodlectl_restore_find_left_out($job);
        moodlectl_restore_find_roles($job);
        moodlectl_restore_find_names($job);
        moodlectl_restore_find_use($job);
        moodlectl_restore_refuse($job);
        $job->checkpoint();
        moodlectl_spent::lap('look for dangers');
        $result = $job->dryrun ? moodlectl_restore_plan($job) : moodlectl_restore_do($job);
        moodlectl_session_settle();
        $result['seconds'] = round(microtime(true) - $started, 3);
        $job->deed->phase('done', ['result' => $result]);
        return $result;
    } catch (Throwable $e) {
        moodlectl_restore_tell_findings($job, $e);
        moodlectl_restore_clean($job);
        $job->deed->failed($e);
        throw $e;
    } finally {
        moodlectl_restore_clean($job);
        moodlectl_restore_quietly($job, 'asynchronous commit', 'moodlectl_session_settle');
    }
}

/** What restores need of Moodle (backup/util/includes/restore_includes.php, all releases). */
function moodlectl_restore_includes() {
    global $CFG;
    require_once($CFG->dirroot . '/backup/util/includes/restore_includes.php');
    require_once($CFG->dirroot . '/backup/util/helper/convert_helper.class.php');
    require_once($CFG->dirroot . '/course/lib.php');
    require_once($CFG->libdir . '/filelib.php');
    moodlectl_restore_classes();
}

/** Finds the category or course, and checks what the web pages check (backup/util/checks/restore_check.class.php). */
function moodlectl_restore_find_target(moodlectl_restore_job $job) {
    global $DB;
    if ($job->mode === 'new') {
        $id = (int)$job->params['category_id'];
        $job->category = $DB->get_record('course_categories', ['id' => $id]);
        if (!$job->category) {
            throw new moodlectl_error('notfound', 'category_not_found', "There is no category with the id $id.",
                'See which there are: moodlectl category list');
        }
        $job->context = context_coursecat::instance($id);
        moodlectl_restore_need($job, 'moodle/course:create');
        moodlectl_restore_need($job, 'moodle/restore:restorecourse');
        return;
    }
    $id = (int)$job->params['course_id'];
    $job->course = $DB->get_record('course', ['id' => $id]);
    if (!$job->course) {
        throw new moodlectl_error('notfound', 'course_not_found', "There is no course with the id $id.",
            'See which there are: moodlectl course list');
    }
    if ($id == SITEID) {
        throw new moodlectl_error('refused', 'front_page', 'Nothing is restored into the front page.',
            'Name another course, or restore as a new one.');
    }
    $job->context = context_course::instance($id);
    if ($job->import) {
        moodlectl_restore_need($job, 'moodle/restore:restoretargetimport');
    } else if ($job->mode === 'replace') {
        moodlectl_restore_need($job, 'moodle/restore:restorecourse');
    }
}

/** Two restores into one course at once would each delete and count what the other brings: the second is refused. */
function moodlectl_restore_hold(moodlectl_restore_job $job) {
    if ($job->mode === 'new' || $job->dryrun) {
        return;
    }
    $factory = \core\lock\lock_config::get_lock_factory('moodlectl_restore');
    $lock = $factory->get_lock('course-' . $job->course->id, 0);
    if (!$lock) {
        throw new moodlectl_error('refused', 'restore_under_way',
            "Another restore into the course {$job->course->shortname} is under way.",
            'Wait until it has ended, and look at the course before you restore into it again.');
    }
    $GLOBALS['moodlectl_restore_lock'] = $lock; // The job itself is stored with its controller, and a lock cannot be.
}

/** Checks names, idnumber, date and visibility before anything else is done (course/lib.php, course/edit_form.php). */
function moodlectl_restore_check_texts(moodlectl_restore_job $job) {
    global $DB;
    $own = $job->course ? (int)$job->course->id : 0;
    foreach (moodlectl_course_name_limits() as $name => $limit) {
        $value = $job->text($name);
        if ($value === null) {
            continue;
        }
        if (core_text::strlen($value) > $limit || ($name !== 'idnumber' && trim($value) === '')) {
            throw new moodlectl_error('usage', 'bad_' . $name, "The $name must have 1 to $limit characters.");
        }
        if ($name !== 'idnumber' && clean_param($value, PARAM_TEXT) !== $value) {
            throw new moodlectl_error('usage', 'bad_' . $name, "Moodle does not allow tags in a $name.",
                'It would make this of it: ' . clean_param($value, PARAM_TEXT));
        }
        if ($name !== 'fullname' && $value !== '') {
            $other = $DB->get_record_select('course', "$name = ? AND id <> ?", [$value, $own], 'id, fullname',
                IGNORE_MULTIPLE);
            if ($other) {
                moodlectl_restore_find($job, $name . '_taken', 'forbidden', "The $name $value belongs to another course, "
                    . "{$other->fullname} (id:{$other->id}).", "Choose another with --$name.",
                    ['course_id' => (int)$other->id, $name => $value]);
            }
        }
    }
    $capabilities = ['idnumber' => 'moodle/course:changeidnumber', 'visible' => 'moodle/course:visibility',
        'fullname' => 'moodle/course:changefullname', 'shortname' => 'moodle/course:changeshortname',
        'startdate' => 'moodle/restore:rolldates'];
    // Who may create a course names it (course/externallib.php duplicate_course, and the copy form).
    $named = $job->mode === 'new' && $job->params['source']['kind'] === 'course' ? ['fullname', 'shortname', 'visible'] : [];
    foreach ($capabilities as $name => $capability) {
        if ($job->text($name) !== null && !in_array($name, $named, true)) {
            moodlectl_restore_need($job, $capability);
        }
    }
    if ($job->text('startdate') !== null) {
        moodlectl_restore_startdate($job);
    }
}

/** The asked start date as Moodle's time: midnight where the acting user lives. */
function moodlectl_restore_startdate(moodlectl_restore_job $job) {
    if (!preg_match('/^([0-9]{4})-([0-9]{2})-([0-9]{2})$/', $job->text('startdate'), $m)
            || !checkdate((int)$m[2], (int)$m[3], (int)$m[1])) {
        throw new moodlectl_error('usage', 'bad_startdate', 'The start date must be a day as YYYY-MM-DD.');
    }
    return make_timestamp((int)$m[1], (int)$m[2], (int)$m[3], 0, 0, 0, core_date::get_user_timezone($job->io->acting));
}

/** Reads moodle_backup.xml, converts older formats, and refuses what cannot be restored like this. */
function moodlectl_restore_read(moodlectl_restore_job $job) {
    global $CFG;
    moodlectl_restore_convert($job);
    try {
        $job->info = backup_general_helper::get_backup_information($job->tempdir);
    } catch (Exception $e) {
        throw new moodlectl_error('refused', 'not_a_backup', 'The file\'s moodle_backup.xml cannot be read: '
            . $e->getMessage(), 'Check the file: moodlectl backup verify FILE');
    }
    $job->samesite = backup_general_helper::backup_is_samesite($job->info);
    moodlectl_restore_mend_names($job);
    moodlectl_restore_find_long_names($job);
    $info = $job->info;
    if ((int)$info->backup_version < 2010072300) {
        throw new moodlectl_error('refused', 'backup_too_old', "The backup was made by Moodle {$info->moodle_release}, "
            . 'which this Moodle can no longer restore.');
    }
    if ($info->type === backup::TYPE_1COURSE && $info->original_course_format === 'site') {
        throw new moodlectl_error('refused', 'front_page_backup', 'This is a backup of a front page; Moodle does not '
            . 'restore it into a course.');
    }
    if ($info->type !== backup::TYPE_1COURSE && $job->mode !== 'merge') {
        throw new moodlectl_error('refused', 'not_a_course', "The backup holds a single {$info->type}, not a course.",
            'Restore it into a course: --merge COURSE', ['type' => $info->type]);
    }
    if ($job->mode === 'merge' && !$job->import) {
        moodlectl_restore_need($job, 'moodle/restore:restore' . $info->type);
    }
}

/** Turns Moodle 1.9 and IMS Common Cartridge into Moodle 2 form (backup/util/helper/convert_helper.class.php, all). */
function moodlectl_restore_convert(moodlectl_restore_job $job) {
    global $CFG;
    $format = backup_general_helper::detect_backup_format($job->tempdir);
    if ($format === backup::FORMAT_MOODLE) {
        return;
    }
    $trouble = '';
    $cwd = getcwd();
    // The Common Cartridge converter opens a file by a relative path and ends PHP when it is not there.
    chdir($CFG->dirroot . '/backup');
    try {
        $done = $format !== backup::FORMAT_UNKNOWN && convert_helper::to_moodle2_format($job->tempdir, $format);
    } catch (Exception $e) {
        $done = false;
        $trouble = ' (' . $e->getMessage() . ')';
    }
    chdir($cwd);
    if (!$done) {
        throw new moodlectl_error('refused', 'not_a_backup', 'The file is no Moodle backup: it has no moodle_backup.xml'
            . $trouble . '.', 'Check the file: moodlectl backup verify FILE', ['format' => $format]);
    }
    $job->warnings[] = "The file was converted from the format $format; users and grades are not part of it.";
}

/** What the restore would do, as port.RestorePlan. Leaves nothing behind. */
function moodlectl_restore_plan(moodlectl_restore_job $job) {
    global $CFG;
    $expected = moodlectl_restore_expected($job);
    $before = $job->course ? moodlectl_count_course($job->course->id) : null;
    $precheck = ['errors' => [], 'warnings' => []];
    $settings = moodlectl_restore_list_settings($job);
    if ($job->mode === 'new') {
        $precheck = moodlectl_restore_foresee($job);
    } else if (moodlectl_restore_lacks($job)) {
        $precheck = moodlectl_restore_foresee($job);
    } else if ($job->people['conflicts'] || $job->people['uncreatable']) {
        $precheck['errors'] = moodlectl_restore_people_words($job);
    } else {
        $precheck = moodlectl_restore_precheck($job);
    }
    moodlectl_restore_find_precheck($job, $precheck);
    list($fullname, $shortname) = moodlectl_restore_final_names($job);
    return [
        'precheck' => $precheck + ['missing_plugins' => $job->missing],
        'users' => moodlectl_restore_people_result($job),
        'settings' => $settings,
        'expected' => $expected,
        'target' => $job->course ? moodlectl_course_record($job->course) : null,
        'target_counts' => $before,
        'fullname' => $fullname,
        'shortname' => $shortname,
        'backup_release' => (string)$job->info->moodle_release,
        'site_release' => $CFG->release,
        'same_site' => $job->samesite,
        'findings' => $job->findings,
        'warnings' => $job->warnings,
    ];
}

/** The names the course will have in the end (restore_dbops::calculate_course_names, all releases). */
function moodlectl_restore_final_names(moodlectl_restore_job $job) {
    $asked = [$job->text('fullname'), $job->text('shortname')];
    if ($job->mode !== 'new') {
        $names = [$job->course->fullname, $job->course->shortname];
    } else {
        $names = restore_dbops::calculate_course_names(0,
            $asked[0] !== null ? $asked[0] : $job->info->original_course_fullname,
            $asked[1] !== null ? $asked[1] : $job->info->original_course_shortname);
    }
    return [$asked[0] !== null ? $asked[0] : $names[0], $asked[1] !== null ? $asked[1] : $names[1]];
}

/** Removes every temporary thing of this restore, and a new course that did not come to be. Never throws. */
function moodlectl_restore_clean(moodlectl_restore_job $job) {
    global $DB;
    if ($job->cleaned || $job->pid !== getmypid()) {
        return;
    }
    $job->cleaned = true;
    moodlectl_restore_quietly($job, 'transaction', function() use ($DB) {
        if ($DB->is_transaction_started()) {
            $DB->force_transaction_rollback();
        }
    });
    moodlectl_restore_quietly($job, 'controller', function() use ($job) {
        moodlectl_restore_close($job);
    });
    moodlectl_restore_quietly($job, 'stored backups', function() use ($job) {
        moodlectl_restore_put_back($job);
    });
    moodlectl_restore_quietly($job, 'course', function() use ($job) {
        moodlectl_restore_remove_course($job);
    });
    moodlectl_restore_quietly($job, 'files', function() use ($job) {
        moodlectl_restore_remove_files($job);
    });
    moodlectl_restore_quietly($job, 'lock', function() {
        if (isset($GLOBALS['moodlectl_restore_lock'])) {
            $GLOBALS['moodlectl_restore_lock']->release();
            unset($GLOBALS['moodlectl_restore_lock']);
        }
    });
}

function moodlectl_restore_quietly(moodlectl_restore_job $job, $what, $function) {
    try {
        $function();
    } catch (Throwable $e) {
        $job->io->log("cleaning up ($what): " . $e->getMessage());
    }
}

/** What remains to be done when PHP ended in the middle: a fatal error, exit() of a plugin, no memory. */
function moodlectl_restore_after_death(moodlectl_restore_job $job) {
    if (!$job->cleaned && class_exists('restore_controller', false)) {
        ini_set('memory_limit', '-1');
        moodlectl_restore_clean($job);
    }
}
