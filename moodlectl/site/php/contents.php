<?php
// The contents of files, sent by their sha1: what a site lacks, what it can send, what was put there ahead.
//
// A stream of contents is, for each: its sha1 in hexadecimal, one letter (R as it is, Z deflated, M not there), its size
// in 16 hexadecimal digits, then pieces, each a length in 8 hexadecimal digits and so many bytes, the last of length 0.
//
// What arrives is entered in an area of our own, so that Moodle's own cleaning leaves it alone and everybody can see
// what no course has claimed: system context, component local_moodlectl, area contents, the sha1 for a name
// (lib/filestorage/file_storage.php, 3.9 to 5.1; pluginfile.php serves no such component).

/** Contents by hash are whoever's files: only who may configure the site may move them. */
function moodlectl_contents_need(moodlectl_io $io) {
    get_file_storage(); // Loads the classes around it.
    if (!has_capability('moodle/site:config', context_system::instance(), $io->acting->id)) {
        throw new moodlectl_error('access', 'no_capability', "The user {$io->acting->username} may not move the contents "
            . 'of files by their hash: moodle/site:config is missing.', 'Act as a site administrator (--as USERNAME), or '
            . 'let the backup carry its files.', ['capability' => 'moodle/site:config']);
    }
}

/** A file of that content, whether there is such a record or not, as Moodle's file systems want it. */
function moodlectl_content_file($sha1, $size) {
    return new stored_file(get_file_storage(), (object)['contenthash' => $sha1, 'filesize' => (int)$size,
        'repositoryid' => null, 'id' => 0, 'filename' => $sha1, 'filepath' => '/', 'component' => 'local_moodlectl',
        'filearea' => 'contents', 'itemid' => 0, 'contextid' => SYSCONTEXTID, 'mimetype' => null]);
}

/** Whether the pool has that content, whole and not only in its trash. */
function moodlectl_content_there($sha1, $size) {
    $file = moodlectl_content_file($sha1, $size);
    $system = get_file_storage()->get_file_system();
    if ($system->is_file_readable_locally_by_storedfile($file)) {
        // A damaged content of the pool is one that lacks.
        return (int)@filesize($system->get_local_path_from_storedfile($file)) === (int)$size;
    }
    return $system->is_file_readable_remotely_by_storedfile($file);
}

/** Where the content can be read on this machine; object file systems fetch it for that. Null where it is not. */
function moodlectl_content_path($sha1, $size) {
    if (!moodlectl_content_there($sha1, $size)) {
        return null;
    }
    $path = get_file_storage()->get_file_system()->get_local_path_from_storedfile(moodlectl_content_file($sha1, $size),
        true);
    return is_readable($path) && (int)filesize($path) === (int)$size ? $path : null;
}

function moodlectl_content_hash($sha1) {
    if (!is_string($sha1) || !preg_match('/^[0-9a-f]{40}$/', $sha1)) {
        throw new moodlectl_error('usage', 'bad_hash', 'That is no sha1 of a content.');
    }
    return $sha1;
}

/** Those of {contents} [[sha1, size]] that the pool has not got. Reads only. */
function moodlectl_call_contents_lacking(array $params, moodlectl_io $io) {
    moodlectl_contents_need($io);
    $lacking = [];
    foreach ($params['contents'] as $one) {
        if (!moodlectl_content_there(moodlectl_content_hash($one[0]), (int)$one[1])) {
            $lacking[] = $one[0];
        }
    }
    return $lacking;
}

/**
 * The contents of all files of the course {course_id} but its backups, [[sha1, size]] once each; with {users} those of the
 * pictures of who is enrolled, too. Reads only. (lib/accesslib.php: the contexts below a course's; lib/db/install.xml: files;
 * backup/moodle2/backup_stepslib.php: backup_annotate_all_user_files, 3.9 to 5.1)
 */
