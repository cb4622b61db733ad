<?php
// What may go wrong with a restore without a word from Moodle, found by comparing the backup with the site.

/** Finds every danger of findings.DANGERS that lies in the chosen part of the backup. */
function moodlectl_restore_find_dangers(moodlectl_restore_job $job) {
    global $CFG;
    // The first eight digits of a version are its branch's date: 4.5.6 is not newer than 4.5.2 in that sense; Moodle
    // itself warns of any newer build (backup/util/helper/restore_prechecks_helper.class.php, noticenewerbackup).
    if ((int)substr((string)$job->info->moodle_version, 0, 8) > (int)substr((string)$CFG->version, 0, 8)) {
        moodlectl_restore_find($job, 'newer-backup', 'danger', "The backup was made by Moodle {$job->info->moodle_release}; "
            . "this site has {$CFG->release}. Moodle restores it without a promise.", 'Update the site first, or restore a '
            . 'backup from an older site. To try it all the same: --allow newer-backup',
            ['backup' => (string)$job->info->moodle_release, 'site' => $CFG->release]);
    }
    $job->missing = moodlectl_restore_missing_plugins($job);
    if ($job->missing) {
        $lost = moodlectl_restore_lost_activities($job);
        moodlectl_restore_find($job, 'missing-plugins', 'danger', 'The site lacks ' . implode(', ', $job->missing)
            . '; what the backup holds of them is left out without a word from Moodle.' . ($lost
                ? ' These activities are lost: ' . implode(', ', array_slice($lost, 0, 10)) . (count($lost) > 10 ? ', …' : '')
                    . '.' : ''),
            'Have an administrator install them. To go without: --allow missing-plugins',
            ['missing_plugins' => $job->missing, 'activities' => array_slice($lost, 0, 200)]);
    }
    if ($job->disabled) {
        moodlectl_restore_find($job, 'disabled-plugins', 'warning', 'Switched off on this site: '
            . implode(', ', $job->disabled) . '. Enrolments of such a method are not restored, such activities are hidden.',
            'Have an administrator switch them on.', ['plugins' => $job->disabled]);
    }
    if (empty($job->info->include_files)) {
        $files = moodlectl_restore_missing_contents($job);
        if ($files) {
            moodlectl_restore_find($job, 'without-files', 'danger', 'The backup carries no files, and the site has not got '
                . count($job->lost) . ' of the contents: ' . implode(', ', array_slice($files, 0, 5))
                . (count($files) > 5 ? ', …' : '') . '. They will be missing.',
                'Make the backup with its files (--with files). To go without: --allow without-files',
                ['files' => array_slice($files, 0, 200), 'contents' => array_slice(array_keys($job->lost), 0, 200),
                    'count' => count($job->lost)]);
        }
    }
}

/** The chosen activities whose module the site has not got, as `module "title"`. */
function moodlectl_restore_lost_activities(moodlectl_restore_job $job) {
    list(, $activities) = moodlectl_restore_contents($job);
    $lost = [];
    foreach ($activities as $cmid => $activity) {
        if ($job->chosen['activities'][$cmid] && in_array('mod_' . $activity['module'], $job->missing, true)) {
            $lost[] = $activity['module'] . ' "' . $activity['title'] . '"';
        }
    }
    return $lost;
}

/**
 * Frankenstyle names of what the chosen part needs and the site has not got. Moodle leaves out such activities and
 * blocks without a word (backup/moodle2/restore_plan_builder.class.php, all releases).
 */
