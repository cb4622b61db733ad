<?php
// What a course holds, as identities that can be compared with another course or a backup: names, usernames and
// hashes, no ids. Reads only. The same words as moodlectl/mbz/identities.py, line by line; tables of 3.9 to 5.1.

/** Collects identities and sends them as lines of JSON: [kind, [key words], {facts}]. */
final class moodlectl_identities {
    /** @var moodlectl_io */
    private $io;
    /** @var string */
    private $buffer = '';
    /** @var int */
    public $count = 0;
    /** @var stdClass */
    public $course;
    /** @var context_course */
    public $context;
    /** @var bool whether people and what they did are told, too */
    public $people;
    /** @var array cmid => {cmid, module, name, instance, section, record} */
    public $activities = [];
    /** @var array module => instance => cmid */
    public $instances = [];
    /** @var array context id => [module, name] */
    public $where = [];
    /** @var array section id => its name in keys */
    public $sections = [];
    /** @var array|null course module ids as keys: of these only */
    private $only;
    /** @var array course module ids as keys: not of these */
    private $without;

    public function __construct(moodlectl_io $io, $course, $people, $only, array $without) {
        $this->only = $only === null ? null : array_flip($only);
        $this->without = array_flip($without);
        $this->io = $io;
        $this->course = $course;
        $this->context = context_course::instance($course->id);
        $this->people = $people;
    }

    /** Whether an activity, and what it holds, is asked for. */
    public function wants($cmid) {
        return ($this->only === null || isset($this->only[$cmid])) && !isset($this->without[$cmid]);
    }

    public function add($kind, array $key, array $facts = []) {
        $flags = JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE | JSON_INVALID_UTF8_SUBSTITUTE;
        $this->buffer .= json_encode([$kind, array_map('strval', $key), (object)array_map('strval', $facts)], $flags) . "\n";
        $this->count++;
        if (strlen($this->buffer) > 262144) {
            $this->flush();
        }
    }

    public function flush() {
        if ($this->buffer !== '') {
            $this->io->send($this->buffer);
            $this->buffer = '';
        }
    }

    /** The activity a course module is, as the first two words of a key. */
    public function key($cmid) {
        $activity = $this->activities[$cmid];
        return [$activity['module'], $activity['name']];
    }

    /** The activity of a module's instance, null where it is being deleted. */
    public function instance($module, $instance) {
        return isset($this->instances[$module][$instance]) ? $this->key($this->instances[$module][$instance]) : null;
    }
}

/** A text without what a move changes (mbz/likeness.py text). */
function moodlectl_identity_text($value) {
    $value = str_replace(["\r\n", "\r"], "\n", (string)$value);
    $value = preg_replace('/[\x00-\x08\x0b-\x1f\x7f]/', '', $value);
    $value = preg_replace('~\$@[A-Z][^ \t\n"\'<>]*|https?://[^ \t\n"\'<>]+\.php[^ \t\n"\'<>]*~', 'LINK', $value);
    return trim($value, " \t\n");
}

function moodlectl_identity_digest($value) {
    $value = moodlectl_identity_text($value);
    return $value === '' ? '' : sha1($value);
}

/** A short value as it is, a decimal without trailing zeros, a long one as its sha1. */
function moodlectl_identity_plain($value) {
    $value = (string)$value;
    if (preg_match('/^-?[0-9]+\.[0-9]+$/', $value)) {
        $value = rtrim(rtrim($value, '0'), '.');
        return $value === '' ? '0' : $value;
    }
    $value = moodlectl_identity_text($value);
    return strlen($value) > 100 ? sha1($value) : $value;
}

/** A restriction's JSON, whose numbers are ids and dates: its words are compared, in whatever order they stand. */
function moodlectl_identity_shape($value) {
    $value = (string)$value;
    $tree = strpos($value, '{') === 0 ? json_decode($value) : null;
    if ($tree === null) {
        return moodlectl_identity_digest($value);
    }
    $words = preg_split('/[{}\[\],:]+/', preg_replace('/[0-9]+(?:\.[0-9]+)?/', '#', json_encode($tree, JSON_UNESCAPED_SLASHES)));
    sort($words, SORT_STRING);
    return moodlectl_identity_digest(implode("\n", $words));
}

/** Those columns of a record, plain; what a release does not have is left out. */
function moodlectl_identity_facts($record, array $names) {
    $facts = [];
    foreach ($names as $name) {
        if (property_exists($record, $name)) {
            $facts[$name] = moodlectl_identity_plain($record->$name);
        }
    }
    return $facts;
}

