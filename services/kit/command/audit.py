"""The command that verifies the audit trail's chain."""

import asyncio
import re
from collections.abc import Callable, Coroutine
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


def verify_audit(head: str | None, verified: Callable[[], Coroutine[Any, Any, Verdict]]) -> None:
    """Print the chain's head, or end the command with 1 and the first broken link."""
    if head is not None and not re.fullmatch(r"[0-9]{1,18}:[0-9a-f]{64}", head):
        raise cli.failed("--head: expected what this command prints, as position:hash")
    try:
        verdict = asyncio.run(verified())
    except Unavailable as error:
        raise cli.failed(str(error)) from None
    if verdict.broken is not None:
        raise cli.failed(f"broken at {verdict.broken}", code=1)
    cli.out.print(f"intact; not sealed yet: {verdict.unsealed}", markup=False)
    cli.out.print(f"head {verdict.head}", markup=False)
