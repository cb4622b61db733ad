<?php
// The settings of a backup: which there are, who locked them, and setting them as the web form would.
// Mechanics: backup/util/settings/base_setting.class.php and setting_dependency.class.php, 3.9 to 5.1.

/**
 * Every setting of a backup of {course_id} for the acting user, or without a course only the root settings.
 * The controller made for asking leaves nothing behind.
 */
function moodlectl_call_backup_settings(array $params, moodlectl_io $io) {
    moodlectl_backup_load();
    $any = empty($params['course_id']);
    $courseid = $any ? moodlectl_any_course_to_back_up() : (int)$params['course_id'];
    moodlectl_require_backup($courseid);
    $controller = moodlectl_asking_controller($courseid);
    $titles = moodlectl_plan_titles($controller->get_plan());
    $result = [];
    foreach ($controller->get_plan()->get_settings() as $setting) {
        $level = moodlectl_setting_level($setting);
        if ($setting->get_name() !== 'filename' && (!$any || $level === 'root')) {
            $result[] = moodlectl_setting_record($setting, $level, $titles);
        }
    }
    $controller->destroy();
    return $result;
}

/**
 * Load Moodle's backup code (backup/util/includes/backup_includes.php, all releases).
 */
function moodlectl_backup_load() {
    global $CFG;
    require_once($CFG->libdir . '/filelib.php');
    require_once($CFG->dirroot . '/course/lib.php');
    require_once($CFG->dirroot . '/backup/util/includes/backup_includes.php');
    require_once($CFG->dirroot . '/backup/util/includes/restore_includes.php');
}

/**
 * The acting user must see the course and may back it up (backup/util/checks/backup_check.class.php).
 */
function moodlectl_require_backup($courseid) {
    $course = moodlectl_visible_course($courseid);
    $context = context_course::instance($course->id);
    moodlectl_require_capability('moodle/backup:backupcourse', $context, "back up the course {$course->shortname}");
    moodlectl_backup_context($context);
    return $course;
}

/**
 * The context of the course being backed up, for telling which capability is missing there.
 */
function moodlectl_backup_context($set = null) {
    static $context = null;
    if ($set !== null) {
        $context = $set;
    }
    return $context;
}

/**
 * An access error that names the capability, where the acting user has not got it.
 */
function moodlectl_require_capability($capability, context $context, $todo) {
    global $USER;
    if (!has_capability($capability, $context)) {
        throw new moodlectl_error('access', 'missing_capability',
            "The user {$USER->username} may not $todo: the capability $capability is missing.",
            'Act as somebody who may (--as USERNAME), or ask for a role that allows it: '
                . moodlectl_whom_to_ask($capability, $context) . '.',
            ['capability' => $capability, 'username' => $USER->username,
                'context' => $context->get_context_name(false)]);
    }
}

/**
 * The first course that the acting user may back up, for asking what any backup offers here.
 */
