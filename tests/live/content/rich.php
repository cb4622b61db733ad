<?php
// RICH101 "Biologie végétale 🌱": a course with one of nearly everything a backup can hold, and people who worked in
// it. Run by tests/live/rig.py as admin. Content comes from Moodle's own data generators
// (lib/testing/generator, mod/*/tests/generator, question/tests/generator, badges/tests/generator; 4.5 and 5.1).

require_once($CFG->dirroot . '/lib/phpunit/classes/util.php');
require_once($CFG->dirroot . '/course/lib.php');
require_once($CFG->dirroot . '/mod/assign/locallib.php');
require_once($CFG->dirroot . '/mod/quiz/locallib.php');
require_once($CFG->dirroot . '/mod/forum/lib.php');
require_once($CFG->dirroot . '/lib/badgeslib.php');
require_once($CFG->dirroot . '/lib/completionlib.php');
require_once($CFG->dirroot . '/lib/grade/grade_grade.php');
require_once($CFG->dirroot . '/mod/choice/lib.php');
require_once($CFG->dirroot . '/mod/feedback/lib.php');
require_once($CFG->dirroot . '/mod/data/lib.php');

/** A new user draft area of $USER holding those files (name => content). */
function rig_draft(array $files): int {
    global $USER;
    $itemid = file_get_unused_draft_itemid();
    foreach ($files as $name => $content) {
        get_file_storage()->create_file_from_string(['component' => 'user', 'filearea' => 'draft', 'itemid' => $itemid,
            'contextid' => context_user::instance($USER->id)->id, 'filepath' => '/', 'filename' => $name], $content);
    }
    return $itemid;
}

/** A picture, drawn, so that it is a real file and not the same bytes twice. */
function rig_picture(string $text): string {
    $image = imagecreatetruecolor(240, 80);
    imagefill($image, 0, 0, imagecolorallocate($image, 20, 110, 40));
    imagestring($image, 5, 10, 30, $text, imagecolorallocate($image, 255, 255, 255));
    ob_start();
    imagepng($image);
    return ob_get_clean();
}

/** Bytes that compress badly but are the same in every run. */
function rig_bytes(int $size, string $seed): string {
    $out = '';
    for ($i = 0; strlen($out) < $size; $i++) {
        $out .= hash('sha256', "$seed $i", true);
    }
    return substr($out, 0, $size);
}

/** Teacher, a non-editing teacher, twelve students, a suspended one and an observer in groups; names of many kinds. */
function rig_people($g, stdClass $course): array {
    global $DB;
    $teacher = $DB->get_record('user', ['username' => 'teacher1'], '*', MUST_EXIST);
    $g->enrol_user($teacher->id, $course->id, 'editingteacher');
    $assistant = $g->create_user(['username' => 'assistant1', 'firstname' => 'Noor', 'lastname' => "O'Hara",
        'email' => 'assistant1@example.invalid']);
    $g->enrol_user($assistant->id, $course->id, 'teacher');
    $names = [['Zoé', 'Martin'], ['Łukasz', 'Żak'], ['李', '小龙'], ['Ἑλένη', 'Παπαδοπούλου'], ['محمد', 'علي'],
        ['Jürgen', 'Groß'], ['Anna & Co', '<Smith>'], ['Emoji 🌻', 'Test'], ['Ines', 'de la Cruz'], ['Bo', 'Ng'],
        ['Sara', 'Ünal'], ['Otto', 'Åberg']];
    $students = [];
    foreach ($names as $i => [$first, $last]) {
        $n = $i + 1;
        $students[] = $g->create_user(['username' => "student$n", 'password' => 'Moodlectl-test-1!',
            'firstname' => $first, 'lastname' => $last, 'email' => "student$n@example.invalid",
            'idnumber' => sprintf('S%04d', $n)]);
        $g->enrol_user(end($students)->id, $course->id, 'student');
    }
    $suspended = $g->create_user(['username' => 'suspended1', 'email' => 'suspended1@example.invalid']);
    $g->enrol_user($suspended->id, $course->id, 'student', 'manual', 0, 0, ENROL_USER_SUSPENDED);
    $self = $DB->get_record('enrol', ['courseid' => $course->id, 'enrol' => 'self']);
    if ($self) {
        enrol_get_plugin('self')->update_status($self, ENROL_INSTANCE_ENABLED);
        $selfenrolled = $g->create_user(['username' => 'selfenrolled1', 'email' => 'selfenrolled1@example.invalid']);
        $g->enrol_user($selfenrolled->id, $course->id, 'student', 'self');
    }
    $red = $g->create_group(['courseid' => $course->id, 'name' => 'Red', 'idnumber' => 'GRED']);
    $blue = $g->create_group(['courseid' => $course->id, 'name' => 'Bleu 💧', 'idnumber' => 'GBLUE']);
    $grouping = $g->create_grouping(['courseid' => $course->id, 'name' => 'Lab groups', 'idnumber' => 'LAB']);
    foreach ([$red, $blue] as $group) {
        $g->create_grouping_group(['groupingid' => $grouping->id, 'groupid' => $group->id]);
    }
    foreach ($students as $i => $student) {
        $g->create_group_member(['groupid' => $i % 2 ? $red->id : $blue->id, 'userid' => $student->id]);
    }
    return [$teacher, $students, $grouping];
}

