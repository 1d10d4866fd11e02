"""What people read: an event in the recipient's language, in their time zone and from their side."""

import re
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from services.contracts.enums import AppointmentStatus
from services.contracts.events import (
    AppointmentCancelled,
    AppointmentCreated,
    AppointmentEvent,
    AppointmentRescheduled,
    UserState,
)
from services.kit.errors import BadRequest
from services.kit.zones import zone


class Sentence(NamedTuple):
    """What the patient reads, and what the doctor does; `name` is that of the other one.

    `subject` is an e-mail's: it shows on locked screens and in other people's logs, and so names nobody.
    """

    subject: str
    patient: str
    doctor: str


class Content(NamedTuple):
    """An e-mail's content, whatever it is about; `language` is a tag such as `de`."""

    language: str
    subject: str
    paragraphs: tuple[str, ...]


class Language(NamedTuple):
    """Each sentence tells how things are, not what changed: it stays true where a note was added to a confirmed visit,
    and where an event is read late.
    """

    code: str
    weekdays: tuple[str, str, str, str, str, str, str]
    months: tuple[str, str, str, str, str, str, str, str, str, str, str, str]
    automatic: str
    moment: str
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


_ENGLISH = Language(
    code="en",
    weekdays=("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    months=(
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ),
    automatic="This message was sent automatically. Sign in to see the appointment.",
    moment="{weekday}, {day} {month} {year}, {time} ({zone})",
    requested=Sentence(
        "Appointment requested",
        "Your appointment with {name} on {start} is requested and not confirmed yet.",
        "An appointment with {name} on {start} is requested and awaits your confirmation.",
    ),
    booked=Sentence(
        "Appointment booked",
        "Your appointment with {name} on {start} is booked and confirmed.",
        "An appointment with {name} on {start} is booked and confirmed.",
    ),
    confirmed=Sentence(
        "Appointment confirmed",
        "Your appointment with {name} on {start} is confirmed.",
        "The appointment with {name} on {start} is confirmed.",
    ),
    completed=Sentence(
        "Appointment completed",
        "Your appointment with {name} on {start} is completed.",
        "The appointment with {name} on {start} is completed.",
    ),
    no_show=Sentence(
        "Appointment recorded as not attended",
        "Your appointment with {name} on {start} is recorded as not attended.",
        "The appointment with {name} on {start} is recorded as not attended.",
    ),
    updated=Sentence(
        "Appointment updated",
        "Your appointment with {name} on {start} was updated.",
        "The appointment with {name} on {start} was updated.",
    ),
    cancelled=Sentence(
        "Appointment cancelled",
        "Your appointment with {name} on {start} is cancelled.",
        "The appointment with {name} on {start} is cancelled.",
    ),
    unanswered=Sentence(
        "Appointment cancelled",
        "Your appointment with {name} on {start} is cancelled, because it was not confirmed in time.",
        "The appointment with {name} on {start} is cancelled, because it was not confirmed in time.",
    ),
    moved=Sentence(
        "Appointment moved",
        "Your appointment with {name} is moved from {previous} to {start}.",
        "The appointment with {name} is moved from {previous} to {start}.",
    ),
    moved_unconfirmed=Sentence(
        "Appointment moved",
        "Your appointment with {name} is moved from {previous} to {start}. It is not confirmed yet.",
        "The appointment with {name} is moved from {previous} to {start}. It awaits your confirmation.",
    ),
)

