<?php
// Where compiled code is kept between the PHP processes of a batch, so that each does not compile Moodle anew.

/**
 * A private folder of Moodle's local cache for PHP's own cache of compiled code; null where PHP has none, has one for the
 * command line already, or the folder cannot be had. Purging Moodle's caches empties it (lib/moodlelib.php
 * purge_other_caches, 3.9 and later). Its name changes with the code, also where an upgrade leaves the files' times as
 * they are.
 */
function moodlectl_code_cache() {
    global $CFG;
    if (!extension_loaded('Zend OPcache') || (ini_get('opcache.enable_cli') && ini_get('opcache.file_cache'))) {
        return null;
    }
    $hash = isset($CFG->allversionshash) ? $CFG->allversionshash : $CFG->version;
    $folder = $CFG->localcachedir . '/moodlectl/' . md5($CFG->dirroot . ' ' . $hash . ' ' . $CFG->release . ' ' . PHP_VERSION);
    if (!preg_match('~^/[\w./@+-]+$~', $folder)) {
        return null; // It would have to be quoted for php.ini.
    }
    if (!is_dir($folder) && !@mkdir($folder, 0700, true) && !is_dir($folder)) {
        return null;
    }
    // Whoever may write there decides what this user runs.
    $mine = !function_exists('posix_geteuid') || fileowner($folder) === posix_geteuid();
    return $mine && (fileperms($folder) & 022) === 0 && is_writable($folder) ? $folder : null;
}
