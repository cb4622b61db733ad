<?php
// The account that a deed keeps of itself on the host, so that what became of it can be found out when nobody heard
// its answer: a small file in Moodle's directory for backups, locked for as long as PHP is alive.

/** The account of one deed; without an id from the client it keeps none, and every method does nothing. */
final class moodlectl_deed {
    /** Room kept in the file from the beginning, so that a full disk cannot swallow the end of the story. */
    const ROOM = 32768;

    /** @var resource|null open and locked */
    private $handle = null;
    /** @var array */
    private $account = [];
    /** @var float */
    private $told = 0.0;

    public function __construct($handle = null, array $account = []) {
        $this->handle = $handle;
        $this->account = $account;
    }

    public function get($name) {
        return isset($this->account[$name]) ? $this->account[$name] : null;
    }

    /** Writes facts down; whether they are on the disk. */
    public function note(array $facts) {
        $this->account = $facts + $this->account;
        return $this->handle === null || $this->write();
    }

    /** The next phase: prepared, queued, begun, deleting, executing, done, failed. What has ended stays as it ended. */
    public function phase($phase, array $facts = []) {
        if (in_array($this->get('phase'), ['done', 'failed'], true)) {
            return true;
        }
        return $this->note(['phase' => $phase] + $facts);
    }

    /** How far it is within the phase, in thousandths; at most five times a second. */
    public function step($phase, $done) {
        $now = microtime(true);
        if ($this->handle === null || ($phase === $this->get('phase') && $now - $this->told < 0.2)) {
            return;
        }
        $this->told = $now;
        $this->phase($phase, ['progress' => (int)$done]);
    }

    /** It has failed, and why, in the words that the client would have got. */
    public function failed($e) {
        $error = ['class' => 'failed', 'hint' => '', 'details' => (object)[], 'message' => $e->getMessage()];
        if ($e instanceof moodlectl_error) {
            $error = ['class' => $e->class, 'code' => $e->errcode, 'hint' => $e->hint,
                'details' => (object)$e->details] + $error;
        } else {
            $error['code'] = !empty($e->errorcode) ? (string)$e->errorcode : get_class($e);
        }
        $this->phase('failed', ['error' => $error]);
    }

    /** PHP ends in the middle: a fatal error, no memory, exit() of a plugin. */
    public function died() {
        if ($this->handle === null || in_array($this->get('phase'), ['queued', 'done', 'failed'], true)) {
            return;
        }
        $error = error_get_last();
        $fatal = $error && ($error['type'] & (E_ERROR | E_PARSE | E_CORE_ERROR | E_COMPILE_ERROR | E_USER_ERROR));
        $this->failed(new moodlectl_error('failed', $fatal ? 'php_fatal' : 'php_exit',
            $fatal ? 'PHP stopped with a fatal error: ' . strtok($error['message'], "\n")
                : 'PHP ended before the work was done.'));
    }

    private function write() {
        $flags = JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE | JSON_INVALID_UTF8_SUBSTITUTE;
        $line = json_encode(['time' => time()] + $this->account, $flags | JSON_PARTIAL_OUTPUT_ON_ERROR) . "\n";
        // In place and in one go: the lock is on this file, and a shorter line is followed by nothing but blanks.
        $text = str_pad($line, self::ROOM);
        return @rewind($this->handle) && @fwrite($this->handle, $text) === strlen($text) && @fflush($this->handle);
    }
}

/** Where the account of a deed is. Ids are chosen by the client, 32 hexadecimal digits. */
function moodlectl_deed_path($id) {
    if (!is_string($id) || !preg_match('/^[0-9a-f]{32}$/', $id)) {
        throw new moodlectl_error('usage', 'bad_deed', 'That is no number of a deed.');
    }
    return rtrim(make_backup_temp_directory(''), '/') . '/moodlectl-deed-' . $id . '.json';
}

/** Opens the account of a deed that begins now. Refuses where none can be kept. */
function moodlectl_deed_open(array $params, $kind, moodlectl_io $io) {
    if (empty($params['deed'])) {
        return new moodlectl_deed();
    }
    $path = moodlectl_deed_path($params['deed']);
    moodlectl_deed_sweep(dirname($path), $io);
    $mask = umask(0177);
    $handle = @fopen($path, 'x+b');
    umask($mask);
    if (!$handle || !flock($handle, LOCK_EX | LOCK_NB)) {
        throw new moodlectl_error('refused', 'no_account', "What is done cannot be written down in $path.",
            'Check the rights of $CFG->backuptempdir for the user PHP runs as, and whether its disk is full.');
    }
    $deed = new moodlectl_deed($handle, ['id' => $params['deed'], 'kind' => $kind, 'started' => time(),
        'pid' => getmypid(), 'host' => php_uname('n'), 'user' => $io->acting->username]);
    if (!$deed->phase('prepared')) {
        @unlink($path);
        throw new moodlectl_error('refused', 'no_space', "What is done cannot be written down in $path; the disk is full.",
            'Make room there, or point $CFG->backuptempdir at a larger disk.');
    }
    register_shutdown_function([$deed, 'died']);
    return $deed;
}

