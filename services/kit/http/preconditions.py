"""`If-Match`: change an appointment only in the version that the client has seen (RFC 9110, section 13.1.1)."""

import re

from services.kit.errors import BadRequest, FieldError, PreconditionFailed

# A proxy that compresses marks the tag of what it sends: nginx makes it weak, Apache and Caddy add the coding.
_TAG = r'(?:W/)?"([\x21\x23-\x7e]*?)(?:-(?:gzip|br|zstd|deflate))?"'
_TAGS = re.compile(rf"[ \t,]*{_TAG}[ \t]*(?:,[ \t]*(?:{_TAG}[ \t]*)?)*")


class IfMatch:
    """Without a header, or with `*`, every version matches.

    The comparison is weak, though the RFC's is strong: the tag is a version, which says the same of any representation,
    and a client behind a compressing proxy has no other one to send. What does not exist yet has no version: then only
    a request without the header succeeds.
    """

    def __init__(self, header: str | None) -> None:
        self._tags: set[str] | None = None
        self._given = header is not None
        if header is None or header.strip(" \t") == "*":
            return
        if not _TAGS.fullmatch(header):
            raise BadRequest(errors=[FieldError("If-Match", 'Expected an ETag such as "3", or *')])
        self._tags = {f'"{tag}"' for tag in re.findall(_TAG, header)}

    def check(self, etag: str | None) -> None:
        """Raise `PreconditionFailed` unless this version matches; None is that of what does not exist."""
        if (self._given and etag is None) or (self._tags is not None and etag not in self._tags):
            raise PreconditionFailed
