<?php
// Which sections and activities take part in a backup: from a choice by id to settings of Moodle's plan.

/**
 * What the request asks of settings by name, items included.
 */
function moodlectl_backup_wanted($plan, $settings, array $params) {
    $wanted = [];
    foreach ($settings as $name => $value) {
        if (!is_bool($value) && $value !== 0 && $value !== 1) {
            throw new moodlectl_error('usage', 'bad_setting', "The setting '$name' is either on or off.");
        }
        $wanted[$name] = $value ? 1 : 0;
    }
    return moodlectl_backup_items($plan, isset($params['items']) ? $params['items'] : []) + $wanted;
}

/**
 * The items of a plan: sections by id, activities by course module id, each with its setting names and where it is.
 */
function moodlectl_backup_plan_items($plan) {
    $sections = [];
    $activities = [];
    foreach ($plan->get_tasks() as $task) {
        if ($task instanceof backup_section_task) {
            $id = (int)$task->get_sectionid();
            $cm = method_exists($task, 'get_delegated_cm') ? $task->get_delegated_cm() : null;
            $sections[$id] = ['name' => "section_{$id}_", 'cm' => $cm ? (int)$cm : null];
        } else if ($task instanceof backup_activity_task) {
            $id = (int)$task->get_moduleid();
            $activities[$id] = ['name' => $task->get_modulename() . "_{$id}_", 'section' => (int)$task->get_sectionid()];
        }
    }
    return [$sections, $activities];
}

/**
 * The settings of items that a choice asks for. Sections named alone come with all they hold; an activity brings the
 * section it lies in, and a subsection brings its contents (mod_subsection, 4.5 and later).
 */
function moodlectl_backup_items($plan, array $choice) {
    $choice += ['only_sections' => null, 'only_activities' => null, 'skip_sections' => [], 'skip_activities' => [],
        'userdata_sections' => [], 'userdata_activities' => [], 'no_userdata_sections' => [],
        'no_userdata_activities' => []];
    list($sections, $activities) = moodlectl_backup_plan_items($plan);
    moodlectl_backup_items_known($choice, $sections, $activities);
    $wanted = [];
    if ($choice['only_sections'] !== null || $choice['only_activities'] !== null) {
        $wanted = moodlectl_backup_only($choice, $sections, $activities);
    }
    $words = ['skip' => ['included', 0], 'userdata' => ['userinfo', 1], 'no_userdata' => ['userinfo', 0]];
    foreach ($words as $word => $meaning) {
        foreach ($choice[$word . '_sections'] as $id) {
            $wanted[$sections[$id]['name'] . $meaning[0]] = $meaning[1];
        }
        foreach ($choice[$word . '_activities'] as $id) {
            $wanted[$activities[$id]['name'] . $meaning[0]] = $meaning[1];
        }
    }
    return $wanted;
}

/**
 * Which are included when only some are named: what is named is on, what is needed to hold it is on, the rest off.
 */
function moodlectl_backup_only(array $choice, array $sections, array $activities) {
    $all = $choice['only_sections'] === null;
    $named = array_flip($all ? array_keys($sections) : $choice['only_sections']);
    $namedcms = $choice['only_activities'] === null ? null : array_flip($choice['only_activities']);
    $unfolded = []; // Subsections taken with all that is in them.
    $whole = $named; // Sections of which everything is taken.
    $frames = []; // Sections and course modules that only hold something named.
    foreach ($sections as $id => $section) {
        if ($section['cm'] === null || !isset($activities[$section['cm']])) {
            continue;
        }
        $outer = $activities[$section['cm']]['section'];
        $inner = $namedcms === null ? [] : array_filter(array_keys($namedcms), function($cmid) use ($activities, $id) {
            return $activities[$cmid]['section'] === $id;
        });
        // A subsection named brings what is in it, unless some of that is named singly: then it only holds those.
        if (isset($whole[$outer]) && $namedcms === null || isset($namedcms[$section['cm']]) && !$inner) {
            $whole[$id] = $named[$id] = $unfolded[$section['cm']] = true;
        }
    }
    foreach (array_keys($namedcms === null ? [] : $namedcms) as $cmid) {
        $frames['s' . $activities[$cmid]['section']] = true;
    }
    foreach ($sections as $id => $section) {
        $needed = isset($frames['s' . $id]) || (isset($named[$id]) && !$all);
        if ($section['cm'] !== null && isset($activities[$section['cm']]) && $needed) {
            $frames['a' . $section['cm']] = true;
            $frames['s' . $activities[$section['cm']]['section']] = true;
        }
    }
    $wanted = [];
    foreach ($sections as $id => $section) {
        $wanted[$section['name'] . 'included'] = isset($named[$id]) || isset($frames['s' . $id]) ? 1 : 0;
    }
    foreach ($activities as $id => $activity) {
        $holder = isset($sections[$activity['section']]) ? $sections[$activity['section']]['cm'] : null;
        if ($namedcms !== null) {
            $on = isset($namedcms[$id]) || isset($frames['a' . $id]) || ($holder !== null && isset($unfolded[$holder]));
        } else {
            $on = isset($whole[$activity['section']]) || isset($frames['a' . $id]);
        }
        $wanted[$activity['name'] . 'included'] = $on ? 1 : 0;
    }
    return moodlectl_backup_only_explicit($wanted, $choice, $sections, $activities);
}

/**
 * Leave out of what is asked that which is on by default and was not named, so that a lock on it is no refusal.
 */
function moodlectl_backup_only_explicit(array $wanted, array $choice, array $sections, array $activities) {
    $named = [];
    foreach ($choice['only_sections'] ?: [] as $id) {
        $named[$sections[$id]['name'] . 'included'] = true;
    }
    foreach ($choice['only_activities'] ?: [] as $id) {
        $named[$activities[$id]['name'] . 'included'] = true;
    }
    foreach ($wanted as $name => $on) {
        if ($on && !isset($named[$name])) {
            unset($wanted[$name]);
        }
    }
    return $wanted;
}

function moodlectl_backup_items_known(array $choice, array $sections, array $activities) {
    foreach ($choice as $word => $ids) {
        $known = substr($word, -8) === 'sections' ? $sections : $activities;
        foreach ($ids ?: [] as $id) {
            if (!isset($known[$id])) {
                $what = $known === $sections ? 'section' : 'activity';
                throw new moodlectl_error('notfound', 'item_not_found', "A backup of this course has no $what $id.",
                    'See what there is: moodlectl course show COURSE. What is being deleted, and modules that cannot '
                    . 'be backed up, are left out.', ['id' => $id, 'kind' => $what]);
            }
        }
    }
}
