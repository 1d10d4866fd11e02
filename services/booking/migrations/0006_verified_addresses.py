"""The users' projection tells whether an e-mail address is verified; rows from before do not know."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade(application_role: str) -> None:
    op.execute("ALTER TABLE users ADD email_verified boolean")
