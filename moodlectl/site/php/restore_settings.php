<?php
// The settings of a restore: which sections and activities take part, what was asked by name, and who locked what.

/**
 * Decides which sections and activities of the backup take part (port.ItemChoice, ids as in the backup).
 * Where activities are chosen, those take part and what they stand in; where only sections are, all that is in them.
 */
function moodlectl_restore_choose(moodlectl_restore_job $job) {
    $items = moodlectl_restore_items($job);
    list($sections, $activities) = moodlectl_restore_contents($job);
    moodlectl_restore_check_items($items, $sections, $activities);
    $all = $items['only_sections'] === null && $items['only_activities'] === null;
    $only = ['s' => array_flip((array)$items['only_sections']), 'a' => array_flip((array)$items['only_activities'])];
    $skip = ['s' => array_flip($items['skip_sections']), 'a' => array_flip($items['skip_activities'])];
    $chosen = ['sections' => array_fill_keys(array_keys($sections), $all),
        'activities' => array_fill_keys(array_keys($activities), false)];
    // A subsection chosen brings all that is in it, unless something in it is chosen singly.
    $frames = [];
    foreach (array_keys(array_intersect_key($only['a'], $activities)) as $cmid) {
        $line = moodlectl_restore_line($cmid, $sections, $activities);
        unset($line['a'][$cmid]);
        $frames += $line['a'];
    }
    foreach ($activities as $cmid => $activity) {
        $line = moodlectl_restore_line($cmid, $sections, $activities);
        $wanted = $all || isset($only['a'][$cmid]) || array_intersect_key($line['a'], array_diff_key($only['a'], $frames))
            || ($items['only_activities'] === null && array_intersect_key($line['s'], $only['s']));
        $skipped = array_intersect_key($line['a'], $skip['a']) || array_intersect_key($line['s'], $skip['s']);
        $chosen['activities'][$cmid] = $wanted && !$skipped;
    }
    foreach ($sections as $id => $section) {
        $line = $section['parent'] ? moodlectl_restore_line($section['parent'], $sections, $activities)
            : ['a' => [], 's' => []];
        $line['s'][$id] = true;
        if (!$all) {
            $chosen['sections'][$id] = (bool)(array_intersect_key($line['s'], $only['s'])
                || array_intersect_key($line['a'], $only['a']));
        }
        if (array_intersect_key($line['s'], $skip['s']) || array_intersect_key($line['a'], $skip['a'])) {
            $chosen['sections'][$id] = false;
        }
    }
    // What a chosen activity stands in comes along.
    foreach (array_keys(array_filter($chosen['activities'])) as $cmid) {
        $line = moodlectl_restore_line($cmid, $sections, $activities);
        foreach (array_keys($line['s']) as $id) {
            $chosen['sections'][$id] = true;
        }
        foreach (array_keys($line['a']) as $id) {
            $chosen['activities'][$id] = true;
        }
    }
    $job->chosen = $chosen;
}

/** The items asked for, with every key; null stands for all. */
function moodlectl_restore_items(moodlectl_restore_job $job) {
    $items = $job->params['items'] + ['only_sections' => null, 'only_activities' => null];
    foreach (['skip_sections', 'skip_activities', 'userdata_sections', 'userdata_activities', 'no_userdata_sections',
            'no_userdata_activities'] as $name) {
        $items[$name] = isset($items[$name]) ? (array)$items[$name] : [];
    }
    return $items;
}

/** What is in the backup: sections [id => {title, parent cmid}], activities [cmid => {module, title, section}]. */
function moodlectl_restore_contents(moodlectl_restore_job $job) {
    $sections = [];
    foreach ($job->info->sections as $section) {
        $sections[(int)$section->sectionid] = ['title' => (string)$section->title, 'directory' => $section->directory,
            'parent' => empty($section->parentcmid) ? 0 : (int)$section->parentcmid];
    }
    $activities = [];
    foreach ($job->info->activities as $activity) {
        $activities[(int)$activity->moduleid] = ['module' => $activity->modulename, 'title' => (string)$activity->title,
            'section' => (int)$activity->sectionid, 'directory' => $activity->directory];
    }
    return [$sections, $activities];
}

/** An activity with all that it stands in, from inside out: {a: [cmid => true], s: [sectionid => true]}. */
function moodlectl_restore_line($cmid, array $sections, array $activities) {
    $line = ['a' => [], 's' => []];
    while ($cmid && isset($activities[$cmid]) && !isset($line['a'][$cmid])) {
        $line['a'][$cmid] = true;
        $section = $activities[$cmid]['section'];
        if (!isset($sections[$section])) {
            break;
        }
        $line['s'][$section] = true;
        $cmid = $sections[$section]['parent'];
    }
    return $line;
}

