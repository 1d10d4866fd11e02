"""Addresses are stored in the form in which they are looked up, which the application makes.

The index on `lower(email)` stays for the previous release, which looks addresses up by it, knows its name in errors and
may still write other forms. A later revision repeats the updates, drops that index and checks the form.
"""

import sqlalchemy as sa
from alembic import op

from services.auth.users.addresses import lookup_form

revision = "0007"
down_revision = "0006"


def upgrade(application_role: str) -> None:
    connection = op.get_bind()
    for name in ("users", "mails"):
        table = sa.table(name, sa.column("id"), sa.column("email"))
        unlike = sa.or_(table.c.email != sa.func.lower(table.c.email), table.c.email.op("~")(sa.text("'[^ -~]'")))
        for id, email in connection.execute(sa.select(table.c.id, table.c.email).where(unlike)).all():
            if (form := lookup_form(email)) != email:
                connection.execute(sa.update(table).where(table.c.id == id).values(email=form))
    op.execute("CREATE UNIQUE INDEX users_email_canonical ON users (email)")