function moodlectl_call_contents_of_course(array $params, moodlectl_io $io) {
    global $DB;
    moodlectl_contents_need($io);
    $context = context_course::instance((int)$params['course_id']);
    $like = $DB->sql_like('c.path', ':below');
    $records = $DB->get_recordset_sql("SELECT f.contenthash, MAX(f.filesize) AS filesize
        FROM {files} f JOIN {context} c ON c.id = f.contextid
        WHERE (c.id = :own OR $like) AND f.component <> 'backup' AND f.filename <> '.' AND f.filesize > 0
            AND f.referencefileid IS NULL GROUP BY f.contenthash ORDER BY f.contenthash",
        ['own' => $context->id, 'below' => $context->path . '/%']);
    $found = [];
    foreach ($records as $record) {
        $found[$record->contenthash] = [$record->contenthash, (int)$record->filesize];
    }
    $records->close();
    if (!empty($params['users'])) {
        $records = $DB->get_recordset_sql("SELECT f.contenthash, MAX(f.filesize) AS filesize
            FROM {files} f JOIN {context} c ON c.id = f.contextid AND c.contextlevel = :level
            WHERE f.component = 'user' AND f.filearea IN ('profile', 'icon') AND f.filename <> '.' AND f.filesize > 0
                AND f.referencefileid IS NULL AND c.instanceid IN (SELECT ue.userid FROM {user_enrolments} ue
                    JOIN {enrol} e ON e.id = ue.enrolid WHERE e.courseid = :course)
            GROUP BY f.contenthash ORDER BY f.contenthash",
            ['level' => CONTEXT_USER, 'course' => (int)$params['course_id']]);
        foreach ($records as $record) {
            $found[$record->contenthash] = [$record->contenthash, (int)$record->filesize];
        }
        $records->close();
    }
    return array_values($found);
}

/** The {contents} [[sha1, size]] as a stream, packed where {pack} and it helps. Reads only. */
function moodlectl_call_contents_send(array $params, moodlectl_io $io) {
    moodlectl_contents_need($io);
    $missing = [];
    $sent = 0;
    foreach ($params['contents'] as $one) {
        list($sha1, $size) = [moodlectl_content_hash($one[0]), (int)$one[1]];
        $path = moodlectl_content_path($sha1, $size);
        $in = $path === null ? false : @fopen($path, 'rb');
        if (!$in) {
            $missing[] = $sha1;
            $io->send($sha1 . 'M' . sprintf('%016x', 0) . '00000000');
            continue;
        }
        $sent += moodlectl_content_send($io, $in, $sha1, $size, !empty($params['pack']));
        fclose($in);
    }
    return ['missing' => $missing, 'sent' => $sent];
}

/** One content into the stream; its first piece tells whether packing helps. Returns the bytes sent. */
function moodlectl_content_send(moodlectl_io $io, $in, $sha1, $size, $pack) {
    $piece = (string)fread($in, 1 << 18);
    $packs = $pack && strlen($piece) > 512 && strlen(gzdeflate($piece, 1)) < 0.8 * strlen($piece);
    $deflate = $packs ? deflate_init(ZLIB_ENCODING_RAW, ['level' => 1]) : null;
    $head = $sha1 . ($packs ? 'Z' : 'R') . sprintf('%016x', $size);
    $sent = 0;
    while ($piece !== '') {
        $next = (string)fread($in, 1 << 18);
        $out = $packs ? deflate_add($deflate, $piece, $next === '' ? ZLIB_FINISH : ZLIB_NO_FLUSH) : $piece;
        if ($out !== '') {
            $io->send($head . sprintf('%08x', strlen($out)) . $out);
            $sent += strlen($out);
            $head = '';
        }
        $piece = $next;
    }
    $io->send($head . '00000000');
    return $sent;
}

/** Bytes of the client's upload, in whatever pieces they come. */
final class moodlectl_contents_reader {
    /** @var moodlectl_io */
    private $io;
    private $buffer = '';
    private $over = false;

    public function __construct(moodlectl_io $io) {
        $this->io = $io;
    }

    /** Exactly so many bytes; null where the stream has ended before the first of them. */
    public function read($length) {
        while (strlen($this->buffer) < $length && !$this->over) {
            $piece = $this->io->receive();
            if ($piece === null) {
                $this->over = true;
            } else {
                $this->buffer .= $piece;
            }
        }
        if ($this->buffer === '' && $length > 0) {
            return null;
        }
        if (strlen($this->buffer) < $length) {
            throw new moodlectl_error('failed', 'contents_cut', 'The contents that arrived are cut short.', 'Try again.');
        }
        $bytes = (string)substr($this->buffer, 0, $length);
        $this->buffer = (string)substr($this->buffer, $length);
        return $bytes;
    }
}