/** Accounts nobody asked for within a week are removed; what they still keep safe is put back first. */
function moodlectl_deed_sweep($directory, moodlectl_io $io) {
    foreach (glob($directory . '/moodlectl-deed-*.json') ?: [] as $path) {
        if (@filemtime($path) > time() - 7 * 86400) {
            continue;
        }
        list($running, $account, $handle) = moodlectl_deed_read($path);
        if ($running || !$handle) {
            continue;
        }
        try {
            if (!empty($account['aside'])) {
                moodlectl_aside_return($account['aside']);
            }
            unlink($path);
        } catch (Throwable $e) {
            $io->log('an old account: ' . $e->getMessage());
        }
        fclose($handle);
    }
}

/** Whether its process lives, what it wrote, and the file, locked where it does not. */
function moodlectl_deed_read($path) {
    $handle = @fopen($path, 'r+b');
    if (!$handle) {
        return [false, null, null];
    }
    $running = !flock($handle, LOCK_EX | LOCK_NB);
    $line = '';
    while (substr($line, -1) !== "\n" && ($piece = fgets($handle, 65536)) !== false) {
        $line .= $piece;
    }
    $account = json_decode($line, true);
    return [$running, is_array($account) ? $account : [], $handle];
}

/** What has become of the deed {deed}: {found, running, account}. Reads only. */
function moodlectl_call_deed(array $params, moodlectl_io $io) {
    clearstatcache();
    list($running, $account, $handle) = moodlectl_deed_read(moodlectl_deed_path($params['deed']));
    if ($handle) {
        fclose($handle);
    }
    if (!$running && isset($account['phase']) && $account['phase'] === 'queued') {
        list($running, $account) = moodlectl_queued_look($account);
    }
    return ['found' => $account !== null, 'running' => $running, 'account' => $account === null ? null : (object)$account];
}

/**
 * Removes the account of {deed} when its end has been recorded elsewhere; one that still works keeps it. One that has
 * ended may still hold it for a moment, while PHP puts its things away: it writes nothing more that matters.
 */
function moodlectl_call_deed_forget(array $params, moodlectl_io $io) {
    $path = moodlectl_deed_path($params['deed']);
    list($running, $account, $handle) = moodlectl_deed_read($path);
    $over = isset($account['phase']) && in_array($account['phase'], ['done', 'failed'], true);
    if ($handle && (!$running || $over)) {
        @unlink($path);
    }
    if ($handle) {
        fclose($handle);
    }
    clearstatcache();
    return ['forgotten' => !file_exists($path), 'found' => $account !== null];
}

/**
 * Clears up after the deed {deed}, whose PHP was killed: temporary files, a new course that did not come to be, a
 * backup that was not finished, stored backups that were set aside. Writes to the site; may be done again.
 */
function moodlectl_call_deed_settle(array $params, moodlectl_io $io) {
    global $CFG;
    $path = moodlectl_deed_path($params['deed']);
    list($running, $account, $handle) = moodlectl_deed_read($path);
    if ($account === null) {
        throw new moodlectl_error('notfound', 'deed_unknown', 'The site has no account of that deed.');
    }
    if ($running) {
        throw new moodlectl_error('refused', 'deed_running', 'It still works.', 'Ask again when it has ended.');
    }
    require_once($CFG->dirroot . '/backup/util/includes/backup_includes.php');
    require_once($CFG->dirroot . '/backup/util/includes/restore_includes.php');
    require_once($CFG->dirroot . '/course/lib.php');
    $io->begun();
    $deed = new moodlectl_deed($handle, $account);
    $told = ['trouble' => [], 'course_removed' => false, 'put_back' => 0];
    $ended = in_array($deed->get('phase'), ['done', 'failed'], true);
    $steps = ['files' => 'moodlectl_settle_files', 'records' => 'moodlectl_settle_records',
        'stored backups' => 'moodlectl_settle_aside'];
    if ($deed->get('phase') !== 'done') {
        $steps += ['course' => 'moodlectl_settle_new_course', 'backup' => 'moodlectl_settle_backup',
            'question banks' => 'moodlectl_settle_banks'];
    }
    foreach ($steps as $name => $function) {
        try {
            $told = $function($deed) + $told;
        } catch (Throwable $e) {
            $told['trouble'][] = "$name: " . $e->getMessage();
        }
    }
    if (!$ended) {
        $deed->failed(new moodlectl_error('failed', 'php_killed', moodlectl_settle_words($deed, $told), '',
            ['course_removed' => $told['course_removed']]));
    }
    $deed->note(['settled' => !$told['trouble']] + $told);
    $account = ['phase' => $deed->get('phase'), 'error' => $deed->get('error'), 'result' => $deed->get('result')]
        + $told + ['settled' => !$told['trouble']] + $account;
    if (!empty($account['changed']) && !empty($account['course'])) {
        $account['left'] = moodlectl_settle_left($account['course']);
    }
    fclose($handle);
    return ['found' => true, 'running' => false, 'account' => (object)$account];
}

