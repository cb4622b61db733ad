<?php
// A directory in memory for a small backup that is unpacked: thousands of little files, for whose names and inodes a disk's
// file system takes longer than everything else takes that is done to them.

/** What is written there has become more than was thought; it is begun again on the disk. */
final class moodlectl_memory_full extends Exception {
}

/** Has a look, now and then, at how much is written there. */
final class moodlectl_memory_watch {
    /** How much may be written, in bytes; four times as much has to be free. */
    const MOST = 256 << 20;
    /** @var string|null */
    private static $directory = null;
    /** @var float free bytes at the beginning */
    private static $free = 0.0;
    /** @var float when it was looked at */
    private static $looked = 0.0;

    public static function begin($directory) {
        self::$directory = $directory;
        self::$free = (float)@disk_free_space($directory);
    }

    public static function look() {
        if (self::$directory === null || microtime(true) - self::$looked < 0.2) {
            return;
        }
        self::$looked = microtime(true);
        $free = @disk_free_space(self::$directory);
        if ($free === false || self::$free - $free > self::MOST) {
            self::$directory = null;
            throw new moodlectl_memory_full('Too much is written for it to stay in memory.');
        }
    }
}

/**
 * A new private directory in memory with room for that many bytes eight times over; null where the host has none. What a
 * killed process has left there is removed by moodlectl_settle_files, else after a day by whoever comes next.
 */
function moodlectl_memory_directory($bytes) {
    $shared = '/dev/shm';
    if (!is_dir($shared) || is_link($shared) || !is_writable($shared)
            || !preg_match('~^\S+ /dev/shm tmpfs ~m', (string)@file_get_contents('/proc/mounts'))) {
        return null;
    }
    moodlectl_memory_sweep($shared);
    $free = @disk_free_space($shared);
    $memory = preg_match('/^MemAvailable:\s+(\d+) kB/m', (string)@file_get_contents('/proc/meminfo'), $m) ? $m[1] * 1024 : 0;
    if (!$free || $free < 8 * $bytes + (32 << 20) || $memory < 8 * $bytes + (256 << 20)) {
        return null;
    }
    return $shared . '/moodlectl-' . bin2hex(random_bytes(16));
}

/** Removes what was left there more than a day ago, of this user's. */
function moodlectl_memory_sweep($shared) {
    foreach (glob($shared . '/moodlectl-*') ?: [] as $left) {
        if (@filemtime($left) < time() - 86400) {
            moodlectl_memory_remove($left);
        }
    }
}

/** Removes one such directory, and nothing that could not be one. */
function moodlectl_memory_remove($directory) {
    $mine = !function_exists('posix_geteuid') || @fileowner($directory) === posix_geteuid();
    if (is_string($directory) && preg_match('~^/dev/shm/moodlectl-[0-9a-f]{32}$~', $directory) && $mine
            && is_dir($directory) && !is_link($directory)) {
        fulldelete($directory);
    }
}