/** A username from a join: nobody, or somebody who is gone. */
function moodlectl_identity_username($username, $userid) {
    return $username !== null ? $username : ($userid ? '?' : '');
}

/** Rows of a query one by one; none where the site lacks one of its tables. */
function moodlectl_identity_rows($sql, array $values, $function) {
    global $DB;
    static $tables = null;
    if ($tables === null) {
        $tables = array_flip($DB->get_tables());
    }
    preg_match_all('/\{(\w+)\}/', $sql, $needed);
    if (array_diff_key(array_flip($needed[1]), $tables)) {
        return;
    }
    $rows = $DB->get_recordset_sql($sql, $values);
    foreach ($rows as $row) {
        $function($row);
    }
    $rows->close();
}

/**
 * The same for many ids, which stand where the query says %IDS%, some at a time: a question for each of a course's
 * hundreds of activities would take most of the time. Few at a time where the driver holds whole results
 * (lib/dml/mysqli_native_moodle_database.php get_recordset_sql; PostgreSQL's reads through a cursor).
 */
function moodlectl_identity_rows_of(array $ids, $sql, array $values, $function) {
    global $DB;
    foreach (array_chunk($ids, $DB->get_dbfamily() === 'postgres' ? 500 : 25) as $some) {
        $asked = str_replace('%IDS%', implode(',', array_fill(0, count($some), '?')), $sql);
        moodlectl_identity_rows($asked, array_merge($some, $values), $function);
    }
}

/**
 * Streams what the course {course_id} holds, with people if {with_users}; of its activities {only} those or null for
 * all, and {without} those; {parts} say where activities keep what (mbz/identityparts.py). Asks for the capabilities that a backup with the same content asks for
 * (backup/util/checks/backup_check.class.php).
 */
function moodlectl_call_identities(array $params, moodlectl_io $io) {
    global $CFG, $DB;
    $course = $DB->get_record('course', ['id' => (int)$params['course_id']]);
    if (!$course) {
        throw new moodlectl_error('notfound', 'course_unknown', 'There is no course with the id ' . (int)$params['course_id'] . '.');
    }
    $context = context_course::instance($course->id);
    require_capability('moodle/backup:backupcourse', $context, $io->acting->id);
    $people = !empty($params['with_users']);
    if ($people) {
        require_capability('moodle/backup:userinfo', $context, $io->acting->id);
    }
    $all = new moodlectl_identities($io, $course, $people, $params['only'], $params['without']);
    $all->add('about', [], ['source' => 'site', 'url' => $CFG->wwwroot, 'release' => moodlectl_identity_release(),
        'site' => isset($CFG->siteidentifier) ? md5($CFG->siteidentifier) : '', 'type' => 'course',
        'startdate' => $course->startdate, 'setting_users' => $people ? '1' : '0']);
    moodlectl_identities_course($all);
    moodlectl_identities_sections($all);
    moodlectl_identities_activities($all);
    moodlectl_identities_parts($all, $params['parts']);
    moodlectl_identities_groups($all);
    moodlectl_identities_gradebook($all);
    moodlectl_identities_questions($all);
    moodlectl_identities_files($all);
    moodlectl_identities_around($all);
    moodlectl_identities_badges($all);
    if ($people) {
        moodlectl_identities_people($all);
        moodlectl_identities_grades($all);
        moodlectl_identities_completion($all);
    }
    $all->flush();
    return ['count' => $all->count];
}

/** The release as backups name it: 5.1. */
function moodlectl_identity_release() {
    global $CFG;
    return preg_match('/^\d+\.\d+/', $CFG->release, $m) ? $m[0] : $CFG->release;
}

function moodlectl_identities_course(moodlectl_identities $all) {
    $facts = moodlectl_identity_facts($all->course, ['shortname', 'fullname', 'idnumber', 'format', 'startdate', 'enddate',
        'visible', 'groupmode', 'groupmodeforce', 'lang', 'enablecompletion', 'showgrades', 'newsitems']);
    $facts['summary'] = moodlectl_identity_digest($all->course->summary);
    $all->add('course', ['course', ''], $facts);
    moodlectl_identity_rows("SELECT d.id, f.shortname, d.value FROM {customfield_data} d
        JOIN {customfield_field} f ON f.id = d.fieldid JOIN {customfield_category} c ON c.id = f.categoryid
        WHERE c.component = 'core_course' AND c.area = 'course' AND d.instanceid = ?", [$all->course->id],
        function($row) use ($all) {
            if ((string)$row->value !== '') {
                $all->add('custom_field', [$row->shortname], ['value' => moodlectl_identity_plain($row->value)]);
            }
        });
    moodlectl_identity_rows('SELECT name, contenttype FROM {contentbank_content} WHERE contextid = ?', [$all->context->id],
        function($row) use ($all) {
            $all->add('content', [$row->name, $row->contenttype]);
        });
}

