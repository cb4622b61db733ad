<?php
// The host's half of the conversation: frames in and out, Moodle's start-up, who acts, and how errors are told.
//
// It is evaluated by `php -r` in the global scope, together with the other files of this directory; nothing is
// installed on the host. PHP 7.2 syntax, no dynamic properties: Moodle 3.9 to 5.1 run on PHP 7.2 to 8.4.

/** An error in the client's words: class is usage, access, notfound, refused or failed. */
final class moodlectl_error extends Exception {
    /** @var string */
    public $class;
    /** @var string */
    public $errcode;
    /** @var string */
    public $hint;
    /** @var array */
    public $details;

    public function __construct($class, $code, $message, $hint = '', array $details = []) {
        parent::__construct($message);
        $this->class = $class;
        $this->errcode = $code;
        $this->hint = $hint;
        $this->details = $details;
    }
}

/** The line to the client: frames on stdin and stdout, one marker, one throttle. */
final class moodlectl_io {
    /** @var stdClass|null the user acting, also Moodle's $USER */
    public $acting = null;
    /** @var bool whether the client waits for an answer right now */
    public $waiting = true;
    /** @var bool whether PHP is about to end, so that the client need not ask again */
    public $ending = false;
    /** @var string the last output of Moodle, kept as evidence for an unexpected end */
    public $tail = '';

    /** @var resource */
    private $in;
    /** @var resource */
    private $out;
    /** @var string bytes read from the client and not used yet */
    private $buffer = '';
    /** @var string */
    private $marker = '';
    /** @var bool */
    private $gone = false;
    /** @var array the last progress: phase, time */
    private $last = ['', 0.0];

    public function __construct($in, $out) {
        $this->in = $in;
        $this->out = $out;
        stream_set_blocking($in, true);
        // PHP's own read buffer would make fread wait for the rest of what was asked for, though some is there. The
        // loader has filled it, so what it holds is taken first.
        $unread = stream_get_meta_data($in)['unread_bytes'];
        $this->buffer = $unread > 0 ? fread($in, $unread) : '';
        stream_set_read_buffer($in, 0);
        // Before PHP 7.4 a write is cut into pieces of this size.
        stream_set_chunk_size($out, 1 << 20);
    }

    public function set_marker($marker) {
        $this->marker = $marker;
    }

    /** Tells how far it is, at most ten times a second; total null where unknown, unit steps or bytes. */
    public function progress($phase, $done, $total = null, $unit = 'steps', $message = '') {
        $now = microtime(true);
        $end = $total !== null && $done >= $total;
        if (!$end && $this->last[0] === $phase && $now - $this->last[1] < 0.1) {
            return;
        }
        $this->last = [$phase, $now];
        $this->event(['event' => 'progress', 'phase' => $phase, 'done' => $done, 'total' => $total,
            'unit' => $unit, 'message' => (string)$message]);
    }

    /** Says that the first lasting change is about to be made. A client that is gone is told by an exception. */
    public function begun(array $facts = []) {
        if ($this->client_gone() || !$this->event(['event' => 'begun'] + $facts)) {
            $this->lost();
        }
    }

    /** Sends file content, at most 1 MiB a time. */
    public function send($bytes) {
        if ($bytes === '') {
            return;
        }
        if (!$this->frame('B', $bytes)) {
            $this->lost();
        }
    }

    /** The next chunk of file content from the client, null at its end. */
    public function receive() {
        list($kind, $length) = $this->header();
        if ($kind === 'E') {
            return null;
        }
        if ($kind !== 'B') {
            throw new moodlectl_error('failed', 'protocol', "Expected file content, got a frame '$kind'.");
        }
        return $this->read($length);
    }

