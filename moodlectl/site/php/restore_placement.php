<?php
// Where what is merged into a course lands, and what of a backup stays behind when only chosen items are wanted.

/** Checks the place asked for before anything is unpacked: {how: into|after, section_id}. */
function moodlectl_restore_find_place(moodlectl_restore_job $job) {
    global $DB;
    $place = $job->params['placement'];
    if (!$place) {
        return;
    }
    if ($job->mode !== 'merge') {
        throw new moodlectl_error('usage', 'no_merge', 'A place is only chosen for what is merged into a course.');
    }
    $id = (int)$place['section_id'];
    $section = $DB->get_record('course_sections', ['id' => $id, 'course' => $job->course->id]);
    if (!$section) {
        throw new moodlectl_error('notfound', 'section_not_found', "The course {$job->course->shortname} has no section "
            . "with the id $id.", 'See which there are: moodlectl course show COURSE');
    }
    if ($place['how'] === 'after' && !empty($section->component)) {
        throw new moodlectl_error('refused', 'in_subsection', 'Sections cannot be placed after a subsection.',
            'Name a section of the course itself, or bring the activities into the subsection: --into-section ITEM');
    }
    moodlectl_restore_need($job, 'moodle/course:manageactivities');
    if ($place['how'] === 'after') {
        moodlectl_restore_need($job, 'moodle/course:movesections');
    }
}

/**
 * Lets the sections of the backup arrive as new ones behind all others, so that they meet none of the course's
 * (restore_section_structure_step goes by <number>, 3.9 to 5.1). They are moved from there.
 */
function moodlectl_restore_prepare_place(moodlectl_restore_job $job) {
    global $DB;
    $place = $job->params['placement'];
    if (!$place) {
        return;
    }
    list($sections, $activities) = moodlectl_restore_contents($job);
    if ($place['how'] === 'after' && !$sections) {
        throw new moodlectl_error('refused', 'no_section', 'The backup holds a single activity and no section that could '
            . 'be placed.', 'Bring it into a section: --into-section ITEM');
    }
    $target = $DB->get_record('course_sections', ['id' => (int)$place['section_id']], '*', MUST_EXIST);
    foreach ($activities as $cmid => $activity) {
        if (!empty($target->component) && $activity['module'] === 'subsection' && $job->chosen['activities'][$cmid]) {
            throw new moodlectl_error('refused', 'in_subsection', 'A subsection cannot stand in another.',
                'Name a section of the course itself.');
        }
    }
    $next = moodlectl_restore_last_section($job->course->id);
    foreach (array_keys(array_filter($job->chosen['sections'])) as $id) {
        if ($sections[$id]['parent']) {
            continue; // The section of a subsection stays with it.
        }
        $path = $job->base . '/sections/section_' . (int)$id . '/section.xml';
        $xml = is_file($path) ? file_get_contents($path) : '';
        if (strpos($xml, '<component>') === false || strpos($xml, '<component>$@NULL@$</component>') !== false) {
            $next++;
            file_put_contents($path, preg_replace('~<number>[0-9]+</number>~', "<number>$next</number>", $xml, 1));
            $job->placed[] = (int)$id;
        }
    }
}

/** The number of a course's last section; those of subsections (4.5 and later) come behind and do not count. */
function moodlectl_restore_last_section($courseid) {
    global $DB;
    $select = 'course = ?';
    if (isset($DB->get_columns('course_sections')['component'])) {
        $select .= ' AND component IS NULL';
    }
    return (int)$DB->get_field_select('course_sections', 'MAX(section)', $select, [$courseid]);
}

/** Moves what came to where it was wanted (course/lib.php, 3.9 to 5.1), and looks whether it is there. */
function moodlectl_restore_place(moodlectl_restore_job $job, array $activities, array &$sections) {
    global $DB;
    $place = $job->params['placement'];
    if (!$place) {
        return;
    }
    $new = [];
    foreach ($job->placed as $old) {
        if (isset($sections[$old])) {
            $new[$old] = $sections[$old];
        }
    }
    if ($place['how'] === 'after') {
        moodlectl_restore_place_after($job, (int)$place['section_id'], array_values($new));
    } else {
        $target = (int)$place['section_id'];
        moodlectl_restore_place_into($job, $target, $new ?: null, $activities);
        foreach (array_keys($new) as $old) {
            $sections[$old] = $target;
        }
    }
    rebuild_course_cache($job->course->id, true);
}

/** Moves the new sections behind one of the course, in their order. */
function moodlectl_restore_place_after(moodlectl_restore_job $job, $after, array $new) {
    global $DB;
    foreach ($new as $i => $id) {
        $course = $DB->get_record('course', ['id' => $job->course->id], '*', MUST_EXIST);
        $wanted = 1 + $i + (int)$DB->get_field('course_sections', 'section', ['id' => $after], MUST_EXIST);
        $number = (int)$DB->get_field('course_sections', 'section', ['id' => $id], MUST_EXIST);
        if ($number !== $wanted) {
            move_section_to($course, $number, $wanted, true);
        }
        if ((int)$DB->get_field('course_sections', 'section', ['id' => $id]) !== $wanted) {
            throw new moodlectl_error('failed', 'not_placed', "Moodle did not move the new section to place $wanted.");
        }
    }
}

