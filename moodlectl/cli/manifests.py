"""A backup's contents for people: facts, settings with ticks, sections with their activities."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from moodlectl.cli import output
from moodlectl.cli.state import Output, State

if TYPE_CHECKING:
    from moodlectl.mbz import Manifest
    from moodlectl.mbz.manifest import SectionFacts


def show(state: State, manifest: Manifest) -> None:
    """Print one manifest: the contract's JSON, a CSV line per activity, or readable pages."""
    if state.output is Output.json:
        output.print_json(_record(manifest))
        return
    if state.output is Output.csv:
        output.emit(state, list(_items(manifest.sections)))
        return
    output.emit_one(state, _facts(manifest))
    _settings(manifest)
    items(state, manifest)
    for danger in manifest.dangers:
        output.warn(danger.text)
    output.warn_all(_missing(manifest))


def items(state: State, manifest: Manifest) -> None:
    """Print what sections and activities are in a backup, for people."""
    found = list(_items(manifest.sections))
    if found:
        sys.stdout.write("\n")
        output.emit(state, found, ["section", "type", "title", "id", "included", "userinfo"])


def _record(manifest: Manifest) -> dict[str, Any]:
    record = manifest.as_dict()
    record["missing"] = [
        {**one, "text": text} for one, text in zip(record["missing"], _missing(manifest), strict=True)
    ]
    return record


def _missing(manifest: Manifest) -> list[str]:
    from moodlectl.mbz import dependencies

    return list(dependencies.missing(manifest))


def _facts(manifest: Manifest) -> dict[str, Any]:
    course, counts = manifest.course, manifest.counts
    files = f"{counts.files.count}, {output.size(counts.files.bytes)}"
    if not manifest.include_files:
        files += ", not in this backup"
    facts: dict[str, Any] = {
        "file": f"{manifest.kind}, {manifest.container}, {output.size(manifest.size)}",
        "mode": manifest.mode,
        "made": manifest.backup_date,
        "moodle": _both(manifest.moodle_release, manifest.moodle_version),
        "backup_release": _both(manifest.backup_release, manifest.backup_version),
        "site": manifest.original_site.url,
        "this_site": manifest.same_site,
        "course": f"{course.fullname} ({course.shortname}, id {course.id})",
        "format": course.format,
        "starts": course.startdate,
        "ends": course.enddate,
        "users": counts.users,
        "groups": counts.groups,
        "grades": f"{counts.grades} in {counts.grade_items} grade items",
        "questions": counts.questions,
        "files": files,
        "external_links": manifest.external_content,
    }
    for kind, names in manifest.plugins.as_dict().items():
        facts[f"needs_{kind}"] = names
    return {name: value for name, value in facts.items() if value not in (None, [])}


def _both(release: str | None, version: str | None) -> str | None:
    return f"{release} ({version})" if release and version else release or version


def _settings(manifest: Manifest) -> None:
    if not manifest.settings:
        return
    ticks = [
        f"{'✓' if value is True else '✗'} {name}" if isinstance(value, bool) else f"{name}={value}"
        for name, value in manifest.settings.items()
        if name != "filename"
    ]
    sys.stdout.write("settings  " + output.plain("  ".join(ticks)) + "\n")


def _items(sections: tuple[SectionFacts, ...], depth: int = 0) -> Iterator[dict[str, Any]]:
    indent = "  " * depth
    for section in sections:
        yield {
            "section": f"{indent}{'' if section.number is None else section.number}",
            "type": "section",
            "title": section.title,
            "id": section.id,
            "included": section.included,
            "userinfo": section.userinfo,
        }
        for activity in section.activities:
            yield {
                "section": "",
                "type": activity.module,
                "title": f"{indent}{activity.title}",
                "id": activity.id,
                "included": activity.included,
                "userinfo": activity.userinfo,
            }
            if activity.subsection is not None:
                yield from _items((activity.subsection,), depth + 1)
