<?php
// The archive of a restore: brought to the host, looked through before it is unpacked, and unpacked by Moodle.

/** Private directories below $CFG->backuptempdir, which Moodle itself sweeps after a week. */
function moodlectl_restore_directories(moodlectl_restore_job $job) {
    global $CFG;
    $root = make_backup_temp_directory('');
    $job->tempdir = 'moodlectl-restore-'
        . restore_controller::get_tempdir_name($job->course ? $job->course->id : 0, $job->userid);
    $job->base = rtrim($root, '/') . '/' . $job->tempdir;
    $job->archivedir = $job->base . '-archive';
    $job->archive = $job->archivedir . '/backup.mbz';
    $job->deed->note(['mode' => $job->mode, 'course' => $job->course ? (int)$job->course->id : null,
        'directories' => [basename($job->base), basename($job->archivedir)]]);
    foreach ([$job->base, $job->archivedir] as $directory) {
        if (!@mkdir($directory, 0700)) {
            throw new moodlectl_error('failed', 'no_tempdir', "The directory $directory cannot be made.",
                'Check the rights of $CFG->backuptempdir for the user PHP runs as.');
        }
    }
}

/** Refuses when the temporary directory has not got that many bytes free. */
function moodlectl_restore_need_space(moodlectl_restore_job $job, array $needed, $what) {
    $volumes = [];
    foreach ($needed as $directory => $bytes) {
        $stat = @stat($directory);
        $volume = $stat ? $stat['dev'] : $directory;
        if (!isset($volumes[$volume])) {
            $volumes[$volume] = [$directory, 0];
        }
        $volumes[$volume][1] += $bytes;
    }
    foreach ($volumes as $volume) {
        $free = @disk_free_space($volume[0]);
        $needed = (int)$volume[1] + (16 << 20); // The reserve keeps the site alive beside the restore.
        if ($free !== false && $free < $needed) {
            throw new moodlectl_error('refused', 'no_space', 'The host has not got the disk space for ' . $what . ': '
                . display_size($needed) . ' needed, 16 MB of it in reserve for the site, ' . display_size((int)$free)
                . ' free in ' . $volume[0] . '.', 'Make room there, or point $CFG->backuptempdir at a larger disk.',
                ['directory' => $volume[0], 'needed' => $needed, 'free' => (int)$free]);
        }
    }
}

/** Brings the archive into its private directory: from the client, or from where the site keeps it. */
function moodlectl_restore_receive(moodlectl_restore_job $job) {
    $source = $job->params['source'];
    moodlectl_restore_directories($job);
    if ($source['kind'] === 'course') {
        moodlectl_restore_from_course($job, $source);
        return;
    }
    if ($source['kind'] === 'stored') {
        moodlectl_restore_copy_stored($job, $source['locator']);
        return;
    }
    $size = (int)$source['size'];
    moodlectl_restore_need_space($job, [$job->archivedir => $size * 2], 'the backup file and its content');
    $out = fopen($job->archive, 'xb');
    $hash = hash_init('sha1');
    $done = 0;
    while (($chunk = $job->io->receive()) !== null) {
        hash_update($hash, $chunk);
        if (fwrite($out, $chunk) !== strlen($chunk)) {
            fclose($out);
            throw new moodlectl_error('refused', 'no_space', 'The backup file could not be written to ' . $job->archivedir
                . '; the disk is full.', 'Make room there, or point $CFG->backuptempdir at a larger disk.');
        }
        $done += strlen($chunk);
        $job->io->progress('upload', $done, $size, 'bytes');
    }
    fclose($out);
    $sha1 = hash_final($hash);
    if ($done !== $size || $sha1 !== $source['sha1']) {
        throw new moodlectl_error('failed', 'upload_damaged', 'What arrived on the host is not what was sent: '
            . "$done of $size bytes.", 'Try again; the connection, or the file while it was read, was changed.',
            ['size' => $done, 'sha1' => $sha1]);
    }
}

/** Copies a stored backup; a file in the external directory of automated backups likewise. */
function moodlectl_restore_copy_stored(moodlectl_restore_job $job, array $locator) {
    list($size, $copy, $sha1) = moodlectl_restore_stored_source($job, $locator);
    moodlectl_restore_need_space($job, [$job->archivedir => $size * 2], 'a copy of the backup file and its content');
    if (!$copy($job->archive) || filesize($job->archive) !== $size) {
        throw new moodlectl_error('failed', 'copy_failed', 'The stored backup could not be copied to '
            . $job->archivedir . '.', 'Check the disk, and whether the site\'s file pool still holds the file.');
    }
    if ($sha1 !== null && sha1_file($job->archive) !== $sha1) {
        throw new moodlectl_error('refused', 'damaged', 'The stored backup is damaged: its content is no longer what the '
            . 'site has written down for it.', 'Restore another one; the site\'s disk should be looked at.', ['sha1' => $sha1]);
    }
}