/** Sections; those of subsections (4.5 and later) are known by their name, their numbers are nobody's choice. */
function moodlectl_identities_sections(moodlectl_identities $all) {
    global $DB;
    foreach ($DB->get_records('course_sections', ['course' => $all->course->id], 'section') as $section) {
        $delegated = !empty($section->component);
        $name = $delegated ? 'subsection ' . $section->name : (string)$section->section;
        $all->sections[$section->id] = $name;
        $facts = $delegated ? [] : ['name' => moodlectl_identity_plain($section->name)];
        $facts['visible'] = $section->visible;
        $facts['summary'] = moodlectl_identity_digest($section->summary);
        $facts['availability'] = moodlectl_identity_shape($section->availability);
        $all->add('section', [$name], $facts);
    }
}

/** Activities with their settings, and everything by which others find them. */
function moodlectl_identities_activities(moodlectl_identities $all) {
    global $DB;
    $modules = $DB->get_records_menu('modules', null, '', 'id, name');
    $tables = array_flip($DB->get_tables());
    $cms = [];
    foreach ($DB->get_records('course_modules', ['course' => $all->course->id, 'deletioninprogress' => 0], 'id') as $cm) {
        $module = isset($modules[$cm->module]) ? $modules[$cm->module] : '';
        if ($all->wants($cm->id) && isset($tables[$module])) {
            $cms[$module][$cm->instance] = $cm;
        }
    }
    $contexts = $DB->get_records_select_menu('context', 'contextlevel = ? AND path LIKE ?',
        [CONTEXT_MODULE, $all->context->path . '/%'], '', 'instanceid, id');
    foreach ($cms as $module => $of) {
        moodlectl_identity_rows_of(array_keys($of), "SELECT * FROM {{$module}} WHERE id IN (%IDS%) ORDER BY id", [],
            function($record) use ($all, $module, $of, $contexts) {
                $cm = $of[$record->id];
                $context = isset($contexts[$cm->id]) ? $contexts[$cm->id] : context_module::instance($cm->id)->id;
                moodlectl_identities_activity($all, $module, $cm, $record, $context);
            });
    }
    $all->where[$all->context->id] = ['course', ''];
    moodlectl_identity_rows("SELECT ti.id, t.rawname, ti.itemtype, ti.contextid FROM {tag_instance} ti
        JOIN {tag} t ON t.id = ti.tagid JOIN {context} ctx ON ctx.id = ti.contextid
        WHERE ti.component = 'core' AND ti.itemtype IN ('course', 'course_modules')
        AND (ctx.id = ? OR ctx.path LIKE ?)", [$all->context->id, $all->context->path . '/%'],
        function($row) use ($all) {
            if (isset($all->where[$row->contextid])) {
                $all->add('tag', array_merge($all->where[$row->contextid], [$row->rawname]));
            }
        });
}

function moodlectl_identities_activity(moodlectl_identities $all, $module, $cm, $record, $contextid) {
    $all->activities[$cm->id] = ['module' => $module, 'name' => $record->name, 'instance' => (int)$cm->instance];
    $all->instances[$module][$cm->instance] = $cm->id;
    $all->where[$contextid] = [$module, $record->name];
    $facts = moodlectl_identity_facts($cm, ['idnumber', 'visible', 'visibleoncoursepage', 'indent', 'groupmode',
        'completion', 'completionview', 'completionexpected', 'completionpassgrade', 'showdescription']);
    foreach (get_object_vars($record) as $name => $value) {
        $facts[$name] = moodlectl_identity_plain($value);
    }
    $facts['section'] = isset($all->sections[$cm->section]) ? $all->sections[$cm->section] : '';
    $facts['availability'] = moodlectl_identity_shape($cm->availability);
    $facts['intro'] = moodlectl_identity_digest(isset($record->intro) ? $record->intro : '');
    $all->add('activity', [$module, $record->name], $facts);
}

/** What activities hold, each part as it is described. */
function moodlectl_identities_parts(moodlectl_identities $all, array $parts) {
    foreach ($parts as $part) {
        if (($part['personal'] && !$all->people) || empty($all->instances[$part['module']])) {
            continue;
        }
        $query = moodlectl_identity_query($part);
        if ($query === null) {
            continue;
        }
        moodlectl_identity_rows_of(array_keys($all->instances[$part['module']]), $query['sql'], $query['values'],
            function($row) use ($all, $part, $query) {
                $read = function(array $fields) use ($row, $query) {
                    $values = [];
                    foreach ($fields as $field) {
                        $alias = $query['alias'][$field['up'] . $field['column']];
                        $values[$field['name']] = moodlectl_identity_field($field, $row, $alias);
                    }
                    return $values;
                };
                $where = $all->instance($part['module'], $row->instanceid);
                $all->add($part['kind'], array_merge($where, array_values($read($part['key']))), $read($part['facts']));
            });
    }
}