function moodlectl_settle_words(moodlectl_deed $deed, array $told) {
    if ($deed->get('kind') === 'backup') {
        return 'PHP was killed on the host while it made the backup. What there was of it has been removed.';
    }
    if ($told['course_removed']) {
        return 'PHP was killed on the host while it restored. The new course was removed again.';
    }
    return 'PHP was killed on the host ' . ($deed->get('changed') ? 'in the middle of the restore.'
        : 'before the restore had changed anything.');
}

function moodlectl_settle_left($courseid) {
    global $DB;
    try {
        return $DB->record_exists('course', ['id' => $courseid]) ? moodlectl_count_course($courseid) : null;
    } catch (Throwable $e) {
        return null;
    }
}

/** Directories and logs below $CFG->backuptempdir; only names that a deed of ours can have written down. */
function moodlectl_settle_files(moodlectl_deed $deed) {
    $root = rtrim(make_backup_temp_directory(''), '/');
    foreach ((array)$deed->get('directories') as $name) {
        if (preg_match('/^moodlectl-[A-Za-z0-9_-]+$/', $name) && is_dir("$root/$name")) {
            fulldelete("$root/$name");
        }
    }
    moodlectl_memory_remove($deed->get('memory'));
    foreach ((array)$deed->get('ids') as $id) {
        if (preg_match('/^[0-9a-f]{32}$/', $id) && is_file("$root/$id.log")) {
            unlink("$root/$id.log");
        }
    }
    return [];
}

/** Controllers that were saved and will never go on (backup/util/dbops/backup_controller_dbops.class.php). */
function moodlectl_settle_records(moodlectl_deed $deed) {
    global $DB;
    $ids = (array)$deed->get('ids');
    if ($ids && $deed->get('phase') !== 'done') {
        list($in, $values) = $DB->get_in_or_equal($ids);
        $DB->delete_records_select('backup_controllers', "backupid $in", $values);
        $DB->delete_records_select('backup_logs', "backupid $in", $values);
    }
    return [];
}

/** A new course that did not come to be: gone, past the recycle bin (restore_ui::cleanup, all releases). */
function moodlectl_settle_new_course(moodlectl_deed $deed) {
    global $DB;
    if ($deed->get('mode') !== 'new' || !$deed->get('shortname')) {
        return [];
    }
    $id = (int)$deed->get('course');
    if (!$id) {
        // Killed between Moodle making the course and the note of its number.
        $id = (int)$DB->get_field_select('course', 'id', 'shortname = ? AND category = ? AND visible = 0 AND timecreated >= ?',
            [$deed->get('shortname'), $deed->get('category'), $deed->get('started')]);
    }
    $course = $id ? $DB->get_record('course', ['id' => $id]) : false;
    if ($course) {
        $course->deletesource = 'restore';
        delete_course($course, false);
        fix_course_sortorder();
        if ($DB->record_exists('course', ['id' => $id])) {
            throw new moodlectl_error('failed', 'course_left', "The unfinished course $id could not be removed.");
        }
    }
    return ['course_removed' => (bool)$course || (bool)$deed->get('course_removed')];
}

/** A backup whose making was not finished. Its name was free before, so that the file is its own. */
function moodlectl_settle_backup(moodlectl_deed $deed) {
    if ($deed->get('kind') !== 'backup' || !$deed->get('filename')) {
        return [];
    }
    list($contextid, $component, $filearea) = $deed->get('area');
    $file = get_file_storage()->get_file($contextid, $component, $filearea, 0, '/', $deed->get('filename'));
    if ($file && $file->get_timecreated() >= $deed->get('started')) {
        $file->delete();
    }
    return [];
}

/**
 * From 5.0 on the pre-check makes a question bank for questions of the course, and a restore that broke off leaves
 * question categories in the course itself (see moodlectl_restore_remove_stray_banks and _part_strays).
 */
