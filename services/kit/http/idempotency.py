"""The headers of an operation that answers a repeated request with its first response."""

from typing import Annotated

from litestar.datastructures import ResponseHeader
from litestar.params import HeaderParameter

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="1 to 255 visible ASCII characters. Repeating a request with its key returns the first "
        "response, byte for byte, for at least 24 hours",
    ),
]
REPLAYED = ResponseHeader(
    name="Idempotency-Replayed",
    description="`true` if this is the stored response to an earlier request with the same key",
    documentation_only=True,
)
