<?php
// What the chosen part of a backup holds, in the numbers of port.Counts, so that a whole restore into a new course
// gives exactly these. What Moodle never carries (peoples' data that was left out, files it makes anew, enrolments by
// cohort from another site) is not expected.

/** port.Counts of what the restore will bring; to be asked before the plan is carried out. */
function moodlectl_restore_expected(moodlectl_restore_job $job) {
    $plan = $job->controller->get_plan();
    $course = $plan->setting_exists('overwrite_conf');
    $parts = moodlectl_restore_parts($job);
    $banks = moodlectl_restore_expected_questions($job, $parts);
    $activities = $parts['modules'];
    if ($banks['new_banks']) {
        $activities['qbank'] = (isset($activities['qbank']) ? $activities['qbank'] : 0) + $banks['new_banks'];
    }
    ksort($activities);
    $grades = moodlectl_restore_expected_grades($job, $parts);
    $files = moodlectl_restore_expected_files($job, $parts, $banks['ids']);
    return [
        'sections' => moodlectl_restore_expected_sections($job, $parts),
        'activities' => (object)$activities,
        'users' => $course ? moodlectl_restore_expected_enrolled($job) : 0,
        'groups' => moodlectl_restore_expected_groups($job),
        'grade_items' => $grades['items'],
        'grades' => $grades['grades'],
        'questions' => $banks['entries'],
        'files' => $files['count'],
        'file_bytes' => $files['bytes'],
    ];
}

/** The plan's tasks sorted: {modules, activities [dir => {cmid, module, userinfo}], sections, whole, tasks}. */
function moodlectl_restore_parts(moodlectl_restore_job $job) {
    $parts = ['modules' => [], 'activities' => [], 'sections' => [], 'whole' => true, 'tasks' => []];
    $parts['tasks'] = moodlectl_restore_included_tasks($job);
    foreach ($parts['tasks'] as $task) {
        if ($task instanceof restore_activity_task) {
            $module = $task->get_modulename();
            $parts['modules'][$module] = 1 + (isset($parts['modules'][$module]) ? $parts['modules'][$module] : 0);
            $parts['activities'][$task->get_taskbasepath()] = ['cmid' => (int)$task->get_old_moduleid(),
                'module' => $module, 'userinfo' => (bool)$task->get_setting_value('userinfo')];
        } else if ($task instanceof restore_section_task) {
            $parts['sections'][] = $task->get_taskbasepath();
        }
    }
    $plan = $job->controller->get_plan();
    foreach ($plan->get_tasks() as $task) {
        if ($task instanceof restore_activity_task && !isset($parts['activities'][$task->get_taskbasepath()])) {
            $parts['whole'] = false;
        }
    }
    // The gradebook's own part is restored only with everything (restore_gradebook_structure_step).
    $parts['whole'] = $parts['whole'] && !$plan->is_missing_modules() && $plan->get_setting('activities')->get_value()
        && $job->info->type !== backup::TYPE_1SECTION;
    return $parts;
}

/**
 * Sections: a course has all from 0 to its highest, also those the backup leaves out (restore_rebuild_course_cache);
 * the sections of subsections come on top. In a course that has sections already only the backup's own count.
 */
function moodlectl_restore_expected_sections(moodlectl_restore_job $job, array $parts) {
    $numbers = [];
    $delegated = 0;
    foreach ($parts['sections'] as $directory) {
        $number = null;
        $component = '';
        moodlectl_restore_walk_xml($directory . '/section.xml', function($reader, $depth) use (&$number, &$component) {
            if ($depth === 1 && $reader->name === 'number') {
                $number = (int)$reader->readString();
            } else if ($depth === 1 && $reader->name === 'component') {
                $component = $reader->readString();
            }
        });
        if ($component !== '' && $component !== '$@NULL@$') {
            $delegated++;
        } else if ($number !== null) {
            $numbers[$number] = true;
        }
    }
    if ($job->mode === 'merge') {
        return count($numbers) + $delegated;
    }
    return ($numbers ? max(array_keys($numbers)) + 1 : 0) + $delegated;
}