function moodlectl_any_course_to_back_up() {
    global $DB;
    // The smallest first: every activity has settings of its own.
    $courses = $DB->get_recordset_sql('SELECT c.id, COUNT(m.id) AS activities FROM {course} c
        LEFT JOIN {course_modules} m ON m.course = c.id WHERE c.id <> ? GROUP BY c.id ORDER BY activities, c.id', [SITEID]);
    foreach ($courses as $course) {
        if (has_capability('moodle/backup:backupcourse', context_course::instance($course->id))) {
            $courses->close();
            return $course->id;
        }
    }
    $courses->close();
    return SITEID;
}

/**
 * A controller only to be asked: without any logger, thus without a log file and without rows in backup_logs
 * (backup/util/factories/backup_factory.class.php get_logger_chain), and never saved, as INTERACTIVE_YES is not.
 */
function moodlectl_asking_controller($courseid) {
    global $CFG, $USER;
    $levels = ['backup_error_log_logger_level', 'backup_file_logger_level', 'backup_database_logger_level'];
    $before = [];
    foreach ($levels as $level) {
        $before[$level] = isset($CFG->$level) ? $CFG->$level : null;
        $CFG->$level = backup::LOG_NONE;
    }
    try {
        return new backup_controller(backup::TYPE_1COURSE, $courseid, backup::FORMAT_MOODLE,
            backup::INTERACTIVE_YES, backup::MODE_GENERAL, $USER->id);
    } finally {
        foreach ($before as $level => $value) {
            if ($value === null) {
                unset($CFG->$level);
            } else {
                $CFG->$level = $value;
            }
        }
    }
}

/**
 * A setting as port.Setting; {titles} is what moodlectl_plan_titles found.
 */
function moodlectl_setting_record($setting, $level, array $titles) {
    $name = $setting->get_name();
    $depends = [];
    foreach ($setting->get_settings_depended_on() as $dependency) {
        $depends[] = $dependency->get_setting()->get_name();
    }
    $item = isset($titles[$name]) ? $titles[$name] : ['id' => null, 'title' => '', 'module' => '', 'task' => null];
    $ui = $setting->get_ui();
    $label = $item['task'] !== null && method_exists($ui, 'get_label') ? $ui->get_label($item['task']) : '';
    $locks = [5 => 'config', 7 => 'hierarchy', 9 => 'permission'];
    $status = $setting->get_status();
    $locked = isset($locks[$status]) ? $locks[$status] : null;
    return [
        'name' => $name,
        'value' => moodlectl_setting_value($setting),
        'level' => $level,
        'label' => trim(html_entity_decode(strip_tags((string)$label), ENT_QUOTES, 'UTF-8')),
        'visible' => $setting->get_visibility() == base_setting::VISIBLE,
        // What depends on another setting of its own level may be changed in the web form too.
        'locked_by' => $locked === 'hierarchy' && moodlectl_setting_blocked($setting) === null ? null : $locked,
        'depends_on' => $depends,
        'item_id' => $item['id'],
        'item' => $item['title'],
        'module' => $item['module'],
        'choices' => method_exists($ui, 'get_values') ? (object)$ui->get_values() : null,
    ];
}

/**
 * The level of a setting in the port's words (backup/util/settings/backup_setting.class.php; subsections 4.5+).
 */
function moodlectl_setting_level($setting) {
    $levels = [1 => 'root', 5 => 'course', 9 => 'section', 13 => 'activity', 17 => 'subsection', 21 => 'subactivity'];
    $level = $setting->get_level();
    return isset($levels[$level]) ? $levels[$level] : 'root';
}

/**
 * The value of a setting; of a checkbox a boolean.
 */
function moodlectl_setting_value($setting) {
    $value = $setting->get_value();
    return $setting->get_ui_type() == base_setting::UI_HTML_CHECKBOX ? (bool)$value : $value;
}

/**
 * For each setting of a plan its task, and for those of items the id (section or course module), title and module.
 */
function moodlectl_plan_titles($plan) {
    global $DB;
    $result = [];
    $course = null;
    foreach ($plan->get_tasks() as $task) {
        $item = ['id' => null, 'title' => '', 'module' => '', 'task' => $task];
        if ($task instanceof backup_section_task) {
            $section = $DB->get_record('course_sections', ['id' => $task->get_sectionid()]);
            $course = $course ?: get_course($section->course);
            $item['id'] = (int)$section->id;
            $item['title'] = moodlectl_section_title($course, $section);
        } else if ($task instanceof backup_activity_task) {
            $item['id'] = (int)$task->get_moduleid();
            $item['title'] = $task->get_name();
            $item['module'] = $task->get_modulename();
        }
        foreach ($task->get_settings() as $setting) {
            if (!isset($result[$setting->get_name()])) {
                $result[$setting->get_name()] = $item;
            }
        }
    }
    return $result;
}

/**
 * Set what is {wanted} by name, and every other setting to what Moodle offers by default here, so that raising one
 * setting does not change those that depend on it behind one's back. What is locked is refused, never ignored.
 */
function moodlectl_plan_apply($controller, array $wanted) {
    $plan = $controller->get_plan();
    moodlectl_require_known($plan, array_keys($wanted));
    $defaults = moodlectl_plan_defaults($plan);
    $problems = [];
    foreach (moodlectl_plan_order($plan) as $name => $setting) {
        if (!array_key_exists($name, $wanted) && !array_key_exists($name, $defaults)) {
            continue;
        }
        $asked = array_key_exists($name, $wanted);
        $value = $asked ? $wanted[$name] : $defaults[$name];
        $blocked = moodlectl_setting_blocked($setting);
        if ($blocked === null) {
            if ($setting->get_value() != $value) {
                $setting->set_value($value);
            }
        } else if ($asked && (bool)$setting->get_value() !== (bool)$value && !moodlectl_forced_off($setting, $value)) {
            $problems[$name] = $blocked;
        }
    }
    if (!$problems) {
        moodlectl_enforce($controller);
        foreach ($wanted as $name => $value) {
            $setting = $plan->get_setting($name);
            if ((bool)$setting->get_value() !== (bool)$value) {
                $problems[$name] = moodlectl_setting_blocked($setting) ?: ['message' => "Moodle sets '$name' back.",
                    'locked_by' => 'hierarchy', 'hint' => ''];
            }
        }
    }
    if ($problems) {
        $first = reset($problems);
        $messages = array_column($problems, 'message');
        throw new moodlectl_error('refused', 'setting_locked', implode(' ', array_unique($messages)), $first['hint'],
            ['settings' => (object)$problems]);
    }
}

/**
 * An error naming what there is, where a setting is not.
 */
function moodlectl_require_known($plan, array $names) {
    $known = [];
    foreach ($plan->get_settings() as $name => $setting) {
        if ($name !== 'filename' && moodlectl_setting_level($setting) === 'root') {
            $known[] = $name;
        }
    }
    foreach ($names as $name) {
        if ($name === 'filename' || !$plan->setting_exists($name)) {
            throw new moodlectl_error('usage', 'unknown_setting', "This site's backups have no setting '$name'.",
                'There are: ' . implode(', ', $known) . '.', ['setting' => $name, 'available' => $known]);
        }
    }
}

/**
 * Settings by name, each after those it depends on.
 */
function moodlectl_plan_order($plan) {
    $ordered = [];
    $visit = function($setting) use (&$visit, &$ordered) {
        if (isset($ordered[$setting->get_name()])) {
            return;
        }
        foreach ($setting->get_settings_depended_on() as $dependency) {
            $visit($dependency->get_setting());
        }
        $ordered[$setting->get_name()] = $setting;
    };
    foreach ($plan->get_settings() as $setting) {
        $visit($setting);
    }
    unset($ordered['filename']);
    return $ordered;
}

/**
 * What Moodle offers by default: the values after the controller was made. One that is shut off by another then, say
 * because the administrator's default leaves users out, has the administrator's own default where there is one
 * (backup/util/dbops/backup_controller_dbops.class.php apply_config_defaults).
 */
function moodlectl_plan_defaults($plan) {
    $defaults = [];
    foreach ($plan->get_settings() as $name => $setting) {
        if ($name === 'filename') {
            continue;
        }
        if ($setting->get_status() == base_setting::NOT_LOCKED) {
            $defaults[$name] = $setting->get_value();
        } else if ($setting->get_status() == base_setting::LOCKED_BY_HIERARCHY) {
            $value = get_config('backup', moodlectl_setting_config($name));
            if ($value !== false) {
                $defaults[$name] = $value;
            }
        }
    }
    return $defaults;
}

/**
 * The administrator's default for a root setting of ordinary backups; its lock is this with `_locked`.
 */
function moodlectl_setting_config($name) {
    return 'backup_general_' . ($name === 'grade_histories' ? 'histories' : $name);
}

/**
 * Enforce dependencies as the web form does (backup/util/ui/base_ui.class.php enforce_dependencies), and check
 * permissions again. What an export format such as imscc11 shuts off is left out indeed; the web form leaves it on.
 */
function moodlectl_enforce($controller) {
    $plan = $controller->get_plan();
    foreach ($plan->get_tasks() as $task) {
        foreach ($task->get_settings() as $setting) {
            foreach ($setting->get_dependencies() as $dependency) {
                $dependency->enforce();
            }
        }
    }
    foreach ($plan->get_settings() as $setting) {
        moodlectl_forced_off($setting, false);
    }
    $controller->process_ui_event();
}

/**
 * Turn off what an export format excludes, when it is wanted off; tells whether that was so. Its get_deps names what
 * (backup/converter/imscc11/backuplib.php); files are locked by it too, but must be taken along.
 */
function moodlectl_forced_off($setting, $value) {
    if ($value || $setting->get_status() != base_setting::LOCKED_BY_HIERARCHY) {
        return false;
    }
    foreach ($setting->get_settings_depended_on() as $dependency) {
        $format = $dependency->get_setting();
        $class = $format->get_name() . '_export_converter';
        if ($format->get_value() && class_exists($class, false)
                && array_key_exists($setting->get_name(), call_user_func([$class, 'get_deps']))) {
            $setting->set_value(false);
            return true;
        }
    }
    return false;
}

/**
 * Null where the web form would let the setting be changed, else why not: message, locked_by, hint and evidence
 * (backup/util/ui/backup_ui_setting.class.php is_changeable).
 */
function moodlectl_setting_blocked($setting) {
    $name = $setting->get_name();
    switch ($setting->get_status()) {
        case base_setting::LOCKED_BY_CONFIG:
            return moodlectl_locked_by_config($name);
        case base_setting::LOCKED_BY_PERMISSION:
            return moodlectl_locked_by_permission($name);
        case base_setting::LOCKED_BY_HIERARCHY:
            break;
        default:
            return null;
    }
    foreach ($setting->get_settings_depended_on() as $dependency) {
        $parent = $dependency->get_setting();
        $above = $parent->get_name();
        if (moodlectl_dependency_shuts($dependency)) {
            $state = $parent->get_value() ? 'on' : 'off';
            $why = moodlectl_setting_blocked($parent);
            return [
                'message' => "'$name' depends on '$above', which is $state." . ($why ? ' ' . $why['message'] : ''),
                'locked_by' => 'hierarchy',
                'hint' => $why ? $why['hint'] : "Turn '$above' " . ($state === 'on' ? 'off' : 'on') . ", or leave '$name' as it is.",
                'depends_on' => $above,
            ];
        }
        if ($parent->get_status() != base_setting::NOT_LOCKED && $parent->get_level() !== $setting->get_level()) {
            $why = moodlectl_setting_blocked($parent);
            if ($why) {
                return ['message' => "'$name' depends on '$above', which is locked. " . $why['message'],
                    'locked_by' => 'hierarchy', 'hint' => $why['hint'], 'depends_on' => $above];
            }
        }
    }
    return null;
}

/**
 * Does the value of the setting above shut off the one below, whatever its lock
 * (backup/util/settings/setting_dependency.class.php get_moodleform_properties).
 */
function moodlectl_dependency_shuts($dependency) {
    $properties = $dependency->get_moodleform_properties();
    $value = $dependency->get_setting()->get_value();
    $against = isset($properties['value']) ? $properties['value'] : null;
    switch ($properties['condition']) {
        case 'checked':
            return (bool)$value;
        case 'notchecked':
            return !$value;
        case 'notequal':
            return $value != $against;
        default:
            return is_array($against) ? in_array($value, $against) : $value == $against;
    }
}

function moodlectl_locked_by_config($name) {
    if ($name === 'competencies' && !get_config('core_competency', 'enabled')) {
        return ['message' => "'competencies' is off: the site has competencies switched off.", 'locked_by' => 'config',
            'hint' => 'Site administration > Competencies > Competencies settings.',
            'config' => 'core_competency/enabled'];
    }
    $key = moodlectl_setting_config($name) . '_locked';
    return [
        'message' => "'$name' is locked by the site's administrator (backup/$key).",
        'locked_by' => 'config',
        'hint' => 'Leave it as it is, or have an administrator unlock it under Site administration > Courses > '
            . 'Backups > General backup defaults.',
        'config' => 'backup/' . $key,
    ];
}

/**
 * Which capability is missing (backup/util/checks/backup_check.class.php check_security).
 */
function moodlectl_locked_by_permission($name) {
    global $USER;
    $capabilities = ['users' => 'moodle/backup:userinfo', 'anonymize' => 'moodle/backup:anonymise'];
    $capability = 'moodle/backup:configure';
    if (isset($capabilities[$name]) && !has_capability($capabilities[$name], moodlectl_backup_context())) {
        $capability = $capabilities[$name];
    }
    return [
        'message' => "'$name' is locked: the user {$USER->username} has not the capability $capability.",
        'locked_by' => 'permission',
        'hint' => 'Act as somebody who has it (--as USERNAME), or ask for a role that allows it: '
            . moodlectl_whom_to_ask($capability, moodlectl_backup_context()) . '.',
        'capability' => $capability,
    ];
}
