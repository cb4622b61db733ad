<?php
// How hard the site has it at the moment. Reads only.

/**
 * Load of the last minute for each processor, tasks that wait for cron (table task_adhoc, all releases), bytes free
 * where backups are unpacked and where files are kept, whichever is less, and whether the site is in maintenance
 * ($CFG->maintenance_enabled: lib/setup.php). Null where the host does not tell.
 */
function moodlectl_call_pressure(array $params, moodlectl_io $io) {
    global $CFG, $DB;
    $load = function_exists('sys_getloadavg') ? @sys_getloadavg() : false;
    $free = [];
    foreach ([$CFG->backuptempdir, $CFG->dataroot] as $dir) {
        while (!@is_dir($dir) && dirname($dir) !== $dir) {
            $dir = dirname($dir); // Moodle makes it when it is first needed.
        }
        $bytes = @disk_free_space($dir);
        if ($bytes !== false) {
            $free[] = (int)$bytes;
        }
    }
    return [
        'load' => $load ? $load[0] / moodlectl_processors() : null,
        'tasks' => $DB->count_records_select('task_adhoc', 'nextruntime < :now', ['now' => time()]),
        'free' => $free ? min($free) : null,
        'maintenance' => !empty($CFG->maintenance_enabled),
    ];
}

/** How many processors the host has; 1 where it does not tell. */
function moodlectl_processors() {
    $known = (string)@file_get_contents('/proc/cpuinfo');
    return max(1, preg_match_all('/^processor\s*:/m', $known));
}