function moodlectl_identity_field(array $field, $row, $alias) {
    if ($alias === null) {
        return '';
    }
    $value = $row->{'v' . $alias};
    if ($field['kind'] === 'user') {
        return moodlectl_identity_username($row->{'r' . $alias}, $value);
    }
    if ($field['kind'] === 'group') {
        return (string)$row->{'r' . $alias};
    }
    if ($field['kind'] === 'ref') {
        return moodlectl_identity_plain($row->{'r' . $alias});
    }
    return $field['kind'] === 'hash' ? moodlectl_identity_digest($value) : moodlectl_identity_plain($value);
}

/** The query for a part: {sql, values, alias [field => number]}; null where the site has no such tables. */
function moodlectl_identity_query(array $part) {
    global $DB;
    $tables = array_flip($DB->get_tables());
    $from = '{' . moodlectl_identity_word($part['module']) . '} s0';
    $columns = [];
    $conditions = '';
    $values = [];
    foreach ($part['steps'] as $i => $step) {
        $found = null;
        foreach ($step['tables'] as $table) {
            $found = $found === null && isset($tables[$table]) ? moodlectl_identity_word($table) : $found;
        }
        if ($found === null) {
            return null;
        }
        $n = $i + 1;
        $from .= " JOIN {{$found}} s$n ON s$n." . moodlectl_identity_word($step['column']) . " = s$i." . moodlectl_identity_word($step['to']);
        $columns[$n] = $DB->get_columns($found);
        if ($step['only']) {
            $conditions .= " AND s$n." . moodlectl_identity_word($step['only'][0]) . ' = ?';
            $values[] = $step['only'][1];
        }
    }
    $select = ["s$n.id AS vid", 's0.id AS instanceid'];
    $alias = [];
    foreach (array_merge($part['key'], $part['facts']) as $i => $field) {
        $column = moodlectl_identity_word($field['column']);
        $s = $n - (int)$field['up'];
        if (!isset($columns[$s][$column])) {
            $alias[$field['up'] . $column] = null;
            continue;
        }
        $alias[$field['up'] . $column] = $i;
        $select[] = "s$s.$column AS v$i";
        $other = ['user' => ['user', 'username'], 'group' => ['groups', 'name']];
        if ($field['ref']) {
            $other['ref'] = [moodlectl_identity_word($field['ref']['table']), moodlectl_identity_word($field['ref']['field'])];
        }
        if (isset($other[$field['kind']])) {
            list($table, $shown) = $other[$field['kind']];
            $from .= " LEFT JOIN {{$table}} r$i ON r$i.id = s$s.$column";
            $select[] = "r$i.$shown AS r$i";
        }
    }
    return ['sql' => 'SELECT ' . implode(', ', $select) . " FROM $from WHERE s0.id IN (%IDS%)$conditions", 'values' => $values,
        'alias' => $alias];
}

/** A name of a table or column: nothing but a word gets into a query. */
function moodlectl_identity_word($word) {
    if (!preg_match('/^[a-z][a-z0-9_]*$/', $word)) {
        throw new moodlectl_error('usage', 'bad_part', "'$word' is no name of a table or column.");
    }
    return $word;
}

function moodlectl_identities_groups(moodlectl_identities $all) {
    $id = [$all->course->id];
    foreach (['group' => '{groups}', 'grouping' => '{groupings}'] as $kind => $table) {
        moodlectl_identity_rows("SELECT id, name, idnumber, description FROM $table WHERE courseid = ?", $id,
            function($row) use ($all, $kind) {
                $all->add($kind, [$row->name], ['idnumber' => moodlectl_identity_plain($row->idnumber),
                    'description' => moodlectl_identity_digest($row->description)]);
            });
    }
    moodlectl_identity_rows('SELECT gg.id, gr.name AS grouping, g.name FROM {groupings_groups} gg
        JOIN {groupings} gr ON gr.id = gg.groupingid JOIN {groups} g ON g.id = gg.groupid WHERE gr.courseid = ?', $id,
        function($row) use ($all) {
            $all->add('grouping_group', [$row->grouping, $row->name]);
        });
    if ($all->people) {
        moodlectl_identity_rows('SELECT gm.id, g.name, gm.userid, u.username FROM {groups_members} gm
            JOIN {groups} g ON g.id = gm.groupid LEFT JOIN {user} u ON u.id = gm.userid WHERE g.courseid = ?', $id,
            function($row) use ($all) {
                $all->add('group_member', [$row->name, moodlectl_identity_username($row->username, $row->userid)]);
            });
    }
}

