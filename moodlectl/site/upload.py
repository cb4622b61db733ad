"""Files sent to a site over HTTP, streamed, into the draft area of the token's user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moodlectl.errors import Refused
from moodlectl.site.network import network_trouble
from moodlectl.site.port import OnProgress, Progress, no_progress
from moodlectl.site.replies import Asked, Reply, error_of, guarded, reply_of

if TYPE_CHECKING:
    from moodlectl.site.webservice import WebService


def upload(
    service: WebService, path: Path, *, itemid: int = 0, on_progress: OnProgress = no_progress
) -> dict[str, Any]:
    """Send a file to the draft area of the token's user (``webservice/upload.php``, 3.9 to 5.1), streamed.

    Returns Moodle's entry for it (``itemid``, ``filename``, …); ``itemid`` 0 begins a new draft area. Writes
    to the
    site. Raises Refused where the site will not have it, OutcomeUnknown where no answer came.
    """
    from requests_toolbelt.multipart.encoder import MultipartEncoder, MultipartEncoderMonitor

    asked = Asked(f"the upload of {path.name}", f"{service.url}/webservice/upload.php", writes=True)
    size = path.stat().st_size

    def tell(monitor: Any) -> None:
        on_progress(Progress("upload", min(monitor.bytes_read, size), size, "bytes"))

    with path.open("rb") as file:
        fields = {
            "token": service.token.reveal(),
            "itemid": str(itemid),
            "filepath": "/",
            "file_1": (path.name, file, "application/octet-stream"),
        }
        body = MultipartEncoderMonitor(MultipartEncoder(fields), tell)
        with network_trouble(asked):
            response = service.post(asked, body, headers={"Content-Type": body.content_type},
                                    timeout=(service.timeout[0], 600))  # fmt: skip
            reply = reply_of(response)
    entry: dict[str, Any] = guarded(lambda: _uploaded(reply, asked), service.token)
    return entry


def _uploaded(reply: Reply, asked: Asked) -> dict[str, Any]:
    if error := error_of(reply, asked):
        raise error
    entries = json.loads(reply.body)
    if not isinstance(entries, list) or not entries or not isinstance(entries[0], dict):
        raise Refused(f"The site took nothing of {asked.what}.",
                      "PHP's post_max_size of the site may be too small: raise it, or use a shell.",
                      code="toolarge", details=asked.evidence())  # fmt: skip
    entry: dict[str, Any] = entries[0]
    if code := entry.get("errortype"):
        raise Refused(f"The site refuses {asked.what}: {entry.get('error') or code}.", code=str(code),
                      details=asked.evidence())  # fmt: skip
    return entry
