"""What has to be worded in each language."""

from collections.abc import Mapping
from typing import NamedTuple

from services.notification.notifying.schemas import NotificationType


class Sentence(NamedTuple):
    """What the patient and the doctor read; `name` is the other one's.

    `subject` is an e-mail's. It names nobody, because it shows on locked screens and in the logs of mail servers.
    """

    subject: str
    patient: str
    doctor: str


class AccountText(NamedTuple):
    """A mail about an account. It quotes nothing that a user typed, names included.

    Anyone can sign up with another person's address, and would write to that person in our name. `message` is also what
    the list of notifications shows. `by_link` introduces a link and `by_code` the secret itself.
    """

    subject: str
    message: str
    by_link: str
    by_code: str
    otherwise: str


class Language(NamedTuple):
    """Sentences say how things are, not what changed.

    So they stay true when a note was added to a confirmed appointment, and when an event is handled late. `code` is the
    language's tag, such as `de`.
    """

    code: str
    weekdays: tuple[str, str, str, str, str, str, str]
    months: tuple[str, str, str, str, str, str, str, str, str, str, str, str]
    moment: str
    automatic: str
    sign_in: str
    usable_once: str
    accounts: Mapping[NotificationType, AccountText]
    requested: Sentence
    booked: Sentence
    confirmed: Sentence
    completed: Sentence
    no_show: Sentence
    updated: Sentence
    cancelled: Sentence
    unanswered: Sentence
    moved: Sentence
    moved_unconfirmed: Sentence
