<?php
// What a restore does to people, found out before it does it: whom it matches, whom it creates, who is in conflict.

/** The tasks of the plan that will be carried out (restore_dbops::get_included_tasks, without saving anything). */
function moodlectl_restore_included_tasks(moodlectl_restore_job $job) {
    $plan = $job->controller->get_plan();
    $tasks = [];
    foreach ($plan->get_tasks() as $task) {
        if ($task instanceof restore_block_task) {
            $parent = basename(dirname(dirname($task->get_taskbasepath())));
            $in = $task->get_setting_value('blocks') && ($parent === 'course'
                || ($task->get_setting_value('activities') && $task->get_setting_value($parent . '_included')));
        } else if ($task instanceof restore_activity_task) {
            $in = $task->get_setting_value('activities') && $task->get_setting_value('included');
        } else if ($task instanceof restore_section_task) {
            $in = $task->get_setting_value('included');
        } else {
            $in = $task instanceof restore_course_task;
        }
        if ($in) {
            $tasks[] = $task;
        }
    }
    return $tasks;
}

/** The ids a task's inforef.xml names, by kind: [user => [id => true], file => …, question_category => …]. */
function moodlectl_restore_inforef($directory, array $into = []) {
    $path = $directory . '/inforef.xml';
    if (!is_file($path)) {
        return $into;
    }
    $kind = '';
    moodlectl_restore_walk_xml($path, function($reader, $depth) use (&$into, &$kind) {
        if ($depth === 2) {
            $kind = $reader->name;
        } else if ($depth === 3 && $reader->name === 'id') {
            $into[$kind][(int)$reader->readString()] = true;
        }
    });
    return $into;
}

/** Calls back for every element of an XML file, reading it as a stream; entities are not resolved. */
function moodlectl_restore_walk_xml($path, $callback) {
    $reader = new XMLReader();
    if (!is_file($path) || !$reader->open($path, null, LIBXML_NONET | LIBXML_PARSEHUGE | LIBXML_COMPACT)) {
        return;
    }
    $before = libxml_use_internal_errors(true);
    $more = $reader->read();
    while ($more) {
        $skip = $reader->nodeType === XMLReader::ELEMENT ? $callback($reader, $reader->depth) : null;
        $more = $skip === 'next' ? $reader->next() : $reader->read();
    }
    $errors = libxml_get_errors();
    libxml_clear_errors();
    libxml_use_internal_errors($before);
    $reader->close();
    foreach ($errors as $error) {
        if ($error->level === LIBXML_ERR_FATAL) {
            throw new moodlectl_error('refused', 'damaged', 'The backup is damaged: ' . basename($path) . ', line '
                . $error->line . ': ' . trim($error->message) . '.', 'Check the file: moodlectl backup verify FILE');
        }
    }
}

/** Calls back with each element of that name and depth as a record of its plain children; nulls as Moodle means them. */
function moodlectl_restore_records($path, $name, $callback) {
    moodlectl_restore_walk_xml($path, function($reader, $depth) use ($name, $callback) {
        if ($reader->name !== $name) {
            return null;
        }
        $callback(moodlectl_restore_record($reader->expand()));
        return 'next';
    });
}

/** An element with its attributes and plain children as an object. */
function moodlectl_restore_record(DOMNode $node) {
    $record = new stdClass();
    foreach ($node->attributes as $attribute) {
        $record->{$attribute->name} = $attribute->value;
    }
    foreach ($node->childNodes as $child) {
        if ($child->nodeType !== XML_ELEMENT_NODE) {
            continue;
        }
        $plain = $child->childNodes->length === 0 || ($child->childNodes->length === 1
            && $child->firstChild->nodeType === XML_TEXT_NODE);
        if ($plain) {
            $record->{$child->nodeName} = $child->textContent === '$@NULL@$' ? null : $child->textContent;
        }
    }
    return $record;
}

/** Looks at every person the chosen items bring along, and refuses what Moodle's pre-check would refuse. */
function moodlectl_restore_find_people(moodlectl_restore_job $job) {
    if (!$job->controller->get_plan()->get_setting('users')->get_value()) {
        return;
    }
    moodlectl_restore_classify_people($job);
    $people = $job->people;
    $bad = array_merge($people['conflicts'], $people['uncreatable']);
    if (!$bad) {
        if ($people['matched'] || $people['created']) {
            moodlectl_restore_find($job, 'people', 'note', "People of the backup: {$people['matched']} have an account here, "
                . "{$people['created']} accounts will be made.", '', ['matched' => $people['matched'],
                'created' => $people['created']]);
        }
        return;
    }
    if ($job->params['users_conflict'] === 'without-users') {
        $job->withoutpeople = true;
        $text = 'Restored without people and their data, because ' . count($bad)
            . ' of them cannot be restored: ' . implode(', ', array_slice($bad, 0, 50)) . '.';
        $job->warnings[] = $text;
        moodlectl_restore_find($job, 'people', 'warning', $text, '', ['conflicts' => array_slice($people['conflicts'], 0, 50),
            'uncreatable' => array_slice($people['uncreatable'], 0, 50)]);
        moodlectl_restore_open($job);
    } else {
        moodlectl_restore_find_bad_people($job);
    }
}

