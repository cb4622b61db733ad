<?php
// A stand-in for Moodle's start-up: just what core.php rests on, so that its own behaviour can be tested with a real
// PHP and without a Moodle. A test's config.php requires it, and adds the calls it wants to make.

namespace core\session {
    class manager {
        public static function set_user($user) {
            $GLOBALS['USER'] = $user;
        }
    }
}

namespace {
    define('MEMORY_EXTRA', -3);

    class moodle_exception extends Exception {
        public $errorcode;
        public $debuginfo;

        public function __construct($errorcode, $message, $debuginfo = null) {
            parent::__construct($message);
            $this->errorcode = $errorcode;
            $this->debuginfo = $debuginfo;
        }
    }

    class required_capability_exception extends moodle_exception {
    }

    class core_text {
        public static function strtolower($text) {
            return mb_strtolower($text, 'UTF-8');
        }
    }

    class core_php_time_limit {
        public static function raise() {
            set_time_limit(0);
        }
    }

    class context_system {
        public static function instance() {
            return new context_system();
        }
    }

    /** What is to be forgotten after somebody else's deed; a test may look at what was. */
    class cache_factory {
        public static function instance() {
            return new cache_factory();
        }

        public function reset_cache_instances() {
            $GLOBALS['forgotten'][] = 'caches';
        }
    }

    function get_fast_modinfo($course, $user, $reset) {
        $GLOBALS['forgotten'][] = 'modules';
    }

    function accesslib_clear_all_caches($contexts) {
        $GLOBALS['forgotten'][] = 'rights';
    }

    class standin_page {
        public function set_context($context) {
        }
    }

    class standin_database {
        public $open = false;
        public $users = [
            'admin' => ['id' => 2, 'username' => 'admin', 'suspended' => 0, 'deleted' => 0],
            'anna' => ['id' => 3, 'username' => 'anna', 'suspended' => 0, 'deleted' => 0],
            'gone' => ['id' => 4, 'username' => 'gone', 'suspended' => 1, 'deleted' => 0],
        ];

        public function get_record($table, array $where, $fields = '*') {
            return isset($this->users[$where['username']]) ? (object)$this->users[$where['username']] : false;
        }

        public function is_transaction_started() {
            return $this->open;
        }

        public function force_transaction_rollback() {
            $this->open = false;
        }
    }

    function get_admin() {
        return get_complete_user_data('id', 2);
    }

    function get_complete_user_data($field, $id) {
        foreach ($GLOBALS['DB']->users as $user) {
            if ($user['id'] == $id) {
                return (object)$user;
            }
        }
        return false;
    }

    function force_current_language($language) {
    }

    function raise_memory_limit($limit) {
    }

    function moodle_needs_upgrading() {
        return !empty($GLOBALS['CFG']->standin_pending);
    }

    $CFG = (object)[
        'wwwroot' => 'https://standin.example',
        'dataroot' => dirname((new ReflectionFunction('raise_memory_limit'))->getFileName()),
        'dirroot' => '/standin',
        'release' => '4.5.6 (Build: 20250811)',
        'version' => 2024100706.00,
        'siteidentifier' => 'standin',
        'mnet_localhost_id' => 1,
        'dbtype' => 'pgsql',
        'maintenance_enabled' => 0,
    ];
    $SITE = (object)['fullname' => 'Stand-in'];
    $PAGE = new standin_page();
    $DB = new standin_database();
}
