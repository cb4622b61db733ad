<?php
// Courses, categories, their contents, and what a course holds in numbers. Reads only.

/**
 * The site as port.SiteInfo (config.php, version.php: $CFG->release, $CFG->version; all releases).
 */
function moodlectl_call_info(array $params, moodlectl_io $io) {
    global $CFG, $SITE;
    return [
        'name' => $SITE->fullname,
        'url' => $CFG->wwwroot,
        'release' => $CFG->release,
        'version' => (string)$CFG->version,
        'username' => $io->acting->username,
        'identifier_hash' => md5(get_site_identifier()),
    ];
}

/**
 * Every category the acting user may see, parents before children
 * (course/classes/category.php core_course_category::get_all, 3.9 and later).
 */
function moodlectl_call_categories(array $params, moodlectl_io $io) {
    $all = core_course_category::get_all();
    uasort($all, function($a, $b) {
        return $a->sortorder - $b->sortorder;
    });
    $result = [];
    foreach ($all as $category) {
        $path = [];
        foreach (explode('/', trim($category->path, '/')) as $id) {
            if (isset($all[$id])) {
                $path[] = $all[$id]->name;
            }
        }
        $result[] = [
            'id' => (int)$category->id,
            'name' => $category->name,
            'idnumber' => (string)$category->idnumber,
            'parent' => (int)$category->parent,
            'path' => $path,
            'visible' => (bool)$category->visible,
            'courses' => (int)$category->coursecount,
        ];
    }
    return $result;
}

/**
 * The courses of {category_id} with the categories below it, or those {search} finds, or all, without the front
 * page, as far as the acting user may see them (lib/datalib.php get_courses_search, all releases).
 */
function moodlectl_call_courses(array $params, moodlectl_io $io) {
    global $DB;
    $inside = null;
    if (!empty($params['category_id'])) {
        $category = $DB->get_record('course_categories', ['id' => (int)$params['category_id']]);
        if (!$category) {
            throw new moodlectl_error('notfound', 'category_not_found',
                'There is no category with the id ' . (int)$params['category_id'] . '.');
        }
        $inside = $DB->get_records_select('course_categories', 'id = ? OR ' . $DB->sql_like('path', '?'),
            [$category->id, $category->path . '/%'], '', 'id');
    }
    $search = isset($params['search']) ? trim((string)$params['search']) : '';
    if ($search !== '') {
        $total = 0;
        $found = get_courses_search(preg_split('/\s+/u', $search), 'c.sortorder ASC', 0, PHP_INT_MAX >> 32, $total);
    } else {
        $found = $DB->get_records('course', null, 'sortorder ASC',
            'id, category, shortname, fullname, idnumber, format, startdate, enddate, visible');
    }
    $names = $DB->get_records_menu('course_categories', null, '', 'id, name');
    $result = [];
    foreach ($found as $course) {
        if ($course->id == SITEID || ($inside !== null && !isset($inside[$course->category]))) {
            continue;
        }
        if (moodlectl_course_visible($course)) {
            $result[] = moodlectl_course_record($course, $names);
        }
    }
    return $result;
}

/**
 * The one course whose {field} (id, shortname, idnumber) is {value}.
 */
function moodlectl_call_course(array $params, moodlectl_io $io) {
    global $DB;
    $field = $params['field'];
    $within = ['cmid' => 'course_modules', 'sectionid' => 'course_sections'];
    if (isset($within[$field])) {
        $id = ctype_digit((string)$params['value']) && strlen($params['value']) < 19 ? (int)$params['value'] : 0;
        $courseid = $DB->get_field($within[$field], 'course', ['id' => $id]);
        if (!$courseid) {
            throw new moodlectl_error('notfound', 'course_not_found', 'There is no '
                . ($field === 'cmid' ? 'activity' : 'section') . " with the id {$params['value']} on the site.",
                'It may have been deleted. See which courses there are: moodlectl course list');
        }
        return moodlectl_course_record(moodlectl_visible_course($courseid));
    }
    if (!in_array($field, ['id', 'shortname', 'idnumber'], true)) {
        throw new moodlectl_error('usage', 'unknown_field', 'A course is named by id, shortname or idnumber.');
    }
    $value = (string)$params['value'];
    $found = [];
    if ($value !== '' && ($field !== 'id' || (ctype_digit($value) && strlen($value) < 19))) {
        $found = $DB->get_records('course', [$field => $field === 'id' ? (int)$value : $value]);
    }
    if (!$found) {
        throw new moodlectl_error('notfound', 'course_not_found', "There is no course with the $field $value.",
            'See which there are: moodlectl course list');
    }
    if (count($found) > 1) {
        throw new moodlectl_error('notfound', 'course_ambiguous', "More than one course has the $field $value.",
            'Name it by its id.', ['ids' => array_map('intval', array_keys($found))]);
    }
    return moodlectl_course_record(moodlectl_visible_course(reset($found)->id));
}