    /** Whether nobody listens any more: stdin has ended or stdout is closed. Does not wait. */
    public function client_gone() {
        if ($this->gone || strlen($this->buffer) > 65536) {
            return $this->gone;
        }
        $read = [$this->in];
        $write = null;
        $except = null;
        if (@stream_select($read, $write, $except, 0) > 0) {
            stream_set_blocking($this->in, false);
            $bytes = @fread($this->in, 65536);
            stream_set_blocking($this->in, true);
            if ($bytes !== false && $bytes !== '') {
                $this->buffer .= $bytes;
            } else if (feof($this->in)) {
                $this->gone = true;
            }
        }
        return $this->gone;
    }

    public function log($text) {
        $text = trim((string)$text);
        if ($text !== '') {
            $this->event(['event' => 'log', 'text' => substr($text, 0, 65536)]);
        }
    }

    /** The next request, null when the client has ended the session. */
    public function request() {
        while (true) {
            try {
                list($kind, $length) = $this->header();
            } catch (moodlectl_error $e) {
                if ($e->errcode === 'client_gone') {
                    return null;
                }
                throw $e;
            }
            $body = $this->read($length);
            if ($kind === 'J') {
                break;
            }
            // What is left of an upload that an error has cut short.
        }
        $request = json_decode($body, true);
        if (!is_array($request)) {
            throw new moodlectl_error('failed', 'protocol', 'The request is not JSON.');
        }
        return $request;
    }

    /** Sends one event; false when nobody listens. */
    public function event(array $event) {
        $flags = JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE | JSON_INVALID_UTF8_SUBSTITUTE;
        $json = json_encode($event, $flags);
        if ($json === false) {
            $json = json_encode(['event' => 'error', 'class' => 'failed', 'code' => 'unencodable', 'hint' => '',
                'message' => 'The answer cannot be written as JSON: ' . json_last_error_msg(), 'details' => null]);
        }
        return $this->frame('J', $json);
    }

    public function error($class, $code, $message, $hint = '', array $details = []) {
        $this->waiting = false;
        return $this->event(['event' => 'error', 'class' => $class, 'code' => $code, 'message' => $message,
            'hint' => $hint, 'details' => (object)$details, 'ending' => $this->ending]);
    }

    /** An output buffer's callback: what Moodle and its plugins print becomes log events. */
    public function printed($text) {
        if ($text !== '') {
            $this->tail = substr($this->tail . $text, -4000);
            if ($this->marker !== '') {
                $this->log($text);
            }
        }
        return '';
    }

    private function lost() {
        $this->gone = true;
        throw new moodlectl_error('failed', 'client_gone', 'The client has gone away.');
    }

    private function header() {
        while (($end = strpos($this->buffer, "\n")) === false) {
            if (strlen($this->buffer) > 32) {
                throw new moodlectl_error('failed', 'protocol', 'The client sent something that is not a frame.');
            }
            $this->fill(8192);
        }
        $line = substr($this->buffer, 0, $end);
        $this->buffer = (string)substr($this->buffer, $end + 1);
        if (!preg_match('/^([JBE]) ([0-9]{1,10})$/', $line, $m)) {
            throw new moodlectl_error('failed', 'protocol', 'The client sent something that is not a frame.');
        }
        return [$m[1], (int)$m[2]];
    }

    private function read($length) {
        while (strlen($this->buffer) < $length) {
            $this->fill($length - strlen($this->buffer));
        }
        if (strlen($this->buffer) === $length) {
            $bytes = $this->buffer;
            $this->buffer = '';
            return $bytes;
        }
        $bytes = substr($this->buffer, 0, $length);
        $this->buffer = substr($this->buffer, $length);
        return $bytes;
    }

    private function fill($wanted) {
        $bytes = @fread($this->in, min(max($wanted, 8192), 1 << 18));
        if ($bytes === false || $bytes === '') {
            $this->lost();
        }
        $this->buffer .= $bytes;
    }

    private function frame($kind, $bytes) {
        if ($this->marker === '' || $this->gone) {
            return false;
        }
        $head = "\n" . $this->marker . ' ' . $kind . ' ' . strlen($bytes) . "\n";
        if (strlen($bytes) < 65536) {
            return $this->write($head . $bytes);
        }
        return $this->write($head) && $this->write($bytes);
    }

