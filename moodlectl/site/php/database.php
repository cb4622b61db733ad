<?php
// Most of a deed's time goes into thousands of short questions to the database. The process of a deed gets a database object
// of a class of its own, on the same connection: what can be known is not asked, and PostgreSQL plans a question that comes
// again only once. Only what is sure is known; everything else is asked as Moodle asks it.

/**
 * What a deed knows of the database without asking. Three kinds of things:
 * which things of the course that is backed up have no rows at all in some tables, asked once for all of them;
 * what the temporary table of a plan cannot hold, since nobody but this session writes to it;
 * and what was answered before and has not been written to since.
 */
final class moodlectl_known {
    /** Tables in which few things have rows, by the column that says whose a row is; one that Moodle asks by as well. */
    const TABLES = [
        'contexts' => ['role_capabilities' => 'contextid', 'role_assignments' => 'contextid', 'filter_active' => 'contextid',
            'filter_config' => 'contextid', 'comments' => 'contextid', 'grade_letters' => 'contextid',
            'grading_areas' => 'contextid', 'block_instances' => 'parentcontextid', 'xapi_states' => 'itemid'],
        'modules' => ['course_modules_completion' => 'coursemoduleid', 'course_modules_viewed' => 'coursemoduleid'],
    ];

    /**
     * The same for questions of another shape, word by word: which kind of thing they are about, the table, the columns that
     * say whose a row is, the parameters that are those, what else all such rows have in common, and which parameters say so
     * where the question itself does not.
     * (backup/moodle2/backup_stepslib.php, lib/grade/grade_object.php, backup_structure_dbops::annotate_files; 4.5 and 5.1)
     */
    const QUESTIONS = [
        "SELECT t.id, t.name, t.rawname FROM {tag} t JOIN {tag_instance} ti ON ti.tagid = t.id WHERE ti.itemtype = 'course_modules'"
            . " AND ti.component = 'core' AND ti.itemid = ?"
            => ['modules', 'tag_instance', ['itemid'], [0], ['itemtype' => 'course_modules', 'component' => 'core']],
        'SELECT c.idnumber, cmc.ruleoutcome, cmc.overridegrade, cmc.sortorder, f.idnumber AS frameworkidnumber'
            . ' FROM {competency_modulecomp} cmc JOIN {competency} c ON c.id = cmc.competencyid JOIN {competency_framework} f'
            . ' ON f.id = c.competencyframeworkid WHERE cmc.cmid = :coursemoduleid ORDER BY cmc.sortorder'
            => ['modules', 'competency_modulecomp', ['cmid'], ['coursemoduleid'], []],
        'SELECT * FROM {event} WHERE instance = :instance AND type <> :type AND modulename = :modulename'
            => ['activities', 'event', ['modulename', 'instance'], ['modulename', 'instance'], []],
        'SELECT * FROM {event} WHERE instance = :instance AND type <> :type AND modulename = :modulename AND courseid = :courseid'
            => ['activities', 'event', ['modulename', 'instance'], ['modulename', 'instance'], []],
        'SELECT * FROM {grade_items} WHERE itemtype = ? AND itemmodule = ? AND iteminstance = ? AND courseid = ?'
            => ['activities', 'grade_items', ['itemmodule', 'iteminstance'], [1, 2], ['itemtype' => 'mod'], [0 => 'mod']],
        'SELECT id FROM {files} WHERE contextid = ? AND component = ? AND filearea = ?'
            => ['contexts', 'files', ['contextid', 'component', 'filearea'], [0, 1, 2], []],
        'SELECT id FROM {files} WHERE contextid = ? AND component = ? AND filearea = ? AND itemid = ?'
            => ['contexts', 'files', ['contextid', 'component', 'filearea'], [0, 1, 2], []],
    ];