_GERMAN = Language(
    code="de",
    weekdays=("Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"),
    months=(
        "Januar",
        "Februar",
        "März",
        "April",
        "Mai",
        "Juni",
        "Juli",
        "August",
        "September",
        "Oktober",
        "November",
        "Dezember",
    ),
    automatic="Diese Nachricht wurde automatisch versandt. Melden Sie sich an, um den Termin zu sehen.",
    moment="{weekday}, {day}. {month} {year}, {time} Uhr ({zone})",
    requested=Sentence(
        "Termin angefragt",
        "Ihr Termin bei {name} am {start} ist angefragt und noch nicht bestätigt.",
        "Ein Termin mit {name} am {start} ist angefragt und wartet auf Ihre Bestätigung.",
    ),
    booked=Sentence(
        "Termin gebucht",
        "Ihr Termin bei {name} am {start} ist gebucht und bestätigt.",
        "Ein Termin mit {name} am {start} ist gebucht und bestätigt.",
    ),
    confirmed=Sentence(
        "Termin bestätigt",
        "Ihr Termin bei {name} am {start} ist bestätigt.",
        "Der Termin mit {name} am {start} ist bestätigt.",
    ),
    completed=Sentence(
        "Termin abgeschlossen",
        "Ihr Termin bei {name} am {start} ist abgeschlossen.",
        "Der Termin mit {name} am {start} ist abgeschlossen.",
    ),
    no_show=Sentence(
        "Termin als nicht wahrgenommen vermerkt",
        "Ihr Termin bei {name} am {start} ist als nicht wahrgenommen vermerkt.",
        "Der Termin mit {name} am {start} ist als nicht wahrgenommen vermerkt.",
    ),
    updated=Sentence(
        "Termin geändert",
        "Ihr Termin bei {name} am {start} wurde geändert.",
        "Der Termin mit {name} am {start} wurde geändert.",
    ),
    cancelled=Sentence(
        "Termin abgesagt",
        "Ihr Termin bei {name} am {start} ist abgesagt.",
        "Der Termin mit {name} am {start} ist abgesagt.",
    ),
    unanswered=Sentence(
        "Termin abgesagt",
        "Ihr Termin bei {name} am {start} ist abgesagt, weil er nicht rechtzeitig bestätigt wurde.",
        "Der Termin mit {name} am {start} ist abgesagt, weil er nicht rechtzeitig bestätigt wurde.",
    ),
    moved=Sentence(
        "Termin verschoben",
        "Ihr Termin bei {name} ist verschoben: von {previous} auf {start}.",
        "Der Termin mit {name} ist verschoben: von {previous} auf {start}.",
    ),
    moved_unconfirmed=Sentence(
        "Termin verschoben",
        "Ihr Termin bei {name} ist verschoben: von {previous} auf {start}. Er ist noch nicht bestätigt.",
        "Der Termin mit {name} ist verschoben: von {previous} auf {start}. Er wartet auf Ihre Bestätigung.",
    ),
)

_LANGUAGES = {"en": _ENGLISH, "de": _GERMAN}


def _rendered() -> list[tuple[re.Pattern[str], str]]:
    """Each sentence with what it is recognised by. A moment begins with a weekday, a name does not end with one."""
    found = []
    for language in _LANGUAGES.values():
        moment = f"(?:{'|'.join(language.weekdays)}), .+?"
        slots = {"name": "(?P<name>.+)", "start": f"(?P<start>{moment})", "previous": f"(?P<previous>{moment})"}
        for sentence in (field for field in language if isinstance(field, Sentence)):
            for template in (sentence.patient, sentence.doctor):
                pattern = re.escape(template)
                for slot, expression in slots.items():
                    pattern = pattern.replace(re.escape(f"{{{slot}}}"), expression)
                found.append((re.compile(pattern, re.DOTALL), template))
    return found


_RENDERED = _rendered()


def render(event: AppointmentEvent, recipient: UserState, other: UserState) -> str:
    """The message to `recipient`, one of the appointment's two people, about the appointment with `other`."""
    language = _language(recipient.locale)
    sentence = _sentence(event, language)
    template = sentence.doctor if recipient.id == event.doctor_id else sentence.patient
    previous = event.previous_starts_at if isinstance(event, AppointmentRescheduled) else event.starts_at
    local = _zone(recipient.time_zone)
    return template.format(
        name=other.full_name,
        start=_moment(event.starts_at.astimezone(local), language),
        previous=_moment(previous.astimezone(local), language),
    )


def renamed(message: str, name: str) -> str:
    """What `render` made at some time, with another name in it, whatever the name was then."""
    for pattern, template in _RENDERED:
        if found := pattern.fullmatch(message):
            return template.format(**{"previous": "", **found.groupdict(), "name": name})
    return name  # made by another release: better without the rest than with a name


def mail(event: AppointmentEvent, recipient: UserState, other: UserState) -> Content:
    """The same message as an e-mail."""
    language = _language(recipient.locale)
    subject = _sentence(event, language).subject
    return Content(language.code, subject, (render(event, recipient, other), language.automatic))


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
    """By the locale's language: `de-AT` is read as `de`, an unknown one as English."""
    return _LANGUAGES.get(locale.replace("_", "-").partition("-")[0].lower(), _ENGLISH)


def _zone(name: str) -> ZoneInfo:
    """UTC, which the message then names, for a zone that auth knows already and this version's tzdata does not."""
    try:
        return zone(name)
    except BadRequest:
        return zone("UTC")


def _moment(local: datetime, language: Language) -> str:
    """With the offset beside the zone's name, because one hour of autumn happens twice."""
    offset = local.isoformat()[-6:]
    name = str(local.tzinfo)
    return language.moment.format(
        weekday=language.weekdays[local.weekday()],
        day=local.day,
        month=language.months[local.month - 1],
        year=local.year,
        time=f"{local:%H:%M}",
        zone=name if name == "UTC" else f"{name}, UTC{offset}",
    )
