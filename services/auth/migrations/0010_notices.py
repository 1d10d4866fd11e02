"""Mails that report a change of the account."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade(application_role: str) -> None:
    op.execute("ALTER TABLE mails DROP CONSTRAINT mails_kind_known")
    op.execute("""
        ALTER TABLE mails ADD CONSTRAINT mails_kind_known CHECK (kind IN (
            'PASSWORD_RESET', 'VERIFY_EMAIL', 'PASSWORD_CHANGED', 'EMAIL_CHANGED', 'MFA_ENABLED', 'MFA_DISABLED'))
    """)
