<?php
// Where the time of a request goes, and the settings of the database session that shorten it. Both end with this
// process: nothing of the site's configuration is changed.

/** The steps of the request under way: seconds, database round trips and how long those took. */
final class moodlectl_spent {
    /** @var array[] step => {seconds, queries, database} */
    private static $steps = [];
    /** @var array when the step under way began: {seconds, queries, database} */
    private static $since = [0.0, 0, 0.0];
    /** @var string[] what was set for the database session, in words */
    public static $session = [];
    /** @var bool whether the site wants its database sessions as they are */
    public static $plain = false;

    public static function begin() {
        self::$steps = [];
        self::$since = self::now();
    }

    /** What has run since the last one was this step. */
    public static function lap($step) {
        $now = self::now();
        $sum = isset(self::$steps[$step]) ? self::$steps[$step] : [0.0, 0, 0.0];
        foreach ($now as $key => $value) {
            $sum[$key] += $value - self::$since[$key];
        }
        self::$steps[$step] = $sum;
        self::$since = $now;
    }

    /** All steps; the rest is called by the request's own name. */
    public static function take($rest) {
        self::lap($rest);
        $told = [];
        foreach (self::$steps as $step => $sum) {
            $told[] = ['step' => $step, 'seconds' => round($sum[0], 4), 'queries' => $sum[1], 'database' => round($sum[2], 4)];
        }
        self::$steps = [];
        return $told;
    }

    private static function now() {
        global $DB;
        // lib/dml/moodle_database.php perf_get_queries and perf_get_queries_time, 3.9 and later.
        $counts = $DB instanceof moodle_database;
        return [microtime(true), $counts ? (int)$DB->perf_get_queries() : 0,
            $counts ? (float)$DB->perf_get_queries_time() : 0.0];
    }
}

/**
 * Reads without server-side cursors, on PostgreSQL: a backup asks tens of thousands of small questions, and a cursor for
 * each costs three more (lib/dml/pgsql_native_moodle_database.php fetchbuffersize, 3.9 and later). Not where a result
 * set may be too large for memory.
 */
function moodlectl_session_reads() {
    global $DB;
    if (moodlectl_spent::$plain || $DB->get_dbfamily() !== 'postgres') {
        return;
    }
    try {
        $property = new ReflectionProperty('moodle_database', 'dboptions');
        if (PHP_VERSION_ID < 80100) {
            $property->setAccessible(true);
        }
        $property->setValue($DB, ['fetchbuffersize' => 0] + (array)$property->getValue($DB));
        moodlectl_spent::$session[] = 'no cursors';
    } catch (ReflectionException $missing) {
        return; // A release that keeps it elsewhere is only slower.
    }
}

/**
 * Commits that do not wait for the disk, each, on PostgreSQL; moodlectl_session_settle waits for all of them at the end.
 * What a crash of the database server meanwhile could lose is the end of a deed that has not ended yet; what is there
 * is consistent all the time (PostgreSQL: synchronous_commit, an ordinary setting of a session).
 */
function moodlectl_session_writes() {
    global $DB;
    if (moodlectl_spent::$plain || $DB->get_dbfamily() !== 'postgres' || in_array('asynchronous commit', moodlectl_spent::$session, true)) {
        return;
    }
    $DB->execute('SET synchronous_commit TO off');
    moodlectl_spent::$session[] = 'asynchronous commit';
}

/** Waits until everything that was written is on the database's disk, and lets later commits wait again. */
function moodlectl_session_settle() {
    global $DB;
    if (!in_array('asynchronous commit', moodlectl_spent::$session, true)) {
        return;
    }
    $DB->execute('RESET synchronous_commit');
    if ($DB->is_transaction_started()) {
        return; // Its own commit waits.
    }
    // A commit that waits, waits for all that were before it; it has to have something to write.
    $DB->execute('CREATE TEMPORARY TABLE moodlectl_settled (id int)');
    $DB->execute('DROP TABLE moodlectl_settled');
    moodlectl_spent::$session = array_values(array_diff(moodlectl_spent::$session, ['asynchronous commit']));
    moodlectl_spent::$session[] = 'asynchronous commit, made lasting at the end';
}