/** Sorts people into matched, created, in conflict, and not to be created (restore_dbops::precheck_included_users). */
function moodlectl_restore_classify_people(moodlectl_restore_job $job) {
    global $DB, $CFG;
    $needed = [];
    foreach (moodlectl_restore_included_tasks($job) as $task) {
        $needed = moodlectl_restore_inforef($task->get_taskbasepath(), $needed);
    }
    $needed = isset($needed['user']) ? $needed['user'] : [];
    $hosts = $DB->get_records_menu('mnet_host', [], '', 'wwwroot, id');
    $create = has_capability('moodle/restore:createuser', $job->context, $job->userid)
        && has_capability('moodle/restore:userinfo', $job->context, $job->userid)
        && empty($CFG->disableusercreationonrestore);
    $people = &$job->people;
    $users = $job->base . '/users.xml';
    moodlectl_restore_records($users, 'user', function($user) use ($job, $needed, $hosts, $create, &$people) {
        if (!isset($needed[(int)$user->id])) {
            return;
        }
        list($fate, $found) = moodlectl_restore_fate($job, $user, $hosts);
        if ($fate === 'matched') {
            $people['matched']++;
        } else if ($fate === 'conflict') {
            $people['conflicts'][] = $user->username;
        } else if (!$create) {
            $people['uncreatable'][] = $user->username;
        } else {
            $people['created']++;
        }
        $people['ids'][(int)$user->id] = $found;
    });
}

/**
 * What Moodle does with one person, and with whom it matches: [matched, id here], [created, 0] or [conflict, 0]
 * (restore_dbops::precheck_user, which only reads).
 *
 * The site's setting import_general_duplicate_admin_allowed is followed for `admin` alone: for everybody else Moodle
 * would make a broken second account out of a conflict.
 */
function moodlectl_restore_fate(moodlectl_restore_job $job, $user, array $hosts) {
    global $CFG;
    foreach (['email', 'deleted', 'firstaccess', 'firstname', 'lastname', 'mnethosturl'] as $name) {
        if (!isset($user->$name)) {
            $user->$name = in_array($name, ['deleted', 'firstaccess']) ? 0 : '';
        }
    }
    $url = $user->mnethosturl;
    $user->mnethostid = $url !== '' && $url !== $CFG->wwwroot && isset($hosts[$url]) ? $hosts[$url]
        : $CFG->mnet_localhost_id;
    $hash = isset($job->info->original_site_identifier_hash) ? $job->info->original_site_identifier_hash : null;
    $found = moodlectl_restore_people::look($user, $job->samesite, $hash);
    if (is_object($found)) {
        return ['matched', (int)$found->id];
    }
    if ($found) {
        return ['created', 0];
    }
    $admin = $user->username === 'admin' && $user->mnethostid == $CFG->mnet_localhost_id
        && get_config('backup', 'import_general_duplicate_admin_allowed');
    return [$admin ? 'created' : 'conflict', 0];
}

/** Moodle's own sentences for what is wrong with people (lang/en/error.php and moodle.php, all releases). */
function moodlectl_restore_people_words(moodlectl_restore_job $job) {
    $words = [];
    foreach ($job->people['conflicts'] as $username) {
        $words[] = get_string('restoreuserconflict', '', $username);
    }
    foreach ($job->people['uncreatable'] as $username) {
        $words[] = get_string('restorecannotcreateuser', '', $username);
    }
    return $words;
}

/** Writes down who is in conflict, and who cannot be created with the acting user's rights. */
function moodlectl_restore_find_bad_people(moodlectl_restore_job $job) {
    global $CFG;
    $people = $job->people;
    $details = ['precheck' => moodlectl_restore_people_words($job), 'conflicts' => array_slice($people['conflicts'], 0, 50),
        'uncreatable' => array_slice($people['uncreatable'], 0, 50), 'count' => count($people['conflicts'])];
    $names = function($list) {
        return implode(', ', array_slice($list, 0, 50)) . (count($list) > 50 ? ', … (' . count($list) . ' in all)' : '');
    };
    if ($people['conflicts']) {
        moodlectl_restore_find($job, 'user_conflict', 'forbidden', 'The site has other people under the same usernames: '
            . $names($people['conflicts']) . '.', 'If they are the same people, say so: --map '
            . $people['conflicts'][0] . '=' . $people['conflicts'][0] . ' (OLD=NEW, repeatable; - leaves them out), '
            . 'or --user-map FILE.csv for many. Or restore without people: --on-user-conflict without-users.', $details);
    }
    if ($people['uncreatable']) {
        $off = !empty($CFG->disableusercreationonrestore);
        $ask = moodlectl_whom_to_ask('moodle/restore:createuser', $job->context);
        moodlectl_restore_find($job, 'cannot_create_users', 'forbidden', ($off ? 'The site makes no accounts on restore '
            . '($CFG->disableusercreationonrestore)' : "The user {$job->io->acting->username} may not create (moodle/restore:"
            . 'createuser, moodle/restore:userinfo) the people') . ' who are in the backup and not on the site: '
            . $names($people['uncreatable']) . '.', ($off ? 'Make the accounts first' : 'Act as somebody who may (--as '
            . "USERNAME), or ask: $ask") . '. Or restore without people: --without users', $details + ['ask' => $ask]);
    }
}

/** port.UsersOutcome */
function moodlectl_restore_people_result(moodlectl_restore_job $job) {
    $people = $job->people;
    return $job->withoutpeople
        ? ['matched' => 0, 'created' => 0, 'conflicts' => array_slice($people['conflicts'], 0, 50)]
        : ['matched' => $people['matched'], 'created' => $people['created'],
            'conflicts' => $job->dryrun ? $people['conflicts'] : array_slice($people['conflicts'], 0, 50)];
}
