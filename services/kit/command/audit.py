"""The commands that verify the audit trail's chain and remove its expired entries."""

import asyncio
import re
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from services.kit.command import cli
from services.kit.errors import Unavailable
from services.kit.trail.verify import Verdict

KnownHead = Annotated[
    str | None,
    typer.Option(
        "--head",
        help="A head that this command printed before, as position:hash: only with it a missing end is noticed",
    ),
]
ExportFolder = Annotated[
    Path,
    typer.Option("--export", help="The folder for the exported entries", exists=True, file_okay=False, writable=True),
]


def verify_audit(head: str | None, verified: Callable[[], Coroutine[Any, Any, Verdict]]) -> None:
    """Print the chain's head, or end the command with 1 and the first broken link."""
    if head is not None and not re.fullmatch(r"[0-9]{1,18}:[0-9a-f]{64}", head):
        raise cli.failed("--head: expected what this command prints, as position:hash")
    verdict = _run(verified())
    _refuse_broken(verdict)
    cli.out.print(f"intact; not sealed yet: {verdict.unsealed}", markup=False)
    cli.out.print(f"head {verdict.head}", markup=False)


def expire_audit(months: int, expired: Callable[[datetime], Coroutine[Any, Any, tuple[Verdict, Path | None]]]) -> None:
    """Remove the entries from before the last `months` calendar months, and print the name of the exported file."""
    now = datetime.now(UTC)
    year, month = divmod(now.year * 12 + now.month - 1 - months, 12)
    verdict, path = _run(expired(datetime(year, month + 1, 1, tzinfo=UTC)))
    _refuse_broken(verdict)
    cli.out.print(f"exported and removed: {path}" if path else "nothing has expired", markup=False)


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return asyncio.run(work)
    except (Unavailable, OSError) as error:
        raise cli.failed(str(error)) from None


def _refuse_broken(verdict: Verdict) -> None:
    if verdict.broken is not None:
        raise cli.failed(f"broken at {verdict.broken}", code=1)