function moodlectl_settle_banks(moodlectl_deed $deed) {
    global $DB, $CFG;
    if ($deed->get('kind') !== 'restore' || $deed->get('mode') === 'new' || !$deed->get('course')
            || !class_exists('core_question\\local\\bank\\question_bank_helper')) {
        return [];
    }
    if ($deed->get('changed')) {
        moodlectl_restore_part_strays(context_course::instance($deed->get('course'))->id);
        return [];
    }
    $before = $deed->get('cms');
    if ($before === null) {
        return [];
    }
    $made = $DB->get_records_sql("SELECT cm.id FROM {course_modules} cm JOIN {modules} m ON m.id = cm.module
        WHERE cm.course = ? AND m.name = 'qbank' AND cm.added BETWEEN ? AND ?",
        [$deed->get('course'), $deed->get('started'), $deed->get('time') + 600]);
    foreach (array_diff(array_keys($made), $before) as $cmid) {
        $CFG->forced_plugin_settings['tool_recyclebin']['coursebinenable'] = 0;
        course_delete_module($cmid);
    }
    return [];
}

function moodlectl_settle_aside(moodlectl_deed $deed) {
    return $deed->get('aside') ? ['put_back' => moodlectl_aside_return($deed->get('aside')), 'aside' => null] : [];
}

// --- stored backups, which a replace would delete with the rest -----------------------------------------------------

/**
 * Emptying a course deletes all that Moodle stores under `backup` in it (lib/moodlelib.php remove_course_contents, all
 * releases). Copies of the records, the content stays where it is, are kept meanwhile in the private backup area of
 * who acts: should all else fail, that person finds them there.
 *
 * Returns {context, path, course, files}, null where there are none.
 */
function moodlectl_aside_take($courseid, $userid, $token, moodlectl_deed $deed) {
    $fs = get_file_storage();
    $stored = moodlectl_aside_stored(context_course::instance($courseid)->id);
    if (!$stored) {
        return null;
    }
    $aside = ['context' => (int)context_user::instance($userid)->id, 'course' => (int)$courseid,
        'path' => '/moodlectl-' . $token . '/', 'files' => count($stored)];
    if (!$deed->note(['aside' => $aside])) {
        throw new moodlectl_error('refused', 'no_space', 'What is done cannot be written down; the disk is full.');
    }
    foreach ($stored as $file) {
        $fs->create_file_from_storedfile(['contextid' => $aside['context'], 'component' => 'user', 'filearea' => 'backup',
            'itemid' => 0, 'filepath' => $aside['path'] . $file->get_filearea() . '/' . $file->get_itemid() . $file->get_filepath(),
        ], $file);
    }
    return $aside;
}

function moodlectl_aside_stored($contextid) {
    global $DB;
    $ids = $DB->get_fieldset_select('files', 'id', "contextid = ? AND component = 'backup' AND filename <> '.'", [$contextid]);
    return array_filter(array_map([get_file_storage(), 'get_file_by_id'], $ids));
}

/** Puts them back, and sees that they are there; returns how many there are. May be done again. */
function moodlectl_aside_return(array $aside) {
    global $DB;
    $fs = get_file_storage();
    $context = context_course::instance($aside['course'], IGNORE_MISSING);
    $where = "contextid = ? AND component = 'user' AND filearea = 'backup' AND " . $DB->sql_like('filepath', '?');
    $values = [$aside['context'], $DB->sql_like_escape($aside['path']) . '%'];
    $kept = array_filter(array_map([$fs, 'get_file_by_id'], $DB->get_fieldset_select('files', 'id', $where, $values)));
    if (!$context) {
        return 0; // The course is gone; the copies stay with whoever acted.
    }
    $back = 0;
    foreach ($kept as $file) {
        if ($file->is_directory()) {
            continue;
        }
        $rest = substr($file->get_filepath(), strlen($aside['path']));
        if (!preg_match('~^([a-z]+)/([0-9]+)(/.*)$~', $rest, $m)) {
            continue;
        }
        $place = [$context->id, 'backup', $m[1], (int)$m[2], $m[3], $file->get_filename()];
        if (!$fs->file_exists($place[0], $place[1], $place[2], $place[3], $place[4], $place[5])) {
            $fs->create_file_from_storedfile(array_combine(['contextid', 'component', 'filearea', 'itemid', 'filepath',
                'filename'], $place), $file);
        }
        $there = $fs->get_file($place[0], $place[1], $place[2], $place[3], $place[4], $place[5]);
        if (!$there || $there->get_contenthash() !== $file->get_contenthash()) {
            throw new moodlectl_error('failed', 'backups_aside', 'A stored backup of the course could not be put back; it '
                . "lies in the private backup area, under {$file->get_filepath()}{$file->get_filename()}.");
        }
        $back++;
    }
    foreach ($kept as $file) {
        $file->delete();
    }
    return $back;
}
