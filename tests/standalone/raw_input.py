"""Bytes and edges that generators of valid JSON do not make, for each place of a request that takes input."""

import base64
import json
from typing import Any
from urllib.parse import quote

Json = dict[str, Any]

_FAR = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-23:59")
# As JSON: the value of one field of a body, and what a cursor may hold.
VALUES = (
    *(json.dumps(instant).encode() for instant in _FAR),
    *(b'"0001-01-01T00:00:00Z"', b'"9999-12-31T23:59:59Z"', b'"2026-12-01T09:30:60Z"', b'"2026-12-01T09:30:00"'),
    *(b"9223372036854775808", b"-9223372036854775809", b"1" + b"0" * 400, b"1e400", b"-0.0", b"30.0", b"NaN"),
    *(b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xed\xa0\x80"', b'"\xff\xfe"', b'"\xc0\x80"', b'"\\u0000"'),
    *('"\u200b"'.encode(), '"\u202e"'.encode(), '"\ufdd0"'.encode(), '"\U0010ffff"'.encode(), b'""', b'" "'),
    *(b"null", b"true", b"[]", b"{}", b"[" * 500 + b"]" * 500, b'"' + b"x" * 20_000 + b'"'),
)
# In place of a whole body. The duplicate keys stand for whatever field the operation has.
BODIES = (
    *(b"", b" ", b"\x00", b"null", b"[]", b'"text"', b"{", b"{}}", b"nan", b"\xff\xfe", b"\xef\xbb\xbf{}"),
    *("{}".encode(form) for form in ("utf-16", "utf-16-le", "utf-32")),
    *(b'{"email": "\xff\xfe"}', b'{"\xff": 1}', b'{"\\ud800": 1}', b'{"a": 1, "a": 2}', b'{"": 1}'),
    *(b"[" * 30_000, b"[" * 30_000 + b"]" * 30_000, b'{"a":' * 10_000, b'{"a": 1e999}', b"1" + b"0" * 400),
)
# Percent-encoded, in a query string or a path. The last but one is `%` followed by no number.
ENCODED = (
    *("%FF%FE", "%ED%A0%80", "%C0%80", "%EF%BB%BF", "%00", "a%00b", "%2F..%2F", "%0D%0AX-Forged:%201"),
    *("9223372036854775808", "-9223372036854775809", "1" + "0" * 400, "1e400", "NaN", "-0", "30.0", "null", "%22"),
    *map(quote, (*_FAR, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "\u200b", "\u202e", "\U0010ffff")),
    *("[]", "%5B" * 500, "{}", "%zz", "x" * 5_000),
)
HEADERS = (
    *(b"", b"\xff\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbfx", b"\xe2\x80\xae", b"\x80", b"a\tb"),
    *(b"9223372036854775808", b"1" + b"0" * 400, b'"9223372036854775808"', b'"1' + b"0" * 4_000 + b'"', b"null"),
    *(b"Bearer \xff", b"Bearer a.b.c", b"0001-01-01T00:00:00+14:00", b"[" * 500, b"x" * 5_000, b",,;;==", b'"'),
)
COOKIES = (b"\xff=\xfe", b"a=\xed\xa0\x80", b"=", b";;;", b'a="', b"a=%FF", b"a=1; a=2", b"__Host-a=" + b"x" * 4_000)
# What every request may carry, beside the headers that its operation names.
COMMON_HEADERS = (
    *("Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Content-Type", "Cookie", "If-Match"),
    *("Idempotency-Key", "If-None-Match", "Origin", "Range", "User-Agent", "X-Forwarded-For", "X-Request-ID"),
    *("traceparent", "tracestate"),
)


def cursors(genuine: list[str]) -> list[str]:
    """Return `genuine` cursors, those with each of their values exchanged, and such as no list makes."""
    made = [*genuine, "@@", "a", "=", "e30", "%FF", "8J-YgA", "x" * 1_999]
    for cursor in genuine:
        position = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        values = position if isinstance(position, list) else [position]
        for index in range(len(values)):
            for value in VALUES:
                parts = [json.dumps(one).encode() for one in values]
                parts[index] = value
                made.append(_encoded(b"[" + b",".join(parts) + b"]" if isinstance(position, list) else parts[0]))
        made.append(_encoded(json.dumps(position).encode("utf-16")))
        made.append(_encoded(b"\xef\xbb\xbf" + json.dumps(position).encode()))
        made.append(cursor + "==")
    return [cursor for cursor in dict.fromkeys(made) if len(cursor) <= 2_000]


def fields_of(document: Json, operation: Json) -> tuple[Json, list[str]]:
    """Return the example of an operation's body, and the names of all its fields."""
    content = operation["requestBody"]["content"]["application/json"]
    name = content["schema"]["$ref"].rpartition("/")[2]
    return content.get("example", {}), list(document["components"]["schemas"][name]["properties"])


def with_value(example: Json, field: str, value: bytes) -> bytes:
    """Return the example as JSON, with `value` as it is in place of one field's."""
    others = [f"{json.dumps(name)}: {json.dumps(one)}".encode() for name, one in example.items() if name != field]
    return b"{" + b", ".join([*others, json.dumps(field).encode() + b": " + value]) + b"}"


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
