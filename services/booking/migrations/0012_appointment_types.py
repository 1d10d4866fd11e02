"""The kinds of appointments that doctors offer, and what an appointment keeps of the one that it was booked as."""

from services.kit.postgres.migrations import grant, run

revision = "0012"
down_revision = "0011"

# All columns of appointments may be null: the release before writes appointments without them.
_TABLES = """
CREATE TABLE appointment_types (
    id uuid NOT NULL CONSTRAINT appointment_types_pkey PRIMARY KEY,
    doctor_id uuid NOT NULL,
    name text NOT NULL,
    mode text NOT NULL CONSTRAINT appointment_types_mode CHECK (mode IN ('IN_PERSON', 'VIDEO', 'PHONE')),
    duration_minutes integer NOT NULL
        CONSTRAINT appointment_types_duration CHECK (duration_minutes BETWEEN 5 AND 480),
    buffer_before_minutes integer NOT NULL
        CONSTRAINT appointment_types_buffer_before CHECK (buffer_before_minutes BETWEEN 0 AND 240),
    buffer_after_minutes integer NOT NULL
        CONSTRAINT appointment_types_buffer_after CHECK (buffer_after_minutes BETWEEN 0 AND 240),
    price numeric(10, 2) CONSTRAINT appointment_types_price CHECK (price >= 0),
    description text,
    requires_confirmation boolean,
    bookable_by text NOT NULL
        CONSTRAINT appointment_types_bookable_by CHECK (bookable_by IN ('EVERYONE', 'KNOWN_PATIENTS', 'STAFF')),
    join_url_template text,
    active boolean NOT NULL,
    position integer NOT NULL CONSTRAINT appointment_types_position CHECK (position BETWEEN 0 AND 9999),
    version integer NOT NULL CONSTRAINT appointment_types_version_positive CHECK (version > 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT appointment_types_join_url CHECK (join_url_template IS NULL OR mode = 'VIDEO')
);
CREATE INDEX appointment_types_by_doctor ON appointment_types (doctor_id, position, id);
ALTER TABLE appointments
    ADD type_id uuid CONSTRAINT appointments_of_a_type REFERENCES appointment_types (id),
    ADD type_name text,
    ADD type_mode text,
    ADD type_price numeric(10, 2),
    ADD requires_confirmation boolean,
    ADD join_url text,
    ADD CONSTRAINT appointments_type_copied
        CHECK (type_id IS NULL OR (type_name IS NOT NULL AND type_mode IS NOT NULL));
CREATE INDEX appointments_by_type ON appointments (type_id) WHERE type_id IS NOT NULL;
"""


def upgrade(application_role: str) -> None:
    run(_TABLES)
    grant(application_role, "SELECT, INSERT, UPDATE, DELETE", "appointment_types")
