"""The one form in which an e-mail address is stored, looked up, throttled and compared."""

from unicodedata import normalize

from services.kit.addresses import MalformedAddress, parse_address


def canonical(email: str) -> str:
    """Return the address in lower case and NFC, with its domain in letters and not as `xn--…`.

    Made here and never by the database: PostgreSQL's `lower()` and Python's differ on letters such as U+0130, so that
    an address written with one of them found the account, and was throttled as a different address.
    """
    return normalize("NFC", parse_address(email).normalized.lower())


def lookup_form(email: str) -> str:
    """Return the canonical form also of what sign-up would refuse today: such an account may exist."""
    try:
        return canonical(email)
    except MalformedAddress:
        return normalize("NFC", normalize("NFC", email).lower())
