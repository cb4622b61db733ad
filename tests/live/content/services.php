<?php
// Web services, users and tokens of a live-test site. Run by tests/live/rig.py; written for Moodle 4.2 and later
// (\core_external\util::generate_token, lib/external/classes/util.php).

require_once($CFG->dirroot . '/lib/phpunit/classes/util.php');
require_once($CFG->dirroot . '/webservice/lib.php');

$generator = phpunit_util::get_data_generator();
$system = context_system::instance();

set_config('enablewebservices', 1);
set_config('webserviceprotocols', 'rest');
set_config('enablecompletion', 1);
set_config('enablebadges', 1);
set_config('enableblogs', 1);
set_config('enablemobilewebservice', 1);
set_config('backup_auto_storage', 0, 'backup');

$admin = get_admin();
$DB->update_record('user', (object)['id' => $admin->id, 'firstname' => 'Ada', 'lastname' => 'Admin',
    'city' => 'Lyon', 'country' => 'FR']);

$everybody = $DB->get_field('role', 'id', ['shortname' => 'user'], MUST_EXIST);
foreach (['webservice/rest:use', 'moodle/webservice:createtoken'] as $capability) {
    assign_capability($capability, CAP_ALLOW, $everybody, $system->id, true);
}

/** A user with the password the rig knows. */
function rig_user($generator, string $username, string $first, string $last): stdClass {
    return $generator->create_user(['username' => $username, 'password' => 'Moodlectl-test-1!',
        'firstname' => $first, 'lastname' => $last, 'email' => $username . '@example.invalid', 'city' => 'Lyon']);
}
$manager = rig_user($generator, 'manager1', 'Maya', 'Manager');
$teacher = rig_user($generator, 'teacher1', 'Théo', 'Teacher');
$generator->role_assign($DB->get_field('role', 'id', ['shortname' => 'manager']), $manager->id, $system->id);

/** A service with those functions, as Site administration > Server > External services would make it. */
function rig_service(string $name, string $shortname, array $functions, int $files): stdClass {
    global $DB;
    $manager = new webservice();
    $id = $manager->add_external_service((object)['name' => $name, 'shortname' => $shortname, 'enabled' => 1,
        'restrictedusers' => 0, 'downloadfiles' => $files, 'uploadfiles' => $files, 'requiredcapability' => '']);
    foreach ($functions as $function) {
        $manager->add_external_function_to_service($function, $id);
    }
    return $DB->get_record('external_services', ['id' => $id], '*', MUST_EXIST);
}
$service = rig_service('moodlectl', 'moodlectl', [
    'core_webservice_get_site_info', 'core_course_get_courses', 'core_course_get_courses_by_field',
    'core_course_search_courses', 'core_course_get_categories', 'core_course_get_contents',
    'core_enrol_get_enrolled_users', 'core_files_get_files', 'core_files_upload', 'core_user_get_users_by_field',
    'gradereport_user_get_grade_items', 'core_course_create_courses', 'core_course_duplicate_course',
    'core_course_delete_courses', 'core_course_import_course',
    'core_backup_get_async_backup_progress', 'core_backup_get_copy_progress',
], 1);
$poor = rig_service('moodlectl without most functions', 'moodlectl_poor',
    ['core_webservice_get_site_info', 'core_course_get_courses'], 0);

/** A permanent token. */
function rig_token(stdClass $service, stdClass $user): string {
    return \core_external\util::generate_token(EXTERNAL_TOKEN_PERMANENT, $service, $user->id,
        context_system::instance());
}
echo 'RIG:' . json_encode([
    'tokens' => [
        'admin' => rig_token($service, $admin),
        'manager1' => rig_token($service, $manager),
        'teacher1' => rig_token($service, $teacher),
        'poor' => rig_token($poor, $admin),
    ],
    'users' => ['admin' => (int)$admin->id, 'manager1' => (int)$manager->id, 'teacher1' => (int)$teacher->id],
    'services' => ['full' => 'moodlectl', 'poor' => 'moodlectl_poor'],
]);
