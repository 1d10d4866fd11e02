"""Names are sorted and searched without regard to accents; addresses have their domain in letters.

The older indexes stay for the previous release, which sorts and searches by them. A later revision drops them.
"""

import sqlalchemy as sa
from alembic import op

from services.auth.users.addresses import lookup_form

revision = "0011"
down_revision = "0010"

_FOLDED = (
    r"lower(replace(replace(replace(translate(regexp_replace(normalize({}, NFKD), '[\u0300-\u036f]', '', 'g'),"
    " 'łŁøØđĐħĦı', 'lLoOdDhHi'), 'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'))"
)


def upgrade(application_role: str) -> None:
    name, speciality = _FOLDED.format("fullname"), _FOLDED.format("speciality")
    searchable = _FOLDED.format(r"fullname || E'\n' || coalesce(speciality, '')")
    listed = "WHERE role = 'DOCTOR' AND status = 'ACTIVE'"
    op.execute(f"CREATE INDEX users_doctors_by_folded_name ON users (({name}), id) {listed}")
    op.execute(f"CREATE INDEX users_doctors_by_folded_speciality ON users (({speciality}), ({name}), id) {listed}")
    op.execute(
        f"CREATE INDEX users_doctors_not_listed_by_name ON users (status, ({name}), id)"
        " WHERE role = 'DOCTOR' AND status <> 'ACTIVE'"
    )
    op.execute(f"CREATE INDEX users_folded_search ON users USING gin (({searchable}) gin_trgm_ops)")
    _write_domains_in_letters()


def _write_domains_in_letters() -> None:
    connection = op.get_bind()
    for name in ("users", "mails"):
        table = sa.table(name, sa.column("id"), sa.column("email"))
        found = sa.select(table.c.id, table.c.email).where(table.c.email.contains("xn--"))
        for id, email in connection.execute(found).all():
            form = lookup_form(email)
            other = sa.select(table.c.id).where(table.c.email == form)
            if name == "users" and connection.scalar(other) is not None:
                continue  # two accounts of one address: the one that was found by letters keeps them
            connection.execute(sa.update(table).where(table.c.id == id).values(email=form))
