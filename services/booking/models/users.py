"""What booking knows of auth's users, sessions and keys."""

import sqlalchemy as sa

from services.booking.models.metadata import INSTANT, metadata

# The projection of auth's users. `version` is auth's; `suspension_version` is the version of the last suspension whose
# appointments were kept or cancelled.
users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.Uuid, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("full_name", sa.Text, nullable=False),
    sa.Column("time_zone", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("email_verified", sa.Boolean),
    sa.Column("suspension_version", sa.Integer, nullable=False, server_default="0"),
    sa.PrimaryKeyConstraint("id", name="users_pkey"),
)

# Sessions that ended before their time, kept until their last access token has expired.
revoked_sessions = sa.Table(
    "revoked_sessions",
    metadata,
    sa.Column("session_id", sa.Uuid, nullable=False),
    sa.Column("expires_at", INSTANT, nullable=False),
    sa.PrimaryKeyConstraint("session_id", name="revoked_sessions_pkey"),
    sa.Index("revoked_sessions_by_expiry", "expires_at"),
)

# The last good key set of auth.
token_keys = sa.Table(
    "token_keys",
    metadata,
    sa.Column("id", sa.SmallInteger, sa.CheckConstraint("id = 1", name="token_keys_one_row"), nullable=False),
    sa.Column("document", sa.LargeBinary, nullable=False),
    sa.Column("saved_at", INSTANT, nullable=False, server_default=sa.func.now()),
    sa.PrimaryKeyConstraint("id", name="token_keys_pkey"),
)
