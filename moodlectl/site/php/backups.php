<?php
// The backups a site holds: finding them, reading them, deleting them.

/**
 * The backups of {course_id} in the {areas} course, private, automated; {owner} is whose private area.
 *
 * `course` is the course's own area with the backups of its sections and activities. `automated` is Moodle's area and
 * the external directory of the administrator. The private area belongs to a person, not to a course: a file counts
 * as this course's if its name says so as Moodle writes names, or else if the archive itself says so.
 */
function moodlectl_call_backups(array $params, moodlectl_io $io) {
    $course = moodlectl_visible_course($params['course_id']);
    $areas = isset($params['areas']) ? $params['areas'] : ['course', 'private', 'automated'];
    $owner = isset($params['owner']) && $params['owner'] !== '' ? $params['owner'] : null;
    $result = ['files' => [], 'notes' => []];
    foreach ($areas as $area) {
        if ($area === 'course') {
            $found = moodlectl_course_area($course);
        } else if ($area === 'private') {
            $found = moodlectl_private_area($course, $owner);
        } else if ($area === 'automated') {
            $found = moodlectl_automated_area($course);
        } else {
            throw new moodlectl_error('usage', 'unknown_area', "There is no area '$area'.",
                'There are course, private and automated.');
        }
        $result['files'] = array_merge($result['files'], $found['files']);
        $result['notes'] = array_merge($result['notes'], $found['notes']);
    }
    usort($result['files'], function($a, $b) {
        return $b['timecreated'] - $a['timecreated'] ?: strcmp($b['filename'], $a['filename']);
    });
    return $result;
}

/**
 * The course's own area (backup/restorefile.php shows it to those who may restore; lib/filelib.php lets those who may
 * download have it), with the areas of its sections and activities.
 */