    /** Writes everything or finds out that nobody listens; never dies of it, php-cli ignores SIGPIPE. */
    private function write($bytes) {
        $stuck = 0;
        while ($bytes !== '') {
            $n = @fwrite($this->out, $bytes);
            if ($n === strlen($bytes)) {
                break;
            }
            if ($n === false || $stuck > 100) {
                $this->gone = true;
                return false;
            }
            if ($n === 0) {
                // A full pipe that does not block, or (before PHP 7.4) a broken one, which select calls writable.
                $read = null;
                $write = [$this->out];
                $except = null;
                $stuck += @stream_select($read, $write, $except, 60) > 0 ? 1 : 0;
                usleep(1000);
                continue;
            }
            $stuck = 0;
            $bytes = (string)substr($bytes, $n);
        }
        return true;
    }
}

/** The system user this PHP runs as; php-posix may be missing. */
function moodlectl_system_user($uid = null) {
    if ($uid === null) {
        if (function_exists('posix_geteuid')) {
            $uid = posix_geteuid();
        } else {
            $file = tmpfile();
            $stat = $file ? fstat($file) : false;
            $uid = $stat ? $stat['uid'] : -1;
        }
    }
    if (function_exists('posix_getpwuid') && ($entry = posix_getpwuid($uid))) {
        return $entry['name'];
    }
    return '#' . $uid;
}

/**
 * The config.php to require. Up to 5.0 it lies with the code; from 5.1 on the code is in public/ and config.php above
 * it, with a public/config.php that only includes the real one (5.1 public/lib/setup.php:62).
 */
function moodlectl_find_config($dir) {
    $dir = rtrim($dir, '/') === '' ? '/' : rtrim($dir, '/');
    $paths = [$dir . '/config.php'];
    if (basename($dir) === 'public') {
        $paths[] = dirname($dir) . '/config.php';
    }
    $user = moodlectl_system_user();
    foreach ($paths as $path) {
        if (@is_file($path)) {
            if (!is_readable($path)) {
                $owner = moodlectl_system_user(fileowner($path));
                throw new moodlectl_error('access', 'config_unreadable', "The user $user may not read $path.",
                    'Run PHP as the web server\'s user: add --via user:www-data (or whatever it is called) to the site.',
                    ['path' => $path, 'owner' => $owner, 'user' => $user]);
            }
            return $path;
        }
    }
    $why = @is_dir($dir) ? 'has no config.php' : "is not there, or the user $user may not look into it";
    throw new moodlectl_error('notfound', 'moodle_dir',
        "No Moodle in $dir: it $why (looked at " . implode(' and ', $paths) . ').',
        'Give --moodle-dir the directory that holds Moodle\'s config.php, as it is called on the host PHP runs on.',
        ['paths' => $paths, 'user' => $user]);
}

/** Tells the client of an exception. Codes of Moodle are kept; its traces stay on the host. */
function moodlectl_report(moodlectl_io $io, $e) {
    if ($e instanceof moodlectl_error) {
        return $io->error($e->class, $e->errcode, $e->getMessage(), $e->hint, $e->details);
    }
    global $CFG;
    $type = get_class($e);
    $code = isset($e->errorcode) ? (string)$e->errorcode : $type;
    $details = ['exception' => $type, 'at' => $e->getFile() . ':' . $e->getLine()];
    if (!empty($CFG->debugdeveloper) && isset($e->debuginfo) && $e->debuginfo !== '') {
        $details['debuginfo'] = (string)$e->debuginfo;
    }
    $class = 'failed';
    $hint = '';
    // lib/setuplib.php (required_capability_exception) and backup/util/checks, 3.9 to 5.1.
    if ($type === 'required_capability_exception' || $type === 'core\exception\required_capability_exception'
            || preg_match('/^(backup|restore)_user_missing_capability$/', $code)) {
        $class = 'access';
        $hint = 'Act as a user who may, with --as USERNAME, or give that user the capability.';
    } else if ($code === 'dbconnectionfailed') {
        $hint = 'Look whether the site\'s database runs and lets this host in.';
    } else if ($code === 'upgraderunning') {
        $class = 'refused';
        $code = 'upgrade_running';
        $hint = 'Try again when the upgrade is done.';
    }
    // Moodle's early exceptions, before its language strings are there, are bits of HTML.
    $message = trim(html_entity_decode(strip_tags($e->getMessage()), ENT_QUOTES, 'UTF-8'));
    return $io->error($class, $code, $message === '' ? $code : $message, $hint, $details);
}

