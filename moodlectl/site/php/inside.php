<?php
// Stored backups looked into where they lie: a piece of one, or all of one but the contents of its file pool.

/** A stored backup opened to read, with the right to (see moodlectl_locate_backup): [handle, size]. */
function moodlectl_open_backup(array $locator) {
    $found = moodlectl_locate_backup($locator);
    if (isset($found['file'])) {
        return [$found['file']->get_content_file_handle(), (int)$found['file']->get_filesize()];
    }
    return [fopen($found['path'], 'rb'), (int)filesize($found['path'])];
}

/**
 * {length} bytes of the backup {locator} from {offset} on, in binary frames; returns its size. Reads only.
 */
function moodlectl_call_backup_piece(array $params, moodlectl_io $io) {
    list($handle, $size) = moodlectl_open_backup($params['locator']);
    $offset = max(0, (int)$params['offset']);
    $length = max(0, min((int)$params['length'], $size - $offset));
    // Object file systems may hand out handles that cannot be sought.
    if ($offset > 0 && fseek($handle, $offset) !== 0) {
        moodlectl_copy_bytes($handle, $offset, null, null);
    }
    moodlectl_copy_bytes($handle, $length, $io, null);
    fclose($handle);
    return ['size' => $size];
}

/**
 * The tgz backup {locator} as a gzipped tar in which the contents of the file pool are left out and nothing else: the
 * header of every member, the content of every other. Constant memory, nothing written. Reads only.
 *
 * What is odd about the archive is passed on as it is: who reads it judges it. One that is cut short arrives cut short.
 */
function moodlectl_call_backup_hollow(array $params, moodlectl_io $io) {
    list($handle, $size) = moodlectl_open_backup($params['locator']);
    $hollow = new moodlectl_hollow($io);
    $inflate = null;
    $fed = 0;
    $read = 0;
    while (!feof($handle)) {
        $bytes = fread($handle, 32768);
        if ($bytes === false || $bytes === '') {
            break;
        }
        $read += strlen($bytes);
        $io->progress('scan', $read, $size, 'bytes');
        while ($bytes !== '') {
            if ($inflate === null) {
                // Zeros may pad what is packed; what else follows it belongs to nothing.
                $bytes = $fed ? ltrim($bytes, "\0") : $bytes;
                if ($bytes === '') {
                    break;
                }
                if ($bytes[0] !== "\x1f") {
                    break 2;
                }
                $inflate = inflate_init(ZLIB_ENCODING_GZIP);
            }
            $before = inflate_get_read_len($inflate);
            $out = @inflate_add($inflate, $bytes);
            if ($out === false) {
                throw new moodlectl_error('refused', 'damaged', 'The backup is damaged: its gzip stream cannot be '
                    . 'unpacked.', 'Take another copy of the file; this one cannot be trusted.', ['read' => $read]);
            }
            $hollow->feed($out, $read);
            if (inflate_get_status($inflate) !== ZLIB_STREAM_END) {
                break;
            }
            $used = inflate_get_read_len($inflate) - $before;
            $bytes = (string)substr($bytes, $used);
            $inflate = null;
            $fed++;
        }
        if ($hollow->over) {
            break;
        }
    }
    fclose($handle);
    $hollow->finish($inflate === null || $hollow->over);
    return ['size' => $size];
}

/** Passes a tar on without the contents of the file pool, packed again. */
final class moodlectl_hollow {
    /** @var bool nothing that follows can be understood */
    public $over = false;
    /** @var moodlectl_io */
    private $io;
    /** @var resource|DeflateContext */
    private $packer;
    private $packed = '';
    private $block = '';
    private $copy = 0;
    private $skip = 0;
    private $extended = false;
    private $unpacked = 0;

    public function __construct(moodlectl_io $io) {
        $this->io = $io;
        $this->packer = deflate_init(ZLIB_ENCODING_GZIP, ['level' => 2]);
    }

    /** The next bytes of the tar; {read} is how much of the file they came from, to know a bomb. */
    public function feed($bytes, $read) {
        $length = strlen($bytes);
        $this->unpacked += $length;
        if ($this->unpacked > (128 << 20) && $this->unpacked > $read * 250) {
            throw new moodlectl_error('refused', 'bomb', 'The backup unpacks to more than 250 times its size; no course '
                . 'does.', 'Moodle never writes such a file. Do not restore it; ask where it came from.');
        }
        $at = 0;
        while ($at < $length && !$this->over) {
            if ($this->skip > 0) {
                $step = min($this->skip, $length - $at);
                $this->skip -= $step;
            } else if ($this->copy > 0) {
                $step = min($this->copy, $length - $at);
                $this->copy -= $step;
                $this->pass(substr($bytes, $at, $step));
            } else {
                $step = min(512 - strlen($this->block), $length - $at);
                $this->block .= substr($bytes, $at, $step);
                if (strlen($this->block) === 512) {
                    $this->header($this->block);
                    $this->block = '';
                }
            }
            $at += $step;
        }
    }

    /** The end; where the archive was cut short what is sent is cut short, too. */
    public function finish($whole) {
        $this->pass($this->block);
        $this->packed .= deflate_add($this->packer, '', $whole ? ZLIB_FINISH : ZLIB_SYNC_FLUSH);
        $this->io->send($this->packed);
    }

    /** One header (POSIX ustar, which lib/filestorage/tgz_packer.php writes in all releases; GNU and PAX extensions). */
    private function header($block) {
        $this->pass($block);
        if ($block === str_repeat("\0", 512)) {
            $this->copy = PHP_INT_MAX;
            return;
        }
        $sum = array_sum(unpack('C*', substr($block, 0, 148))) + array_sum(unpack('C*', substr($block, 156))) + 256;
        $size = $this->number(substr($block, 124, 12));
        if ($size === null || $this->number(substr($block, 148, 8)) !== $sum) {
            $this->over = true;
            return;
        }
        $kind = $block[156];
        $room = $size + (512 - $size % 512) % 512;
        $name = explode("\0", substr($block, 0, 100))[0];
        if (!$this->extended && $kind !== '5' && strpos('LxgK', $kind) === false && $block[345] === "\0"
                && preg_match('#\Afiles/[0-9a-f]{2}/[0-9a-f]{40}\z#', $name)) {
            $this->skip = $room;
        } else {
            $this->copy = $room;
        }
        $this->extended = $kind === 'L' || $kind === 'x' || $kind === 'g';
    }

    /** A tar number: octal digits, or GNU's base 256; null where it is none. */
    private function number($field) {
        if (ord($field[0]) === 0x80) {
            $number = 0;
            foreach (unpack('C*', substr($field, 1)) as $byte) {
                $number = $number * 256 + $byte;
            }
            return $number < (1 << 50) ? (int)$number : null;
        }
        $digits = trim($field, " \0");
        return preg_match('/^[0-7]{0,17}$/', $digits) ? (int)octdec($digits) : null;
    }

    private function pass($bytes) {
        if ($bytes === '' || $bytes === false) {
            return;
        }
        $this->packed .= deflate_add($this->packer, $bytes, ZLIB_NO_FLUSH);
        if (strlen($this->packed) >= 65536) {
            $this->io->send($this->packed);
            $this->packed = '';
        }
    }
}
