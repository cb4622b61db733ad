<?php
// Looks at a host before any Moodle is started there: which PHP, which Moodle in the directory given as argument.
// Runs under `php -r` and must be understood by every PHP there is (5.3 on). Only reads; prints one line.
$dir = isset($argv[1]) ? rtrim($argv[1], '/') : '';
$config = null;
foreach (array($dir, basename($dir) === 'public' ? dirname($dir) : $dir) as $place) {
    if ($config === null && @is_file($place . '/config.php')) {
        $config = $place . '/config.php';
    }
}
$code = @is_file($dir . '/public/version.php') ? $dir . '/public' : $dir;
$release = null;
$text = (string)@file_get_contents($code . '/version.php');
if (preg_match('/^\s*\$release\s*=\s*[\'"]([^\'"]+)/m', $text, $m)) {
    $release = $m[1];
}
// What this release wants of PHP stands in its own admin/environment.xml, 3.9 to 5.1.
$least = null;
$below = null;
if ($release !== null && preg_match('/^\d+\.\d+/', $release, $m)) {
    $text = (string)@file_get_contents($code . '/admin/environment.xml');
    $from = strpos($text, '<MOODLE version="' . $m[0] . '"');
    if ($from !== false) {
        $text = substr($text, $from, (int)strpos(substr($text, $from), '</MOODLE>'));
        if (preg_match('/<PHP version="([\d.]+)"/', $text, $m)) {
            $least = $m[1];
        }
        if (preg_match('/restrict_php_version_(\d)(\d+)/', $text, $m)) {
            $below = $m[1] . '.' . $m[2];
        }
    }
}
$user = null;
if (function_exists('posix_geteuid')) {
    $entry = posix_getpwuid(posix_geteuid());
    $user = $entry ? $entry['name'] : (string)posix_geteuid();
}
echo "\nmoodlectl-probe " . json_encode(array(
    'php' => PHP_VERSION, 'sapi' => PHP_SAPI, 'user' => $user, 'directory' => @is_dir($dir), 'config' => $config,
    'readable' => $config !== null && @is_readable($config), 'release' => $release, 'least' => $least, 'below' => $below,
)) . "\n";
