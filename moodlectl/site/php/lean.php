<?php
// A stored backup sent without the contents of its files: those travel by their sha1, and most are there already.

/**
 * The backup {locator} as a gzipped tar without its file pool and index, in binary frames; whether it is one that can be
 * sent so (a zip cannot). Reads only. (lib/filestorage/tgz_packer.php, 3.9 to 5.1)
 */
function moodlectl_call_backup_without_files(array $params, moodlectl_io $io) {
    moodlectl_contents_need($io);
    $path = moodlectl_lean_path(moodlectl_locate_backup($params['locator']));
    $in = gzopen($path, 'rb');
    if (!$in || (string)file_get_contents($path, false, null, 0, 2) !== "\x1f\x8b") {
        return false;
    }
    $out = deflate_init(ZLIB_ENCODING_GZIP, ['level' => 6]);
    $zeros = 0;
    while ($zeros < 2) {
        $block = (string)gzread($in, 512);
        if (strlen($block) < 512) {
            throw new moodlectl_error('refused', 'truncated', 'The stored backup is incomplete: it ends in the middle.',
                'Take another one.');
        }
        $zeros = trim($block, "\0") === '' ? $zeros + 1 : 0;
        $left = $zeros ? 0 : (int)ceil(moodlectl_restore_tar_size($block) / 512) * 512;
        $name = moodlectl_restore_tar_name($block);
        $keep = $name !== '.ARCHIVE_INDEX' && $name !== 'files' && strpos($name, 'files/') !== 0;
        if ($keep) {
            $io->send(deflate_add($out, $block, ZLIB_NO_FLUSH));
        }
        while ($left > 0) {
            $bytes = (string)gzread($in, min($left, 1 << 18));
            if ($bytes === '') {
                throw new moodlectl_error('refused', 'truncated', 'The stored backup is incomplete: it ends in the middle.',
                    'Take another one.');
            }
            $left -= strlen($bytes);
            if ($keep) {
                $io->send(deflate_add($out, $bytes, ZLIB_NO_FLUSH));
            }
        }
    }
    gzclose($in);
    $io->send(deflate_add($out, '', ZLIB_FINISH));
    return true;
}

/** Where a stored backup can be read on this machine; object file systems fetch it for that. */
function moodlectl_lean_path(array $found) {
    if (!isset($found['file'])) {
        return $found['path'];
    }
    $path = get_file_storage()->get_file_system()->get_local_path_from_storedfile($found['file'], true);
    if (!is_readable($path)) {
        throw new moodlectl_error('failed', 'unreadable', 'The content of the stored backup is missing on the site.',
            'Look at the site\'s disk.');
    }
    return $path;
}