/** Grade items by id, as words of a key; null where the activity is being deleted. */
function moodlectl_identity_grade_items(moodlectl_identities $all, array $items) {
    global $DB;
    $categories = $DB->get_records_menu('grade_categories', ['courseid' => $all->course->id], '', 'id, fullname');
    $keys = [];
    foreach ($items as $item) {
        if ($item->itemtype === 'mod') {
            $where = $all->instance($item->itemmodule, $item->iteminstance);
            $keys[$item->id] = $where ? array_merge($where, ['item ' . ($item->itemnumber ? $item->itemnumber : '0')]) : null;
        } else if ($item->itemtype === 'course') {
            $keys[$item->id] = ['course', '', 'course total'];
        } else if ($item->itemtype === 'category') {
            $name = isset($categories[$item->iteminstance]) ? $categories[$item->iteminstance] : '';
            $keys[$item->id] = ['course', '', 'category ' . $name];
        } else {
            $keys[$item->id] = ['course', '', (string)$item->itemname];
        }
    }
    return array_filter($keys);
}

function moodlectl_identities_gradebook(moodlectl_identities $all) {
    global $DB;
    foreach ($DB->get_records('grade_categories', ['courseid' => $all->course->id]) as $category) {
        $all->add('grade_category', ['course', '', $category->fullname === '?' ? '' : $category->fullname],
            moodlectl_identity_facts($category, ['aggregation', 'keephigh', 'droplow', 'aggregateonlygraded']));
    }
    $items = $DB->get_records('grade_items', ['courseid' => $all->course->id]);
    foreach (moodlectl_identity_grade_items($all, $items) as $id => $key) {
        $item = $items[$id];
        $names = ['gradetype', 'grademax', 'grademin', 'gradepass', 'aggregationcoef'];
        // An activity's ID number is told with the activity.
        $names = $item->itemtype === 'mod' ? $names : array_merge(['idnumber'], $names);
        $all->add('grade_item', $key, moodlectl_identity_facts($item, $names));
    }
    moodlectl_identity_rows_of(array_keys($all->where), 'SELECT * FROM {grading_areas} WHERE contextid IN (%IDS%)', [],
        function($area) use ($all) {
            $all->add('grading', array_merge($all->where[$area->contextid], [$area->areaname]),
                ['method' => moodlectl_identity_plain($area->activemethod)]);
        });
}

function moodlectl_identities_grades(moodlectl_identities $all) {
    global $DB;
    $keys = moodlectl_identity_grade_items($all, $DB->get_records('grade_items', ['courseid' => $all->course->id]));
    moodlectl_identity_rows_of(array_keys($keys), 'SELECT g.id, g.itemid, g.userid, u.username, g.finalgrade, g.feedback,
            g.overridden, g.excluded FROM {grade_grades} g LEFT JOIN {user} u ON u.id = g.userid
            WHERE g.itemid IN (%IDS%) AND (g.finalgrade IS NOT NULL OR g.feedback IS NOT NULL)', [],
        function($row) use ($all, $keys) {
            $value = moodlectl_identity_plain($row->finalgrade);
            $feedback = moodlectl_identity_digest($row->feedback);
            if ($value !== '' || $feedback !== '') {
                $who = moodlectl_identity_username($row->username, $row->userid);
                $all->add('grade', array_merge($keys[$row->itemid], [$who]), ['value' => $value, 'feedback' => $feedback,
                    'overridden' => $row->overridden ? 1 : 0, 'excluded' => $row->excluded ? 1 : 0]);
            }
        });
    moodlectl_identity_rows_of(array_keys($keys), 'SELECT itemid, COUNT(id) AS amount FROM {grade_grades_history}
            WHERE itemid IN (%IDS%) GROUP BY itemid', [],
        function($row) use ($all, $keys) {
            $all->add('grade_history', $keys[$row->itemid], ['count' => $row->amount]);
        });
}

