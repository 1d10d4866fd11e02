"""The command that checks the audit trail's chain."""

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
        help="A head that was printed before, as position:hash. Without one the loss of the newest entries is not seen",
    ),
]


def verify_audit(head: str | None, verified: Callable[[], Coroutine[Any, Any, Verdict]]) -> None:
    """Ends with 1 at the first broken link, and else prints the head."""
    if head is not None and not re.fullmatch(r"[0-9]{1,18}:[0-9a-f]{64}", head):
        raise cli.failed("--head: expected what this command prints, as position:hash")
    try:
        verdict = asyncio.run(verified())
    except Unavailable as error:
        raise cli.failed(str(error)) from None
    if verdict.broken is not None:
        raise cli.failed(f"broken at {verdict.broken}", code=1)
    cli.out.print(f"whole; not sealed yet: {verdict.unsealed}", markup=False)
    cli.out.print(f"head {verdict.head}", markup=False)
