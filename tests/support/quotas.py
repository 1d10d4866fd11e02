"""The settings that let one account book, and get mails, as often and as much as a test needs."""

UNLIMITED = dict.fromkeys(
    (
        "PATIENT_BOOKINGS_PER_HOUR",
        "APPOINTMENT_WRITES_PER_HOUR",
        "OPEN_APPOINTMENTS_PER_PATIENT",
        "OPEN_HOURS_PER_PATIENT",
        "OPEN_APPOINTMENTS_PER_DOCTOR",
        "OPEN_HOURS_PER_DOCTOR",
        "UNVERIFIED_OPEN_APPOINTMENTS",
        "UNVERIFIED_OPEN_HOURS",
        "MAILS_PER_PAIR_AND_HOUR",
        "MAILS_PER_RECIPIENT_AND_HOUR",
    ),
    "0",
)