/** The latest version of each question bank entry; before 4.0 questions, without the random placeholders. */
function moodlectl_identities_questions(moodlectl_identities $all) {
    global $DB;
    $values = [$all->context->id, $all->context->path . '/%'];
    $below = '(ctx.id = ? OR ctx.path LIKE ?)';
    if ($DB->get_manager()->table_exists('question_bank_entries')) {
        $sql = "SELECT q.id, q.name, q.qtype, q.questiontext, q.defaultmark, v.version, v.status, e.idnumber,
            c.name AS category, c.contextid FROM {question_bank_entries} e
            JOIN {question_categories} c ON c.id = e.questioncategoryid JOIN {context} ctx ON ctx.id = c.contextid
            JOIN {question_versions} v ON v.questionbankentryid = e.id JOIN {question} q ON q.id = v.questionid
            WHERE $below AND v.version = (SELECT MAX(w.version) FROM {question_versions} w
                WHERE w.questionbankentryid = e.id)";
    } else {
        $sql = "SELECT q.id, q.name, q.qtype, q.questiontext, q.defaultmark, q.idnumber, c.name AS category, c.contextid
            FROM {question} q JOIN {question_categories} c ON c.id = q.category JOIN {context} ctx ON ctx.id = c.contextid
            WHERE $below AND q.qtype <> 'random'";
    }
    moodlectl_identity_rows($sql, $values, function($row) use ($all) {
        if (!isset($all->where[$row->contextid])) {
            return;
        }
        $facts = ['text' => moodlectl_identity_digest($row->questiontext), 'mark' => moodlectl_identity_plain($row->defaultmark)];
        $facts += moodlectl_identity_facts($row, ['version', 'status', 'idnumber', 'category']);
        $facts['bank'] = trim(implode(' ', $all->where[$row->contextid]));
        $all->add('question', [$row->name, $row->qtype], $facts);
    });
}

/** Whether files there are people's work (mbz/identities.py personal_area). */
function moodlectl_identity_personal($component, $area) {
    $areas = ['mod_forum' => 'post attachment', 'mod_glossary' => 'entry attachment', 'mod_data' => 'content',
        'mod_wiki' => 'attachments', 'mod_lesson' => 'essay_responses essay_answers',
        'mod_assignment' => 'submission response', 'grade' => 'feedback historyfeedback',
        'mod_workshop' => 'submission_content submission_attachment overallfeedback_content overallfeedback_attachment'];
    if (strpos($component, 'assignsubmission_') === 0 || strpos($component, 'assignfeedback_') === 0) {
        return true;
    }
    if (strpos($component, 'question') === 0) {
        return strpos($area, 'response_') === 0;
    }
    return isset($areas[$component]) && in_array($area, explode(' ', $areas[$component]), true);
}

function moodlectl_identities_files(moodlectl_identities $all) {
    $blocks = [];
    moodlectl_identity_rows('SELECT ctx.id, b.parentcontextid FROM {context} ctx JOIN {block_instances} b
        ON b.id = ctx.instanceid WHERE ctx.contextlevel = 80 AND ctx.path LIKE ?', [$all->context->path . '/%'],
        function($row) use (&$blocks) {
            $blocks[$row->id] = $row->parentcontextid;
        });
    moodlectl_identity_rows("SELECT f.id, f.contextid, f.component, f.filearea, f.filepath, f.filename, f.contenthash,
            f.filesize, f.userid, u.username FROM {files} f JOIN {context} ctx ON ctx.id = f.contextid
            LEFT JOIN {user} u ON u.id = f.userid WHERE (ctx.id = ? OR ctx.path LIKE ?) AND f.filename <> '.'
            AND f.component NOT IN ('user', 'backup', 'tool_recyclebin', 'core_grading')
            AND (f.component <> 'assignfeedback_editpdf' OR f.filearea IN ('download', 'stamps', 'systemstamps'))",
        [$all->context->id, $all->context->path . '/%'],
        function($row) use ($all, $blocks) {
            $context = isset($blocks[$row->contextid]) ? $blocks[$row->contextid] : $row->contextid;
            $personal = moodlectl_identity_personal($row->component, $row->filearea);
            if (!isset($all->where[$context]) || ($personal && !$all->people)) {
                return;
            }
            $where = $all->where[$context];
            $owner = $personal ? moodlectl_identity_username($row->username, $row->userid) : '';
            $question = strpos($row->component, 'question') === 0 || strpos($row->component, 'qtype') === 0;
            if ($question && !$personal) {
                $where = ['course', ''];
            }
            $facts = ['contenthash' => $row->contenthash, 'size' => $row->filesize];
            $all->add($personal ? 'user_file' : 'file', array_merge($where, ["$row->component/$row->filearea", $row->filepath . $row->filename]),
                $owner === '' ? $facts : $facts + ['owner' => $owner]);
        });
}

