"""All tables of the service."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from advanced_alchemy.base import UUIDv7Base
from advanced_alchemy.mixins import AuditColumns
from advanced_alchemy.types import DateTimeUTC
from sqlalchemy.orm import Mapped, mapped_column

from services.contracts.enums import MailKind, Role, UserStatus
from services.kit.postgres.clean_up import Expiring
from services.kit.postgres.outbox import outbox_tables
from services.kit.trail.tables import audit_tables

ERASED_NAME = "Erased user"
ERASED_PASSWORD = "!"  # noqa: S105 - no hash, which fits no password


class Base(UUIDv7Base):
    """Has its own metadata, because all services may run in one process and each has an outbox."""

    __abstract__ = True
    metadata = sa.MetaData()
    _sentinel: Any = None  # a column of advanced-alchemy's for bulk inserts that leave their ids to the database


class User(AuditColumns, Base):
    """An account of any role. `version` counts the changes announced to other services; `pending_email` becomes `email`
    when its owner follows the link mailed to it. A `time_zone` that was not chosen is UTC, which nobody is shown.
    """

    __tablename__ = "users"
    __table_args__ = (
        sa.CheckConstraint("role IN ('PATIENT', 'DOCTOR', 'ADMIN')", name="users_role_known"),
        sa.CheckConstraint(
            "status IN ('ACTIVE', 'SUSPENDED') OR (status = 'PENDING' AND role = 'DOCTOR')", name="users_status_known"
        ),
        sa.CheckConstraint(
            "role = 'DOCTOR' OR (speciality IS NULL AND experience IS NULL AND consultation_fee IS NULL)",
            name="users_only_doctors_practise",
        ),
        sa.CheckConstraint("experience BETWEEN 0 AND 80", name="users_experience_in_years"),
        sa.CheckConstraint("consultation_fee >= 0", name="users_fee_not_negative"),
        sa.CheckConstraint("version > 0", name="users_version_positive"),
        sa.CheckConstraint(
            "erased_at IS NULL OR (status = 'SUSPENDED' AND email = id::text || '@erased.invalid'"
            f" AND fullname = '{ERASED_NAME}' AND password_hash = '{ERASED_PASSWORD}' AND email_verified_at IS NULL"
            " AND pending_email IS NULL"
            " AND phone IS NULL AND speciality IS NULL AND experience IS NULL AND consultation_fee IS NULL)",
            name="users_erased_is_nobody",
        ),
    )

    email: Mapped[str] = mapped_column(sa.Text)
    email_verified_at: Mapped[datetime | None] = mapped_column(DateTimeUTC(timezone=True))
    pending_email: Mapped[str | None] = mapped_column(sa.Text)
    password_hash: Mapped[str] = mapped_column(sa.Text)
    role: Mapped[Role] = mapped_column(sa.Text)
    status: Mapped[UserStatus] = mapped_column(sa.Text)
    fullname: Mapped[str] = mapped_column(sa.Text)
    time_zone: Mapped[str] = mapped_column(sa.Text)
    time_zone_chosen: Mapped[bool] = mapped_column(sa.Boolean, server_default=sa.true())
    locale: Mapped[str] = mapped_column(sa.Text)
    phone: Mapped[str | None] = mapped_column(sa.Text)
    speciality: Mapped[str | None] = mapped_column(sa.Text)
    experience: Mapped[int | None] = mapped_column(sa.SmallInteger)
    consultation_fee: Mapped[Decimal | None] = mapped_column(sa.Numeric(10, 2))
    version: Mapped[int] = mapped_column(sa.Integer)
    erased_at: Mapped[datetime | None] = mapped_column(DateTimeUTC(timezone=True))


class Session(Base):
    """A login. Its refresh tokens are one family: each is derived from the one before with `successor_key`.

    A reader of this table cannot derive a token, which also takes the present token, of which only a hash is stored.
    """

    __tablename__ = "sessions"
    __table_args__ = (sa.Index("sessions_by_user", "user_id"), sa.Index("sessions_by_expiry", "expires_at"))

    user_id: Mapped[UUID] = mapped_column(sa.ForeignKey("users.id", name="sessions_of_a_user", ondelete="CASCADE"))
    successor_key: Mapped[bytes] = mapped_column(sa.LargeBinary)
    created_at: Mapped[datetime] = mapped_column(DateTimeUTC(timezone=True), server_default=sa.func.now())
    last_used_at: Mapped[datetime] = mapped_column(DateTimeUTC(timezone=True), server_default=sa.func.now())
    expires_at: Mapped[datetime] = mapped_column(DateTimeUTC(timezone=True))
    user_agent: Mapped[str | None] = mapped_column(sa.Text)
    revoked_at: Mapped[datetime | None] = mapped_column(DateTimeUTC(timezone=True))


class RefreshToken(Base):
    """Spent tokens are kept as long as their session, because one that comes back reveals a theft."""

    __tablename__ = "refresh_tokens"
    __table_args__ = (
        sa.UniqueConstraint("token_hash", name="refresh_tokens_hash_unique"),
        sa.Index("refresh_tokens_by_session", "session_id"),
    )

    session_id: Mapped[UUID] = mapped_column(
        sa.ForeignKey("sessions.id", name="refresh_tokens_of_a_session", ondelete="CASCADE")
    )
    token_hash: Mapped[bytes] = mapped_column(sa.LargeBinary)
    rotated_at: Mapped[datetime | None] = mapped_column(DateTimeUTC(timezone=True))


class Mail(Base):
    """A mail to `email` with a link that can be used once. The link's secret is derived from the id by a key that the
    database does not have.
    """

    __tablename__ = "mails"
    __table_args__ = (
        sa.CheckConstraint(
            "kind IN ('PASSWORD_RESET', 'VERIFY_EMAIL', 'PASSWORD_CHANGED', 'EMAIL_CHANGED', 'MFA_ENABLED',"
            " 'MFA_DISABLED')",
            name="mails_kind_known",
        ),
        sa.Index("mails_by_user", "user_id"),
        sa.Index("mails_by_expiry", "expires_at"),
    )

    user_id: Mapped[UUID] = mapped_column(sa.ForeignKey("users.id", name="mails_of_a_user", ondelete="CASCADE"))
    kind: Mapped[MailKind] = mapped_column(sa.Text)
    email: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(DateTimeUTC(timezone=True), server_default=sa.func.now())
    expires_at: Mapped[datetime] = mapped_column(DateTimeUTC(timezone=True))
    used_at: Mapped[datetime | None] = mapped_column(DateTimeUTC(timezone=True))


class SecondFactor(Base):
    """The encrypted secret of a user's one-time codes, without effect until confirmed. Codes of `last_step` and before
    are used up.
    """

    __tablename__ = "second_factors"
    __table_args__ = (sa.UniqueConstraint("user_id", name="second_factors_one_each"),)

    user_id: Mapped[UUID] = mapped_column(
        sa.ForeignKey("users.id", name="second_factors_of_a_user", ondelete="CASCADE")
    )
    secret: Mapped[bytes] = mapped_column(sa.LargeBinary)
    created_at: Mapped[datetime] = mapped_column(DateTimeUTC(timezone=True), server_default=sa.func.now())
    confirmed_at: Mapped[datetime | None] = mapped_column(DateTimeUTC(timezone=True))
    last_step: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")


# Keyed hashes. A code is deleted when it is used.
recovery_codes = sa.Table(
    "recovery_codes",
    Base.metadata,
    sa.Column("factor_id", sa.Uuid, nullable=False),
    sa.Column("code_hash", sa.LargeBinary, nullable=False),
    sa.PrimaryKeyConstraint("factor_id", "code_hash", name="recovery_codes_pkey"),
    sa.ForeignKeyConstraint(
        ["factor_id"], ["second_factors.id"], name="recovery_codes_of_a_factor", ondelete="CASCADE"
    ),
)


THROTTLES_KEPT = timedelta(hours=1)
# Failures by account, device or network address, each as a keyed hash. A row is deleted after an hour without failures.
throttles = sa.Table(
    "throttles",
    Base.metadata,
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("subject", sa.LargeBinary, nullable=False),
    sa.Column("count", sa.Integer, sa.CheckConstraint("count > 0", name="throttles_count_positive"), nullable=False),
    sa.Column("blocked_until", DateTimeUTC(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint("scope", "subject", name="throttles_pkey"),
    sa.Index("throttles_by_age", "blocked_until"),
)

outbox, relay_state = outbox_tables(Base.metadata)
audit_log = audit_tables(Base.metadata).log

_tables = Base.metadata.tables
_sessions, _mails = _tables[Session.__tablename__], _tables[Mail.__tablename__]
EXPIRING = (
    Expiring(_sessions, _sessions.c.expires_at, parts=_tables[RefreshToken.__tablename__]),
    Expiring(_mails, _mails.c.expires_at),
    Expiring(throttles, throttles.c.blocked_until, kept=THROTTLES_KEPT),
)

users = User.__table__.c
is_listed = sa.and_(users.role == sa.literal_column("'DOCTOR'"), users.status == sa.literal_column("'ACTIVE'"))
is_not_listed = sa.and_(users.role == sa.literal_column("'DOCTOR'"), users.status != sa.literal_column("'ACTIVE'"))
# The keys by which doctors are sorted: ascending and never null, so that one row comparison continues a page. Doctors
# without experience, or without a fee, come last.


def folded(text: Any) -> Any:
    """Return the expression by which text is sorted and searched: without accents, in lower case.

    No collation of ICU, which not every build of PostgreSQL has (the embedded one has none), and no extension
    `unaccent`, whose function is not immutable: an index takes neither.
    """
    literal = sa.text  # no `literal_column`, in which an index would look for its table
    plain = sa.func.regexp_replace(
        sa.func.normalize(text, literal("NFKD")), literal(r"'[\u0300-\u036f]'"), literal("''"), literal("'g'")
    )
    plain = sa.func.translate(plain, literal("'łŁøØđĐħĦı'"), literal("'lLoOdDhHi'"))
    for letter, letters in (("ß", "ss"), ("æ", "ae"), ("œ", "oe")):
        plain = sa.func.replace(plain, literal(f"'{letter}'"), literal(f"'{letters}'"))
    return sa.func.lower(plain)


by_name = folded(users.fullname)
by_experience = sa.func.coalesce(-users.experience, sa.literal_column("1"))
by_fee = sa.func.coalesce(users.consultation_fee, sa.literal_column("100000000"))
by_speciality = folded(users.speciality)
# No search contains the line break, so that none matches the end of the name with the start of the speciality.
_name_and_speciality = (
    users.fullname + sa.literal_column("E'\\n'") + sa.func.coalesce(users.speciality, sa.literal_column("''"))
)
searchable = folded(_name_and_speciality)

sa.Index("users_email_canonical", users.email, unique=True)
sa.Index("users_email_unique", sa.func.lower(users.email), unique=True)  # by which the release before looks up
sa.Index("users_patients", users.id, postgresql_where=users.role == sa.literal_column("'PATIENT'"))
sa.Index("users_doctors_not_listed_by_name", users.status, by_name, users.id, postgresql_where=is_not_listed)
sa.Index("users_doctors_by_folded_name", by_name, users.id, postgresql_where=is_listed)
sa.Index("users_doctors_by_experience", by_experience, users.id, postgresql_where=is_listed)
sa.Index("users_doctors_by_fee", by_fee, users.id, postgresql_where=is_listed)
sa.Index("users_doctors_by_folded_speciality", by_speciality, by_name, users.id, postgresql_where=is_listed)
# By which the release before sorts and searches.
_lower_name, _lower_speciality = sa.func.lower(users.fullname), sa.func.lower(users.speciality)
sa.Index("users_doctors_not_listed", users.status, _lower_name, users.id, postgresql_where=is_not_listed)
sa.Index("users_doctors_by_name", _lower_name, users.id, postgresql_where=is_listed)
sa.Index("users_doctors_by_speciality", _lower_speciality, _lower_name, users.id, postgresql_where=is_listed)
for _name, _text in (("users_folded_search", searchable), ("users_search", _name_and_speciality)):
    sa.Index(_name, _text.label("searchable"), postgresql_using="gin", postgresql_ops={"searchable": "gin_trgm_ops"})
