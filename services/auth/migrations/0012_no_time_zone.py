"""A time zone that nobody chose is none.

`time_zone` stays `UTC` there, because the previous release takes it from every row and tells it to the other services.
"""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade(application_role: str) -> None:
    op.execute("ALTER TABLE users ADD COLUMN time_zone_chosen boolean NOT NULL DEFAULT true")