/** What hangs on the course and its activities: events, blocks, overrides, filters, competencies, criteria, comments. */
function moodlectl_identities_around(moodlectl_identities $all) {
    $below = '(ctx.id = ? OR ctx.path LIKE ?)';
    $values = [$all->context->id, $all->context->path . '/%'];
    $at = function($contextid, array $more) use ($all) {
        return isset($all->where[$contextid]) ? array_merge($all->where[$contextid], $more) : null;
    };
    moodlectl_identity_rows('SELECT id, name, description, eventtype, modulename, instance, timestart, timeduration, userid
        FROM {event} WHERE courseid = ?', [$all->course->id], function($row) use ($all) {
            $where = $row->modulename ? $all->instance($row->modulename, $row->instance) : ['course', ''];
            if ($where && ($row->modulename || in_array($row->eventtype, ['course', 'group'], true))) {
                $all->add('event', array_merge($where, [$row->name, $row->eventtype]), ['timestart' => $row->timestart,
                    'timeduration' => $row->timeduration, 'description' => moodlectl_identity_digest($row->description)]);
            }
        });
    moodlectl_identity_rows("SELECT b.id, b.blockname, b.parentcontextid, b.defaultregion, b.defaultweight
        FROM {block_instances} b JOIN {context} ctx ON ctx.id = b.parentcontextid WHERE $below", $values,
        function($row) use ($all, $at) {
            if ($key = $at($row->parentcontextid, [$row->blockname])) {
                $all->add('block', $key, ['region' => $row->defaultregion, 'weight' => $row->defaultweight]);
            }
        });
    moodlectl_identity_rows("SELECT c.id, c.contextid, c.capability, c.permission, r.shortname FROM {role_capabilities} c
        JOIN {role} r ON r.id = c.roleid JOIN {context} ctx ON ctx.id = c.contextid WHERE $below", $values,
        function($row) use ($all, $at) {
            if ($key = $at($row->contextid, [$row->shortname, $row->capability])) {
                $all->add('override', $key, ['permission' => $row->permission]);
            }
        });
    moodlectl_identity_rows("SELECT f.id, f.contextid, f.filter, f.active FROM {filter_active} f
        JOIN {context} ctx ON ctx.id = f.contextid WHERE $below", $values,
        function($row) use ($all, $at) {
            if ($key = $at($row->contextid, [$row->filter])) {
                $all->add('filter', $key, ['active' => $row->active]);
            }
        });
    moodlectl_identity_rows('SELECT cc.id, c.idnumber, cc.ruleoutcome FROM {competency_coursecomp} cc
        JOIN {competency} c ON c.id = cc.competencyid WHERE cc.courseid = ?', [$all->course->id],
        function($row) use ($all) {
            $all->add('competency', ['course', '', $row->idnumber], ['rule' => $row->ruleoutcome]);
        });
    moodlectl_identity_rows('SELECT mc.id, mc.cmid, c.idnumber, mc.ruleoutcome FROM {competency_modulecomp} mc
        JOIN {competency} c ON c.id = mc.competencyid JOIN {course_modules} cm ON cm.id = mc.cmid WHERE cm.course = ?',
        [$all->course->id], function($row) use ($all) {
            if (isset($all->activities[$row->cmid])) {
                $all->add('competency', array_merge($all->key($row->cmid), [$row->idnumber]), ['rule' => $row->ruleoutcome]);
            }
        });
    moodlectl_identity_rows('SELECT * FROM {course_completion_criteria} WHERE course = ?', [$all->course->id],
        function($row) use ($all) {
            $what = '';
            if ((int)$row->criteriatype === 4 && isset($all->activities[$row->moduleinstance])) {
                $what = implode(' ', $all->key($row->moduleinstance));
            }
            $all->add('criterion', [$row->criteriatype, $what],
                moodlectl_identity_facts($row, ['gradepass', 'timeend', 'enrolperiod']));
        });
    moodlectl_identity_rows('SELECT id, enrol, name, status FROM {enrol} WHERE courseid = ?', [$all->course->id],
        function($row) use ($all) {
            $all->add('enrolment', [$row->enrol, (string)$row->name], ['status' => $row->status]);
        });
}