/** Things to read: page with an embedded picture, label, book, url, file, folder, glossary, database, wiki, lesson. */
function rig_reading($g, stdClass $course): array {
    $made = [];
    $page = $g->create_module('page', ['course' => $course->id, 'section' => 1, 'name' => 'Photosynthèse',
        'content' => '<p>Light ☀ <img src="@@PLUGINFILE@@/leaf.png" alt="leaf"></p>', 'completion' => 2,
        'completionview' => 1, 'idnumber' => 'PAGE1']);
    get_file_storage()->create_file_from_string(['contextid' => context_module::instance($page->cmid)->id,
        'component' => 'mod_page', 'filearea' => 'content', 'itemid' => 0, 'filepath' => '/',
        'filename' => 'leaf.png'], rig_picture('leaf'));
    $made['page'] = $page->cmid;
    $made['label'] = $g->create_module('label', ['course' => $course->id, 'section' => 1,
        'intro' => '<p>A label with a <a href="' . $page->cmid . '">link</a></p>'])->cmid;
    $book = $g->create_module('book', ['course' => $course->id, 'section' => 1, 'name' => 'Handbook']);
    $books = $g->get_plugin_generator('mod_book');
    foreach (['Roots', 'Stems', 'Leaves'] as $i => $title) {
        $books->create_chapter(['bookid' => $book->id, 'title' => $title, 'pagenum' => $i + 1,
            'content' => "<p>About $title.</p>", 'contentformat' => FORMAT_HTML]);
    }
    $made['book'] = $book->cmid;
    $made['url'] = $g->create_module('url', ['course' => $course->id, 'section' => 1, 'name' => 'Flora online',
        'externalurl' => 'https://example.org/flora?q=1&r=2'])->cmid;
    $made['resource'] = $g->create_module('resource', ['course' => $course->id, 'section' => 1, 'name' => 'Herbier',
        'files' => rig_draft(['herbier été.bin' => rig_bytes(300000, 'herbier')])])->cmid;
    $made['folder'] = $g->create_module('folder', ['course' => $course->id, 'section' => 1, 'name' => 'Slides',
        'files' => rig_draft(['one.txt' => 'one', 'two.txt' => 'two', 'picture.png' => rig_picture('slide')])])->cmid;
    $glossary = $g->create_module('glossary', ['course' => $course->id, 'section' => 2, 'name' => 'Glossary']);
    foreach (['Stoma', 'Xylème', 'Phloem'] as $concept) {
        $g->get_plugin_generator('mod_glossary')->create_content($glossary, ['concept' => $concept,
            'definition' => "What $concept is.", 'tags' => ['plants']]);
    }
    $made['glossary'] = $glossary->cmid;
    $wiki = $g->create_module('wiki', ['course' => $course->id, 'section' => 2, 'name' => 'Class wiki']);
    $g->get_plugin_generator('mod_wiki')->create_first_page($wiki, ['content' => '<p>Hello [[Trees]]</p>']);
    $made['wiki'] = $wiki->cmid;
    $lesson = $g->create_module('lesson', ['course' => $course->id, 'section' => 2, 'name' => 'A short lesson']);
    $lessons = $g->get_plugin_generator('mod_lesson');
    $lessons->create_content($lesson);
    $lessons->create_question_truefalse($lesson);
    $made['lesson'] = $lesson->cmid;
    return $made;
}