function moodlectl_restore_missing_plugins(moodlectl_restore_job $job) {
    $needed = [];
    list(, $activities) = moodlectl_restore_contents($job);
    $settings = $job->params['settings'];
    $off = function($name) use ($settings) {
        return isset($settings[$name]) && !$settings[$name];
    };
    $directories = ['course'];
    foreach ($activities as $cmid => $activity) {
        if ($off('activities') || !$job->chosen['activities'][$cmid]) {
            continue;
        }
        $needed['mod_' . $activity['module']] = true;
        $directories[] = $activity['directory'];
        moodlectl_restore_need_of_activity($job->base . '/' . $activity['directory'], $activity['module'], $needed);
    }
    foreach ($off('blocks') ? [] : $directories as $directory) {
        // Moodle's own list of them (backup_general_helper::get_blocks_from_path) leaves out what it has not got.
        foreach (glob($job->base . '/' . $directory . '/blocks/*_*/block.xml') ?: [] as $path) {
            if (preg_match('/^([a-z][a-z0-9_]*)_[0-9]+$/', basename(dirname($path)), $m)) {
                $needed['block_' . $m[1]] = true;
            }
        }
    }
    if (!empty($job->info->original_course_format) && $job->info->type === backup::TYPE_1COURSE
            && ($job->mode === 'new' || $job->params['overwrite_config'] || !empty($settings['overwrite_conf']))) {
        $format = $job->info->original_course_format;
        // restore_course_structure_step turns this old one into another.
        $needed['format_' . ($format === 'scorm' ? 'singleactivity' : $format)] = true;
    }
    moodlectl_restore_need_of_course($job, $off, $needed);
    $missing = [];
    foreach (array_keys($needed) as $plugin) {
        list($type, $name) = explode('_', $plugin, 2);
        $there = core_component::get_plugin_list($type);
        $unable = $type === 'mod' && isset($there[$name]) && !plugin_supports('mod', $name, FEATURE_BACKUP_MOODLE2);
        if (!isset($there[$name]) || $unable) {
            $missing[] = $plugin;
        } else if (moodlectl_restore_is_disabled($type, $name)) {
            $job->disabled[] = $plugin;
        }
    }
    sort($missing);
    return $missing;
}

/** Whether an administrator has switched a module or an enrolment method off (enrol_is_enabled, table modules, all). */
function moodlectl_restore_is_disabled($type, $name) {
    global $DB;
    return ($type === 'enrol' && !enrol_is_enabled($name))
        || ($type === 'mod' && $DB->record_exists('modules', ['name' => $name, 'visible' => 0]));
}

/** Grading methods and, in quizzes, question behaviours of an activity. */
function moodlectl_restore_need_of_activity($directory, $module, array &$needed) {
    $looks = [['grading.xml', 'activemethod', 'gradingform_']];
    if ($module === 'quiz') {
        $looks[] = ['quiz.xml', 'preferredbehaviour', 'qbehaviour_'];
    }
    foreach ($looks as $look) {
        moodlectl_restore_walk_xml($directory . '/' . $look[0], function($reader) use ($look, &$needed) {
            $name = $reader->name === $look[1] ? $reader->readString() : '';
            if ($name !== '' && preg_match('/^[a-z][a-z0-9_]*$/', $name)) {
                $needed[$look[2] . $name] = true;
            }
        });
    }
}

/** Enrolment methods and question types, where they would be restored. */
function moodlectl_restore_need_of_course(moodlectl_restore_job $job, $off, array &$needed) {
    $methods = $job->params['enrolments'] === 'always' || ($job->params['enrolments'] !== 'manual' && !$off('users'));
    if ($methods) {
        moodlectl_restore_walk_xml($job->base . '/course/enrolments.xml', function($reader, $depth) use (&$needed) {
            // The element around it has the same name.
            if ($reader->name === 'enrol' && $depth === 3) {
                $needed['enrol_' . $reader->readString()] = true;
            }
        });
    }
    $categories = moodlectl_restore_chosen_refs($job, 'question_category');
    foreach (moodlectl_restore_question_bank($job) as $id => $category) {
        if (isset($categories[$id])) {
            foreach (array_keys($category['types']) as $type) {
                $needed['qtype_' . $type] = true;
            }
        }
    }
}