function moodlectl_identities_badges(moodlectl_identities $all) {
    moodlectl_identity_rows('SELECT id, name, status, description FROM {badge} WHERE courseid = ? AND status <> 4',
        [$all->course->id], function($row) use ($all) {
            $all->add('badge', [$row->name], ['status' => $row->status,
                'description' => moodlectl_identity_digest($row->description)]);
        });
    if (!$all->people) {
        return;
    }
    foreach (['badge_award' => '{badge_manual_award} a', 'badge_issued' => '{badge_issued} a'] as $kind => $from) {
        $who = $kind === 'badge_award' ? 'a.recipientid' : 'a.userid';
        moodlectl_identity_rows("SELECT a.id, b.name, $who AS userid, u.username FROM $from JOIN {badge} b ON b.id = a.badgeid
            LEFT JOIN {user} u ON u.id = $who WHERE b.courseid = ? AND b.status <> 4", [$all->course->id],
            function($row) use ($all, $kind) {
                $all->add($kind, [$row->name, moodlectl_identity_username($row->username, $row->userid)]);
            });
    }
}

/** Enrolments, roles, comments, and how many log entries there are. */
function moodlectl_identities_people(moodlectl_identities $all) {
    $below = '(ctx.id = ? OR ctx.path LIKE ?)';
    $values = [$all->context->id, $all->context->path . '/%'];
    moodlectl_identity_rows('SELECT ue.id, ue.userid, u.username, e.enrol, ue.status, ue.timeend FROM {user_enrolments} ue
        JOIN {enrol} e ON e.id = ue.enrolid LEFT JOIN {user} u ON u.id = ue.userid WHERE e.courseid = ?', [$all->course->id],
        function($row) use ($all) {
            $all->add('person', [moodlectl_identity_username($row->username, $row->userid), $row->enrol],
                ['status' => $row->status, 'timeend' => $row->timeend]);
        });
    moodlectl_identity_rows("SELECT ra.id, ra.contextid, ra.userid, u.username, r.shortname FROM {role_assignments} ra
        JOIN {role} r ON r.id = ra.roleid JOIN {context} ctx ON ctx.id = ra.contextid
        LEFT JOIN {user} u ON u.id = ra.userid WHERE $below", $values,
        function($row) use ($all) {
            if (isset($all->where[$row->contextid])) {
                $who = moodlectl_identity_username($row->username, $row->userid);
                $all->add('role', array_merge($all->where[$row->contextid], [$who, $row->shortname]));
            }
        });
    moodlectl_identity_rows("SELECT c.id, c.contextid, c.commentarea, c.content, c.userid, u.username FROM {comments} c
        JOIN {context} ctx ON ctx.id = c.contextid LEFT JOIN {user} u ON u.id = c.userid WHERE $below", $values,
        function($row) use ($all) {
            if (isset($all->where[$row->contextid])) {
                $who = moodlectl_identity_username($row->username, $row->userid);
                $all->add('comment', array_merge($all->where[$row->contextid], [$row->commentarea, $who]),
                    ['content' => moodlectl_identity_digest($row->content)]);
            }
        });
    moodlectl_identity_rows('SELECT COUNT(id) AS amount FROM {logstore_standard_log} WHERE courseid = ?', [$all->course->id],
        function($row) use ($all) {
            $all->add('logs', ['course', ''], ['count' => $row->amount]);
        });
}

/** Activity completion, what was viewed (4.0 and later), and course completions. */
function moodlectl_identities_completion(moodlectl_identities $all) {
    global $DB;
    $viewed = $DB->get_manager()->table_exists('course_modules_viewed');
    $cmids = array_keys($all->activities);
    moodlectl_identity_rows_of($cmids, 'SELECT c.id, c.coursemoduleid, c.userid, u.username, c.completionstate
            FROM {course_modules_completion} c LEFT JOIN {user} u ON u.id = c.userid
            WHERE c.coursemoduleid IN (%IDS%) AND c.completionstate <> 0', [],
        function($row) use ($all) {
            $who = moodlectl_identity_username($row->username, $row->userid);
            $all->add('completion', array_merge($all->key($row->coursemoduleid), [$who]), ['state' => $row->completionstate]);
        });
    if ($viewed) {
        moodlectl_identity_rows_of($cmids, 'SELECT v.id, v.coursemoduleid, v.userid, u.username FROM {course_modules_viewed} v
                LEFT JOIN {user} u ON u.id = v.userid WHERE v.coursemoduleid IN (%IDS%)', [],
            function($row) use ($all) {
                $who = moodlectl_identity_username($row->username, $row->userid);
                $all->add('view', array_merge($all->key($row->coursemoduleid), [$who]));
            });
    }
    moodlectl_identity_rows('SELECT c.id, c.userid, u.username FROM {course_completions} c
        LEFT JOIN {user} u ON u.id = c.userid WHERE c.course = ? AND c.timecompleted IS NOT NULL', [$all->course->id],
        function($row) use ($all) {
            $all->add('course_completion', [moodlectl_identity_username($row->username, $row->userid)]);
        });
}