/** An assignment handed in, graded and regraded, so that the gradebook has history. */
function rig_assignment($g, stdClass $course, stdClass $teacher, array $students, int $gradecategory): int {
    global $DB, $USER;
    $module = $g->create_module('assign', ['course' => $course->id, 'section' => 2, 'name' => 'Essay: un arbre 🌳',
        'assignsubmission_onlinetext_enabled' => 1, 'assignsubmission_file_enabled' => 1,
        'assignsubmission_file_maxfiles' => 3, 'assignsubmission_file_maxsizebytes' => 1000000,
        'assignfeedback_comments_enabled' => 1, 'submissiondrafts' => 0, 'sendstudentnotifications' => 0,
        'duedate' => make_timestamp(2026, 12, 1), 'completion' => 2, 'completionsubmit' => 1, 'idnumber' => 'ESSAY']);
    $cm = get_coursemodule_from_id('assign', $module->cmid, 0, false, MUST_EXIST);
    foreach (array_slice($students, 0, 8) as $i => $student) {
        \core\session\manager::set_user(core_user::get_user($student->id));
        $assign = new assign(context_module::instance($cm->id), $cm, $course);
        $notices = [];
        $assign->save_submission((object)['userid' => $student->id,
            'onlinetext_editor' => ['text' => "<p>My tree number $i, été.</p>", 'format' => FORMAT_HTML,
                'itemid' => file_get_unused_draft_itemid()],
            'files_filemanager' => rig_draft(["essay$i.txt" => "An essay by student $i\n",
                "data$i.bin" => rig_bytes(20000 + $i, "essay $i")])], $notices);
    }
    \core\session\manager::set_user(core_user::get_user($teacher->id));
    foreach ([55, 72] as $round => $base) {
        foreach (array_slice($students, 0, 6) as $i => $student) {
            $assign = new assign(context_module::instance($cm->id), $cm, $course);
            $assign->save_grade($student->id, (object)['grade' => $base + $i, 'attemptnumber' => -1,
                'addattempt' => 0, 'workflowstate' => '', 'applytoall' => 0, 'sendstudentnotifications' => 0,
                'assignfeedbackcomments_editor' => ['text' => "<p>Round $round, bien.</p>", 'format' => FORMAT_HTML]]);
        }
    }
    \core\session\manager::set_user(get_admin());
    $item = grade_item::fetch(['courseid' => $course->id, 'itemtype' => 'mod', 'itemmodule' => 'assign',
        'iteminstance' => $module->id]);
    $item->set_parent($gradecategory);
    return $module->cmid;
}

