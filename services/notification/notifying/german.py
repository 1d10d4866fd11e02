from services.notification.notifying.language import AccountText, Language, Sentence
from services.notification.notifying.schemas import NotificationType

GERMAN = Language(
    code="de",
    weekdays=("Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"),
    months=(
        *("Januar", "Februar", "März", "April", "Mai", "Juni"),
        *("Juli", "August", "September", "Oktober", "November", "Dezember"),
    ),
    moment="{weekday}, {day}. {month} {year}, {time} Uhr ({zone})",
    automatic="Diese Nachricht wurde automatisch versandt.",
    sign_in="Melden Sie sich an, um den Termin zu sehen.",
    usable_once="Er gilt nur einmal und nur bis {expiry}.",
    accounts={
        NotificationType.PASSWORD_RESET: AccountText(
            "Neues Passwort wählen",
            "Für das Konto mit dieser E-Mail-Adresse wurde ein neues Passwort angefordert.",
            "Um ein neues Passwort zu wählen, öffnen Sie diesen Link:",
            "Um ein neues Passwort zu wählen, geben Sie diesen Code ein:",
            "Wenn Sie das nicht waren, brauchen Sie nichts zu tun: Ihr Passwort bleibt unverändert.",
        ),
        NotificationType.EMAIL_VERIFICATION: AccountText(
            "E-Mail-Adresse bestätigen",
            "Diese E-Mail-Adresse wurde für ein Konto angegeben.",
            "Um zu bestätigen, dass sie Ihnen gehört, öffnen Sie diesen Link:",
            "Um zu bestätigen, dass sie Ihnen gehört, geben Sie diesen Code ein:",
            "Wenn Sie das nicht waren, brauchen Sie nichts zu tun: Die Adresse bleibt unbestätigt.",
        ),
        **{
            type: AccountText(
                "Ihr Konto wurde geändert",
                message,
                "Wenn Sie das nicht waren, öffnen Sie diesen Link und wählen Sie ein neues Passwort:",
                "Wenn Sie das nicht waren, geben Sie diesen Code ein und wählen Sie ein neues Passwort:",
                "Das nimmt die Änderung zurück und beendet alle Sitzungen. Wenn Sie es waren, tun Sie nichts.",
            )
            for type, message in (
                (NotificationType.PASSWORD_CHANGED, "Das Passwort Ihres Kontos wurde geändert."),
                (NotificationType.EMAIL_CHANGED, "Für Ihr Konto wurde eine andere E-Mail-Adresse angefordert."),
                (NotificationType.MFA_ENABLED, "Für die Anmeldung an Ihrem Konto wird jetzt ein Einmalcode verlangt."),
                (NotificationType.MFA_DISABLED, "Für die Anmeldung an Ihrem Konto wird kein Einmalcode mehr verlangt."),
            )
        },
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
        "Termin als versäumt vermerkt",
        "Ihr Termin bei {name} am {start} ist als versäumt vermerkt.",
        "Der Termin mit {name} am {start} ist als versäumt vermerkt.",
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
        "Ihr Termin bei {name} ist von {previous} auf {start} verschoben.",
        "Der Termin mit {name} ist von {previous} auf {start} verschoben.",
    ),
    moved_unconfirmed=Sentence(
        "Termin verschoben",
        "Ihr Termin bei {name} ist von {previous} auf {start} verschoben. Er ist noch nicht bestätigt.",
        "Der Termin mit {name} ist von {previous} auf {start} verschoben. Er wartet auf Ihre Bestätigung.",
    ),
)
