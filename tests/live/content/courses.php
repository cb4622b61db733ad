<?php
// The category tree and the plain courses of a live-test site. Run by tests/live/rig.py with $arguments['size'].
// The generated course is Moodle's own: admin/tool/generator/classes/course_backend.php.

require_once($CFG->dirroot . '/lib/phpunit/classes/util.php');

$generator = phpunit_util::get_data_generator();
$science = $generator->create_category(['name' => 'Science', 'idnumber' => 'SCI']);
$biology = $generator->create_category(['name' => 'Biology', 'idnumber' => 'BIO', 'parent' => $science->id]);
$arts = $generator->create_category(['name' => 'Arts', 'visible' => 0]);

$empty = $generator->create_course(['shortname' => 'EMPTY1', 'fullname' => 'An empty course', 'numsections' => 2,
    'category' => $biology->id, 'startdate' => make_timestamp(2026, 9, 1)]);
$hidden = $generator->create_course(['shortname' => 'HIDDEN1', 'fullname' => 'A hidden course', 'idnumber' => 'X9',
    'visible' => 0, 'category' => $science->id, 'numsections' => 1]);
$generator->create_module('page', ['course' => $hidden->id, 'name' => 'Behind the curtain', 'section' => 1,
    'content' => '<p>Only managers see this.</p>']);

$size = $arguments['size'];
$backend = new tool_generator_course_backend("GEN_$size", tool_generator_course_backend::size_for_name($size),
    true, false, false);
$generated = $backend->make();

echo 'RIG:' . json_encode([
    'categories' => ['SCI' => (int)$science->id, 'BIO' => (int)$biology->id, 'Arts' => (int)$arts->id],
    'courses' => ['EMPTY1' => (int)$empty->id, 'HIDDEN1' => (int)$hidden->id, "GEN_$size" => (int)$generated],
]);