function moodlectl_restore_check_items(array $items, array $sections, array $activities) {
    foreach ($items as $name => $ids) {
        $known = substr($name, -8) === 'sections' ? $sections : $activities;
        $unknown = array_values(array_diff((array)$ids, array_keys($known)));
        if ($unknown) {
            throw new moodlectl_error('notfound', 'item_not_found', 'The backup has no '
                . ($known === $sections ? 'section' : 'activity') . ' with the id ' . implode(', ', $unknown) . '.',
                'See what it holds: moodlectl backup inspect BACKUP',
                ['unknown' => $unknown, 'there_are' => array_slice(array_keys($known), 0, 200)]);
        }
    }
}

/** All settings of a plan by name, each with its task: [name => [setting, task]]. */
function moodlectl_restore_all_settings($plan) {
    $all = [];
    foreach ($plan->get_tasks() as $task) {
        foreach ($task->get_settings() as $setting) {
            $all[$setting->get_name()] = [$setting, $task];
        }
    }
    return $all;
}

/**
 * Gives the controller's plan the values asked for, in the order that keeps Moodle's dependencies from undoing them:
 * users, activities, sections, activities, user data, then the rest (backup/util/settings, 3.9 to 5.1).
 */
function moodlectl_restore_configure(moodlectl_restore_job $job, restore_controller $controller) {
    $plan = $controller->get_plan();
    $all = moodlectl_restore_all_settings($plan);
    $asked = moodlectl_restore_asked($job, $all);
    $unknown = array_diff_key($asked, $all);
    if ($unknown) {
        moodlectl_restore_refuse_unknown($job, array_keys($unknown), $all);
    }
    $hierarchy = [];
    foreach ($all as $name => $pair) {
        if ($pair[0]->get_level() === backup_setting::ROOT_LEVEL
                && $pair[0]->get_status() === base_setting::LOCKED_BY_HIERARCHY) {
            $hierarchy[$name] = true;
        }
    }
    $asked += moodlectl_restore_wishes($job, $all, ['users', 'activities']);
    foreach (['users', 'activities'] as $name) {
        if (isset($asked[$name])) {
            moodlectl_restore_try($job, function() use ($all, $asked, $name) {
                moodlectl_restore_set($all[$name][0], $asked[$name]);
            });
        }
    }
    moodlectl_restore_defaults($all, array_diff_key($hierarchy, $asked));
    $asked += moodlectl_restore_wishes($job, $all, array_diff($job->params['wishes'], ['users', 'activities']));
    moodlectl_restore_set_items($job, $all);
    foreach ($asked as $name => $value) {
        moodlectl_restore_try($job, function() use ($all, $name, $value) {
            moodlectl_restore_set($all[$name][0], $value);
        });
    }
    foreach ($plan->get_tasks() as $task) {
        foreach ($task->get_settings() as $setting) {
            foreach ($setting->get_dependencies() as $dependency) {
                $dependency->enforce();
            }
        }
    }
    moodlectl_restore_try($job, function() use ($job, $all) {
        moodlectl_restore_set_texts($job, $all);
    });
    $controller->process_ui_event();
    moodlectl_restore_try($job, function() use ($asked, $all) {
        moodlectl_restore_check_kept($asked, $all);
    });
}

/** Does it; in a plan, a setting that is locked is one more finding, and the looking goes on. */
function moodlectl_restore_try(moodlectl_restore_job $job, $function) {
    try {
        $function();
    } catch (moodlectl_error $e) {
        if (!$job->dryrun || $e->class !== 'refused') {
            throw $e;
        }
        moodlectl_restore_find($job, $e->errcode, 'forbidden', $e->getMessage(), $e->hint, $e->details);
    }
}

/** Settings of those names that are wished for and may be switched on: [name => true]; what may not is warned of. */
function moodlectl_restore_wishes(moodlectl_restore_job $job, array $all, array $names) {
    $found = [];
    foreach (array_intersect($names, $job->params['wishes']) as $name) {
        if (!isset($all[$name]) || $all[$name][0]->get_value()) {
            continue;
        }
        $lock = moodlectl_restore_lock($all[$name][0]);
        if (!$lock) {
            $found[$name] = true;
        } else if ($lock[0] !== 'hierarchy') {
            $who = $lock[0] === 'config' ? 'the administrator\'s configuration' : 'a missing permission';
            $warning = "Not brought, because $who locks it off: $name.";
            if (!in_array($warning, $job->warnings)) {
                $job->warnings[] = $warning;
            }
        }
    }
    return $found;
}