/**
 * Sections in order with their activities, without what is being deleted or may not be seen
 * (lib/modinfolib.php course_modinfo; delegated sections: 4.5 and later).
 */
function moodlectl_call_contents(array $params, moodlectl_io $io) {
    global $CFG;
    require_once($CFG->dirroot . '/course/lib.php');
    $course = moodlectl_visible_course($params['course_id']);
    $modinfo = get_fast_modinfo($course);
    $subsections = $modinfo->get_instances_of('subsection');
    $unfolds = [];
    $result = [];
    foreach ($modinfo->get_section_info_all() as $section) {
        $delegated = isset($section->component) && $section->component === 'mod_subsection';
        $parent = $delegated && isset($subsections[$section->itemid]) ? (int)$subsections[$section->itemid]->id : null;
        if ($parent !== null) {
            $unfolds[$parent] = (int)$section->id;
        }
    }
    foreach ($modinfo->get_section_info_all() as $section) {
        if (!$section->uservisible) {
            continue;
        }
        $activities = [];
        $sectioncms = $modinfo->get_sections();
        foreach (isset($sectioncms[$section->section]) ? $sectioncms[$section->section] : [] as $cmid) {
            $cm = $modinfo->get_cm($cmid);
            if (!empty($cm->deletioninprogress) || (!$cm->uservisible && !$cm->is_visible_on_course_page())) {
                continue;
            }
            $activities[] = [
                'id' => (int)$cm->id,
                'module' => $cm->modname,
                'name' => $cm->name,
                'visible' => (bool)$cm->visible,
                'subsection_id' => isset($unfolds[$cm->id]) ? $unfolds[$cm->id] : null,
            ];
        }
        $parent = array_search((int)$section->id, $unfolds, true);
        $result[] = [
            'id' => (int)$section->id,
            'number' => (int)$section->section,
            'name' => moodlectl_section_title($course, $section),
            'visible' => (bool)$section->visible,
            'activities' => $activities,
            'parent_activity' => $parent === false ? null : $parent,
        ];
    }
    return $result;
}

/**
 * What the course {course_id} holds, as port.Counts, and further numbers under `more`.
 */
function moodlectl_call_counts(array $params, moodlectl_io $io) {
    $course = moodlectl_visible_course($params['course_id']);
    return moodlectl_count_course($course->id);
}

/**
 * A section's own name, or the one its course format gives it (course/lib.php get_section_name, all releases).
 */
function moodlectl_section_title($course, $section) {
    if ((string)$section->name !== '') {
        return $section->name;
    }
    return html_entity_decode(strip_tags(get_section_name($course, $section)), ENT_QUOTES, 'UTF-8');
}

/**
 * May the acting user see the course: as one who has access to it, or in a course list
 * (lib/accesslib.php can_access_course, course/classes/category.php can_view_course_info; 3.9 and later).
 */
function moodlectl_course_visible($course) {
    if (is_siteadmin() || $course->id == SITEID) {
        return true;
    }
    return core_course_category::can_view_course_info($course) || can_access_course($course, null, '', true);
}

/**
 * The course record, or an error where it does not exist or may not be seen.
 */
function moodlectl_visible_course($courseid) {
    global $DB, $USER;
    $course = $DB->get_record('course', ['id' => (int)$courseid]);
    if (!$course) {
        throw new moodlectl_error('notfound', 'course_not_found', 'There is no course with the id ' . (int)$courseid . '.',
            'See which there are: moodlectl course list');
    }
    if (!moodlectl_course_visible($course)) {
        throw new moodlectl_error('access', 'course_not_visible',
            "The user {$USER->username} may not see the course {$course->shortname}.",
            'Act as somebody who may (--as USERNAME), or ask for a role in the course: '
                . moodlectl_whom_to_ask('moodle/role:assign', context_course::instance($course->id)) . '.',
            ['course_id' => (int)$course->id, 'username' => $USER->username]);
    }
    return $course;
}

