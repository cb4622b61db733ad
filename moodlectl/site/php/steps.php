<?php
// A course's activities are backed up and restored one after the other, and for each Moodle asks the same questions again,
// nearly all of them about nothing: half of a backup's database round trips. Here some of its steps are replaced while
// their plan runs by ones that ask once, and leave to Moodle's own code what there is to do. The result is the same.

/**
 * Replaces steps of the plan that runs. A plan builds each task just before it executes it, and tells its progress then
 * (backup/util/plan/base_plan.class.php execute, base_task.class.php execute, 3.9 to 5.1); controllers are saved before
 * that and not after it, so that nothing of ours is ever stored. Only steps whose code is what we know are replaced: a
 * release or a site that has changed it keeps its own.
 */
final class moodlectl_steps {
    /** @var base_plan|null */
    private static $plan = null;
    /** @var string[] Moodle's class => ours */
    private static $classes = [];
    /** @var bool whether steps that look for files do so only where there may be some */
    private static $files = false;
    /** @var int which task is looked at next */
    private static $next = 0;

    public static function replace($plan, array $classes, $files = false) {
        self::$plan = $classes || $files ? $plan : null;
        self::$classes = $classes;
        self::$files = $files;
        self::$next = 0;
    }

    /** Called whenever something of the plan begins. */
    public static function look() {
        if (self::$plan === null) {
            return;
        }
        $tasks = self::$plan->get_tasks();
        while (isset($tasks[self::$next]) && self::replaced($tasks[self::$next], self::$classes, self::$files)) {
            self::$next++;
        }
    }

    /** Whether a task is built; its steps are ours then. */
    private static function replaced($task, array $classes, $files) {
        $change = function() use ($classes, $files) {
            if (!$this->built) {
                return false;
            }
            foreach ($this->steps as $key => $step) {
                $class = get_class($step);
                if (isset($classes[$class])) {
                    $this->steps[$key] = call_user_func([$classes[$class], 'instead'], $step, $this);
                }
                if ($files && $step instanceof restore_structure_step) {
                    $this->steps[$key] = moodlectl_step_with_files($this->steps[$key]);
                }
            }
            return true;
        };
        return call_user_func(Closure::bind($change, $task, 'base_task'));
    }
}

/** The md5 of a method's code without white space and comments; empty where it cannot be told. */
function moodlectl_code_of($class, $method) {
    if (!method_exists($class, $method) || !function_exists('token_get_all')) {
        return '';
    }
    $found = new ReflectionMethod($class, $method);
    $lines = array_slice(file($found->getFileName()), $found->getStartLine() - 1,
        $found->getEndLine() - $found->getStartLine() + 1);
    $code = '';
    foreach (token_get_all('<?php ' . implode('', $lines)) as $token) {
        if (!is_array($token)) {
            $code .= $token;
        } else if (!in_array($token[0], [T_WHITESPACE, T_COMMENT, T_DOC_COMMENT, T_OPEN_TAG], true)) {
            $code .= preg_replace('/\s+/', '', $token[1]);
        }
    }
    return md5($code);
}

/** Whether all of these are as known: [class, method, md5]. */
function moodlectl_code_is(array $known) {
    foreach ($known as list($class, $method, $md5)) {
        if (moodlectl_code_of($class, $method) !== $md5) {
            return false;
        }
    }
    return true;
}

/** Of the kinds of things an activity can refer to those it has just been found to refer to, in Moodle's order. */
function moodlectl_annotated($backupid) {
    global $DB;
    $kinds = backup_helper::get_inforef_itemnames();
    if (isset($DB->moodlectl_known) && !($kinds = $DB->moodlectl_known->ids_of($kinds))) {
        return [];
    }
    list($in, $values) = $DB->get_in_or_equal($kinds);
    $there = $DB->get_fieldset_sql("SELECT DISTINCT itemname FROM {backup_ids_temp} WHERE backupid = ? AND itemname $in",
        array_merge([$backupid], $values));
    return array_values(array_intersect($kinds, $there));
}