/** Refuses where there is no room: for all of them in the pool, and for one on its way there. */
function moodlectl_contents_room($bytes, $largest) {
    global $CFG;
    $pool = isset($CFG->filedir) && is_dir($CFG->filedir) ? $CFG->filedir : $CFG->dataroot;
    $temp = make_backup_temp_directory('');
    $needs = [$pool => $bytes];
    $one = @stat($pool);
    $other = @stat($temp);
    if ($one && $other && $one['dev'] !== $other['dev']) {
        $needs[$temp] = $largest;
    } else {
        $needs[$pool] += $largest;
    }
    foreach ($needs as $directory => $need) {
        $free = @disk_free_space($directory);
        if ($free !== false && $free < $need + (16 << 20)) {
            throw new moodlectl_error('refused', 'no_space', 'The site has not got the disk space for what is missing there: '
                . display_size($need) . ' needed, ' . display_size((int)$free) . " free in $directory.", 'Make room there.',
                ['directory' => $directory, 'needed' => $need, 'free' => (int)$free]);
        }
    }
}

/**
 * Takes a stream of contents into the pool, each checked by its sha1 before it is entered. Writes to the site, nothing
 * that any course sees. {bytes}: how much is coming, {largest} the largest of them, {more}: how much will come after it.
 * What was entered when the stream breaks off stays.
 */
function moodlectl_call_contents_receive(array $params, moodlectl_io $io) {
    moodlectl_contents_need($io);
    $bytes = (int)$params['bytes'];
    moodlectl_contents_room($bytes + (int)$params['more'], (int)$params['largest']);
    $io->begun();
    // Moodle sweeps this directory of what a killed process leaves there.
    $directory = rtrim(make_backup_temp_directory(''), '/') . '/moodlectl-contents-' . bin2hex(random_bytes(8));
    if (!@mkdir($directory, 0700)) {
        throw new moodlectl_error('failed', 'no_tempdir', "The directory $directory cannot be made.",
            'Check the rights of $CFG->backuptempdir for the user PHP runs as.');
    }
    $taken = ['count' => 0, 'bytes' => 0, 'missing' => [], 'refused' => []];
    $reader = new moodlectl_contents_reader($io);
    try {
        while (($head = $reader->read(57)) !== null) {
            if (!preg_match('/^([0-9a-f]{40})([RZM])([0-9a-f]{16})$/', $head, $m)) {
                throw new moodlectl_error('failed', 'protocol', 'The client sent something that is no content.');
            }
            moodlectl_content_take($reader, $m, $directory, $taken);
            $io->progress('contents', $taken['bytes'], $bytes, 'bytes');
        }
    } finally {
        fulldelete($directory);
    }
    return $taken;
}

/** One content out of the stream: written aside, checked, and entered. */
function moodlectl_content_take(moodlectl_contents_reader $reader, array $head, $directory, array &$taken) {
    list(, $sha1, $kind, $size) = $head;
    $path = $directory . '/' . $sha1;
    $out = fopen($path, 'wb');
    $hash = hash_init('sha1');
    $inflate = $kind === 'Z' ? inflate_init(ZLIB_ENCODING_RAW) : null;
    $written = 0;
    while (($length = hexdec((string)$reader->read(8))) > 0) {
        $piece = (string)$reader->read($length);
        if ($inflate !== null) {
            $piece = @inflate_add($inflate, $piece);
        }
        $written += strlen((string)$piece);
        if ($piece === false || $written > hexdec($size)) {
            $written = -1;
            $piece = '';
            $inflate = $kind === 'Z' ? inflate_init(ZLIB_ENCODING_RAW) : null;
        }
        hash_update($hash, $piece);
        if (fwrite($out, $piece) !== strlen($piece)) {
            fclose($out);
            unlink($path);
            throw new moodlectl_error('refused', 'no_space', 'A content could not be written: the disk is full.',
                'Make room on the site\'s disk, then try again: what has arrived is kept.', ['directory' => $directory]);
        }
    }
    fclose($out);
    if ($kind === 'M') {
        $taken['missing'][] = $sha1;
    } else if (hash_final($hash) !== $sha1 || $written !== hexdec($size)) {
        $taken['refused'][] = $sha1;
    } else {
        moodlectl_content_enter($sha1, $path);
        $taken['count']++;
        $taken['bytes'] += $written;
    }
    unlink($path);
}

