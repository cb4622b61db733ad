"""``site check``: everything a backup or a restore will need, looked at line by line.

The probes ask and never raise one of our errors; the judges turn what they found into lines and are pure. A
line that cannot be looked at because of one before it says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from moodlectl.config import SiteConfig
from moodlectl.errors import MoodlectlError
from moodlectl.site.live import doctor_host, doctor_web
from moodlectl.site.live.doctor_host import HostProbe
from moodlectl.site.live.doctor_web import WebProbe
from moodlectl.site.live.findings import Finding, error
from moodlectl.site.port import Check

if TYPE_CHECKING:
    from moodlectl.site.runner import Runner
    from moodlectl.site.webservice import WebService


def check(config: SiteConfig, webservice: WebService | None, runner: Runner | None) -> list[Check]:
    """Every line about the site, the web half first, then hop by hop the host. Reads only.

    ``webservice`` is None where there is no token (or none can be had, which is said), ``runner`` where there
    is no shell.
    """
    web = doctor_web.probe(config, webservice)
    host = doctor_host.probe(config, runner) if config.has_shell else HostProbe()
    return list(judge(config, web, host, datetime.now(UTC)))


def judge(config: SiteConfig, web: WebProbe, host: HostProbe, now: datetime) -> list[Finding]:
    """All lines, from what the probes found. Pure."""
    siteurl = str(web.info["siteurl"]) if web.info and web.info.get("siteurl") else None
    return [
        *doctor_web.judge(config, web, now),
        *_why_off(web, host),
        *doctor_host.judge(config, host, siteurl),
    ]


def _why_off(web: WebProbe, host: HostProbe) -> list[Finding]:
    """Where web services say no, the host knows which switch it is."""
    state: Any = host.state
    if web.problem is None or isinstance(state, MoodlectlError) or not isinstance(state, Mapping):
        return []
    switches = state.get("webservices") or {}
    lines = []
    if web.problem.code == "webservicesoff" and switches.get("enabled") is False:
        off = "the site's setting 'Enable web services' is off"
        lines.append(error("web services on the host", off, status=3))
    elif web.problem.code == "webservicesoff" and switches.get("rest") is False:
        off = "the REST protocol is not among the site's protocols"
        lines.append(error("REST on the host", off, status=3))
    if switches.get("service") is False:
        lines.append(error("service", "the site has no web service of that short name", status=3))
    return lines