/** Contents of a stored backup that are not what their names say; a file that is sent here was looked through before. */
function moodlectl_restore_find_damage(moodlectl_restore_job $job) {
    if ($job->params['source']['kind'] !== 'stored') {
        return;
    }
    $bad = [];
    foreach (glob($job->base . '/files/*/*') ?: [] as $path) {
        if (is_file($path) && sha1_file($path) !== basename($path)) {
            $bad[] = basename($path);
        }
    }
    if ($bad) {
        moodlectl_restore_find($job, 'not-whole', 'danger', 'The stored backup is damaged: ' . count($bad)
            . ' of its contents are not what their names say.', 'Restore another one. To try it all the same: '
            . '--allow not-whole', ['contents' => array_slice($bad, 0, 200)]);
    }
    if (empty($job->info->include_files)) {
        return;
    }
    $names = moodlectl_restore_missing_contents($job);
    if ($names) {
        moodlectl_restore_find($job, 'not-whole', 'danger', 'The stored backup names ' . count($job->lost) . ' contents that it '
            . 'does not hold, and that the site has not got: ' . implode(', ', array_slice($names, 0, 5))
            . (count($names) > 5 ? ', …' : '') . '.', 'Restore another one. To go without: --allow not-whole',
            ['files' => array_slice($names, 0, 200)]);
    }
}

/** The names a hostile archive must not have: they would lead out of the directory. */
function moodlectl_restore_bad_name($name) {
    return $name === '' || $name[0] === '/' || strpos($name, "\0") !== false || strpos($name, '\\') !== false
        || preg_match('~^[A-Za-z]:~', $name) || preg_match('~(^|/)\.\.(/|$)~', $name);
}

function moodlectl_restore_refuse_name($name, $what) {
    throw new moodlectl_error('refused', 'hostile_archive', "The file is not restored: it contains $what "
        . json_encode($name, JSON_UNESCAPED_SLASHES | JSON_INVALID_UTF8_SUBSTITUTE) . ', which no Moodle backup has.',
        'Do not use this file.', ['name' => $name]);
}

function moodlectl_restore_refuse_truncated($why) {
    throw new moodlectl_error('refused', 'truncated', "The backup file is incomplete: $why.",
        'Get it again; moodlectl backup verify FILE tells whether a file is whole.');
}

function moodlectl_restore_refuse_garbage($why) {
    throw new moodlectl_error('refused', 'not_a_backup', "The file is no Moodle backup: $why.",
        'Check the file: moodlectl backup verify FILE');
}

/** Looks the archive through, checks the disk, and lets Moodle unpack it (lib/filestorage/mbz_packer.php, all). */
function moodlectl_restore_unpack(moodlectl_restore_job $job) {
    global $CFG;
    if ($job->params['source']['kind'] === 'course') {
        return; // It was never packed.
    }
    $head = (string)file_get_contents($job->archive, false, null, 0, 4);
    if (substr($head, 0, 2) === "\x1f\x8b") {
        $sizes = moodlectl_restore_list_tgz($job);
    } else if ($head === "PK\x03\x04" || $head === "PK\x05\x06") {
        $sizes = moodlectl_restore_list_zip($job);
    } else {
        moodlectl_restore_refuse_garbage(filesize($job->archive) === 0 ? 'it is empty'
            : 'it is neither a gzipped tar file nor a zip file');
    }
    if (!$sizes['names']) {
        moodlectl_restore_refuse_garbage('it has no moodle_backup.xml');
    }
    moodlectl_restore_into_memory($job, $sizes['total']);
    moodlectl_restore_need_space($job, [$job->base => $sizes['total'],
        empty($CFG->filedir) ? $CFG->dataroot : $CFG->filedir => $sizes['pool']],
        'the unpacked backup and its files');
    $job->checkpoint();
    if (!empty($sizes['plain']) && moodlectl_restore_untar($job)) {
        unlink($job->archive);
        return;
    }
    $trouble = '';
    try {
        $done = get_file_packer('application/vnd.moodle.backup')->extract_to_pathname($job->archive, $job->base, null,
            new moodlectl_restore_unpacking($job));
    } catch (moodlectl_error $e) {
        throw $e;
    } catch (Exception $e) {
        $done = false;
        $trouble = $e->getMessage();
    }
    // The zip packer answers with an array that is not empty also when single files failed.
    $failed = is_array($done) ? array_filter($done, function($state) {
        return $state !== true;
    }) : [];
    if (!$done || $failed) {
        moodlectl_restore_refuse_truncated('Moodle could not unpack it'
            . ($failed ? ' (' . key($failed) . ': ' . reset($failed) . ')' : ($trouble === '' ? '' : " ($trouble)")));
    }
    // Freed at once: from here on only the unpacked content is used.
    unlink($job->archive);
}

