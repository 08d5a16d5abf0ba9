"""A stand-in for YouTube: an extractor of its own name that asks a server on this machine.

Started as ``python -m tests.download.stub_site PARENT`` in the place of the real process. The page
``/watch?v=ID`` is answered by ``/api/ID``: either ``{"error": text}``, which is raised as YouTube's
extractor raises what YouTube says, or ``{"formats": [...], ...}``. ``/watch?v=options`` asks nobody
and tells the options that yt-dlp was given.
"""

from __future__ import annotations

import json
import re
from typing import Any

from yt_dlp.extractor.common import InfoExtractor
from yt_dlp.utils import ExtractorError

from idpose_core.download.youtube_process import main

OPTIONS = ("proxy", "js_runtimes", "sleep_interval_requests", "socket_timeout", "cachedir")


class StubSiteIE(InfoExtractor):
    IE_NAME = "stub-site"
    _VALID_URL = r"http://127\.0\.0\.1:(?P<port>\d+)/watch\?v=(?P<id>[^&]+)"

    def _real_extract(self, url: str) -> dict[str, Any]:
        port, video_id = re.match(self._VALID_URL, url).group("port", "id")  # type: ignore[union-attr]
        if video_id == "options":  # those that yt-dlp itself holds, told in the place of a licence
            form = {"format_id": "1", "url": "http://a.example/1", "vcodec": "avc1"}
            told = {name: self.get_param(name) for name in OPTIONS}
            return {"id": "1", "title": "1", "formats": [form], "license": json.dumps(told)}
        answer = self._download_json(f"http://127.0.0.1:{port}/api/{video_id}", video_id)
        for warning in answer.pop("warnings", []):
            self.report_warning(warning)
        if "error" in answer:
            raise ExtractorError(answer["error"], expected=True, video_id=video_id)
        return {"id": video_id, "title": video_id, **answer}


if __name__ == "__main__":
    main([StubSiteIE])
