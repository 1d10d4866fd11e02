"""Addresses are stored in the form in which they are looked up, which the application makes."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade(application_role: str) -> None:
    op.execute("UPDATE users SET email = lower(email) WHERE email <> lower(email)")
    op.execute("UPDATE mails SET email = lower(email) WHERE email <> lower(email)")
    op.execute("DROP INDEX users_email_unique")
    op.execute("CREATE UNIQUE INDEX users_email_unique ON users (email)")
    op.execute("ALTER TABLE users ADD CONSTRAINT users_email_canonical CHECK (email !~ '[A-Z]')")
