"""All that a course holds, told by the site's own tables and without their numbers, so that two moments compare."""

from __future__ import annotations

import json
from typing import Any

import rig

# Names instead of ids everywhere. What a restore makes anew (modification times, history, logs) is told apart below.
SNAPSHOT = r"""
$id = (int)$arguments['id'];
$context = context_course::instance($id);
$below = "(x.path = '{$context->path}' OR x.path LIKE '{$context->path}/%')";
$rows = function($sql, array $values = []) use ($DB) {
    $found = [];
    $set = $DB->get_recordset_sql($sql, $values);
    foreach ($set as $row) {
        $found[] = implode(' | ', array_map(function($v) { return is_null($v) ? '-' : (string)$v; }, (array)$row));
    }
    $set->close();
    sort($found);
    return $found;
};
$there = function($table) use ($DB) { return $DB->get_manager()->table_exists($table); };
$availability = function($text) {
    $tree = json_decode((string)$text, true);
    is_array($tree) && ksort($tree);
    return $tree ? preg_replace('/[0-9]+/', '#', json_encode($tree)) : '';
};
$out = ['course' => [], 'format' => [], 'activities' => [], 'instances' => []];
$course = $DB->get_record('course', ['id' => $id], '*', MUST_EXIST);
foreach (['fullname', 'shortname', 'idnumber', 'summary', 'format', 'showgrades', 'newsitems', 'startdate', 'enddate',
        'relativedatesmode', 'marker', 'maxbytes', 'legacyfiles', 'showreports', 'visible', 'groupmode', 'groupmodeforce',
        'lang', 'calendartype', 'theme', 'enablecompletion', 'completionnotify', 'category', 'showactivitydates',
        'showcompletionconditions'] as $name) {
    $out['course'][] = "$name = " . $course->$name;
}
$out['format'] = $rows("SELECT o.format, o.name, o.value, COALESCE(s.section, -1) FROM {course_format_options} o
    LEFT JOIN {course_sections} s ON s.id = o.sectionid WHERE o.courseid = ? AND o.format = ?", [$id, $course->format]);
$out['sections'] = $rows("SELECT section, name, summary, visible, component FROM {course_sections} WHERE course = ?", [$id]);
foreach (get_fast_modinfo($id)->get_cms() as $cm) {
    $raw = $DB->get_record('course_modules', ['id' => $cm->id]);
    $label = in_array($cm->modname, ['label', 'qbank']) ? '' : $cm->name;
    $out['activities'][] = implode(' | ', [$cm->modname, $label, $raw->idnumber, $raw->visible, $raw->visibleoncoursepage,
        $raw->groupmode, $raw->completion, $raw->completionview, $raw->completionexpected, $raw->indent,
        $cm->get_section_info()->section, $availability($raw->availability)]);
    $instance = $DB->get_record($cm->modname, ['id' => $cm->instance]);
    unset($instance->id, $instance->course, $instance->timemodified, $instance->timecreated, $instance->lastupdated);
    // Numbers of other rows.
    unset($instance->groupingid, $instance->scale, $instance->firstpageid, $instance->course_update, $instance->conditions,
        $instance->dependency, $instance->defaultsort, $instance->page_after_submit, $instance->teamsubmissiongroupingid,
        $instance->revision);
    $out['instances'][] = "$cm->modname " . json_encode($instance);
}
sort($out['activities']);
sort($out['instances']);
$out['enrolment methods'] = $rows("SELECT (SELECT COUNT(*) FROM {enrol} o WHERE o.courseid = e.courseid AND o.sortorder < e.sortorder),
    e.enrol, e.status, e.name, e.enrolstartdate, e.enrolenddate, e.enrolperiod, r.shortname, e.password, e.cost, e.customint1,
    e.customint3, e.customint4, e.customint6, e.customtext1 FROM {enrol} e LEFT JOIN {role} r ON r.id = e.roleid
    WHERE e.courseid = ?", [$id]);
$out['names of roles'] = $rows("SELECT r.shortname, n.name FROM {role_names} n JOIN {role} r ON r.id = n.roleid
    JOIN {context} x ON x.id = n.contextid WHERE $below");
$out['enrolments'] = $rows("SELECT u.username, e.enrol, ue.status, ue.timestart, ue.timeend FROM {user_enrolments} ue
    JOIN {enrol} e ON e.id = ue.enrolid JOIN {user} u ON u.id = ue.userid WHERE e.courseid = ?", [$id]);
$out['roles'] = $rows("SELECT u.username, r.shortname, x.contextlevel, ra.component FROM {role_assignments} ra
    JOIN {context} x ON x.id = ra.contextid JOIN {user} u ON u.id = ra.userid JOIN {role} r ON r.id = ra.roleid WHERE $below");
$out['permissions'] = $rows("SELECT r.shortname, c.capability, c.permission, x.contextlevel FROM {role_capabilities} c
    JOIN {context} x ON x.id = c.contextid JOIN {role} r ON r.id = c.roleid WHERE $below");
$out['groups'] = $rows("SELECT g.name, g.idnumber, g.description, g.enrolmentkey, g.visibility, g.participation FROM {groups} g WHERE g.courseid = ?", [$id]);
$out['members'] = $rows("SELECT g.name, u.username FROM {groups_members} m JOIN {groups} g ON g.id = m.groupid
    JOIN {user} u ON u.id = m.userid WHERE g.courseid = ?", [$id]);
$out['groupings'] = $rows("SELECT n.name, g.name FROM {groupings} n LEFT JOIN {groupings_groups} b ON b.groupingid = n.id
    LEFT JOIN {groups} g ON g.id = b.groupid WHERE n.courseid = ?", [$id]);
$out['grade items'] = $rows("SELECT itemtype, itemmodule, itemname, itemnumber, idnumber, gradetype, grademin,
    CASE WHEN itemtype IN ('course', 'category') THEN 0 ELSE grademax END, gradepass, hidden, locked FROM {grade_items} WHERE courseid = ?", [$id]);
$out['grades'] = $rows("SELECT i.itemtype, i.itemmodule, i.itemname, u.username, g.rawgrade, g.finalgrade, g.overridden,
    g.excluded, g.feedback FROM {grade_grades} g JOIN {grade_items} i ON i.id = g.itemid JOIN {user} u ON u.id = g.userid
    WHERE i.courseid = ? AND (g.finalgrade IS NOT NULL OR g.feedback IS NOT NULL)
    AND (i.itemtype NOT IN ('course', 'category') OR g.overridden <> 0)", [$id]); // Moodle computes totals when it likes.
$out['question bank'] = $rows("SELECT x.contextlevel, c.name, b.idnumber, q.name, q.qtype, q.defaultmark, v.version, v.status
    FROM {question} q JOIN {question_versions} v ON v.questionid = q.id
    JOIN {question_bank_entries} b ON b.id = v.questionbankentryid JOIN {question_categories} c ON c.id = b.questioncategoryid
    JOIN {context} x ON x.id = c.contextid WHERE $below");
$out['answers'] = $rows("SELECT q.name, a.answer, a.fraction, a.feedback FROM {question_answers} a
    JOIN {question} q ON q.id = a.question JOIN {question_versions} v ON v.questionid = q.id
    JOIN {question_bank_entries} b ON b.id = v.questionbankentryid JOIN {question_categories} c ON c.id = b.questioncategoryid
    JOIN {context} x ON x.id = c.contextid WHERE $below");
$out['quiz attempts'] = $rows("SELECT z.name, u.username, a.attempt, a.state, a.sumgrades, a.timestart, a.timefinish
    FROM {quiz_attempts} a JOIN {quiz} z ON z.id = a.quiz JOIN {user} u ON u.id = a.userid WHERE z.course = ?", [$id]);
$out['steps'] = $rows("SELECT z.name, q.slot, q.responsesummary, s.sequencenumber, s.state, s.fraction FROM {quiz_attempts} a
    JOIN {quiz} z ON z.id = a.quiz JOIN {question_attempts} q ON q.questionusageid = a.uniqueid
    JOIN {question_attempt_steps} s ON s.questionattemptid = q.id WHERE z.course = ?", [$id]);
$out['posts'] = $rows("SELECT f.name, d.name, p.subject, p.message, u.username, p.created FROM {forum_posts} p
    JOIN {forum_discussions} d ON d.id = p.discussion JOIN {forum} f ON f.id = d.forum JOIN {user} u ON u.id = p.userid
    WHERE d.course = ?", [$id]);
$out['submissions'] = $rows("SELECT a.name, u.username, s.status, s.attemptnumber, s.timecreated FROM {assign_submission} s
    JOIN {assign} a ON a.id = s.assignment LEFT JOIN {user} u ON u.id = s.userid WHERE a.course = ?", [$id]);
$out['submitted texts'] = $rows("SELECT o.onlinetext FROM {assignsubmission_onlinetext} o JOIN {assign} a ON a.id = o.assignment
    WHERE a.course = ?", [$id]);
$out['glossary'] = $rows("SELECT g.name, e.concept, e.definition FROM {glossary_entries} e JOIN {glossary} g ON g.id = e.glossaryid
    WHERE g.course = ?", [$id]);
$out['wiki'] = $rows("SELECT w.name, p.title, p.cachedcontent FROM {wiki_pages} p JOIN {wiki_subwikis} s ON s.id = p.subwikiid
    JOIN {wiki} w ON w.id = s.wikiid WHERE w.course = ?", [$id]);
$out['choices'] = $rows("SELECT c.name, o.text, u.username FROM {choice_answers} a JOIN {choice} c ON c.id = a.choiceid
    JOIN {choice_options} o ON o.id = a.optionid JOIN {user} u ON u.id = a.userid WHERE c.course = ?", [$id]);
$out['database'] = $rows("SELECT d.name, f.name, c.content FROM {data_content} c JOIN {data_fields} f ON f.id = c.fieldid
    JOIN {data} d ON d.id = f.dataid WHERE d.course = ?", [$id]);
$out['lesson'] = $rows("SELECT l.name, p.title, p.contents FROM {lesson_pages} p JOIN {lesson} l ON l.id = p.lessonid
    WHERE l.course = ?", [$id]);
$out['feedback'] = $rows("SELECT f.name, i.name, v.value FROM {feedback_value} v JOIN {feedback_item} i ON i.id = v.item
    JOIN {feedback} f ON f.id = i.feedback WHERE f.course = ?", [$id]);
$out['files'] = $rows("SELECT f.component, f.filearea, f.filepath, f.filename, f.contenthash FROM {files} f
    JOIN {context} x ON x.id = f.contextid WHERE $below AND f.filename <> '.' AND f.component NOT IN ('backup', 'tool_recyclebin')");
$out['stored backups'] = $rows("SELECT f.filearea, f.itemid, f.filepath, f.filename, f.contenthash, f.timecreated FROM {files} f
    WHERE f.contextid = ? AND f.filename <> '.' AND f.component = 'backup'", [$context->id]);
$out['blocks'] = $rows("SELECT x.contextlevel, b.blockname, b.defaultregion, b.defaultweight, b.configdata FROM {block_instances} b
    JOIN {context} x ON x.id = b.parentcontextid WHERE $below");
// Which one it is matters where somebody has it; one that nobody was given is made anew when an undo is undone.
$out['badges'] = $rows("SELECT (CASE WHEN EXISTS (SELECT 1 FROM {badge_issued} i WHERE i.badgeid = b.id) THEN b.id ELSE 0 END) AS id, b.name, b.description, b.type, b.status, b.issuername, b.message FROM {badge} b
    WHERE b.courseid = ?", [$id]);
$out['badges given'] = $rows("SELECT b.name, u.username, i.uniquehash, i.dateissued FROM {badge_issued} i JOIN {badge} b ON b.id = i.badgeid
    JOIN {user} u ON u.id = i.userid WHERE b.courseid = ?", [$id]);
$out['badge criteria'] = $rows("SELECT b.name, c.criteriatype, c.method, m.name, cm.idnumber FROM {badge_criteria} c JOIN {badge} b
    ON b.id = c.badgeid LEFT JOIN {badge_criteria_param} p ON p.critid = c.id AND c.criteriatype = 1
    LEFT JOIN {course_modules} cm ON p.name = " . $DB->sql_concat("'module_'", 'cm.id') . " LEFT JOIN {modules} m ON m.id = cm.module
    WHERE b.courseid = ?", [$id]);
// Others may empty courses on the same site: only those that were given the name of this one count.
$out['archived badges'] = $rows("SELECT name FROM {badge} WHERE type = 1 AND status = 4 AND name LIKE ?", ["% of $id"]);
$out['notes'] = $rows("SELECT u.username, p.content, p.publishstate, p.created, p.usermodified FROM {post} p JOIN {user} u ON u.id = p.userid
    WHERE p.courseid = ? AND p.module = 'notes'", [$id]);
$out['letters'] = $rows("SELECT l.lowerboundary, l.letter FROM {grade_letters} l JOIN {context} x ON x.id = l.contextid WHERE $below");
$out['gradebook settings'] = $rows("SELECT name, value FROM {grade_settings} WHERE courseid = ?", [$id]);
$out['grade categories'] = $rows("SELECT fullname, aggregation, keephigh, droplow, aggregateonlygraded, depth, hidden
    FROM {grade_categories} WHERE courseid = ?", [$id]);
$out['scales'] = $rows("SELECT name, scale, description FROM {scale} WHERE courseid = ?", [$id]);
$out['outcomes'] = $rows("SELECT o.shortname, o.fullname, s.name FROM {grade_outcomes_courses} c JOIN {grade_outcomes} o ON o.id = c.outcomeid
    LEFT JOIN {scale} s ON s.id = o.scaleid WHERE c.courseid = ?", [$id]);
$out['custom fields'] = $rows("SELECT f.shortname, d.value FROM {customfield_data} d JOIN {customfield_field} f ON f.id = d.fieldid
    JOIN {context} x ON x.id = d.contextid WHERE x.id = ?", [$context->id]);
$out['completed'] = $rows("SELECT u.username, c.timecompleted FROM {course_completions} c JOIN {user} u ON u.id = c.userid
    WHERE c.course = ? AND c.timecompleted IS NOT NULL", [$id]);
$out['exceptions'] = array_merge(
    $rows("SELECT q.name, u.username, o.timelimit, o.timeopen FROM {quiz_overrides} o JOIN {quiz} q ON q.id = o.quiz
        JOIN {user} u ON u.id = o.userid WHERE q.course = ?", [$id]),
    $rows("SELECT a.name, u.username, o.duedate FROM {assign_overrides} o JOIN {assign} a ON a.id = o.assignid
        JOIN {user} u ON u.id = o.userid WHERE a.course = ?", [$id]),
    $rows("SELECT a.name, u.username, f.locked, f.extensionduedate FROM {assign_user_flags} f JOIN {assign} a ON a.id = f.assignment
        JOIN {user} u ON u.id = f.userid WHERE a.course = ? AND f.extensionduedate > 0", [$id]));
$out['subscriptions'] = $rows("SELECT f.name, u.username FROM {forum_subscriptions} s JOIN {forum} f ON f.id = s.forum
    JOIN {user} u ON u.id = s.userid WHERE f.course = ?", [$id]);
$out['competencies'] = array_merge(
    $rows("SELECT c.idnumber, k.ruleoutcome FROM {competency_coursecomp} k JOIN {competency} c ON c.id = k.competencyid
        WHERE k.courseid = ?", [$id]),
    $rows("SELECT c.idnumber, m.idnumber AS cm FROM {competency_modulecomp} k JOIN {competency} c ON c.id = k.competencyid
        JOIN {course_modules} m ON m.id = k.cmid WHERE m.course = ?", [$id]),
    $rows("SELECT c.idnumber, u.username, k.grade FROM {competency_usercompcourse} k JOIN {competency} c ON c.id = k.competencyid
        JOIN {user} u ON u.id = k.userid WHERE k.courseid = ?", [$id]));
$out['starred'] = $rows("SELECT userid FROM {favourite} WHERE component = 'core_course' AND itemtype = 'courses' AND itemid = ?", [$id]);
$out['places of blocks'] = $rows("SELECT b.blockname, p.pagetype, p.visible, p.region, p.weight FROM {block_positions} p
    JOIN {block_instances} b ON b.id = p.blockinstanceid JOIN {context} x ON x.id = p.contextid WHERE $below");
$out['completion'] = $rows("SELECT m.name, cm.idnumber, u.username, c.completionstate FROM {course_modules_completion} c
    JOIN {course_modules} cm ON cm.id = c.coursemoduleid JOIN {modules} m ON m.id = cm.module JOIN {user} u ON u.id = c.userid
    WHERE cm.course = ?", [$id]);
$out['criteria'] = $rows("SELECT criteriatype, module, timeend, enrolperiod FROM {course_completion_criteria} WHERE course = ?", [$id]);
$out['calendar'] = $rows("SELECT e.name, e.description, e.eventtype, e.modulename, e.timestart, e.timeduration, e.visible, g.name AS groupname
    FROM {event} e LEFT JOIN {groups} g ON g.id = e.groupid WHERE e.courseid = ?", [$id]);
$out['filters'] = $rows("SELECT f.filter, f.active, x.contextlevel FROM {filter_active} f JOIN {context} x ON x.id = f.contextid
    WHERE $below");
$out['comments'] = $rows("SELECT c.component, c.commentarea, c.content, u.username FROM {comments} c
    JOIN {context} x ON x.id = c.contextid JOIN {user} u ON u.id = c.userid WHERE $below");
$out['tags'] = $rows("SELECT t.name, i.itemtype FROM {tag_instance} i JOIN {tag} t ON t.id = i.tagid
    WHERE i.itemtype = 'course' AND i.itemid = ?", [$id]);
$out['at least'] = [
    'grade history' => $rows("SELECT h.action, u.username, h.rawgrade, h.finalgrade, h.source FROM {grade_grades_history} h
        JOIN {grade_items} i ON i.id = h.itemid JOIN {user} u ON u.id = h.userid WHERE i.courseid = ?", [$id]),
    'last access' => $rows("SELECT u.username, a.timeaccess FROM {user_lastaccess} a JOIN {user} u ON u.id = a.userid
        WHERE a.courseid = ?", [$id]),
    'logs' => $rows("SELECT eventname, COALESCE(u.username, '-'), l.timecreated FROM {logstore_standard_log} l
        LEFT JOIN {user} u ON u.id = l.userid WHERE l.courseid = ? AND l.action = 'viewed' AND l.realuserid IS NULL", [$id]),
];
echo 'SNAPSHOT:' . json_encode($out, JSON_INVALID_UTF8_SUBSTITUTE);
"""


# Badges of a course that is emptied become archived ones of the site: by this name they are told from others'.
NAME_BADGES = """
foreach ($DB->get_records('badge', ['courseid' => $arguments['id']]) as $badge) {
    $DB->set_field('badge', 'name', "$badge->name of $arguments[course]", ['id' => $badge->id]);
}
"""


def snapshot(site: rig.LiveMoodle, course: int) -> dict[str, Any]:
    """All that the course holds now."""
    found: dict[str, Any] = json.loads(site.php(SNAPSHOT, id=course).rsplit("SNAPSHOT:", 1)[1])
    return found


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What is there no more and what is new, one line each; history and logs may only grow."""
    told = []
    for name, held in before.items():
        if name == "at least":
            for part, lines in held.items():
                told += [f"{part}: - {line}" for line in _minus(lines, after[name][part])]
            continue
        told += [f"{name}: - {line}" for line in _minus(held, after[name])]
        told += [f"{name}: + {line}" for line in _minus(after[name], held)]
    return told


def _minus(lines: list[str], others: list[str]) -> list[str]:
    left = list(others)
    missing = []
    for line in lines:
        if line in left:
            left.remove(line)
        else:
            missing.append(line)
    return missing