function moodlectl_course_area($course) {
    global $DB;
    $context = context_course::instance($course->id);
    if (!has_any_capability(['moodle/restore:restorecourse', 'moodle/backup:downloadfile'], $context)) {
        return moodlectl_area_note('course', $course, 'moodle/backup:downloadfile');
    }
    list($below, $values) = moodlectl_below_sql($context);
    $ids = $DB->get_fieldset_sql("SELECT f.id FROM {files} f JOIN {context} ctx ON ctx.id = f.contextid
        WHERE $below AND f.component = 'backup' AND f.filearea IN ('course', 'section', 'activity')
        AND f.filename <> '.' AND f.filesize > 0", $values);
    return ['files' => moodlectl_stored_records($ids, $course), 'notes' => []];
}

/**
 * The automated area and, where the administrator chose one, the external directory
 * (backup/util/helper/backup_cron_helper.class.php, backup_auto_storage 1 and 2).
 */
function moodlectl_automated_area($course) {
    global $DB;
    $context = context_course::instance($course->id);
    if (!has_capability('moodle/restore:viewautomatedfilearea', $context)) {
        return moodlectl_area_note('automated', $course, 'moodle/restore:viewautomatedfilearea');
    }
    $ids = $DB->get_fieldset_select('files', 'id', "contextid = ? AND component = 'backup' AND filearea = 'automated'
        AND filename <> '.' AND filesize > 0", [$context->id]);
    $found = ['files' => moodlectl_stored_records($ids, $course), 'notes' => []];
    $directory = moodlectl_automated_directory();
    if ($directory === null) {
        return $found;
    }
    $names = @scandir($directory);
    if ($names === false) {
        $found['notes'][] = "The folder of automated backups, $directory, is not there or may not be read on the host.";
        return $found;
    }
    foreach ($names as $name) {
        if (moodlectl_automated_name($name, $course->id) && is_file($directory . '/' . $name)) {
            $found['files'][] = moodlectl_directory_record($directory, $name, $course);
        }
    }
    return $found;
}

/**
 * The private area of the acting user, or of {owner}, into which only an administrator looks.
 */
function moodlectl_private_area($course, $owner) {
    global $DB, $USER, $CFG;
    $user = $USER;
    if ($owner !== null && $owner !== $USER->username) {
        if (!is_siteadmin()) {
            throw new moodlectl_error('access', 'not_administrator',
                "Only an administrator may look into the private backup area of another user ($owner).",
                'Act as an administrator, or as that user (--as USERNAME).', ['owner' => $owner]);
        }
        $user = $DB->get_record('user', ['username' => core_text::strtolower($owner), 'deleted' => 0,
            'mnethostid' => $CFG->mnet_localhost_id]);
        if (!$user) {
            throw new moodlectl_error('notfound', 'user_unknown', "The site has no user '$owner'.");
        }
    }
    $context = context_user::instance($user->id);
    $ids = $DB->get_fieldset_select('files', 'id', "contextid = ? AND component = 'user' AND filearea = 'backup'
        AND filename <> '.' AND filesize > 0", [$context->id]);
    $mine = [];
    $unknown = [];
    foreach ($ids as $id) {
        $file = get_file_storage()->get_file_by_id($id);
        $of = moodlectl_backup_origin($file);
        if ($of === (int)$course->id) {
            $mine[] = $id;
        } else if ($of === null) {
            $unknown[] = $file->get_filename();
        }
    }
    $notes = [];
    if ($unknown) {
        $notes[] = "In the private area of {$user->username} it cannot be told which course these are of: "
            . implode(', ', $unknown) . '.';
    }
    return ['files' => moodlectl_stored_records($ids ? $mine : [], $course), 'notes' => $notes];
}

/**
 * Which course of this site a stored backup is of, by its name or, up to 64 MiB, by what it says itself; 0 is none
 * of this site's, null that it cannot be told.
 */
function moodlectl_backup_origin($file) {
    $name = $file->get_filename();
    if (preg_match('/-moodle2-course-(\d+)-/', $name, $match)) {
        return (int)$match[1];
    }
    if ($file->get_filesize() > 64 * 1024 * 1024) {
        return null;
    }
    $xml = moodlectl_read_manifest($file);
    return $xml === null ? null : moodlectl_manifest_course($xml);
}

/**
 * The id of the course a manifest names, 0 where it is of another site, null where it names none.
 */
function moodlectl_manifest_course($xml) {
    if (!preg_match('#<original_course_id>(\d+)</original_course_id>#', $xml, $course)
            || !preg_match('#<original_site_identifier_hash>([^<]*)</#', $xml, $site)) {
        return null;
    }
    return $site[1] === md5(get_site_identifier()) ? (int)$course[1] : 0;
}

function moodlectl_area_note($area, $course, $capability) {
    global $USER;
    return ['files' => [], 'notes' => ["The $area area of {$course->shortname} was not looked at: the user "
        . "{$USER->username} has not the capability $capability there."]];
}

function moodlectl_stored_records(array $ids, $course) {
    $records = [];
    foreach ($ids as $id) {
        $file = get_file_storage()->get_file_by_id($id);
        if ($file) {
            $records[] = moodlectl_stored_record($file, $course);
        }
    }
    return $records;
}

/**
 * A stored file as port.BackupFile. The address is the one the web pages link to (lib/filelib.php file_pluginfile).
 */
function moodlectl_stored_record($file, $course) {
    global $DB;
    $private = $file->get_component() === 'user';
    $area = $private ? 'private' : ($file->get_filearea() === 'automated' ? 'automated' : 'course');
    $owner = null;
    if ($private) {
        $context = context::instance_by_id($file->get_contextid());
        $owner = $DB->get_field('user', 'username', ['id' => $context->instanceid]);
    }
    $url = moodle_url::make_pluginfile_url($file->get_contextid(), $file->get_component(), $file->get_filearea(),
        $file->get_filearea() === 'section' ? $file->get_itemid() : null, $file->get_filepath(), $file->get_filename());
    return [
        'course_id' => (int)$course->id,
        'course_shortname' => $course->shortname,
        'area' => $area,
        'filename' => $file->get_filename(),
        'size' => (int)$file->get_filesize(),
        'timecreated' => (int)$file->get_timecreated(),
        'sha1' => $file->get_contenthash(),
        'has_users' => moodlectl_name_says_users($file->get_filename()),
        'url' => $url->out(false),
        'owner' => $owner,
        'directory' => null,
        'locator' => [
            'contextid' => (int)$file->get_contextid(),
            'component' => $file->get_component(),
            'filearea' => $file->get_filearea(),
            'itemid' => (int)$file->get_itemid(),
            'filepath' => $file->get_filepath(),
            'filename' => $file->get_filename(),
            'course_id' => (int)$course->id,
        ],
    ];
}

/**
 * Whether there are users in it, as far as Moodle's own way of naming files tells (`-nu`); null elsewhere.
 */
function moodlectl_name_says_users($name) {
    if (substr($name, -6) === '.imscc') {
        return false;
    }
    if (!preg_match('/-moodle2-(course|section|activity)-\d+-.*\.mbz$/', $name)) {
        return null;
    }
    return !preg_match('/-nu(-nf)?(-\d+)?\.mbz$/', $name);
}

/**
 * A file in the external folder of automated backups as port.BackupFile; its sha1 is not known before it is read.
 */
function moodlectl_directory_record($directory, $name, $course) {
    $path = $directory . '/' . $name;
    return [
        'course_id' => (int)$course->id,
        'course_shortname' => $course->shortname,
        'area' => 'automated',
        'filename' => $name,
        'size' => (int)filesize($path),
        'timecreated' => (int)filemtime($path),
        'sha1' => null,
        'has_users' => moodlectl_name_says_users($name),
        'url' => null,
        'owner' => null,
        'directory' => $directory,
        'locator' => ['directory' => $directory, 'filename' => $name, 'course_id' => (int)$course->id],
    ];
}

/**
 * The external folder of automated backups, resolved, or null where the site keeps none.
 */
function moodlectl_automated_directory() {
    $directory = (string)get_config('backup', 'backup_auto_destination');
    if ($directory === '' || !(int)get_config('backup', 'backup_auto_storage')) {
        return null;
    }
    return realpath($directory) ?: $directory;
}

/**
 * Does a file of the external folder belong to the course, by the name Moodle itself goes by
 * (backup/util/helper/backup_cron_helper.class.php remove_excess_backups_from_directory).
 */
function moodlectl_automated_name($name, $courseid) {
    return (bool)preg_match('#^[^/\\\\]*moodle2-course-' . (int)$courseid . '-[^/\\\\]*\.mbz$#', $name);
}

/**
 * The stored file or the path a locator names, after asking whether the acting user may have it, with the capability
 * the web pages ask for (lib/filelib.php file_pluginfile): ['file' => stored_file] or ['path' => string].
 */
function moodlectl_locate_backup(array $locator) {
    if (!empty($locator['directory'])) {
        return moodlectl_locate_in_directory($locator);
    }
    $file = false;
    $context = isset($locator['contextid']) ? context::instance_by_id((int)$locator['contextid'], IGNORE_MISSING) : false;
    if ($context) {
        $locator += ['itemid' => 0, 'filepath' => '/'];
        moodlectl_may_have($context, (string)$locator['component'], (string)$locator['filearea']);
        $file = get_file_storage()->get_file($context->id, $locator['component'], $locator['filearea'],
            (int)$locator['itemid'], $locator['filepath'], $locator['filename']);
    }
    if (!$file || $file->is_directory()) {
        $name = isset($locator['filename']) ? $locator['filename'] : '';
        throw new moodlectl_error('notfound', 'backup_not_found', "There is no backup $name there any more.",
            'See which there are: moodlectl backup list COURSE');
    }
    return ['file' => $file, 'context' => $context];
}

function moodlectl_may_have(context $context, $component, $filearea) {
    global $USER;
    if ($component === 'user' && $filearea === 'backup' && $context->contextlevel == CONTEXT_USER) {
        if ($context->instanceid != $USER->id && !is_siteadmin()) {
            throw new moodlectl_error('access', 'not_administrator',
                'This backup lies in the private area of another user.', 'Act as that user (--as USERNAME).');
        }
        return;
    }
    if ($component !== 'backup' || !in_array($filearea, ['course', 'section', 'activity', 'automated'], true)) {
        throw new moodlectl_error('usage', 'not_a_backup', 'What is asked for is no backup file.');
    }
    moodlectl_require_capability('moodle/backup:downloadfile', $context, 'have backups of this course');
    if ($filearea === 'automated') {
        moodlectl_require_capability('moodle/restore:userinfo', $context, 'have automated backups of this course');
    }
}

/**
 * A file of the external folder: named as Moodle names them, lying in the folder itself, not reached by a link.
 */
function moodlectl_locate_in_directory(array $locator) {
    $course = moodlectl_visible_course($locator['course_id']);
    $context = context_course::instance($course->id);
    moodlectl_may_have($context, 'backup', 'automated');
    $directory = moodlectl_automated_directory();
    $name = (string)$locator['filename'];
    $path = $directory === null ? false : realpath($directory . '/' . $name);
    if (!moodlectl_automated_name($name, $course->id) || $path === false || $path !== $directory . '/' . $name
            || !is_file($path)) {
        throw new moodlectl_error('notfound', 'backup_not_found',
            "There is no automated backup $name of {$course->shortname} in the external folder.",
            'See which there are: moodlectl backup list COURSE --area automated');
    }
    if (!is_readable($path)) {
        throw new moodlectl_error('access', 'unreadable', "PHP may not read $path.",
            'Let the web server\'s user read that folder.', ['path' => $path]);
    }
    return ['path' => $path, 'context' => $context, 'course' => $course];
}

/**
 * The content of the backup {locator} from {offset} on, in binary frames; returns its size and sha1.
 */
function moodlectl_call_fetch_backup(array $params, moodlectl_io $io) {
    $found = moodlectl_locate_backup($params['locator']);
    $offset = isset($params['offset']) ? (int)$params['offset'] : 0;
    if (isset($found['file'])) {
        $size = (int)$found['file']->get_filesize();
        $handle = $found['file']->get_content_file_handle();
        $sha1 = $found['file']->get_contenthash();
    } else {
        $size = (int)filesize($found['path']);
        $handle = fopen($found['path'], 'rb');
        $sha1 = null;
    }
    if ($offset > $size || $offset < 0) {
        throw new moodlectl_error('refused', 'bad_offset', "The backup has $size bytes, not $offset.", '',
            ['size' => $size]);
    }
    $sum = $sha1 === null ? hash_init('sha1') : null;
    // Hashing needs what lies before the offset, too; so do file systems that cannot seek.
    if ($sum !== null || fseek($handle, $offset) !== 0) {
        moodlectl_copy_bytes($handle, $offset, null, $sum);
    }
    moodlectl_copy_bytes($handle, $size - $offset, $io, $sum);
    fclose($handle);
    return ['size' => $size, 'sha1' => $sha1 === null ? hash_final($sum) : $sha1];
}

/**
 * Read {length} bytes on: into frames where there is somebody to have them, and into a hash where there is one.
 */
function moodlectl_copy_bytes($handle, $length, $io, $sum) {
    while ($length > 0) {
        $bytes = fread($handle, min(1 << 20, $length));
        if ($bytes === false || $bytes === '') {
            throw new moodlectl_error('failed', 'unreadable', 'The backup on the site ends before its recorded size.',
                'The file is damaged on the site; look at its disk.');
        }
        $length -= strlen($bytes);
        if ($sum !== null) {
            hash_update($sum, $bytes);
        }
        if ($io !== null) {
            $io->send($bytes);
        }
    }
}

/**
 * The moodle_backup.xml of the backup {locator}, in binary frames; returns its size and sha1. Leaves nothing behind.
 */
function moodlectl_call_manifest(array $params, moodlectl_io $io) {
    $found = moodlectl_locate_backup($params['locator']);
    $xml = moodlectl_read_manifest(isset($found['file']) ? $found['file'] : $found['path']);
    if ($xml === null) {
        throw new moodlectl_error('failed', 'no_manifest', 'The file holds no moodle_backup.xml: it is damaged, or not '
            . 'a Moodle backup.', 'A Common Cartridge (.imscc) has none; Moodle can restore it all the same.');
    }
    foreach (str_split($xml, 1 << 20) as $bytes) {
        $io->send($bytes);
    }
    return ['size' => strlen($xml), 'sha1' => sha1($xml)];
}

/**
 * moodle_backup.xml out of an archive (stored_file or path), or null
 * (lib/filestorage/mbz_packer.php; as backup_general_helper::get_backup_information_from_mbz does).
 */
function moodlectl_read_manifest($archive) {
    global $CFG;
    require_once($CFG->libdir . '/filelib.php');
    $directory = make_request_directory();
    $xml = null;
    try {
        get_file_packer('application/vnd.moodle.backup')->extract_to_pathname($archive, $directory, ['moodle_backup.xml']);
        if (is_file($directory . '/moodle_backup.xml')) {
            $xml = file_get_contents($directory . '/moodle_backup.xml');
        }
    } catch (moodle_exception $damaged) {
        $xml = null;
    } finally {
        fulldelete($directory);
    }
    return $xml === false || $xml === '' ? null : $xml;
}

/**
 * Delete the backup {locator}, with the capability that Moodle's page for managing backup files asks for
 * (backup/backupfilesedit.php: moodle/restore:uploadfile), and look that it is gone.
 */
function moodlectl_call_delete_backup(array $params, moodlectl_io $io) {
    $found = moodlectl_locate_backup($params['locator']);
    if ($found['context']->contextlevel != CONTEXT_USER) {
        moodlectl_require_capability('moodle/restore:uploadfile', $found['context'], 'delete backups of this course');
    }
    if (isset($found['path'])) {
        return moodlectl_delete_in_directory($found, $io);
    }
    $id = $found['file']->get_id();
    $io->begun();
    $found['file']->delete();
    if (get_file_storage()->get_file_by_id($id)) {
        throw new moodlectl_error('failed', 'not_deleted', 'The backup is still there after deleting it.');
    }
    return ['deleted' => true];
}

/**
 * Delete a file of the external folder, which sites may share: only where the archive itself says that it is of this
 * course of this site, as Moodle's own clean-up looks before it deletes.
 */
function moodlectl_delete_in_directory(array $found, moodlectl_io $io) {
    $xml = moodlectl_read_manifest($found['path']);
    if ($xml === null || moodlectl_manifest_course($xml) !== (int)$found['course']->id) {
        throw new moodlectl_error('refused', 'not_this_course', basename($found['path'])
            . ' does not say that it is a backup of this course of this site.',
            'The folder may be shared by several sites. Delete the file by hand if you know it is not needed.',
            ['path' => $found['path']]);
    }
    $io->begun();
    if (!@unlink($found['path'])) {
        throw new moodlectl_error('failed', 'not_deleted', 'PHP may not delete ' . $found['path'] . '.',
            'Let the web server\'s user write to that folder.', ['path' => $found['path']]);
    }
    clearstatcache();
    if (file_exists($found['path'])) {
        throw new moodlectl_error('failed', 'not_deleted', 'The backup is still there after deleting it.');
    }
    return ['deleted' => true];
}