/** What an unexpected end of PHP means, judged by what was printed last. */
function moodlectl_report_end(moodlectl_io $io) {
    $error = error_get_last();
    $fatal = E_ERROR | E_PARSE | E_CORE_ERROR | E_COMPILE_ERROR | E_USER_ERROR | E_RECOVERABLE_ERROR;
    $text = trim(preg_replace('/\s+/', ' ', strip_tags($io->tail)));
    $details = ['last_output' => $text];
    if ($error && ($error['type'] & $fatal)) {
        $message = strtok($error['message'], "\n");
        $hint = strpos($message, 'Allowed memory size') === 0
            ? 'Raise memory_limit of the PHP command line, or $CFG->extramemorylimit.' : '';
        $details['at'] = $error['file'] . ':' . $error['line'];
        return $io->error('failed', 'php_fatal', 'PHP stopped with a fatal error: ' . $message, $hint, $details);
    }
    // lib/setup.php:165-197 (4.5): these end PHP with a sentence on standard output.
    if (strpos($text, '$CFG->dataroot is not') !== false) {
        $user = moodlectl_system_user();
        return $io->error('access', 'dataroot', "The user $user may not write Moodle's data directory: $text",
            'Run PHP as the web server\'s user: add --via user:www-data (or whatever it is called) to the site.',
            $details + ['user' => $user]);
    }
    return $io->error('failed', 'php_exit', 'Moodle ended before it answered' .
        ($text === '' ? ', without a word.' : ': ' . substr($text, -600)), '', $details);
}

/** The user to act as: the one named, else the owner of the token, else the first administrator. */
function moodlectl_find_acting(array $first) {
    global $DB, $CFG;
    $name = isset($first['as']) && $first['as'] !== '' ? $first['as'] : null;
    $asked = $name !== null;
    if (!$asked && isset($first['token_user']) && $first['token_user'] !== '') {
        $name = $first['token_user'];
    }
    if ($name === null) {
        $admin = get_admin();
        if (!$admin) {
            throw new moodlectl_error('notfound', 'user_unknown', 'The site has no administrator to act as.',
                'Name a user with --as USERNAME.');
        }
        return get_complete_user_data('id', $admin->id);
    }
    $where = ['username' => core_text::strtolower($name), 'mnethostid' => $CFG->mnet_localhost_id];
    $record = $DB->get_record('user', $where, 'id, suspended, deleted');
    if (!$record) {
        $message = $asked ? "The site has no user '$name'."
            : "The owner of the web service token, '$name', is no user of the site in this directory.";
        throw new moodlectl_error('notfound', 'user_unknown', $message, $asked ? 'Give --as a username as Moodle '
            . 'shows it in the profile.' : 'Check that the address and --moodle-dir belong to the same site.');
    }
    if ($record->suspended || $record->deleted) {
        throw new moodlectl_error('access', 'user_suspended', "The user '$name' is suspended or deleted.",
            'Act as another user with --as USERNAME.');
    }
    return get_complete_user_data('id', $record->id);
}

/** Sets the acting user as $USER, so that capabilities, events and role overrides are that user's. */
function moodlectl_act(moodlectl_io $io, array $first) {
    global $PAGE;
    $user = moodlectl_find_acting($first);
    \core\session\manager::set_user($user);
    $io->acting = $user;
    force_current_language(isset($first['lang']) ? $first['lang'] : 'en');
    $PAGE->set_context(context_system::instance());
}