/**
 * Has a small backup unpacked in memory, where the host can. Moodle looks for it below $CFG->backuptempdir, which config.php
 * may name, too (lib/setuplib.php make_backup_temp_directory, 3.9 to 5.1); it is changed for this process alone.
 */
function moodlectl_restore_into_memory(moodlectl_restore_job $job, $bytes) {
    global $CFG;
    $directory = moodlectl_spent::$plain || $bytes > 64 << 20 ? null : moodlectl_memory_directory($bytes);
    if ($directory === null) {
        return;
    }
    $job->deed->note(['memory' => $directory]); // Before it is made: a kill in between is cleared up, too.
    if (!@mkdir($directory . '/' . $job->tempdir, 0700, true)) {
        return;
    }
    rmdir($job->base);
    $job->memory = $directory;
    $job->base = $directory . '/' . $job->tempdir;
    $CFG->backuptempdir = $directory;
}

/**
 * Unpacks with the system's tar, which is several times as fast as Moodle's own unpacker where there are many small
 * files. Only what was looked through and holds nothing but plain files and directories with safe names; false where
 * there is no tar, or it did not succeed: Moodle's own then has its turn.
 */
function moodlectl_restore_untar(moodlectl_restore_job $job) {
    if (!function_exists('proc_open')) {
        return false;
    }
    $words = ['tar', '-xzf', '-', '-C', $job->base, '--no-same-owner', '--no-same-permissions', '-m'];
    $said = tmpfile();
    $pipes = [];
    $process = @proc_open(implode(' ', array_map('escapeshellarg', $words)), [['pipe', 'r'], ['file', '/dev/null', 'w'],
        $said], $pipes);
    if (!is_resource($process)) {
        return false;
    }
    try {
        $fed = moodlectl_restore_feed($job, $pipes[0]);
    } catch (Throwable $e) {
        proc_terminate($process, 9);
        throw $e;
    } finally {
        fclose($pipes[0]);
        $status = proc_close($process);
    }
    if (!$fed || $status !== 0) {
        rewind($said);
        $job->io->log('tar: ' . fread($said, 4000));
        return moodlectl_restore_empty($job);
    }
    @unlink($job->base . '/.ARCHIVE_INDEX');
    return is_file($job->base . '/moodle_backup.xml') || moodlectl_restore_empty($job);
}

/** Hands the archive to an unpacker, telling how far it is; whether it took all of it. */
function moodlectl_restore_feed(moodlectl_restore_job $job, $pipe) {
    $in = fopen($job->archive, 'rb');
    $size = filesize($job->archive);
    $done = 0;
    while (($bytes = (string)fread($in, 1 << 16)) !== '') {
        // It has an end of its own before the file's, and hangs up there: what is left is padding.
        if (@fwrite($pipe, $bytes) !== strlen($bytes)) {
            break;
        }
        $done += strlen($bytes);
        $job->io->progress('unpack', $done, $size, 'bytes');
        $job->checkpoint();
    }
    fclose($in);
    return $size - $done < 1 << 16;
}

/** Takes back what an unpacker has left half done; always false. */
function moodlectl_restore_empty(moodlectl_restore_job $job) {
    remove_dir($job->base, true);
    return false;
}

/**
 * Reads a gzipped tar from one end to the other without writing: names, sizes, and whether it is whole. Moodle's own
 * list_files believes the index inside the file (lib/filestorage/tgz_extractor.php, all releases).
 */
function moodlectl_restore_list_tgz(moodlectl_restore_job $job) {
    $gz = gzopen($job->archive, 'rb');
    $found = ['total' => 0, 'pool' => 0, 'names' => 0, 'plain' => true];
    $zeros = 0;
    while ($zeros < 2) {
        $block = (string)gzread($gz, 512);
        if (strlen($block) < 512) {
            gzclose($gz);
            if ($block === '' && $found['total'] === 0) {
                moodlectl_restore_refuse_garbage('what is inside is not a tar file');
            }
            moodlectl_restore_refuse_truncated('it ends in the middle');
        }
        if (trim($block, "\0") === '') {
            $zeros++;
            continue;
        }
        $zeros = 0;
        if (substr($block, 257, 5) !== 'ustar') {
            gzclose($gz);
            moodlectl_restore_refuse_garbage('what is inside is not a tar file');
        }
        moodlectl_restore_tar_member($block, $found);
        $size = moodlectl_restore_tar_size($block);
        $left = (int)ceil($size / 512) * 512;
        while ($left > 0) {
            $bytes = (string)gzread($gz, min($left, 1 << 18));
            if ($bytes === '') {
                gzclose($gz);
                moodlectl_restore_refuse_truncated('it ends in the middle');
            }
            $left -= strlen($bytes);
        }
        $job->io->progress('check', $found['total'], null, 'bytes');
    }
    gzclose($gz);
    return $found;
}