    /** A question about one table whose conditions all have to be met. */
    const PLAIN = '/^SELECT (?:DISTINCT )?[^()]+ FROM \{(\w+)\} WHERE (\w+ = \?(?: AND \w+ = \?)*)(?: ORDER BY [\w, .]+)?$/';

    /** What a plan keeps of ids; its own session's table (backup/util/dbops/backup_controller_dbops.class.php). */
    const IDS = 'backup_ids_temp';

    /** What a restore keeps of files; its own session's table as well. */
    const FILES = 'backup_files_temp';

    /** Tables whose answers may be remembered: while a backup reads a course, and while a restore writes to one. */
    const REMEMBERED = ['backup' => ['modules', 'course_modules', 'course_sections'], 'restore' => ['modules']];

    /** The one question among them that has another table in it, an activity's own (get_coursemodule_from_id). */
    const OF_ACTIVITY = 'SELECT cm.*, m.name, md.name AS modname FROM {course_modules} cm JOIN ';

    const MOST_IDS = 100000; // Of one name; of more any may be there.
    const MOST_ANSWERS = 4096;
    const LARGEST_ANSWER = 16384;

    /** @var moodle_database asked for what is to be known */
    private $db;
    /** @var string[] tables whose answers are remembered */
    private $remembered;
    /** @var int the course that is backed up; 0 where none is */
    private $courseid;
    /** @var array kind of thing => those of the course, as keys */
    private $things = [];
    /** @var array table and columns => what has rows there, as keys; false where that is not known any more */
    private $having = [];
    /** @var array|false name of items => their ids as keys, or true for any, that may lie in the temporary table */
    private $ids = [];
    /** @var array|false contexts, components and areas in one, as keys, of which files may lie in the temporary table */
    private $files = [];
    /** @var array question as it was asked => what kind of question it is */
    private $kinds = [];
    /** @var array answers by question and parameters */
    private $answers = [];
    /** @var array tables that the answers rest on, as keys */
    private $rested = [];

    /** @param string $deed backup or restore */
    public function __construct(moodle_database $db, $deed, $courseid) {
        $this->db = $db;
        $this->remembered = self::REMEMBERED[$deed];
        $this->courseid = (int)$courseid;
    }

    /** Whether a question is sure to have no rows for an answer. */
    public function has_none($sql, $params) {
        $kind = $this->kind($sql);
        if ($kind['about']) {
            return $this->none_there($kind['about'], (array)$params);
        }
        return $kind['ids'] && $this->no_ids($kind['ids'], array_values((array)$params));
    }

    /** The rows a question had for an answer before; null where it has to be asked. */
    public function answer($sql, $params) {
        if (!$this->kind($sql)['kept']) {
            return null;
        }
        $key = $sql . serialize($params);
        return isset($this->answers[$key]) ? unserialize($this->answers[$key]) : null;
    }

    /** Keeps the rows of an answer, where such answers are kept. */
    public function keep($sql, $params, array $rows) {
        $kind = $this->kind($sql);
        if (!$kind['kept'] || strlen($kept = serialize($rows)) > self::LARGEST_ANSWER) {
            return;
        }
        if (count($this->answers) >= self::MOST_ANSWERS) {
            $this->answers = [];
        }
        $this->answers[$sql . serialize($params)] = $kept;
        $this->rested += array_flip($kind['tables']);
    }

    /** Those of the kinds of items that may lie in the temporary table of a plan. */
    public function ids_of(array $names) {
        return $this->ids === false ? $names : array_values(array_filter($names, function($name) {
            return isset($this->ids[strtolower($name)]);
        }));
    }

    /** Whether a restore may have files of that area to put into place. */
    public function may_have_files($contextid, $component, $filearea) {
        return $this->files === false || isset($this->files["$contextid $component $filearea"]);
    }