/** Who answers: the site, its state and who acts. Moodle's own values, see lib/setup.php and version.php. */
function moodlectl_hello(moodlectl_io $io, $config, $cached) {
    global $CFG, $SITE;
    $owner = @fileowner($CFG->dataroot);
    return [
        'event' => 'hello',
        'name' => isset($SITE->fullname) ? $SITE->fullname : '',
        'wwwroot' => $CFG->wwwroot,
        'release' => isset($CFG->release) ? $CFG->release : '',
        'version' => isset($CFG->version) ? (string)$CFG->version : '',
        'php' => PHP_VERSION,
        'user' => moodlectl_system_user(),
        'dataroot' => $CFG->dataroot,
        'dataroot_owner' => $owner === false ? '' : moodlectl_system_user($owner),
        'dirroot' => $CFG->dirroot,
        'config' => $config,
        'acting' => ['id' => (int)$io->acting->id, 'username' => $io->acting->username],
        // Backups carry the same md5: backup/moodle2/backup_stepslib.php, original_site_identifier_hash.
        'identifier_hash' => isset($CFG->siteidentifier) ? md5($CFG->siteidentifier) : null,
        'maintenance' => !empty($CFG->maintenance_enabled),
        'memory_limit' => ini_get('memory_limit'),
        'dbtype' => $CFG->dbtype,
        'code_cache' => $cached ? moodlectl_code_cache() : null,
    ] + moodlectl_state();
}

/**
 * Forgets what this process remembers of courses, contexts and rights, which another has changed meanwhile
 * (course/modlib.php, lib/accesslib.php, cache/classes/factory.php, 3.9 to 5.1).
 */
function moodlectl_forget() {
    get_fast_modinfo(0, 0, true);
    accesslib_clear_all_caches(true);
    // Until 4.4 it had no namespace.
    $factory = class_exists('core_cache\factory') ? 'core_cache\factory' : 'cache_factory';
    $factory::instance()->reset_cache_instances();
}

/** The state of the site that a deed is refused for, as it is now. */
function moodlectl_state() {
    global $CFG;
    return ['cli_maintenance' => file_exists($CFG->dataroot . '/climaintenance.html'),
        'upgrade_pending' => (bool)moodle_needs_upgrading()];
}

/** Refuses a deed on a site that is not in a state to be written to; questions are answered all the same. */
function moodlectl_refuse_deed(array $hello) {
    if ($hello['upgrade_pending']) {
        throw new moodlectl_error('refused', 'upgrade_pending', 'The site waits for an upgrade of its database.',
            'Finish it first: admin/cli/upgrade.php, or the administration page.');
    }
    if ($hello['cli_maintenance']) {
        throw new moodlectl_error('refused', 'maintenance', 'The site is in command line maintenance mode.',
            'Somebody works on it. End it with admin/cli/maintenance.php --disable.');
    }
}

/** Catches what Moodle prints, also after some code has ended all output buffers. */
function moodlectl_buffer(moodlectl_io $io) {
    if (ob_get_level() === 0) {
        ob_start([$io, 'printed'], 4096);
    }
}

function moodlectl_flush() {
    while (ob_get_level() > 1 && @ob_end_flush()) {
        continue;
    }
    if (ob_get_level() > 0) {
        @ob_flush();
    }
}