/** The steps of a backup's plan that have a better one: backup/moodle2/backup_stepslib.php, 4.5 and 5.1. */
function moodlectl_steps_of_backup($plan) {
    if (moodlectl_spent::$plain || !moodlectl_code_is([
            ['backup_inforef_structure_step', 'define_structure', '75f9b1977c4a5daf23e09a025bf8f45b'],
            ['move_inforef_annotations_to_final', 'define_execution', '46252a3fa471a318a1ad058e7a7794d5'],
            ['backup_structure_dbops', 'move_annotations_to_final', 'b4cc3ee786835c9c65757bcd23bb354e'],
            ['backup_structure_dbops', 'annotations_exist', 'b6121d83accd9dd1a8e2e36436b91f61']])) {
        moodlectl_steps::replace(null, []);
        return;
    }
    if (!class_exists('moodlectl_inforef_step', false)) {
        /** What an activity refers to, asked once for all kinds of things. */
        class moodlectl_inforef_step extends backup_inforef_structure_step {
            public static function instead($step, $task) {
                $ours = new self($step->get_name(), $step->filename);
                $ours->set_task($task);
                return $ours;
            }

            protected function define_structure() {
                $root = new backup_nested_element('inforef');
                foreach (moodlectl_annotated($this->get_backupid()) as $kind) {
                    $of = new backup_nested_element($kind . 'ref');
                    $one = new backup_nested_element($kind, [], ['id']);
                    $root->add_child($of);
                    $of->add_child($one);
                    $one->set_source_sql('SELECT itemid AS id FROM {backup_ids_temp} WHERE backupid = ? AND itemname = ?',
                        [backup::VAR_BACKUPID, backup_helper::is_sqlparam($kind)]);
                }
                return $root;
            }
        }
        /** Has Moodle move and delete what there is, and nothing else. */
        class moodlectl_annotations_step extends move_inforef_annotations_to_final {
            public static function instead($step, $task) {
                $ours = new self($step->get_name());
                $ours->set_task($task);
                return $ours;
            }

            protected function define_execution() {
                $kinds = moodlectl_annotated($this->get_backupid());
                $progress = $this->task->get_progress();
                $progress->start_progress($this->get_name(), count($kinds));
                foreach ($kinds as $done => $kind) {
                    backup_structure_dbops::move_annotations_to_final($this->get_backupid(), $kind, $progress);
                    $progress->progress($done + 1);
                }
                $progress->end_progress();
            }
        }
    }
    moodlectl_steps::replace($plan, ['backup_inforef_structure_step' => 'moodlectl_inforef_step',
        'move_inforef_annotations_to_final' => 'moodlectl_annotations_step']);
    moodlectl_spent::$session[] = 'references asked for once an activity';
}

/**
 * The steps of a restore's plan that have a better one. Moodle looks for grade items that share a place once for each
 * activity, at the very end; it is done once for the course. And for the files of each area of each activity, mostly in
 * vain, it asks the database, after it has read all of moodle_backup.xml (backup/moodle2/restore_stepslib.php,
 * restore_structure_step::add_related_files, restore_dbops::send_files_to_pool; 4.5 and 5.1).
 */
function moodlectl_steps_of_restore($plan) {
    global $DB;
    $classes = [];
    if (!moodlectl_spent::$plain && moodlectl_code_is([
            ['restore_activity_grades_structure_step', 'after_restore', '3ab12c5ba656ae6fda9cd69ce7d18340']])) {
        moodlectl_class_of_grades();
        $classes['restore_activity_grades_structure_step'] = 'moodlectl_activity_grades_step';
    }
    $files = !moodlectl_spent::$plain && isset($DB->moodlectl_known) && moodlectl_code_is([
        ['restore_structure_step', 'add_related_files', 'b280c756d949a28ceb03a91b6e7ef482'],
        ['restore_dbops', 'send_files_to_pool', '43401e44bc68cd7ebd0f8c96851051a5']]);
    moodlectl_steps::replace($plan, $classes, $files);
}

/** Declares the step that restores the grade items of an activity, whose places are seen to by moodlectl_steps_end. */
function moodlectl_class_of_grades() {
    if (class_exists('moodlectl_activity_grades_step', false)) {
        return;
    }
    /** The grade items of an activity. */
    class moodlectl_activity_grades_step extends restore_activity_grades_structure_step {
        /** @var array ids of courses as keys */
        public static $courses = [];

        public static function instead($step, $task) {
            $ours = new self($step->get_name(), $step->filename);
            $ours->set_task($task);
            return $ours;
        }

        public function after_restore() {
            self::$courses[$this->get_task()->get_courseid()] = true;
        }
    }
}

/** Declares what makes steps of a restore have Moodle look for files only where there may be some. */
function moodlectl_trait_of_files() {
    if (trait_exists('moodlectl_files_where_there_are', false)) {
        return;
    }
    /** Steps that have Moodle look for files only where there may be some. */
    trait moodlectl_files_where_there_are {
        public function add_related_files($component, $filearea, $mappingitemname, $filesctxid = null, $olditemid = null) {
            global $DB;
            $contextid = $filesctxid === null ? $this->task->get_old_contextid() : $filesctxid;
            // A context that is not mapped is an error, which Moodle is to find.
            if ($DB->moodlectl_known->may_have_files($contextid, $component, $filearea) || !$this->get_mappingid('context', $contextid)) {
                parent::add_related_files($component, $filearea, $mappingitemname, $filesctxid, $olditemid);
            }
        }
    }
}

/** A step of that kind that is the same in everything else; the step itself where it looks for files in its own way. */
function moodlectl_step_with_files(restore_structure_step $step) {
    $class = new ReflectionClass($step);
    $method = $class->getMethod('add_related_files');
    if ($class->isFinal() || $class->isAnonymous() || $method->getDeclaringClass()->getName() !== 'restore_structure_step') {
        return $step;
    }
    $name = 'moodlectl_files_' . str_replace('\\', '_', $class->getName());
    moodlectl_trait_of_files();
    if (!class_exists($name, false)) {
        eval("class $name extends \\{$class->getName()} { use moodlectl_files_where_there_are; }");
    }
    return moodlectl_be_as((new ReflectionClass($name))->newInstanceWithoutConstructor(), $step);
}

/** What was put off until a plan's end. */
function moodlectl_steps_end() {
    moodlectl_steps::replace(null, []);
    if (class_exists('moodlectl_activity_grades_step', false)) {
        foreach (array_keys(moodlectl_activity_grades_step::$courses) as $courseid) {
            grade_item::fix_duplicate_sortorder($courseid);
        }
        moodlectl_activity_grades_step::$courses = [];
    }
}
