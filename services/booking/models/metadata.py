"""What all tables share."""

import sqlalchemy as sa

metadata = sa.MetaData()
INSTANT = sa.DateTime(timezone=True)


def integer(name: str, constraint: str, check: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, sa.CheckConstraint(check, name=constraint), nullable=False)