/** Into the pool, and into our area. */
function moodlectl_content_enter($sha1, $path) {
    $storage = get_file_storage();
    $record = ['contextid' => SYSCONTEXTID, 'component' => 'local_moodlectl', 'filearea' => 'contents', 'itemid' => 0,
        'filepath' => '/', 'filename' => $sha1, 'userid' => null, 'mimetype' => 'application/octet-stream'];
    if ($storage->file_exists(SYSCONTEXTID, 'local_moodlectl', 'contents', 0, '/', $sha1)) {
        // Its content was lost, or somebody else entered it this very moment.
        $storage->get_file_system()->add_file_from_path($path, $sha1);
        return;
    }
    try {
        $storage->create_file_from_pathname($record, $path);
    } catch (stored_file_creation_exception $e) {
        if (!$storage->file_exists(SYSCONTEXTID, 'local_moodlectl', 'contents', 0, '/', $sha1)) {
            throw $e;
        }
    }
}

/** What was put there ahead: [{sha1, size, since, claimed}], claimed where some other file has that content. Reads only. */
function moodlectl_call_contents_held(array $params, moodlectl_io $io) {
    global $DB;
    moodlectl_contents_need($io);
    $held = [];
    $records = $DB->get_recordset_sql("SELECT f.id, f.contenthash, f.filesize, f.timecreated,
            (SELECT COUNT(1) FROM {files} o WHERE o.contenthash = f.contenthash AND o.component <> 'local_moodlectl') AS others
        FROM {files} f WHERE f.contextid = ? AND f.component = 'local_moodlectl' AND f.filearea = 'contents'
            AND f.filename <> '.' ORDER BY f.timecreated, f.id", [SYSCONTEXTID]);
    foreach ($records as $record) {
        $held[] = ['sha1' => $record->contenthash, 'size' => (int)$record->filesize, 'since' => (int)$record->timecreated,
            'claimed' => (int)$record->others > 0];
    }
    $records->close();
    return $held;
}

/**
 * Takes {contents} [sha1] out of our area again: those claimed since by other files, with {unclaimed} the others too, whose
 * content Moodle then moves to its trash. Returns how many. Writes to the site.
 */
function moodlectl_call_contents_release(array $params, moodlectl_io $io) {
    global $DB;
    moodlectl_contents_need($io);
    $storage = get_file_storage();
    $count = 0;
    foreach ($params['contents'] as $sha1) {
        $file = $storage->get_file(SYSCONTEXTID, 'local_moodlectl', 'contents', 0, '/', moodlectl_content_hash($sha1));
        if (!$file) {
            continue;
        }
        $claimed = $DB->record_exists_select('files', "contenthash = ? AND component <> 'local_moodlectl'", [$sha1]);
        if ($claimed || !empty($params['unclaimed'])) {
            $io->begun();
            $count += $file->delete() ? 1 : 0;
        }
    }
    return $count;
}

/**
 * Gives an unpacked backup that carries no files its contents from the site's own pool, as links, and lets it say that it
 * carries them. Moodle would find them there by itself, but give files whose content no record has yet the people and times
 * of the other site (restore_dbops::send_files_to_pool, 3.9 to 5.1). Only when all are there. Returns whether they were.
 */
function moodlectl_contents_fill($base) {
    $manifest = $base . '/moodle_backup.xml';
    $text = (string)@file_get_contents($manifest, false, null, 0, 1 << 16);
    if (!preg_match('~<include_files>0</include_files>~', $text) || !is_file($base . '/files.xml')) {
        return false;
    }
    $wanted = [];
    moodlectl_restore_records($base . '/files.xml', 'file', function($file) use (&$wanted) {
        if ($file->filename !== '.' && !empty($file->contenthash) && empty($file->repositoryid)
                && preg_match('/^[0-9a-f]{40}$/', $file->contenthash)) {
            $wanted[$file->contenthash] = (int)$file->filesize;
        }
    });
    $paths = [];
    foreach ($wanted as $sha1 => $size) {
        $paths[$sha1] = moodlectl_content_path($sha1, $size);
        if ($paths[$sha1] === null) {
            return false;
        }
    }
    foreach ($paths as $sha1 => $path) {
        // Where restore_dbops::send_files_to_pool looks (backup_file_manager::get_backup_content_file_location).
        $place = $base . '/files/' . substr($sha1, 0, 2);
        if (!is_dir($place)) {
            mkdir($place, 0700, true);
        }
        if (!file_exists("$place/$sha1") && !@symlink($path, "$place/$sha1") && !copy($path, "$place/$sha1")) {
            return false;
        }
    }
    $whole = (string)file_get_contents($manifest);
    $told = preg_replace('~<include_files>0</include_files>~', '<include_files>1</include_files>', $whole, 1);
    return file_put_contents($manifest, $told) === strlen($told);
}