    /** Something is written to a table: that row, or null where it is not known what. */
    public function writes($table, $row = null) {
        if ($table === self::IDS) {
            $this->writes_ids($row);
        } else if ($table === self::FILES) {
            $this->writes_files($row);
        }
        if (isset($this->rested[$table])) {
            $this->answers = $this->rested = [];
        }
        foreach ($this->having as $place => $there) {
            if ($there !== false && strpos($place, "$table ") === 0) {
                $this->having[$place] = false;
            }
        }
    }

    /** Something is done of which only the SQL is known. */
    public function executes($sql) {
        if (preg_match('/^\s*(SET|RESET|ANALYZE|SAVEPOINT|RELEASE) /i', $sql)) {
            return;
        }
        if (!preg_match_all('/\{(\w+)\}/', $sql, $found)) {
            $this->forget();
        }
        foreach ($found[1] as $table) {
            $this->writes($table);
        }
    }

    /** Nothing is known any more. */
    public function forget() {
        $this->answers = $this->rested = [];
        $this->ids = $this->files = false;
        $this->courseid = 0;
    }

    /** Of a question: what it is about, the ids it asks for, its tables, and whether its answer is kept. */
    private function kind($sql) {
        if (!isset($this->kinds[$sql])) {
            if (count($this->kinds) >= self::MOST_ANSWERS) {
                $this->kinds = [];
            }
            $this->kinds[$sql] = $this->kind_of(trim(preg_replace('/\s+/', ' ', $sql)));
        }
        return $this->kinds[$sql];
    }

    private function kind_of($words) {
        preg_match_all('/\{(\w+)\}/', $words, $found);
        $kind = ['about' => null, 'ids' => null, 'tables' => array_unique($found[1])];
        $kind['kept'] = $this->is_kept($words, $kind['tables']);
        if (isset(self::QUESTIONS[$words])) {
            $kind['about'] = self::QUESTIONS[$words];
        } else if (preg_match(self::PLAIN, $words, $found)) {
            preg_match_all('/(\w+) = \?/', $found[2], $columns);
            $at = array_flip($columns[1]);
            if ($found[1] === self::IDS) {
                $kind['ids'] = isset($at['itemname']) ? [$at['itemname'], isset($at['itemid']) ? $at['itemid'] : null] : null;
            }
            foreach (self::TABLES as $things => $tables) {
                if (isset($tables[$found[1]], $at[$tables[$found[1]]])) {
                    $column = $tables[$found[1]];
                    $kind['about'] = [$things, $found[1], [$column], [$at[$column]], []];
                }
            }
        }
        return $kind;
    }

    private function is_kept($words, array $tables) {
        if (!$tables || strpos($words, 'SELECT ') !== 0 || preg_match('/ FOR (UPDATE|SHARE)/', $words)) {
            return false;
        }
        return !array_diff($tables, $this->remembered) || (strpos($words, self::OF_ACTIVITY) === 0 && count($tables) === 3
            && in_array('course_modules', $this->remembered, true));
    }

    // --- things of the course -------------------------------------------------------------------------------------

    /** Whether nothing that a question can be about has rows there; false as well where it is about another course's. */
    private function none_there(array $about, array $params) {
        list($things, $table, $columns, $at, $alike) = $about;
        if (!$this->courseid || (isset($about[5]) && array_intersect_key($params, $about[5]) !== $about[5])) {
            return false;
        }
        $params = is_int($at[0]) ? array_values($params) : $params;
        $asked = [];
        foreach ($at as $place) {
            if (!isset($params[$place]) || !is_scalar($params[$place]) || is_bool($params[$place])) {
                return false;
            }
            $asked[] = strtolower((string)$params[$place]);
        }
        if (!isset($this->things[$things])) {
            $this->things[$things] = $this->ask_things($things);
        }
        $thing = $things === 'activities' ? "$asked[0] $asked[1]" : $asked[0];
        if (!isset($this->things[$things][$thing])) {
            return false;
        }
        $place = $table . ' ' . implode(' ', $columns);
        if (!isset($this->having[$place])) {
            $this->having[$place] = false; // While it is asked for; the question may look like the one that is to be answered.
            $this->having[$place] = $this->ask_having($things, $table, $columns, $alike);
        }
        return $this->having[$place] !== false && !isset($this->having[$place][implode(' ', $asked)]);
    }

