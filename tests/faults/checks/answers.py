"""C9 and C10: what clients were answered, and what the services logged."""

from tests.faults.checks.evidence import Evidence, Finding, findings

# Log lines of a bug. An outage must not cause any of them.
BUGS = ("Traceback (most recent call last)", "background task died", "background task returned early")


def answers_are_proper(evidence: Evidence) -> list[Finding]:
    """C9. Every answer is 2xx, 4xx or 503, and an error is a problem document; a 503 says when to try again."""
    wrong, improper, unanswered = [], [], []
    for operation in evidence.operations:
        for reply in operation.replies:
            name = f"operation {operation.intent.operation}: {reply.status} {reply.error or reply.body[:200]}"
            if reply.status == 0:
                unanswered.append(name)
            elif not (200 <= reply.status < 300 or 400 <= reply.status < 500 or reply.status == 503):
                wrong.append(name)
            elif reply.status >= 400 and (
                not reply.content_type.startswith("application/problem+json")
                or reply.code is None
                or (reply.status == 503 and reply.retry_after is None)
            ):
                improper.append(name)
    found = [
        *findings("C9", "answers other than 2xx, 4xx and 503", wrong),
        *findings("C9", "errors that are not proper problem documents", improper),
    ]
    return found if evidence.cuts else [*found, *findings("C9", "no answer", unanswered)]


def logs_show_no_bug(evidence: Evidence) -> list[Finding]:
    """C10. No log has a traceback or a background task that ended by itself."""
    found = []
    for name, text in evidence.logs.items():
        for bug in BUGS:
            lines = [line for line in text.splitlines() if bug in line]
            if lines:
                found.append(Finding("C10", f"{bug} in {name}: {lines[0][-600:]}", len(lines)))
    return found