/** Answers requests until the client ends the session. */
function moodlectl_serve(moodlectl_io $io) {
    global $DB;
    while (($request = $io->request()) !== null) {
        $io->waiting = true;
        $io->tail = '';
        moodlectl_buffer($io);
        moodlectl_spent::begin();
        $call = '';
        try {
            $call = isset($request['call']) ? (string)$request['call'] : '';
            $function = 'moodlectl_call_' . $call;
            if (!preg_match('/^[a-z][a-z0-9_]*$/', $call) || !function_exists($function)) {
                throw new moodlectl_error('usage', 'unknown_call', "There is no call '$call'.");
            }
            if (!empty($request['fresh'])) {
                moodlectl_forget();
            }
            if (!empty($request['deed'])) {
                moodlectl_refuse_deed(moodlectl_state());
            }
            $params = isset($request['params']) && is_array($request['params']) ? $request['params'] : [];
            $value = $function($params, $io);
            moodlectl_flush();
            $io->waiting = false;
            $io->event(['event' => 'result', 'value' => $value, 'spent' => moodlectl_spent::take($call),
                'session' => moodlectl_spent::$session]);
        } catch (Throwable $e) {
            moodlectl_flush();
            // lib/dml/moodle_database.php: a question after this one must not run inside its transaction.
            try {
                if ($DB->is_transaction_started()) {
                    $DB->force_transaction_rollback();
                }
            } catch (Throwable $ignored) {
                $io->log('rollback: ' . $ignored->getMessage());
            }
            moodlectl_report($io, $e);
        }
        unset($value, $params, $request);
        gc_collect_cycles();
    }
}

// --- from here on it runs ------------------------------------------------------------------------------------------

ignore_user_abort(true);
foreach (['STDIN' => 'rb', 'STDOUT' => 'wb', 'STDERR' => 'wb'] as $moodlectl_name => $moodlectl_mode) {
    if (!defined($moodlectl_name)) {
        define($moodlectl_name, fopen('php://' . strtolower($moodlectl_name), $moodlectl_mode));
    }
}
// The loader has read the program from this very stream, which may hold bytes that came after it.
$moodlectl_io = new moodlectl_io(isset($moodlectl_in) ? $moodlectl_in : STDIN, STDOUT);
$moodlectl_first = $moodlectl_io->request();
if ($moodlectl_first === null) {
    exit(0);
}
$moodlectl_io->set_marker($moodlectl_first['marker']);
$moodlectl_reserve = str_repeat(' ', 65536);
register_shutdown_function(function () use ($moodlectl_io) {
    $GLOBALS['moodlectl_reserve'] = null; // Room for the report when memory ran out.
    $moodlectl_io->ending = true;
    if ($moodlectl_io->waiting) {
        while (ob_get_level() > 0 && @ob_end_flush()) {
            continue;
        }
        moodlectl_report_end($moodlectl_io);
    }
});
moodlectl_buffer($moodlectl_io);
try {
    $moodlectl_config = moodlectl_find_config((string)$moodlectl_first['moodle_dir']);
    define('CLI_SCRIPT', true);
    unset($_SERVER['REMOTE_ADDR']); // Moodle takes it for a web request.
    require($moodlectl_config);
    if (!isset($CFG) || !isset($DB) || !class_exists('core_text')) {
        throw new moodlectl_error('notfound', 'moodle_dir', "$moodlectl_config does not start a Moodle.",
            'Give --moodle-dir the directory that holds Moodle\'s config.php.', ['path' => $moodlectl_config]);
    }
    $CFG->debugdisplay = 0;
    ini_set('display_errors', 'stderr');
    ini_set('log_errors', '0');
    core_php_time_limit::raise();
    raise_memory_limit(MEMORY_EXTRA);
    moodlectl_act($moodlectl_io, $moodlectl_first);
    $moodlectl_hello = moodlectl_hello($moodlectl_io, $moodlectl_config,
        !empty($moodlectl_first['code_cache']));
    if (!empty($moodlectl_first['deed'])) {
        moodlectl_refuse_deed($moodlectl_hello);
    }
    moodlectl_flush();
    moodlectl_spent::$plain = !empty($moodlectl_first['plain_database']);
    $moodlectl_io->waiting = false;
    $moodlectl_io->event($moodlectl_hello);
} catch (Throwable $moodlectl_e) {
    moodlectl_flush();
    moodlectl_report($moodlectl_io, $moodlectl_e);
    exit(1);
}
unset($moodlectl_first, $moodlectl_hello, $moodlectl_name, $moodlectl_mode);
try {
    moodlectl_serve($moodlectl_io);
} catch (Throwable $moodlectl_e) {
    moodlectl_report($moodlectl_io, $moodlectl_e);
    exit(1);
}
exit(0);