/** What was asked by name, people's words turned into Moodle's: [name => value], typed options after named ones. */
function moodlectl_restore_asked(moodlectl_restore_job $job, array $all) {
    $asked = $job->params['settings'];
    if ($job->params['enrolments'] !== null) {
        $asked['enrolments'] = ['manual' => backup::ENROL_NEVER, 'with-users' => backup::ENROL_WITHUSERS,
            'always' => backup::ENROL_ALWAYS][$job->params['enrolments']];
    }
    $words = ['keep_enrolments' => 'keep_roles_and_enrolments', 'keep_groups' => 'keep_groups_and_groupings',
        'overwrite_config' => 'overwrite_conf'];
    foreach ($words as $word => $name) {
        if ($job->params[$word]) {
            $asked[$name] = true;
        }
    }
    if ($job->withoutpeople) {
        $asked['users'] = false;
    }
    // What only a backup has was settled when it was made.
    return array_diff_key($asked, array_diff_key(array_flip($job->backupsettings), $all));
}

function moodlectl_restore_refuse_unknown(moodlectl_restore_job $job, array $names, array $all) {
    $there = [];
    foreach ($all as $name => $pair) {
        if ($pair[0]->get_level() <= backup_setting::COURSE_LEVEL && $pair[0]->get_visibility()) {
            $there[] = $name;
        }
    }
    throw new moodlectl_error('usage', 'unknown_setting', 'A restore of this backup has no setting '
        . implode(', ', $names) . ' here.', 'There are: ' . implode(', ', $there) . '.',
        ['unknown' => $names, 'available' => $there]);
}

/** Sets one setting as the web form would: not when something locks it, not to a value that is not offered. */
function moodlectl_restore_set(base_setting $setting, $value) {
    $ui = $setting->get_ui();
    if ($ui instanceof backup_setting_ui_select) {
        foreach (array_keys($ui->get_values()) as $key) {
            // PHP 7 and 8 compare 0 and '' differently, so as text.
            if ((string)$key === (string)(is_bool($value) ? (int)$value : $value)) {
                $value = $key;
            }
        }
    }
    if (moodlectl_restore_same($setting->get_value(), $value)) {
        return;
    }
    $lock = moodlectl_restore_lock($setting);
    if ($lock) {
        moodlectl_restore_refuse_locked($setting, $value, $lock);
    }
    if ($ui instanceof backup_setting_ui_select && !array_key_exists($value, $ui->get_values())) {
        throw new moodlectl_error('refused', 'setting_locked', "The setting {$setting->get_name()} cannot be "
            . json_encode($value) . ' with this backup.', 'It can be: ' . implode(', ', array_keys($ui->get_values())),
            ['setting' => $setting->get_name(), 'choices' => $ui->get_values()]);
    }
    try {
        $setting->set_value($value);
    } catch (base_setting_exception $e) {
        throw new moodlectl_error('usage', 'bad_setting', "The setting {$setting->get_name()} cannot be "
            . json_encode($value) . ': ' . $e->getMessage());
    }
}

function moodlectl_restore_same($one, $two) {
    if ($one === $two) {
        return true;
    }
    $plain = function($value) {
        return is_bool($value) ? (string)(int)$value : (string)$value;
    };
    return $one !== null && $two !== null && $plain($one) === $plain($two);
}

/** Who locks a setting: null, or [config|hierarchy|permission, the settings it hangs on]. */
function moodlectl_restore_lock(base_setting $setting) {
    switch ($setting->get_status()) {
        case base_setting::LOCKED_BY_CONFIG:
            return ['config', []];
        case base_setting::LOCKED_BY_PERMISSION:
            return ['permission', []];
        case base_setting::LOCKED_BY_HIERARCHY:
            $names = [];
            foreach ($setting->get_settings_depended_on() as $dependency) {
                if ($dependency->is_locked()) {
                    $names[] = $dependency->get_setting()->get_name();
                }
            }
            return ['hierarchy', $names];
    }
    // Not changeable and nothing names itself: the backup was made without it.
    return $setting->get_ui()->is_changeable() ? null : ['hierarchy', []];
}

