"""`If-Match`: change an appointment only in the version that the client has seen (RFC 9110, section 13.1.1)."""

import re

from services.kit.errors import BadRequest, FieldError, PreconditionFailed

_TAG = r'(?:W/)?"[\x21\x23-\x7e]*"'
_TAGS = re.compile(rf"[ \t]*{_TAG}(?:[ \t]*,[ \t]*{_TAG})*[ \t]*")


class IfMatch:
    """Without a header, or with `*`, every version matches. A weak tag matches none: the comparison is strong."""

    def __init__(self, header: str | None) -> None:
        self._tags: set[str] | None = None
        if header is None or header.strip() == "*":
            return
        if not _TAGS.fullmatch(header):
            raise BadRequest(errors=[FieldError("If-Match", 'Expected an ETag such as "3", or *')])
        self._tags = set(re.findall(_TAG, header))

    def check(self, etag: str) -> None:
        if self._tags is not None and etag not in self._tags:
            raise PreconditionFailed