/** Questions of four kinds in the quiz's own bank, read from Moodle's GIFT format (question/format/gift). */
function rig_questions($g, stdClass $course, stdClass $quiz): array {
    global $CFG, $DB;
    require_once($CFG->dirroot . '/question/format.php');
    require_once($CFG->dirroot . '/question/format/gift/format.php');
    $context = context_module::instance($quiz->cmid);
    $category = $g->get_plugin_generator('core_question')->create_question_category(['name' => 'Leaves 🍃',
        'contextid' => $context->id]);
    $path = make_request_directory() . '/questions.gift';
    file_put_contents($path, "::Colour::Leaves are green.{TRUE}\n\n::Drink::What do roots drink?{=water =eau}\n\n"
        . "::Tree::Which is a tree?{=Oak ~Moss ~Fern}\n\n::Describe::Describe a leaf.{}\n");
    $format = new qformat_gift();
    $format->setCategory($DB->get_record('question_categories', ['id' => $category->id], '*', MUST_EXIST));
    $format->setContexts([$context]);
    $format->setCourse($course);
    $format->setFilename($path);
    $format->setRealfilename('questions.gift');
    $format->setMatchgrades('error');
    $format->setCatfromfile(0);
    $format->setContextfromfile(0);
    $format->setStoponerror(1);
    $format->set_display_progress(false);
    if (!$format->importpreprocess() || !$format->importprocess() || !$format->importpostprocess()) {
        throw new moodle_exception('cannotimport', 'question');
    }
    return $format->questionids;
}

/** A quiz attempted and finished by five students and left open by one. */
function rig_quiz($g, stdClass $course, array $students): int {
    $quiz = $g->create_module('quiz', ['course' => $course->id, 'section' => 2, 'name' => 'Quiz: leaves',
        'sumgrades' => 4, 'grade' => 10, 'attempts' => 0, 'preferredbehaviour' => 'deferredfeedback',
        'idnumber' => 'QUIZ1']);
    foreach (rig_questions($g, $course, $quiz) as $question) {
        quiz_add_quiz_question($question, $quiz);
    }
    \mod_quiz\quiz_settings::create($quiz->id)->get_grade_calculator()->recompute_quiz_sumgrades();
    $questions = $g->get_plugin_generator('core_question');
    foreach (array_slice($students, 0, 6) as $i => $student) {
        \core\session\manager::set_user(core_user::get_user($student->id));
        $started = $g->get_plugin_generator('mod_quiz')->create_attempt($quiz->id, $student->id);
        $attempt = \mod_quiz\quiz_attempt::create($started->id);
        $post = [];
        foreach ([1 => $i % 2 ? 'True' : 'False', 2 => $i % 3 ? 'water' : 'wine', 3 => $i % 2 ? 'Oak' : 'Moss',
            4 => "Essay answer of student $i"] as $slot => $answer) {
            $post += $questions->get_simulated_post_data_for_question_attempt($attempt->get_question_attempt($slot),
                $answer, false);
        }
        $attempt->process_submitted_actions(time(), false, $post);
        if ($i < 5 && method_exists($attempt, 'process_submit')) {  // 5.0 and later
            $attempt->process_submit(time(), false);
            $attempt->process_grade_submission(time());
        } else if ($i < 5) {
            $attempt->process_finish(time(), false);
        }
    }
    \core\session\manager::set_user(get_admin());
    return $quiz->cmid;
}

/** A forum where people talk, with attachments, in groups. */
function rig_forum($g, stdClass $course, stdClass $teacher, array $students): int {
    global $DB;
    $forum = $g->create_module('forum', ['course' => $course->id, 'section' => 1, 'name' => 'Discussions',
        'groupmode' => SEPARATEGROUPS, 'idnumber' => 'FORUM1']);
    $forums = $g->get_plugin_generator('mod_forum');
    $context = context_module::instance($forum->cmid);
    foreach (range(1, 4) as $n) {
        $author = $n === 1 ? $teacher : $students[$n];
        $discussion = $forums->create_discussion(['course' => $course->id, 'forum' => $forum->id,
            'userid' => $author->id, 'name' => "Topic $n: pourquoi ?", 'message' => "<p>Message $n 🌿</p>"]);
        foreach (array_slice($students, 0, 3) as $i => $student) {
            $post = $forums->create_post(['discussion' => $discussion->id, 'userid' => $student->id,
                'parent' => $DB->get_field('forum_discussions', 'firstpost', ['id' => $discussion->id]),
                'subject' => "Re: Topic $n", 'message' => "<p>Answer $i.</p>", 'messageformat' => FORMAT_HTML]);
            if ($i === 0) {
                get_file_storage()->create_file_from_string(['contextid' => $context->id,
                    'component' => 'mod_forum', 'filearea' => 'attachment', 'itemid' => $post->id, 'filepath' => '/',
                    'filename' => "note$n.txt", 'userid' => $student->id], "attachment of topic $n");
                $DB->set_field('forum_posts', 'attachment', 1, ['id' => $post->id]);
            }
        }
    }
    return $forum->cmid;
}