function moodlectl_restore_refuse_locked(base_setting $setting, $value, array $lock) {
    $name = $setting->get_name();
    $capability = moodlectl_restore_capability($name);
    $words = [
        'config' => ['the administrator\'s configuration of restores locks it',
            'An administrator can unlock it: Site administration > Courses > Backups > General restore defaults.'],
        'permission' => ["the acting user lacks $capability", 'Act as somebody who has it (--as USERNAME), or ask for a role '
            . 'that allows it: ' . moodlectl_whom_to_ask($capability, context_system::instance()) . '.'],
        'hierarchy' => $lock[1]
            ? ['it hangs on ' . implode(', ', $lock[1]), 'Turn that on as well: --with ' . implode(',', $lock[1])]
            : ['the backup was made without it', 'Make a backup that includes it.'],
    ];
    throw new moodlectl_error('refused', 'setting_locked', "The setting $name cannot be " . json_encode($value) . ': '
        . $words[$lock[0]][0] . '.', $words[$lock[0]][1], ['setting' => $name, 'value' => $setting->get_value(),
        'locked_by' => $lock[0], 'depends_on' => $lock[1]] + ($lock[0] === 'permission' ? ['capability' => $capability] : []));
}

/** The capability without which Moodle locks a setting (backup/util/checks/restore_check.class.php, 3.9 to 5.1). */
function moodlectl_restore_capability($name) {
    $capabilities = ['users' => 'moodle/restore:userinfo', 'course_startdate' => 'moodle/restore:rolldates',
        'course_fullname' => 'moodle/course:changefullname', 'course_shortname' => 'moodle/course:changeshortname',
        'overwrite_conf' => 'moodle/course:update', 'enrolments' => 'moodle/course:enrolconfig'];
    return isset($capabilities[$name]) ? $capabilities[$name] : 'moodle/restore:configure';
}

/**
 * Settings that raising `users` or `activities` has just unlocked jump to what the backup has; they get the
 * administrator's default back (backup/util/dbops/restore_controller_dbops.class.php apply_config_defaults).
 */
function moodlectl_restore_defaults(array $all, array $names) {
    foreach (array_keys($names) as $name) {
        $setting = $all[$name][0];
        $key = 'restore_general_' . ($name === 'grade_histories' ? 'histories' : $name);
        $value = get_config('restore', $key);
        if ($value === false || $setting->get_status() !== base_setting::NOT_LOCKED
                || !$setting->get_ui()->is_changeable()) {
            continue;
        }
        $setting->set_value($value);
        if (get_config('restore', $key . '_locked')) {
            $setting->set_status(base_setting::LOCKED_BY_CONFIG);
        }
    }
}

/** Sections and activities in and out, parents before children, then their user data. */
function moodlectl_restore_set_items(moodlectl_restore_job $job, array $all) {
    foreach (['included', 'userinfo'] as $tail) {
        foreach ($all as $name => $pair) {
            list($setting, $task) = $pair;
            if (substr($name, -strlen($tail) - 1) !== '_' . $tail || $setting->get_level() < backup_setting::SECTION_LEVEL) {
                continue;
            }
            $wanted = moodlectl_restore_wanted($job, $name, $task, $tail);
            if ($wanted === null) {
                continue;
            }
            // Something that is out already because what holds it is out is not raised, and not complained of.
            moodlectl_restore_try($job, function() use ($setting, $wanted) {
                moodlectl_restore_set($setting, $wanted);
            });
        }
    }
}

/** Whether the item of a task is in (`included`), or its people's data (`userinfo`); null: leave it as it is. */
function moodlectl_restore_wanted(moodlectl_restore_job $job, $name, $task, $tail) {
    $section = $task instanceof restore_section_task;
    if (!$section && !($task instanceof restore_activity_task)) {
        return null;
    }
    if (!preg_match('/_([0-9]+)_' . $tail . '$/', $name, $m)) {
        return null;
    }
    $id = (int)$m[1];
    if ($tail === 'included') {
        $chosen = $job->chosen[$section ? 'sections' : 'activities'];
        // Everything is in to begin with; a default of the site is respected where nothing was chosen.
        return isset($chosen[$id]) && !$chosen[$id] ? false : null;
    }
    $items = moodlectl_restore_items($job);
    $kind = $section ? 'sections' : 'activities';
    if (in_array($id, $items['no_userdata_' . $kind])) {
        return false;
    }
    return in_array($id, $items['userdata_' . $kind]) ? true : null;
}

/**
 * Names and start date (backup/moodle2/restore_course_task.class.php, 3.9 to 5.1). A false value keeps the target's
 * own. With overwrite_conf and no names given the target keeps its names. Without overwrite_conf only the start date
 * is given to the plan, by program as no form can, so that dates move; the course itself is changed afterwards.
 */
