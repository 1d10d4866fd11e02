"""The kinds of appointments that doctors offer."""

import sqlalchemy as sa

from services.booking.models.metadata import INSTANT, integer, metadata

# In the index' order the active types are what patients choose from.
appointment_types = sa.Table(
    "appointment_types",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("doctor_id", sa.Uuid, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column(
        "mode",
        sa.Text,
        sa.CheckConstraint("mode IN ('IN_PERSON', 'VIDEO', 'PHONE')", name="appointment_types_mode"),
        nullable=False,
    ),
    integer("duration_minutes", "appointment_types_duration", "duration_minutes BETWEEN 5 AND 480"),
    integer("buffer_before_minutes", "appointment_types_buffer_before", "buffer_before_minutes BETWEEN 0 AND 240"),
    integer("buffer_after_minutes", "appointment_types_buffer_after", "buffer_after_minutes BETWEEN 0 AND 240"),
    sa.Column("price", sa.Numeric(10, 2), sa.CheckConstraint("price >= 0", name="appointment_types_price")),
    sa.Column("description", sa.Text),
    sa.Column("requires_confirmation", sa.Boolean),  # null: as the doctor's schedule says
    sa.Column(
        "bookable_by",
        sa.Text,
        sa.CheckConstraint(
            "bookable_by IN ('EVERYONE', 'KNOWN_PATIENTS', 'STAFF')", name="appointment_types_bookable_by"
        ),
        nullable=False,
    ),
    sa.Column("join_url_template", sa.Text),
    sa.Column("active", sa.Boolean, nullable=False),
    integer("position", "appointment_types_position", "position BETWEEN 0 AND 9999"),
    integer("version", "appointment_types_version_positive", "version > 0"),
    sa.Column("created_at", INSTANT, nullable=False),
    sa.Column("updated_at", INSTANT, nullable=False),
    sa.CheckConstraint("join_url_template IS NULL OR mode = 'VIDEO'", name="appointment_types_join_url"),
    sa.Index("appointment_types_by_doctor", "doctor_id", "position", "id"),
)
