import subprocess
import sys

import msgspec

# Runs in a process of its own, because the format applies to the whole process and loggers keep their first one.
_LINES = """
import sys
from uuid import UUID
import structlog
from services.kit import log

log.configure(sys.argv[1], readable=False)
log.request_id.set("5d6d")
log.traceparent.set("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
subject = UUID(int=1)
log.access("things", "GET", "/api/things/{id}", 200, 0.0123456, subject)
fields = {"method": "GET", "route": "/api/things/{id}", "status": 200, "duration_ms": 12.35, "subject": subject}
structlog.get_logger("access").info("request", service="things", **fields)
"""


def _written(level: str) -> list[dict[str, object]]:
    run = subprocess.run([sys.executable, "-c", _LINES, level], capture_output=True, check=True)
    return [msgspec.json.decode(line, type=dict[str, object]) for line in run.stdout.splitlines()]


def test_the_line_of_a_request_is_what_structlog_would_write() -> None:
    ours, theirs = _written("INFO")
    assert str(ours.pop("time")) <= str(theirs.pop("time"))
    assert ours == theirs
    assert ours["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


def test_a_level_above_info_logs_no_requests() -> None:
    assert _written("WARNING") == []