function moodlectl_restore_set_texts(moodlectl_restore_job $job, array $all) {
    if (!isset($all['course_fullname'])) {
        return;
    }
    $overwrite = $job->mode === 'new' || $all['overwrite_conf'][0]->get_value();
    $start = $job->text('startdate') === null ? null : moodlectl_restore_startdate($job);
    if ($start !== null) {
        $setting = $all['course_startdate'][0];
        if ($overwrite || $setting->get_status() !== base_setting::LOCKED_BY_HIERARCHY) {
            moodlectl_restore_set($setting, $start);
        } else {
            $setting->set_value($start);
        }
    }
    if (!$overwrite) {
        return;
    }
    foreach (['fullname', 'shortname'] as $name) {
        $setting = $all['course_' . $name][0];
        if ($name === 'fullname' && moodlectl_restore_names_itself($job) && !moodlectl_restore_lock($setting)) {
            // Moodle numbers both names when one is taken: the short name would be another's for as long as it works.
            $setting->set_value(core_text::substr($job->info->original_course_fullname, 0, 200) . ' ('
                . get_string('restoringcourseshortname', 'backup') . ' ' . random_string(12) . ')');
        } else if ($job->text($name) !== null) {
            moodlectl_restore_set($setting, $job->text($name));
        } else if ($job->mode !== 'new' && $setting->get_value() !== false) {
            if (moodlectl_restore_lock($setting)) {
                $job->warnings[] = "The administrator has locked course_$name: the course takes the backup's $name.";
            } else {
                $setting->set_value(false);
            }
        }
    }
}

/** Whether a new course gets its full name at the end, see moodlectl_restore_afterwards: its short name was asked for. */
function moodlectl_restore_names_itself(moodlectl_restore_job $job) {
    return $job->mode === 'new' && !$job->dryrun && $job->text('shortname') !== null;
}

function moodlectl_restore_check_kept(array $asked, array $all) {
    foreach ($asked as $name => $value) {
        $setting = $all[$name][0];
        $ui = $setting->get_ui();
        if ($ui instanceof backup_setting_ui_select && is_bool($value)) {
            $value = (int)$value;
        }
        if (!moodlectl_restore_same($setting->get_value(), $value)) {
            moodlectl_restore_refuse_locked($setting, $value, moodlectl_restore_lock($setting) ?: ['hierarchy', []]);
        }
    }
}

/** Every setting of the plan as port.Setting. */
function moodlectl_restore_list_settings(moodlectl_restore_job $job) {
    $levels = [1 => 'root', 5 => 'course', 9 => 'section', 13 => 'activity', 17 => 'subsection', 21 => 'subactivity'];
    list($sections, $activities) = moodlectl_restore_contents($job);
    $list = [];
    foreach (moodlectl_restore_all_settings($job->controller->get_plan()) as $name => $pair) {
        list($setting, $task) = $pair;
        $lock = moodlectl_restore_lock($setting);
        $ui = $setting->get_ui();
        $id = $setting->get_level() >= 9 && preg_match('/_([0-9]+)_[a-z]+$/', $name, $m) ? (int)$m[1] : null;
        $item = ['title' => '', 'module' => ''];
        if ($id !== null && $task instanceof restore_section_task && isset($sections[$id])) {
            $item = $sections[$id] + $item;
        } else if ($id !== null && isset($activities[$id])) {
            $item = $activities[$id];
        }
        $list[] = [
            'name' => $name,
            'value' => moodlectl_restore_value($setting),
            'level' => isset($levels[$setting->get_level()]) ? $levels[$setting->get_level()] : 'root',
            'label' => trim(html_entity_decode(strip_tags((string)$ui->get_label($task)), ENT_QUOTES, 'UTF-8')),
            'visible' => (bool)$setting->get_visibility(),
            'locked_by' => $lock ? $lock[0] : null,
            'depends_on' => array_keys($setting->get_settings_depended_on()),
            'item_id' => $id,
            'item' => $item['title'],
            'module' => $item['module'],
            'choices' => $ui instanceof backup_setting_ui_select ? (object)array_map('strval', $ui->get_values()) : null,
        ];
    }
    return $list;
}

/** The value of a setting; of a checkbox, and of a choice between yes and no, a boolean. */
function moodlectl_restore_value(base_setting $setting) {
    $value = moodlectl_setting_value($setting);
    $ui = $setting->get_ui();
    if ($ui instanceof backup_setting_ui_select) {
        $choices = array_keys($ui->get_values());
        sort($choices);
        return $choices === [0, 1] ? (bool)$value : $value;
    }
    return is_float($value) ? (string)$value : $value;
}
