"""The text of a notification: in the recipient's language and time zone, and from the recipient's side."""

import re
from datetime import datetime
from typing import NamedTuple
from unicodedata import bidirectional
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from services.contracts.enums import AppointmentStatus
from services.contracts.events import (
    AppointmentCancelled,
    AppointmentCreated,
    AppointmentEvent,
    AppointmentRescheduled,
    UserState,
)
from services.contracts.mails import Mail
from services.kit.errors import BadRequest
from services.kit.text import BIDI_CONTROLS
from services.kit.zones import zone
from services.notification.notifying.english import ENGLISH
from services.notification.notifying.german import GERMAN
from services.notification.notifying.language import Language, Sentence
from services.notification.notifying.rules import MAIL_TYPES
from services.notification.notifying.schemas import NotificationType

_LINKING = re.compile(r"([.:/@\\．。｡：／＠․])(?=\S)")
_BIDI_CONTROLS = re.compile(f"[{BIDI_CONTROLS}]")
_RIGHT_TO_LEFT = ("R", "AL", "AN")
_LANGUAGES = {language.code: language for language in (ENGLISH, GERMAN)}


class Content(NamedTuple):
    """What an e-mail says. `language` is a tag such as `de`; `link`, if any, is one of the paragraphs."""

    language: str
    subject: str
    paragraphs: tuple[str, ...]
    link: str | None = None


def appointment_message(event: AppointmentEvent, recipient: UserState, other: UserState) -> str:
    """Tell `recipient` about the appointment with `other`; the two are the event's patient and doctor."""
    language = _language(recipient.locale)
    sentence, name = _sentence(event, language), isolated(other.full_name)
    template = sentence.doctor if recipient.id == event.doctor_id else sentence.patient
    # The event has the doctor's zone, where the patient most likely is, too.
    local = _zone(recipient.time_zone if recipient.time_zone_chosen else event.time_zone)
    start = _moment(event.starts_at.astimezone(local), language)
    if not isinstance(event, AppointmentRescheduled):
        return template.format(name=name, start=start)
    previous = _moment(event.previous_starts_at.astimezone(local), language)
    return template.format(name=name, start=start, previous=previous)


def appointment_content(event: AppointmentEvent, recipient: UserState, other: UserState) -> Content:
    """Word the same message as an e-mail, in which no name becomes a link."""
    other = replace(other, full_name=without_links(other.full_name))
    language = _language(recipient.locale)
    paragraphs = (appointment_message(event, recipient, other), f"{language.automatic} {language.sign_in}")
    return Content(language.code, _sentence(event, language).subject, paragraphs)


def isolated(name: str) -> str:
    """Keep a name that is written from right to left from reordering the sentence around it.

    Names of before sign-up refused the controls for that may have some, of which one would end the isolation.
    """
    name = _BIDI_CONTROLS.sub("", name)
    return f"\u2068{name}\u2069" if any(bidirectional(letter) in _RIGHT_TO_LEFT for letter in name) else name


def without_links(name: str) -> str:
    """Put a space after each character that mail programs look for, so that `evil.example` stays plain text."""
    return _LINKING.sub(r"\1 ", name)


def account_message(type: NotificationType, locale: str) -> str:
    return _language(locale).accounts[type].message


def account_content(mail: Mail, link: str | None) -> Content:
    """Word a mail that auth wants sent, with `link` or, without one, with the secret itself."""
    language = _language(mail.locale)
    text = language.accounts[MAIL_TYPES[mail.kind]]
    secret = (text.by_code, mail.token) if link is None else (text.by_link, link)
    expiry = _moment(mail.expires_at.astimezone(_zone(mail.time_zone)), language)
    until = language.usable_once.format(expiry=expiry)
    paragraphs = (text.message, *secret, until, text.otherwise, language.automatic)
    return Content(language.code, text.subject, paragraphs, link)


def title(type: NotificationType, locale: str) -> str:
    """Say what kind of notification it is, without names and times."""
    language = _language(locale)
    match type:
        case NotificationType.APPOINTMENT_CREATED:
            return language.requested.subject
        case NotificationType.APPOINTMENT_UPDATED:
            return language.updated.subject
        case NotificationType.APPOINTMENT_CANCELLED:
            return language.cancelled.subject
        case NotificationType.APPOINTMENT_RESCHEDULED:
            return language.moved.subject
    return language.accounts[type].subject


def _sentence(event: AppointmentEvent, language: Language) -> Sentence:
    confirmed = event.status is AppointmentStatus.CONFIRMED
    match event:
        case AppointmentCreated():
            return language.booked if confirmed else language.requested
        case AppointmentRescheduled():
            return language.moved if confirmed else language.moved_unconfirmed
        case AppointmentCancelled():
            return language.unanswered if event.reason_code == "unanswered" else language.cancelled
    updates = {
        AppointmentStatus.CONFIRMED: language.confirmed,
        AppointmentStatus.COMPLETED: language.completed,
        AppointmentStatus.NO_SHOW: language.no_show,
        AppointmentStatus.CANCELLED: language.cancelled,
    }
    return updates.get(event.status, language.updated)


def _language(locale: str) -> Language:
    """Choose by the locale's language: `de-AT` reads German, an unknown language English."""
    return _LANGUAGES.get(locale.replace("_", "-").partition("-")[0].lower(), ENGLISH)


def _zone(name: str) -> ZoneInfo:
    """Return UTC, which the text then names, for a zone that auth's tzdata has and this version's has not."""
    try:
        return zone(name)
    except BadRequest:
        return zone("UTC")


def _moment(local: datetime, language: Language) -> str:
    """Name the offset beside the zone, because one hour of autumn happens twice."""
    name = str(local.tzinfo)
    return language.moment.format(
        weekday=language.weekdays[local.weekday()],
        day=local.day,
        month=language.months[local.month - 1],
        year=local.year,
        time=f"{local:%H:%M}",
        zone=name if name == "UTC" else f"{name}, UTC{local.isoformat()[-6:]}",
    )