/** Moves the new activities to the end of a section, in their order, and removes the sections they came with. */
function moodlectl_restore_place_into(moodlectl_restore_job $job, $target, $new, array $activities) {
    global $DB;
    $cmids = $new === null ? array_values($activities) : [];
    foreach ((array)$new as $id) {
        $sequence = (string)$DB->get_field('course_sections', 'sequence', ['id' => $id], MUST_EXIST);
        $cmids = array_merge($cmids, array_filter(explode(',', $sequence)));
    }
    $course = $DB->get_record('course', ['id' => $job->course->id], '*', MUST_EXIST);
    foreach ($cmids as $cmid) {
        rebuild_course_cache($course->id, true);
        $cm = get_coursemodule_from_id('', $cmid, $course->id, true, MUST_EXIST);
        $shown = !defined('FEATURE_CAN_DISPLAY') || plugin_supports('mod', $cm->modname, FEATURE_CAN_DISPLAY, true);
        // Question banks (5.0 and later) stand in section 0 and are shown nowhere.
        $where = $shown ? ['id' => $target] : ['course' => $course->id, 'section' => 0];
        $section = $DB->get_record('course_sections', $where, '*', MUST_EXIST);
        moveto_module($cm, $section);
        if ((int)$DB->get_field('course_modules', 'section', ['id' => $cmid]) !== (int)$section->id) {
            throw new moodlectl_error('failed', 'not_placed', "Moodle did not move the activity {$cm->name}.");
        }
    }
    foreach ((array)$new as $id) {
        rebuild_course_cache($course->id, true);
        $section = $DB->get_record('course_sections', ['id' => $id], '*', MUST_EXIST);
        if (trim((string)$section->sequence) !== '' || !course_delete_section($course, (int)$section->section, false)) {
            throw new moodlectl_error('failed', 'not_placed', 'The section that came along could not be removed again.');
        }
    }
}

/**
 * Leaves behind what belongs to the course itself, when only the items are wanted: enrolments, roles, comments,
 * calendar, logs, blocks. The documents stay as empty ones, since not every step minds a missing one
 * (restore_course_task and its steps, 3.9 to 5.1; blocks are found by their folders).
 */
function moodlectl_restore_leave_course(moodlectl_restore_job $job) {
    if (!$job->params['items_only'] || !is_dir($job->base . '/course')) {
        return;
    }
    foreach (glob($job->base . '/course/*.xml') as $path) {
        if (basename($path) === 'course.xml') {
            continue; // Not read, unless it is to be overwritten.
        }
        $reader = new XMLReader();
        $name = '';
        if ($reader->open($path, null, LIBXML_NONET)) {
            while ($name === '' && @$reader->read()) {
                $name = $reader->nodeType === XMLReader::ELEMENT ? $reader->name : '';
            }
            $reader->close();
        }
        if (preg_match('/^[a-z_]+$/', $name)) {
            file_put_contents($path, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<$name></$name>");
        }
    }
    if (is_dir($job->base . '/course/blocks')) {
        fulldelete($job->base . '/course/blocks');
    }
}

/** The last row of the site's own log, before a restore adds to it; null where it keeps none, or nothing is in it. */
function moodlectl_restore_last_log(moodlectl_restore_job $job) {
    global $DB;
    if ($job->mode === 'new' || !$DB->get_manager()->table_exists('logstore_standard_log')) {
        return null;
    }
    return (int)$DB->get_field_sql('SELECT MAX(id) FROM {logstore_standard_log}') ?: null;
}

/**
 * Takes out of the log what the restore has written there a second time. Emptying a course leaves its log where it is,
 * and a restore inserts every line of the backup's (restore_logstore_standard_subplugin, 3.9 to 5.1): what was logged in
 * the course itself would stand there twice, after the next restore four times. Lines of activities that come back
 * belong to new contexts, and stay. Object ids are not compared, since those of a restored line are mapped or lost, nor
 * where it came from, which no backup tells.
 */
function moodlectl_restore_trim_logs(moodlectl_restore_job $job, $last) {
    global $DB;
    if ($last === null) {
        return;
    }
    $same = ['anonymous', 'timecreated', 'contextid', 'eventname', 'userid'];
    $maybe = ['relateduserid' => '0', 'realuserid' => '0', 'ip' => "''"];
    $where = array_map(function($field) {
        return "o.$field = n.$field";
    }, $same);
    foreach ($maybe as $field => $nothing) {
        $where[] = "COALESCE(o.$field, $nothing) = COALESCE(n.$field, $nothing)";
    }
    $twice = $DB->get_fieldset_sql('SELECT n.id FROM {logstore_standard_log} n WHERE n.courseid = ? AND n.id > ?
        AND EXISTS (SELECT 1 FROM {logstore_standard_log} o WHERE o.courseid = n.courseid AND o.id <= ? AND '
        . implode(' AND ', $where) . ')', [$job->course->id, $last, $last]);
    foreach (array_chunk($twice, 1000) as $ids) {
        $DB->delete_records_list('logstore_standard_log', 'id', $ids);
    }
}

/**
 * Takes out of the history of grades what the restore itself wrote into it, where the backup's own was brought: items
 * that come back have the history they had (lib/grade/grade_object.php insert, source "restore", 3.9 to 5.1).
 */
function moodlectl_restore_trim_history(moodlectl_restore_job $job, array $activities, $since) {
    global $DB;
    if ((!$job->params['items_only'] && $job->params['keepsake'] === null) || $since === null) {
        return;
    }
    foreach ($activities as $cmid) {
        $cm = get_coursemodule_from_id('', $cmid, $job->course->id);
        $items = $cm ? $DB->get_fieldset_select('grade_items', 'id', "courseid = ? AND itemtype = 'mod' AND itemmodule = ?
            AND iteminstance = ?", [$job->course->id, $cm->modname, $cm->instance]) : [];
        foreach ($items as $item) {
            $DB->delete_records_select('grade_grades_history', "itemid = ? AND source = 'restore' AND timemodified >= ?",
                [$item, $since]);
        }
    }
}