/**
 * A course as port.Course; the idnumber only where the acting user may edit the course, as in Moodle's web service
 * (course/externallib.php get_courses, all releases).
 */
function moodlectl_course_record($course, $categorynames = null) {
    global $CFG, $DB;
    if ($categorynames === null) {
        $categorynames = $DB->get_records_menu('course_categories', ['id' => $course->category], '', 'id, name');
    }
    return [
        'id' => (int)$course->id,
        'shortname' => $course->shortname,
        'fullname' => $course->fullname,
        'idnumber' => has_capability('moodle/course:update', context_course::instance($course->id))
            ? (string)$course->idnumber : '',
        'category_id' => (int)$course->category,
        'category_name' => isset($categorynames[$course->category]) ? $categorynames[$course->category] : '',
        'startdate' => (int)$course->startdate,
        'enddate' => (int)$course->enddate,
        'visible' => (bool)$course->visible,
        'url' => $CFG->wwwroot . '/course/view.php?id=' . (int)$course->id,
        'format' => $course->format,
    ];
}

/**
 * What a course holds now: the keys of port.Counts, and `more` (numbers by name). No capability is asked.
 *
 * Tables as in lib/db/install.xml of 3.9 to 5.1; question_bank_entries: 4.0 and later.
 */
function moodlectl_count_course($courseid) {
    global $DB;
    $courseid = (int)$courseid;
    $context = context_course::instance($courseid);
    $files = moodlectl_count_files($context);
    return [
        'sections' => $DB->count_records('course_sections', ['course' => $courseid]),
        'activities' => moodlectl_count_activities($courseid),
        'users' => (int)$DB->count_records_sql('SELECT COUNT(DISTINCT ue.userid) FROM {user_enrolments} ue
            JOIN {enrol} e ON e.id = ue.enrolid WHERE e.courseid = ?', [$courseid]),
        'groups' => $DB->count_records('groups', ['courseid' => $courseid]),
        'grade_items' => $DB->count_records('grade_items', ['courseid' => $courseid]),
        'grades' => (int)$DB->count_records_sql('SELECT COUNT(gg.id) FROM {grade_grades} gg
            JOIN {grade_items} gi ON gi.id = gg.itemid
            WHERE gi.courseid = ? AND (gg.finalgrade IS NOT NULL OR gg.rawgrade IS NOT NULL)
            AND (gi.itemtype NOT IN (\'course\', \'category\') OR gg.overridden <> 0)', [$courseid]), // Totals come and go.
        'questions' => moodlectl_count_questions($context),
        'files' => $files['count'],
        'file_bytes' => $files['bytes'],
        'more' => moodlectl_count_more($courseid, $context),
    ];
}

/**
 * Activities by module name, without those being deleted (an object even when empty).
 */
function moodlectl_count_activities($courseid) {
    global $DB;
    $counts = [];
    foreach ($DB->get_records_sql('SELECT m.name, COUNT(cm.id) AS amount FROM {course_modules} cm
            JOIN {modules} m ON m.id = cm.module
            WHERE cm.course = ? AND cm.deletioninprogress = 0 GROUP BY m.name ORDER BY m.name', [$courseid]) as $row) {
        $counts[$row->name] = (int)$row->amount;
    }
    return (object)$counts;
}

/**
 * SQL that is true for contexts {ctx} at and below the given one.
 */
function moodlectl_below_sql(context $context) {
    global $DB;
    return ['(ctx.id = ? OR ' . $DB->sql_like('ctx.path', '?') . ')', [$context->id, $context->path . '/%']];
}

/**
 * Files at and below a context and their sizes, without backups, the recycle bin, and what is made anew from others.
 */
function moodlectl_count_files(context $context) {
    global $DB;
    list($below, $values) = moodlectl_below_sql($context);
    $row = $DB->get_record_sql("SELECT COUNT(f.id) AS amount, COALESCE(SUM(f.filesize), 0) AS bytes FROM {files} f
        JOIN {context} ctx ON ctx.id = f.contextid
        WHERE $below AND f.filename <> '.' AND f.component NOT IN ('backup', 'tool_recyclebin')
        AND NOT (f.component = 'assignfeedback_editpdf'
            AND f.filearea IN ('pages', 'readonlypages', 'partial', 'combined', 'importhtml', 'tmp_jpg_to_pdf'))",
        $values);
    return ['count' => (int)$row->amount, 'bytes' => (int)$row->bytes];
}

/**
 * Question bank entries in the contexts of a course; before 4.0 questions, without the random placeholders.
 */
function moodlectl_count_questions(context $context) {
    global $DB;
    list($below, $values) = moodlectl_below_sql($context);
    if ($DB->get_manager()->table_exists('question_bank_entries')) {
        return (int)$DB->count_records_sql("SELECT COUNT(qbe.id) FROM {question_bank_entries} qbe
            JOIN {question_categories} qc ON qc.id = qbe.questioncategoryid
            JOIN {context} ctx ON ctx.id = qc.contextid WHERE $below", $values);
    }
    return (int)$DB->count_records_sql("SELECT COUNT(q.id) FROM {question} q
        JOIN {question_categories} qc ON qc.id = q.category
        JOIN {context} ctx ON ctx.id = qc.contextid WHERE $below AND q.qtype <> 'random'", $values);
}

/**
 * Further numbers, for saying what was lost and what was not. Tables that a site lacks are left out.
 */
function moodlectl_count_more($courseid, context $context) {
    global $DB;
    list($below, $values) = moodlectl_below_sql($context);
    $incourse = [$courseid];
    $queries = [
        'groupings' => ['{groupings} x WHERE x.courseid = ?', $incourse],
        'group_members' => ['{groups_members} x JOIN {groups} g ON g.id = x.groupid WHERE g.courseid = ?', $incourse],
        'enrolment_methods' => ['{enrol} x WHERE x.courseid = ?', $incourse],
        'grade_categories' => ['{grade_categories} x WHERE x.courseid = ?', $incourse],
        'grade_history' => ['{grade_grades_history} x JOIN {grade_items} gi ON gi.id = x.itemid WHERE gi.courseid = ?',
            $incourse],
        'posts' => ['{forum_posts} x JOIN {forum_discussions} d ON d.id = x.discussion WHERE d.course = ?', $incourse],
        'attempts' => ['{quiz_attempts} x JOIN {quiz} q ON q.id = x.quiz WHERE q.course = ? AND x.preview = 0', $incourse],
        'submissions' => ["{assign_submission} x JOIN {assign} a ON a.id = x.assignment
            WHERE a.course = ? AND x.status <> 'new'", $incourse],
        'badges' => ['{badge} x WHERE x.courseid = ?', $incourse],
        'badges_issued' => ['{badge_issued} x JOIN {badge} b ON b.id = x.badgeid WHERE b.courseid = ?', $incourse],
        'calendar_events' => ['{event} x WHERE x.courseid = ?', $incourse],
        'completion' => ['{course_modules_completion} x JOIN {course_modules} cm ON cm.id = x.coursemoduleid
            WHERE cm.course = ?', $incourse],
        'course_completions' => ['{course_completions} x WHERE x.course = ? AND x.timecompleted IS NOT NULL', $incourse],
        'logs' => ['{logstore_standard_log} x WHERE x.courseid = ?', $incourse],
        'blocks' => ["{block_instances} x JOIN {context} ctx ON ctx.id = x.parentcontextid WHERE $below", $values],
        'comments' => ["{comments} x JOIN {context} ctx ON ctx.id = x.contextid WHERE $below", $values],
        'role_assignments' => ["{role_assignments} x JOIN {context} ctx ON ctx.id = x.contextid WHERE $below", $values],
        'role_overrides' => ["{role_capabilities} x JOIN {context} ctx ON ctx.id = x.contextid WHERE $below", $values],
        'contentbank' => ["{contentbank_content} x JOIN {context} ctx ON ctx.id = x.contextid WHERE $below", $values],
    ];
    $tables = array_flip($DB->get_tables());
    $counts = [];
    foreach ($queries as $name => $query) {
        preg_match_all('/\{(\w+)\}/', $query[0], $needed);
        if (!array_diff_key(array_flip($needed[1]), $tables)) {
            $counts[$name] = (int)$DB->count_records_sql('SELECT COUNT(x.id) FROM ' . $query[0], $query[1]);
        }
    }
    return (object)$counts;
}