/**
 * People who will be enrolled (restore_enrolments_structure_step): all of them by the manual method, or by each method
 * that is there; cohort and meta enrolments do not pass from one site to another.
 */
function moodlectl_restore_expected_enrolled(moodlectl_restore_job $job) {
    $plan = $job->controller->get_plan();
    $kept = moodlectl_restore_stay_enrolled($job);
    if (!$plan->get_setting('users')->get_value()) {
        return count($kept);
    }
    $manual = (int)$plan->get_setting('enrolments')->get_value() === backup::ENROL_NEVER;
    $enrolled = [];
    $method = '';
    $known = $job->people['ids'];
    moodlectl_restore_walk_xml($job->base . '/course/enrolments.xml',
        function($reader, $depth) use ($job, $manual, $known, $kept, &$enrolled, &$method) {
            if ($depth === 3 && $reader->name === 'enrol') {
                $method = $reader->readString();
            } else if ($reader->name === 'userid' && $depth === 5) {
                $id = (int)$reader->readString();
                $passes = $manual ? enrol_is_enabled('manual')
                    : enrol_is_enabled($method) && ($job->samesite || !in_array($method, ['cohort', 'meta'], true));
                // A person who is matched and enrolled already is one.
                if ($passes && isset($known[$id]) && !in_array($known[$id], $kept)) {
                    $enrolled[$id] = true;
                }
            }
        });
    return count($enrolled) + count($kept);
}

/**
 * People who stay enrolled in a course that is replaced: all of them where that was asked for, else those of methods
 * that nobody, or not the acting user, may unenrol from, such as cohorts (lib/enrollib.php enrol_course_delete, 3.10
 * and later).
 */
