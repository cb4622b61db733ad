<?php
// Moodle's own records of backups and restores that run, or ran, inside a web request.

/** Those of the courses {course_ids} begun at {since} or later: [{operation, course_id, status, changed}]. Reads only. */
function moodlectl_call_controllers(array $params, moodlectl_io $io) {
    global $DB;
    $ids = array_map('intval', (array)$params['course_ids']);
    if (!$ids) {
        return [];
    }
    list($in, $values) = $DB->get_in_or_equal($ids);
    $values[] = (int)$params['since'];
    $found = $DB->get_records_select('backup_controllers', "itemid $in AND type = 'course' AND timecreated >= ?", $values,
        'id', 'id, operation, itemid, status, timemodified');
    return array_values(array_map(function($one) {
        return ['operation' => $one->operation, 'course_id' => (int)$one->itemid, 'status' => (int)$one->status,
            'changed' => (int)$one->timemodified];
    }, $found));
}