/** Ids of one kind that the chosen activities, sections and the course refer to in their inforef.xml. */
function moodlectl_restore_chosen_refs(moodlectl_restore_job $job, $kind) {
    list($sections, $activities) = moodlectl_restore_contents($job);
    $refs = moodlectl_restore_inforef($job->base . '/course');
    foreach ($sections as $id => $section) {
        if ($job->chosen['sections'][$id]) {
            $refs = moodlectl_restore_inforef($job->base . '/' . $section['directory'], $refs);
        }
    }
    foreach ($activities as $cmid => $activity) {
        if ($job->chosen['activities'][$cmid]) {
            $refs = moodlectl_restore_inforef($job->base . '/' . $activity['directory'], $refs);
        }
    }
    return isset($refs[$kind]) ? $refs[$kind] : [];
}

/**
 * The question bank of the backup: [category id => {contextid, level, stamp, entries, types, ids}] (questions.xml;
 * question_bank_entry from 4.0 on, questions alone before); ids are those of questions, answers and hints.
 */
function moodlectl_restore_question_bank(moodlectl_restore_job $job) {
    $bank = [];
    $id = 0;
    moodlectl_restore_walk_xml($job->base . '/questions.xml', function($reader, $depth) use (&$bank, &$id) {
        $name = $reader->name;
        if ($depth > 2 && in_array($name, ['question', 'answer', 'question_hint'], true)) {
            $bank[$id]['ids'][$name][(int)$reader->getAttribute('id')] = true;
        }
        if ($depth === 1 && $name === 'question_category') {
            $id = (int)$reader->getAttribute('id');
            $bank[$id] = ['contextid' => 0, 'level' => 0, 'stamp' => '', 'entries' => 0, 'types' => [],
                'ids' => []];
        } else if ($depth === 2 && in_array($name, ['contextid', 'contextlevel', 'stamp'], true)) {
            $value = $reader->readString();
            $bank[$id][$name === 'contextlevel' ? 'level' : $name] = $name === 'stamp' ? $value : (int)$value;
        } else if ($name === 'question_bank_entry' || ($name === 'question' && $depth === 3)) {
            $bank[$id]['entries']++;
        } else if ($name === 'qtype') {
            $type = $reader->readString();
            if ($type === 'random' && $depth === 4) {
                $bank[$id]['entries']--;
            } else if (preg_match('/^[a-z][a-z0-9_]*$/', $type) && !in_array($type, ['random', 'missingtype'], true)) {
                $bank[$id]['types'][$type] = true;
            }
        }
    });
    return $bank;
}

/** Files whose contents neither the backup nor the site's pool holds: their names; the hashes go to $job->lost. */
function moodlectl_restore_missing_contents(moodlectl_restore_job $job) {
    $storage = get_file_storage();
    $known = [];
    $names = [];
    moodlectl_restore_records($job->base . '/files.xml', 'file', function($file) use ($job, $storage, &$known, &$names) {
        if ($file->filename === '.' || empty($file->contenthash) || !empty($file->repositoryid)) {
            return;
        }
        if (!isset($known[$file->contenthash])) {
            $hash = $file->contenthash;
            $known[$hash] = (int)$file->filesize === 0 || is_file("$job->base/files/" . substr($hash, 0, 2) . "/$hash")
                || moodlectl_restore_in_pool($storage, $file);
        }
        if (!$known[$file->contenthash]) {
            $job->lost[$file->contenthash] = true;
            $names[] = $file->filename;
        }
    });
    return array_values(array_unique($names));
}

/**
 * As restore_dbops::send_files_to_pool looks for it (all releases; also contents that no record points to); but one that
 * lies there cut short, which Moodle would take, is none.
 */
function moodlectl_restore_in_pool($storage, $file) {
    $record = clone $file;
    $record->filesize = (int)$file->filesize;
    $stored = new stored_file($storage, $record);
    $system = $storage->get_file_system();
    if (!$system->is_file_readable_locally_by_storedfile($stored)) {
        if ($system->is_file_readable_remotely_by_storedfile($stored)) {
            return true;
        }
        if (!$system->is_file_readable_locally_by_storedfile($stored, true)) {
            return false;
        }
    }
    return (int)@filesize($system->get_local_path_from_storedfile($stored)) === $record->filesize;
}
