"""What people read: an event in the recipient's language, in their time zone and from their side."""

import re
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from services.contracts.enums import AppointmentStatus, MailKind
from services.contracts.events import (
    AppointmentCancelled,
    AppointmentCreated,
    AppointmentEvent,
    AppointmentRescheduled,
    UserState,
)
from services.contracts.mails import Mail
from services.kit.errors import BadRequest
from services.kit.zones import zone


class Sentence(NamedTuple):
    """What the patient reads, and what the doctor does; `name` is that of the other one.

    `subject` is an e-mail's: it shows on locked screens and in other people's logs, and so names nobody.
    """

    subject: str
    patient: str
    doctor: str


class Letter(NamedTuple):
    """What somebody reads who gets a secret. It names nobody and quotes nothing that was typed: whoever signs up with
    another's address would write to that person in our name.

    `message` is what is kept of it. `by_link` leads to a link, or `by_code` to the secret itself.
    """

    subject: str
    message: str
    by_link: str
    by_code: str
    unasked: str


class Content(NamedTuple):
    """An e-mail's content, whatever it is about; `language` is a tag such as `de`. `link` is one of the paragraphs."""

    language: str
    subject: str
    paragraphs: tuple[str, ...]
    link: str | None = None


class Language(NamedTuple):
    """Each sentence tells how things are, not what changed: it stays true where a note was added to a confirmed visit,
    and where an event is read late.
    """

    code: str
    weekdays: tuple[str, str, str, str, str, str, str]
    months: tuple[str, str, str, str, str, str, str, str, str, str, str, str]
    automatic: str
    automatic_letter: str
    moment: str
    good_until: str
    password_reset: Letter
    email_verification: Letter
    notices: dict[MailKind, Letter]
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
    automatic_letter="This message was sent automatically.",
    moment="{weekday}, {day} {month} {year}, {time} ({zone})",
    good_until="It is good for once, until {expiry}.",
    password_reset=Letter(
        "Choose a new password",
        "A new password was asked for, for the account with this e-mail address.",
        "To choose it, open this link:",
        "To choose it, enter this code:",
        "If it was not you who asked, do nothing: your password stays as it is.",
    ),
    email_verification=Letter(
        "Confirm your e-mail address",
        "This e-mail address was given for an account.",
        "To confirm that it is yours, open this link:",
        "To confirm that it is yours, enter this code:",
        "If it was not you who gave it, do nothing: it stays unconfirmed.",
    ),
    notices={
        kind: Letter(
            "Your account was changed",
            message,
            "If this was not you, open this link and choose a new password:",
            "If this was not you, enter this code and choose a new password:",
            "This takes the change back and ends all sessions. If it was you, do nothing.",
        )
        for kind, message in (
            (MailKind.PASSWORD_CHANGED, "The password of your account was changed."),
            (MailKind.EMAIL_CHANGED, "Another e-mail address was requested for your account."),
            (MailKind.MFA_ENABLED, "Signing in to your account now takes a one-time code."),
            (MailKind.MFA_DISABLED, "Signing in to your account no longer takes a one-time code."),
        )
    },
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
    automatic_letter="Diese Nachricht wurde automatisch versandt.",
    moment="{weekday}, {day}. {month} {year}, {time} Uhr ({zone})",
    good_until="Gültig für ein Mal, bis {expiry}.",
    password_reset=Letter(
        "Neues Passwort wählen",
        "Für das Konto mit dieser E-Mail-Adresse wurde ein neues Passwort angefordert.",
        "Um es zu wählen, öffnen Sie diesen Link:",
        "Um es zu wählen, geben Sie diesen Code ein:",
        "Wenn Sie das nicht waren, tun Sie nichts: Ihr Passwort bleibt, wie es ist.",
    ),
    email_verification=Letter(
        "E-Mail-Adresse bestätigen",
        "Diese E-Mail-Adresse wurde für ein Konto angegeben.",
        "Um zu bestätigen, dass sie Ihnen gehört, öffnen Sie diesen Link:",
        "Um zu bestätigen, dass sie Ihnen gehört, geben Sie diesen Code ein:",
        "Wenn Sie das nicht waren, tun Sie nichts: Sie bleibt unbestätigt.",
    ),
    notices={
        kind: Letter(
            "Ihr Konto wurde geändert",
            message,
            "Wenn Sie das nicht waren, öffnen Sie diesen Link und wählen Sie ein neues Passwort:",
            "Wenn Sie das nicht waren, geben Sie diesen Code ein und wählen Sie ein neues Passwort:",
            "Das nimmt die Änderung zurück und beendet alle Sitzungen. Wenn Sie es waren, tun Sie nichts.",
        )
        for kind, message in (
            (MailKind.PASSWORD_CHANGED, "Das Passwort Ihres Kontos wurde geändert."),
            (MailKind.EMAIL_CHANGED, "Für Ihr Konto wurde eine andere E-Mail-Adresse angefordert."),
            (MailKind.MFA_ENABLED, "Für die Anmeldung an Ihrem Konto wird jetzt ein Einmalcode verlangt."),
            (MailKind.MFA_DISABLED, "Für die Anmeldung an Ihrem Konto wird kein Einmalcode mehr verlangt."),
        )
    },
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


_LINKING = re.compile(r"([.:/@\\．。｡：／＠․])(?=\S)")


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
    """The same message as an e-mail, in which no name becomes a link."""
    other = replace(other, full_name=without_links(other.full_name))
    language = _language(recipient.locale)
    subject = _sentence(event, language).subject
    return Content(language.code, subject, (render(event, recipient, other), language.automatic))


def without_links(name: str) -> str:
    """Put a blank behind each character that mail programs look for, so that `evil.example` stays plain text."""
    return _LINKING.sub(r"\1 ", name)


def letter(mail: Mail, link: str | None) -> Content:
    """What auth wants sent, with `link` or, without one, with the secret itself."""
    language = _language(mail.locale)
    text = _letter(mail.kind, language)
    expiry = _moment(mail.expires_at.astimezone(_zone(mail.time_zone)), language)
    secret = (text.by_code, mail.token) if link is None else (text.by_link, link)
    until = language.good_until.format(expiry=expiry)
    paragraphs = (text.message, *secret, until, text.unasked, language.automatic_letter)
    return Content(language.code, text.subject, paragraphs, link)


def letter_message(kind: MailKind) -> str:
    """What is kept of a mail before anybody knows whom it is to, and so in English."""
    return _letter(kind, _ENGLISH).message


def _letter(kind: MailKind, language: Language) -> Letter:
    match kind:
        case MailKind.PASSWORD_RESET:
            return language.password_reset
        case MailKind.VERIFY_EMAIL:
            return language.email_verification
        case _:
            return language.notices[kind]


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