    private function ask_things($things) {
        if ($things === 'contexts') {
            $context = context_course::instance($this->courseid);
            $like = $this->db->sql_like('path', '?');
            $found = $this->db->get_fieldset_sql("SELECT id FROM {context} WHERE id = ? OR $like",
                [$context->id, $context->path . '/%']);
        } else if ($things === 'modules') {
            $found = $this->db->get_fieldset_sql('SELECT id FROM {course_modules} WHERE course = ?', [$this->courseid]);
        } else {
            $name = $this->db->sql_concat('m.name', "' '", 'cm.instance');
            $found = $this->db->get_fieldset_sql("SELECT $name FROM {course_modules} cm JOIN {modules} m ON m.id = cm.module
                WHERE cm.course = ?", [$this->courseid]);
        }
        return array_flip($found);
    }

    /** What of the course has rows in a table. */
    private function ask_having($things, $table, array $columns, array $alike) {
        $each = []; // Values of the last column that tells things apart, by those of the one before it.
        foreach (array_keys($this->things[$things]) as $thing) {
            $parts = explode(' ', $thing);
            $each[$things === 'activities' ? $parts[0] : ''][] = end($parts);
        }
        $column = $things === 'activities' ? $columns[1] : $columns[0];
        $having = [];
        foreach ($each as $module => $ids) {
            foreach (array_chunk($ids, 1000) as $some) {
                list($in, $values) = $this->db->get_in_or_equal($some);
                $where = ["$column $in"];
                foreach ($alike + ($module === '' ? [] : [$columns[0] => $module]) as $name => $value) {
                    $where[] = "$name = ?";
                    $values[] = $value;
                }
                $rows = $this->db->get_recordset_sql('SELECT DISTINCT ' . implode(', ', $columns) . " FROM {{$table}} WHERE "
                    . implode(' AND ', $where), $values);
                foreach ($rows as $row) {
                    $having[strtolower(implode(' ', (array)$row))] = true;
                }
                $rows->close();
            }
        }
        return $having;
    }

    // --- the ids of a plan ----------------------------------------------------------------------------------------

    private function no_ids(array $at, array $params) {
        if ($this->ids === false || !isset($params[$at[0]])) {
            return false;
        }
        $name = strtolower($params[$at[0]]);
        if (!isset($this->ids[$name])) {
            return true;
        }
        if ($this->ids[$name] === true || $at[1] === null || !isset($params[$at[1]]) || !is_numeric($params[$at[1]])) {
            return false;
        }
        return !isset($this->ids[$name][(int)$params[$at[1]]]);
    }

    private function writes_files($row) {
        $row = $row === null ? null : (array)$row;
        if ($this->files !== false && isset($row['contextid'], $row['component'], $row['filearea'])) {
            $this->files["{$row['contextid']} {$row['component']} {$row['filearea']}"] = true;
        } else if ($row === null || isset($row['contextid']) || isset($row['component']) || isset($row['filearea'])) {
            $this->files = false;
        }
    }

    private function writes_ids($row) {
        $row = $row === null ? null : (array)$row;
        if ($this->ids === false || $row === null || (isset($row['itemid']) && !isset($row['itemname']))) {
            $this->ids = false;
        } else if (isset($row['itemname'])) {
            $name = strtolower($row['itemname']);
            $ids = isset($this->ids[$name]) ? $this->ids[$name] : [];
            if ($ids === true || !isset($row['itemid']) || !is_numeric($row['itemid']) || count($ids) >= self::MOST_IDS) {
                $this->ids[$name] = true;
            } else {
                unset($ids); // Or the whole would be copied for one more.
                $this->ids[$name][(int)$row['itemid']] = true;
            }
        }
    }
}

/** The classes of Moodle's that have a better one, and the md5 of what they ask by (4.5 and 5.1). */
function moodlectl_databases() {
    return [
        'pgsql_native_moodle_database' => ['moodlectl_pgsql_database', 'eda3c76d936dcfe43235beb81e1ae677'],
        'mysqli_native_moodle_database' => ['moodlectl_mysqli_database', '13ba42e0d3eff6c7238b2b8f731100a3'],
        'mariadb_native_moodle_database' => ['moodlectl_mariadb_database', '13ba42e0d3eff6c7238b2b8f731100a3'],
    ];
}

/** The md5 of the methods by which a class of databases asks and tells. */
function moodlectl_database_code($class) {
    $codes = [];
    foreach (['get_records_sql', 'get_recordset_sql', 'get_fieldset_sql', 'insert_record_raw', 'insert_records', 'update_record_raw',
            'set_field_select', 'delete_records_select', 'execute', 'change_database_structure', 'dispose'] as $method) {
        $codes[] = moodlectl_code_of($class, $method);
    }
    return md5(implode(' ', $codes));
}

/**
 * From here on the process of this deed asks less of the database. $deed is backup or restore; $courseid is the course
 * that is backed up, 0 where none is. Not where reads go to another server than writes, nor where a site's Moodle or its
 * database library is another than we know.
 */
function moodlectl_database_begin($deed, $courseid) {
    global $DB;
    $class = get_class($DB);
    $known = moodlectl_databases();
    if (moodlectl_spent::$plain || !isset($known[$class]) || $DB->is_transaction_started()
            || moodlectl_database_code($class) !== $known[$class][1]) {
        return;
    }
    $options = (array)moodlectl_kept_by($DB, 'dboptions');
    $temporary = moodlectl_kept_by($DB, 'temptables');
    if (!empty($options['readonly']) || !empty($options['dbhandlesoptions']) || !$temporary || $temporary->get_temptables()) {
        return;
    }
    if (!trait_exists('moodlectl_database', false)) {
        moodlectl_database_classes();
    }
    // Temporary tables are to be made by the object that is asked for what is in them: it makes a manager of its own.
    $ours = moodlectl_be_as((new ReflectionClass($known[$class][0]))->newInstanceWithoutConstructor(), $DB, ['database_manager']);
    $ours->moodlectl_known = new moodlectl_known($ours, $deed, $courseid);
    // The other one stays, since it closes the connection at the end.
    $GLOBALS['moodlectl_database_of_moodle'] = $DB;
    $DB = $ours;
    moodlectl_spent::$session[] = $class === 'pgsql_native_moodle_database' ? 'questions planned once, known answers not asked for'
        : 'known answers not asked for';
}

/** Gives an object all that another one of a class it extends has, its ancestors' private properties too. */
function moodlectl_be_as($object, $other, array $but = []) {
    for ($class = new ReflectionObject($other); $class; $class = $class->getParentClass()) {
        foreach ($class->getProperties() as $property) {
            if ($property->isStatic() || in_array($property->getName(), $but, true)) {
                continue;
            }
            if (PHP_VERSION_ID < 80100) {
                $property->setAccessible(true);
            }
            if (PHP_VERSION_ID < 70400 || $property->isInitialized($other)) {
                $property->setValue($object, $property->getValue($other));
            }
        }
    }
    return $object;
}

/** What an object keeps for itself by that name; null where it has nothing by it. */
function moodlectl_kept_by($object, $name) {
    for ($class = new ReflectionObject($object); $class; $class = $class->getParentClass()) {
        if ($class->hasProperty($name)) {
            $property = $class->getProperty($name);
            if (PHP_VERSION_ID < 80100) {
                $property->setAccessible(true);
            }
            return $property->getValue($object);
        }
    }
    return null;
}

/** Declares the classes of databases; only where a Moodle runs that has what they extend. */
function moodlectl_database_classes() {
    /** No rows. */
    final class moodlectl_no_rows extends moodle_recordset {
        public function __construct() {
        }

        public function current(): stdClass {
            return new stdClass();
        }

        public function key(): bool {
            return false;
        }

        public function next(): void {
        }

        public function valid(): bool {
            return false;
        }

        public function close() {
        }
    }

    /** Asks Moodle's questions where their answers are not known. The connection stays the other object's, who closes it. */
    trait moodlectl_database {
        /** @var moodlectl_known */
        public $moodlectl_known;

        public function get_records_sql($sql, ?array $params = null, $limitfrom = 0, $limitnum = 0) {
            if ($this->moodlectl_known->has_none($sql, $params)) {
                return [];
            }
            if ($limitfrom || $limitnum) {
                return $this->moodlectl_records($sql, $params, $limitfrom, $limitnum);
            }
            $rows = $this->moodlectl_known->answer($sql, $params);
            if ($rows === null) {
                $rows = $this->moodlectl_records($sql, $params, 0, 0);
                $this->moodlectl_known->keep($sql, $params, $rows);
            }
            return $rows;
        }

        public function get_recordset_sql($sql, ?array $params = null, $limitfrom = 0, $limitnum = 0) {
            if ($this->moodlectl_known->has_none($sql, $params)) {
                return new moodlectl_no_rows();
            }
            return $this->moodlectl_recordset($sql, $params, $limitfrom, $limitnum);
        }

        public function get_fieldset_sql($sql, ?array $params = null) {
            return $this->moodlectl_known->has_none($sql, $params) ? [] : $this->moodlectl_fieldset($sql, $params);
        }

        public function insert_record_raw($table, $params, $returnid = true, $bulk = false, $customsequence = false) {
            $this->moodlectl_known->writes($table, $params);
            return $this->moodlectl_insert($table, $params, $returnid, $bulk, $customsequence);
        }

        public function insert_records($table, $dataobjects) {
            $this->moodlectl_known->writes($table);
            return parent::insert_records($table, $dataobjects);
        }

        public function update_record_raw($table, $params, $bulk = false) {
            $this->moodlectl_known->writes($table, $params);
            return $this->moodlectl_update($table, $params, $bulk);
        }

        public function set_field_select($table, $newfield, $newvalue, $select, ?array $params = null) {
            $this->moodlectl_known->writes($table, [$newfield => $newvalue]);
            return parent::set_field_select($table, $newfield, $newvalue, $select, $params);
        }

        public function delete_records_select($table, $select, ?array $params = null) {
            $this->moodlectl_known->writes($table, []);
            return parent::delete_records_select($table, $select, $params);
        }

        public function execute($sql, ?array $params = null) {
            $this->moodlectl_known->executes($sql);
            return parent::execute($sql, $params);
        }

        public function change_database_structure($sql, $tablenames = null) {
            $this->moodlectl_structure_changes();
            return parent::change_database_structure($sql, $tablenames);
        }

        public function dispose() {
        }
    }

    if (class_exists('pgsql_native_moodle_database', false)) {
        /** PostgreSQL plans a question once that comes again: most of the time it takes for such questions is planning. */
        final class moodlectl_pgsql_database extends pgsql_native_moodle_database {
            use moodlectl_database;

            /** From so many times on a question is prepared; and planned anew after so many, since tables grow meanwhile. */
            const TIMES = 3;
            const ANEW = 100;
            const MOST = 300;

            /** @var array question => how often it was asked since it was planned, and the name it is prepared by or null */
            private $moodlectl_asked = [];
            /** @var array question => its columns of bytes */
            private $moodlectl_bytes = [];
            /** @var int how many were prepared */
            private $moodlectl_prepared = 0;

            private function moodlectl_ask($sql, ?array $params, $type) {
                $this->query_start($sql, $params, $type);
                $result = $this->moodlectl_result($sql, (array)$params);
                $this->query_end($result);
                return $result;
            }

            private function moodlectl_result($sql, array $params) {
                if (!isset($this->moodlectl_asked[$sql])) {
                    if (count($this->moodlectl_asked) > 10 * self::MOST) {
                        $this->moodlectl_asked = array_filter($this->moodlectl_asked, function($asked) {
                            return $asked[1] !== null;
                        });
                    }
                    $this->moodlectl_asked[$sql] = [0, null];
                }
                list($times, $name) = $this->moodlectl_asked[$sql];
                if ($times >= ($name === null ? self::TIMES : self::ANEW) && strlen($sql) < 8192) {
                    $times = 0;
                    $name = $this->moodlectl_prepare($sql, $name);
                    if ($name === false) {
                        unset($this->moodlectl_asked[$sql]);
                        return false; // The database says why, as of a question that failed.
                    }
                }
                $this->moodlectl_asked[$sql] = [$times + 1, $name];
                return $name === null ? pg_query_params($this->pgsql, $sql, $params) : pg_execute($this->pgsql, $name, $params);
            }

            /** The name by which a question is prepared from now on; null where it is not, false where it cannot be. */
            private function moodlectl_prepare($sql, $name) {
                if ($name !== null) {
                    pg_query($this->pgsql, "DEALLOCATE $name");
                } else if ($this->moodlectl_prepared >= self::MOST) {
                    return null;
                } else {
                    $name = 'moodlectl_' . ++$this->moodlectl_prepared;
                }
                return pg_prepare($this->pgsql, $name, $sql) ? $name : false;
            }

            /** Plans made before it need not fit any more. */
            private function moodlectl_structure_changes() {
                $this->moodlectl_asked = $this->moodlectl_bytes = [];
            }

            /** SQL with its limits, as Moodle puts them. */
            private function moodlectl_limited($sql, $limitfrom, $limitnum) {
                list($limitfrom, $limitnum) = $this->normalise_limit_from_num($limitfrom, $limitnum);
                return $sql . ($limitnum ? " LIMIT $limitnum" : '') . ($limitfrom ? " OFFSET $limitfrom" : '');
            }

            private function moodlectl_bytes($sql, $result) {
                if (!isset($this->moodlectl_bytes[$sql])) {
                    $names = [];
                    for ($i = 0; $i < pg_num_fields($result); $i++) {
                        if ($this->pg_field_type($result, $i) === 'bytea') {
                            $names[] = pg_field_name($result, $i);
                        }
                    }
                    $this->moodlectl_bytes[$sql] = $names;
                }
                return $this->moodlectl_bytes[$sql];
            }

            private function moodlectl_records($sql, ?array $params, $limitfrom, $limitnum) {
                list($sql, $params) = $this->fix_sql_params($this->moodlectl_limited($sql, $limitfrom, $limitnum), $params);
                $result = $this->moodlectl_ask($sql, $params, SQL_QUERY_SELECT);
                $bytes = $this->moodlectl_bytes($sql, $result);
                $rows = [];
                while ($row = pg_fetch_assoc($result)) {
                    $id = reset($row);
                    foreach ($bytes as $name) {
                        $row[$name] = $row[$name] === null ? null : pg_unescape_bytea($row[$name]);
                    }
                    if (isset($rows[$id])) {
                        debugging('The first column of get_records is to be unique: ' . key($row) . " has '$id' twice.", DEBUG_DEVELOPER);
                    }
                    $rows[$id] = (object)$row;
                }
                pg_free_result($result);
                return $rows;
            }

            private function moodlectl_recordset($sql, ?array $params, $limitfrom, $limitnum) {
                $limited = $this->moodlectl_limited($sql, $limitfrom, $limitnum);
                if ($this->get_fetch_buffer_size() > 0 && strpos(substr($limited, strlen($sql)), ' LIMIT') === false) {
                    return parent::get_recordset_sql($sql, $params, $limitfrom, $limitnum); // By a cursor.
                }
                list($sql, $params) = $this->fix_sql_params($limited, $params);
                return new pgsql_native_moodle_recordset($this->moodlectl_ask($sql, $params, SQL_QUERY_SELECT), $this, '');
            }

            private function moodlectl_fieldset($sql, ?array $params) {
                list($sql, $params) = $this->fix_sql_params($sql, $params);
                $result = $this->moodlectl_ask($sql, $params, SQL_QUERY_SELECT);
                $values = pg_fetch_all_columns($result, 0);
                if ($this->pg_field_type($result, 0) === 'bytea') {
                    foreach ($values as $key => $value) {
                        $values[$key] = $value === null ? null : pg_unescape_bytea($value);
                    }
                }
                pg_free_result($result);
                return $values;
            }

            private function moodlectl_insert($table, $params, $returnid, $bulk, $customsequence) {
                $params = (array)$params;
                if ($customsequence) {
                    return parent::insert_record_raw($table, $params, $returnid, $bulk, $customsequence);
                }
                unset($params['id']);
                if (!$params) {
                    throw new coding_exception('moodle_database::insert_record_raw() no fields found.');
                }
                array_map([$this, 'detect_objects'], $params);
                $places = implode(',', array_map(function($place) {
                    return '$' . $place;
                }, range(1, count($params))));
                $sql = "INSERT INTO {$this->prefix}$table (" . implode(',', array_keys($params)) . ") VALUES($places)"
                    . ($returnid ? ' RETURNING id' : '');
                $result = $this->moodlectl_ask($sql, $params, SQL_QUERY_INSERT);
                $id = $returnid ? (int)pg_fetch_result($result, 0, 0) : true;
                pg_free_result($result);
                return $id;
            }

            private function moodlectl_update($table, $params, $bulk) {
                $params = (array)$params;
                if (!isset($params['id']) || count($params) < 2) {
                    return parent::update_record_raw($table, $params, $bulk);
                }
                $id = $params['id'];
                unset($params['id']);
                array_map([$this, 'detect_objects'], $params);
                $sets = [];
                foreach (array_keys($params) as $place => $field) {
                    $sets[] = "$field = \$" . ($place + 1);
                }
                $params[] = $id;
                $sql = "UPDATE {$this->prefix}$table SET " . implode(',', $sets) . ' WHERE id=$' . count($params);
                pg_free_result($this->moodlectl_ask($sql, $params, SQL_QUERY_UPDATE));
                return true;
            }
        }
    }

    /** What Moodle's classes for MySQL and MariaDB ask themselves. */
    trait moodlectl_mysqli {
        use moodlectl_database;

        private function moodlectl_records($sql, ?array $params, $limitfrom, $limitnum) {
            return parent::get_records_sql($sql, $params, $limitfrom, $limitnum);
        }

        private function moodlectl_recordset($sql, ?array $params, $limitfrom, $limitnum) {
            return parent::get_recordset_sql($sql, $params, $limitfrom, $limitnum);
        }

        private function moodlectl_fieldset($sql, ?array $params) {
            return parent::get_fieldset_sql($sql, $params);
        }

        private function moodlectl_insert($table, $params, $returnid, $bulk, $customsequence) {
            return parent::insert_record_raw($table, $params, $returnid, $bulk, $customsequence);
        }

        private function moodlectl_update($table, $params, $bulk) {
            return parent::update_record_raw($table, $params, $bulk);
        }

        private function moodlectl_structure_changes() {
        }
    }

    if (class_exists('mysqli_native_moodle_database', false)) {
        final class moodlectl_mysqli_database extends mysqli_native_moodle_database {
            use moodlectl_mysqli;
        }
    }

    if (class_exists('mariadb_native_moodle_database', false)) {
        final class moodlectl_mariadb_database extends mariadb_native_moodle_database {
            use moodlectl_mysqli;
        }
    }
}
