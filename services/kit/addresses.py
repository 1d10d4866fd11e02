"""What an e-mail address is: for sign-up, for the mailer and for its own sender."""

import re
from email.headerregistry import Address

from email_validator import EmailNotValidError, ValidatedEmail, validate_email


class MalformedAddress(ValueError):
    """No e-mail address; the message says why and does not repeat it."""


def parse_address(text: str) -> ValidatedEmail:
    """Return the parts and forms of an address. Domains under `.test` are ones: nothing else has to be, without DNS."""
    try:
        return validate_email(text, check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        raise MalformedAddress(str(error)) from None


def wire_address(text: str, name: str = "") -> Address:
    """Return the address as servers take it: the domain as `xn--…`, because few know it otherwise.

    Only a local part that is not ASCII needs a server with SMTPUTF8 (RFC 6531).
    """
    found = parse_address(text)
    return Address(name, found.ascii_local_part or found.local_part, found.ascii_domain)


def parse_mailbox(text: str) -> Address:
    """Return an address with or without a display name before it, in which a comma or a dot needs no quotes.

    A name in quotes may have quotes and backslashes, each after a backslash (RFC 5322).
    """
    name, _, address = text.rpartition("<")
    if not address.endswith(">") or not name.strip():
        return wire_address(text)
    name = name.strip()
    if name.startswith('"'):
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    return wire_address(address[:-1], name)