/** What people answered: choice, feedback, database. */
function rig_answers($g, stdClass $course, array $students): array {
    global $DB;
    $choice = $g->create_module('choice', ['course' => $course->id, 'section' => 2, 'name' => 'Which plant?',
        'option' => ['Fern', 'Moss', 'Chêne']]);
    $options = array_keys($DB->get_records('choice_options', ['choiceid' => $choice->id], 'id'));
    [, $cm] = get_course_and_cm_from_cmid($choice->cmid, 'choice');
    $record = $DB->get_record('choice', ['id' => $choice->id], '*', MUST_EXIST);
    foreach (array_slice($students, 0, 6) as $i => $student) {
        choice_user_submit_response($options[$i % 3], $record, $student->id, $course, $cm);
    }
    $feedback = $g->create_module('feedback', ['course' => $course->id, 'section' => 2, 'name' => 'How was it?',
        'anonymous' => FEEDBACK_ANONYMOUS_NO]);
    $feedbacks = $g->get_plugin_generator('mod_feedback');
    $item = $feedbacks->create_item_textfield($feedback, ['name' => 'In one word']);
    [, $cm] = get_course_and_cm_from_cmid($feedback->cmid, 'feedback');
    foreach (array_slice($students, 0, 3) as $student) {
        \core\session\manager::set_user(core_user::get_user($student->id));
        $completion = new mod_feedback_completion($DB->get_record('feedback', ['id' => $feedback->id]), $cm,
            $course->id);
        $completion->save_response_tmp((object)["textfield_{$item->id}" => 'vert']);
        $completion->save_response();
    }
    \core\session\manager::set_user(get_admin());
    $data = $g->create_module('data', ['course' => $course->id, 'section' => 2, 'name' => 'Plant collection']);
    $datas = $g->get_plugin_generator('mod_data');
    $field = $datas->create_field((object)['name' => 'Plant', 'type' => 'text'], $data);
    foreach (array_slice($students, 0, 3) as $i => $student) {
        $datas->create_entry($data, [$field->field->id => "Plant number $i"], 0, [], null, $student->id);
    }
    return ['choice' => $choice->cmid, 'feedback' => $feedback->cmid, 'data' => $data->cmid];
}

/** A section inside a section: mod_subsection, shipped disabled in 4.5 and enabled in 5.1. */
function rig_subsection($g, stdClass $course): array {
    \core\plugininfo\mod::enable_plugin('subsection', 1);
    $subsection = $g->create_module('subsection', ['course' => $course->id, 'section' => 3,
        'name' => 'Inside: greenhouse']);
    $delegated = get_fast_modinfo($course->id)->get_section_info_by_component('mod_subsection', $subsection->id);
    $inner = $g->create_module('page', ['course' => $course->id, 'section' => $delegated->section,
        'name' => 'Page inside the subsection', 'content' => '<p>Inside.</p>']);
    return ['subsection' => $subsection->cmid, 'inner_page' => $inner->cmid];
}