function moodlectl_restore_tar_size($block) {
    return (int)octdec(trim(substr($block, 124, 12), " \0"));
}

/** The name of a member, from its header. GNU tar keeps other things in the prefix field. */
function moodlectl_restore_tar_name($block) {
    $name = rtrim(substr($block, 0, 100), "\0");
    $prefix = rtrim(substr($block, 345, 155), "\0");
    return $prefix !== '' && substr($block, 257, 6) === "ustar\0" ? $prefix . '/' . $name : $name;
}

/** Counts one member of a tar file, or refuses it by its name or kind. */
function moodlectl_restore_tar_member($block, array &$found) {
    $name = moodlectl_restore_tar_name($block);
    $kind = $block[156];
    if (moodlectl_restore_bad_name($name)) {
        moodlectl_restore_refuse_name($name, 'the name');
    }
    if ($kind >= '1' && $kind <= '7' && $kind !== '5') {
        moodlectl_restore_refuse_name($name, 'a link or device');
    }
    // Longer names and the like are told in members of other kinds, which every tar reads in its own way.
    $found['plain'] = $found['plain'] && ($kind === '0' || $kind === "\0" || $kind === '5');
    moodlectl_restore_count_member($name, moodlectl_restore_tar_size($block), $found);
}

function moodlectl_restore_count_member($name, $size, array &$found) {
    $found['total'] += $size + 512;
    $found['pool'] += strpos($name, 'files/') === 0 ? $size : 0;
    // Other formats that Moodle converts have these files instead.
    $known = ['moodle_backup.xml', 'moodle.xml', 'imsmanifest.xml'];
    $found['names'] += in_array($name, $known, true) || basename($name) === 'imsmanifest.xml' ? 1 : 0;
}

/** The same for a zip file, from its central directory. */
function moodlectl_restore_list_zip(moodlectl_restore_job $job) {
    $zip = new ZipArchive();
    $code = $zip->open($job->archive, ZipArchive::CHECKCONS);
    if ($code !== true) {
        moodlectl_restore_refuse_truncated('its table of contents is missing or damaged');
    }
    $found = ['total' => 0, 'pool' => 0, 'names' => 0];
    for ($i = 0; $i < $zip->numFiles; $i++) {
        $stat = $zip->statIndex($i, ZipArchive::FL_ENC_RAW);
        $name = $stat['name'];
        if (moodlectl_restore_bad_name($name)) {
            moodlectl_restore_refuse_name($name, 'the name');
        }
        $system = 0;
        $attributes = 0;
        $zip->getExternalAttributesIndex($i, $system, $attributes);
        if ($system === ZipArchive::OPSYS_UNIX && (($attributes >> 16) & 0170000) === 0120000) {
            moodlectl_restore_refuse_name($name, 'a link');
        }
        moodlectl_restore_count_member($name, $stat['size'], $found);
    }
    $zip->close();
    return $found;
}

/** Removes the archive's copy, the unpacked backup and the log files of this restore. */
function moodlectl_restore_remove_files(moodlectl_restore_job $job) {
    if ($job->base === '') {
        return;
    }
    foreach ([$job->base, $job->archivedir] as $directory) {
        if (is_dir($directory)) {
            fulldelete($directory);
        }
    }
    moodlectl_memory_remove($job->memory);
    foreach ($job->restoreids as $id) {
        $log = dirname($job->base) . '/' . $id . '.log';
        if (is_file($log)) {
            @unlink($log);
        }
    }
}

/** Size of a stored backup, a function that copies it to a path, and its sha1 if the site knows it; the acting user must be allowed to have it. */
function moodlectl_restore_stored_source(moodlectl_restore_job $job, array $locator) {
    $found = moodlectl_locate_backup($locator);
    if (isset($found['file'])) {
        return [(int)$found['file']->get_filesize(), function($to) use ($found) {
            return $found['file']->copy_content_to($to);
        }, $found['file']->get_contenthash()];
    }
    return [(int)filesize($found['path']), function($to) use ($found) {
        return copy($found['path'], $to);
    }, null];
}