function moodlectl_restore_stay_enrolled(moodlectl_restore_job $job) {
    global $DB;
    if ($job->mode !== 'replace') {
        return [];
    }
    if (moodlectl_restore_keeps($job, 'keep_roles_and_enrolments')) {
        return $DB->get_fieldset_sql('SELECT DISTINCT ue.userid FROM {user_enrolments} ue JOIN {enrol} e ON e.id = ue.enrolid
            WHERE e.courseid = ?', [$job->course->id]);
    }
    $job->stayed = [];
    $staying = [];
    $plugins = enrol_get_plugins(true);
    foreach (enrol_get_instances($job->course->id, false) as $method) {
        $plugin = isset($plugins[$method->enrol]) ? $plugins[$method->enrol] : null;
        if (!$plugin || ($plugin->allow_unenrol($method)
                && has_capability("enrol/{$method->enrol}:unenrol", $job->context, $job->userid))) {
            continue;
        }
        $people = $DB->get_records_sql_menu('SELECT DISTINCT u.id, u.username FROM {user_enrolments} ue
            JOIN {user} u ON u.id = ue.userid WHERE ue.enrolid = ?', [$method->id]);
        $staying += $people;
        $known = isset($job->stayed[$method->enrol]) ? $job->stayed[$method->enrol] : [];
        $job->stayed[$method->enrol] = array_values(array_unique(array_merge($known, $people)));
    }
    return array_keys($staying);
}

/**
 * Emptying a course stops half-way at a method of enrolment that is switched off on the site (lib/enrollib.php
 * enrol_course_delete calls a method of null, 3.10 to 5.1). For this process alone those that the course has are on;
 * one whose plugin is gone cannot be, and the restore is refused before anything is touched.
 */
function moodlectl_restore_switch_on_methods(moodlectl_restore_job $job) {
    global $CFG;
    if ($job->mode !== 'replace') {
        return;
    }
    $enabled = enrol_get_plugins(true);
    $all = enrol_get_plugins(false);
    foreach (enrol_get_instances($job->course->id, false) as $method) {
        if (isset($enabled[$method->enrol])) {
            continue;
        }
        if (!isset($all[$method->enrol])) {
            throw new moodlectl_error('refused', 'missing_method', "The course {$job->course->shortname} has the method of "
                . "enrolment {$method->enrol}, whose plugin the site has no more; Moodle would break off half-way.",
                'Remove that method in the course (Participants, Enrolment methods), or have the plugin installed again.',
                ['method' => $method->enrol]);
        }
        $CFG->enrol_plugins_enabled .= ',' . $method->enrol;
        $enabled[$method->enrol] = $all[$method->enrol];
    }
}

/** Groups: of the same name and description there is one (restore_groups_structure_step); kept ones stay. */
function moodlectl_restore_expected_groups(moodlectl_restore_job $job) {
    global $DB;
    $plan = $job->controller->get_plan();
    $kept = moodlectl_restore_keeps($job, 'keep_groups_and_groupings')
        ? $DB->get_records('groups', ['courseid' => $job->course->id], '', 'id, name, description') : [];
    $groups = [];
    foreach ($kept as $group) {
        $groups[] = [(string)$group->name, (string)$group->description];
    }
    if ($plan->setting_exists('groups') && !$plan->get_setting('groups')->get_value()) {
        return count($groups);
    }
    moodlectl_restore_records($job->base . '/groups.xml', 'group', function($group) use (&$groups) {
        foreach ($groups as $known) {
            if ($known[0] === $group->name && (empty($group->description) || $known[1] === $group->description)) {
                return;
            }
        }
        $groups[] = [(string)$group->name, isset($group->description) ? (string)$group->description : ''];
    });
    return count($groups);
}

/** Whether a replace keeps people or groups of the target. */
function moodlectl_restore_keeps(moodlectl_restore_job $job, $name) {
    $plan = $job->controller->get_plan();
    return $job->mode === 'replace' && $plan->setting_exists($name) && $plan->get_setting($name)->get_value();
}

/** Grade items and grades with a value: of the activities, and the gradebook's own where it is restored. */
function moodlectl_restore_expected_grades(moodlectl_restore_job $job, array $parts) {
    $found = ['items' => 0, 'grades' => 0, 'total' => false];
    foreach ($parts['activities'] as $directory => $activity) {
        moodlectl_restore_count_grades($job, $directory . '/grades.xml', $activity['userinfo'], $found);
    }
    $users = $job->controller->get_plan()->get_setting('users')->get_value();
    $gradebook = $parts['whole'] && is_file($job->base . '/gradebook.xml');
    if ($gradebook) {
        moodlectl_restore_count_grades($job, $job->base . '/gradebook.xml', $users, $found);
    }
    if (!$found['total'] && ($found['items'] || $gradebook) && $job->mode !== 'merge') {
        // The course total comes into being with the first grade item, or with the gradebook.
        $found['items']++;
    }
    return $found;
}

function moodlectl_restore_count_grades(moodlectl_restore_job $job, $path, $users, array &$found) {
    $known = $job->people['ids'];
    $computed = false;
    moodlectl_restore_walk_xml($path, function($reader) use ($users, $known, &$found, &$computed) {
        if ($reader->name === 'grade_item') {
            $found['items']++;
        } else if ($reader->name === 'itemtype') {
            $type = $reader->readString();
            $computed = in_array($type, ['course', 'category'], true);
            $found['total'] = $found['total'] || $type === 'course';
        } else if ($reader->name === 'grade_grade') {
            $grade = $users ? moodlectl_restore_record($reader->expand()) : null;
            $has = $grade && (isset($grade->finalgrade) || isset($grade->rawgrade)) && (!$computed || !empty($grade->overridden));
            if ($has && isset($known[(int)$grade->userid])) {
                $found['grades']++;
            }
            return 'next';
        }
        return null;
    });
}

/**
 * Question bank entries that come into the course, and the question bank activities that come into being with them:
 * {entries, new_banks, ids [contextid => ids]} (restore_dbops::prechek_precheck_qbanks_by_level, which differs
 * from 5.0 on, when questions moved out of courses into question bank activities).
 */
function moodlectl_restore_expected_questions(moodlectl_restore_job $job, array $parts) {
    $refs = [];
    $contexts = [];
    foreach ($parts['tasks'] as $task) {
        $refs = moodlectl_restore_inforef($task->get_taskbasepath(), $refs);
        if ($task instanceof restore_activity_task) {
            $contexts[moodlectl_restore_old_context($task)] = true;
        }
    }
    $banks = class_exists('core_question\local\bank\question_bank_helper');
    $result = ['entries' => 0, 'new_banks' => 0, 'ids' => []];
    $fallback = false;
    foreach (moodlectl_restore_question_bank($job) as $id => $category) {
        if (!isset($refs['question_category'][$id])) {
            continue;
        }
        if (!moodlectl_restore_category_stays($job, $category, $contexts, $banks)) {
            continue;
        }
        $result['entries'] += $category['entries'];
        $context = $category['contextid'];
        foreach ($category['ids'] as $kind => $ids) {
            $known = isset($result['ids'][$context][$kind]) ? $result['ids'][$context][$kind] : [];
            $result['ids'][$context][$kind] = $known + $ids;
        }
        if ($category['level'] != CONTEXT_MODULE || !isset($contexts[$category['contextid']])) {
            $fallback = true;
        }
    }
    $result['new_banks'] = $banks && $fallback ? 1 : 0;
    return $result;
}

/** Whether a question category of the backup will lie in the course and not elsewhere on the site. */
function moodlectl_restore_category_stays(moodlectl_restore_job $job, array $category, array $contexts, $banks) {
    global $DB;
    $level = (int)$category['level'];
    if ($level === CONTEXT_COURSE || isset($contexts[$category['contextid']])) {
        return true;
    }
    if ($banks) {
        // 5.0 and later: everything comes into the course, except what a bank still there already has.
        $there = $level === CONTEXT_MODULE ? context::instance_by_id($category['contextid'], IGNORE_MISSING) : false;
        return !$there || !has_capability('mod/qbank:view', $there, $job->userid);
    }
    if ($level === CONTEXT_SYSTEM) {
        return !has_capability('moodle/question:managecategory', context_system::instance(), $job->userid);
    }
    if ($level === CONTEXT_COURSECAT) {
        $ids = $job->context->get_parent_context_ids(true);
        list($in, $values) = $DB->get_in_or_equal($ids);
        return !$DB->record_exists_select('question_categories', "stamp = ? AND contextid $in",
            array_merge([$category['stamp']], $values));
    }
    return true;
}

/** The context id an activity had on the site of the backup (first element of <module>.xml). */
function moodlectl_restore_old_context($task) {
    $path = $task->get_taskbasepath() . '/' . $task->get_modulename() . '.xml';
    $head = (string)@file_get_contents($path, false, null, 0, 2048);
    return preg_match('/<activity [^>]*contextid="([0-9]+)"/', $head, $m) ? (int)$m[1] : 0;
}

/** Areas of core's activities that belong to people: restored only with their data. */
function moodlectl_restore_personal_area($file) {
    $areas = ['mod_forum' => 'post attachment', 'mod_glossary' => 'entry attachment', 'mod_data' => 'content',
        'mod_wiki' => 'attachments', 'mod_lesson' => 'essay_responses essay_answers', 'mod_assignment' => 'submission response',
        'mod_workshop' => 'submission_content submission_attachment overallfeedback_content overallfeedback_attachment'];
    $component = $file->component;
    return strpos($component, 'assignsubmission_') === 0 || strpos($component, 'assignfeedback_') === 0
        || (strpos($component, 'question') === 0 && strpos($file->filearea, 'response_') === 0)
        || (isset($areas[$component]) && in_array($file->filearea, explode(' ', $areas[$component]), true));
}

/** Files that will lie in the course and below (restore_load_included_files and the steps that use them). */
function moodlectl_restore_expected_files(moodlectl_restore_job $job, array $parts, array $questions) {
    $refs = [];
    $withpeople = [];
    foreach ($parts['tasks'] as $task) {
        $own = moodlectl_restore_inforef($task->get_taskbasepath());
        $people = !($task instanceof restore_activity_task) || $task->get_setting_value('userinfo');
        foreach (isset($own['file']) ? array_keys($own['file']) : [] as $id) {
            $refs[$id] = true;
            $withpeople[$id] = !empty($withpeople[$id]) || $people;
        }
    }
    $contexts = [];
    foreach ($parts['tasks'] as $task) {
        if ($task instanceof restore_activity_task) {
            $contexts[moodlectl_restore_old_context($task)] = (bool)$task->get_setting_value('userinfo');
        }
    }
    $found = ['count' => 0, 'bytes' => 0];
    $whole = $parts['whole'];
    moodlectl_restore_records($job->base . '/files.xml', 'file',
        function($file) use ($job, $refs, $withpeople, $contexts, $questions, $whole, &$found) {
            if ($file->filename === '.' || $file->component === 'user' || isset($job->lost[$file->contenthash])) {
                return;
            }
            $id = (int)$file->id;
            $in = isset($refs[$id]) && moodlectl_restore_file_wanted($job, $file)
                && ($withpeople[$id] || !moodlectl_restore_personal_area($file));
            if ($in || moodlectl_restore_file_of_component($job, $file, $contexts, $questions, $whole)) {
                $found['count']++;
                $found['bytes'] += (int)$file->filesize;
            }
        });
    return $found;
}

/** Whether an annotated file's step takes place, and makes a file that is counted. */
function moodlectl_restore_file_wanted(moodlectl_restore_job $job, $file) {
    $plan = $job->controller->get_plan();
    $on = function($name) use ($plan) {
        return !$plan->setting_exists($name) || $plan->get_setting($name)->get_value();
    };
    // Made anew from the submission, and not counted in courses either.
    if ($file->component === 'assignfeedback_editpdf') {
        return in_array($file->filearea, ['download', 'stamps', 'systemstamps'], true);
    }
    if ($file->component === 'course' && in_array($file->filearea, ['summary', 'overviewfiles'], true)) {
        return $job->mode === 'new'
            || ($plan->setting_exists('overwrite_conf') && $plan->get_setting('overwrite_conf')->get_value());
    }
    $settings = ['course/legacy' => 'legacyfiles', 'contentbank/public' => 'contentbankcontent',
        'calendar/event_description' => 'calendarevents'];
    $key = $file->component . '/' . $file->filearea;
    $elsewhere = ['group', 'grouping', 'grade', 'badges', 'question'];
    if (in_array($file->component, $elsewhere, true) || strpos($file->component, 'qtype') === 0) {
        return strpos($file->filearea, 'response_') === 0;
    }
    return isset($settings[$key]) ? $on($settings[$key]) : true;
}

/** Files that go by their component: groups, badges, grades, questions. */
function moodlectl_restore_file_of_component(moodlectl_restore_job $job, $file, array $contexts, array $questions,
        $whole) {
    $plan = $job->controller->get_plan();
    $on = function($name) use ($plan) {
        return $plan->setting_exists($name) && $plan->get_setting($name)->get_value();
    };
    $context = (int)$file->contextid;
    switch ($file->component) {
        case 'group':
        case 'grouping':
            return $on('groups');
        case 'badges':
            // restore_badges_structure_step: only together with everything.
            return $on('badges') && $whole;
        case 'grade':
            return !empty($contexts[$context]) && ($file->filearea !== 'historyfeedback' || $on('grade_histories'));
    }
    $question = $file->component === 'question' || strpos($file->component, 'qtype') === 0;
    return $question && strpos($file->filearea, 'response_') !== 0 && isset($questions[$context])
        && moodlectl_restore_question_there($file, $questions[$context]);
}

/** Whether a file's question is in the backup: deleting questions leaves files behind that belong to none. */
function moodlectl_restore_question_there($file, array $ids) {
    $kinds = ['questiontext' => 'question', 'generalfeedback' => 'question', 'answer' => 'answer',
        'answerfeedback' => 'answer', 'hint' => 'question_hint'];
    $kind = $file->component === 'question' && isset($kinds[$file->filearea]) ? $kinds[$file->filearea] : null;
    return $kind === null || isset($ids[$kind][(int)$file->itemid]);
}