/** Badge, calendar, blocks, completion, comments, tags, legacy files, logs: what belongs to the course itself. */
function rig_course_extras($g, stdClass $course, array $students, array $cms): void {
    global $CFG;
    $context = context_course::instance($course->id);
    $badges = $g->get_plugin_generator('core_badges');
    $badge = $badges->create_badge(['name' => 'Green thumb', 'type' => BADGE_TYPE_COURSE,
        'courseid' => $course->id, 'image' => 'badges/tests/behat/badge.png']);
    $badges->create_criteria(['badgeid' => $badge->id, 'roleid' => 3]);
    $badges->create_issued_badge(['badgeid' => $badge->id, 'userid' => $students[0]->id]);
    $g->create_event(['name' => 'Excursion', 'eventtype' => 'course', 'courseid' => $course->id,
        'timestart' => make_timestamp(2026, 10, 10, 9), 'timeduration' => 7200]);
    foreach (['online_users', 'html'] as $block) {
        $g->create_block($block, ['parentcontextid' => $context->id, 'pagetypepattern' => 'course-view-*']);
    }
    $completion = new completion_info($course);
    foreach (array_slice($students, 0, 4) as $student) {
        $cm = get_fast_modinfo($course->id)->get_cm($cms['page']);
        $completion->set_module_viewed($cm, $student->id);
        $completion->update_state($cm, COMPLETION_COMPLETE, $student->id);
    }
    core_tag_tag::set_item_tags('core', 'course', $course->id, $context, ['botany', 'forêt']);
    get_file_storage()->create_file_from_string(['contextid' => $context->id, 'component' => 'course',
        'filearea' => 'overviewfiles', 'itemid' => 0, 'filepath' => '/', 'filename' => 'cover.png'],
        rig_picture('RICH101'));
    foreach (array_slice($students, 0, 5) as $student) {
        \core\session\manager::set_user(core_user::get_user($student->id));
        \core\event\course_viewed::create(['context' => $context])->trigger();
    }
    \core\session\manager::set_user(get_admin());
}

$g = phpunit_util::get_data_generator();
$biology = $DB->get_field('course_categories', 'id', ['idnumber' => 'BIO'], MUST_EXIST);
$course = $g->create_course(['shortname' => 'RICH101', 'fullname' => 'Biologie végétale 🌱', 'idnumber' => 'RICH-2026',
    'category' => $biology, 'numsections' => 4, 'enablecompletion' => 1, 'startdate' => make_timestamp(2026, 9, 1),
    'enddate' => make_timestamp(2027, 6, 30), 'summary' => '<p>Les plantes, de la racine à la fleur.</p>',
    'showgrades' => 1, 'groupmode' => VISIBLEGROUPS]);
foreach ([1 => 'Introduction', 2 => 'Work', 3 => 'Excursion'] as $number => $name) {
    course_update_section($course, get_fast_modinfo($course)->get_section_info($number), ['name' => $name]);
}
[$teacher, $students, $grouping] = rig_people($g, $course);
$gradecategory = $g->create_grade_category(['courseid' => $course->id, 'fullname' => 'Coursework']);
$manual = $g->create_grade_item(['courseid' => $course->id, 'itemname' => 'Oral', 'grademax' => 20,
    'categoryid' => $gradecategory->id, 'idnumber' => 'ORAL']);
foreach (array_slice($students, 0, 8) as $i => $student) {
    grade_item::fetch(['id' => $manual->id])->update_final_grade($student->id, 10 + $i, 'rig', 'Bien parlé');
}
$cms = rig_reading($g, $course);
$cms['forum'] = rig_forum($g, $course, $teacher, $students);
$cms['assign'] = rig_assignment($g, $course, $teacher, $students, $gradecategory->id);
$cms['quiz'] = rig_quiz($g, $course, $students);
$cms += rig_answers($g, $course, $students);
$cms += rig_subsection($g, $course);
rig_course_extras($g, $course, $students, $cms);
grade_regrade_final_grades($course->id);

echo 'RIG:' . json_encode(['rich' => ['id' => (int)$course->id, 'shortname' => 'RICH101',
    'students' => array_map(fn($student) => $student->username, $students),
    'cms' => array_map('intval', $cms)]]);
