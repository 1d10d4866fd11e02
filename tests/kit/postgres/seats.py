"""A table with constraints, and statements on it."""

import sqlalchemy as sa

from services.kit.errors import Conflict
from services.kit.postgres.database import Database, Statement

DEFINITION = """
    CREATE TABLE seats (number int CONSTRAINT seats_number_unique UNIQUE DEFERRABLE INITIALLY IMMEDIATE,
                        guest uuid, note text, extra jsonb, CONSTRAINT seats_positive CHECK (number > 0))
"""
SEATS = sa.table("seats", sa.column("number", sa.Integer), sa.column("guest", sa.Uuid), sa.column("note", sa.Text))
TAKE = Statement(sa.insert(SEATS).values(number=sa.bindparam("number"), guest=sa.bindparam("guest")))
SEAT = Statement(sa.select(SEATS.c.number, SEATS.c.guest).where(SEATS.c.number == sa.bindparam("number")))


class SeatTaken(Conflict):
    code, title = "seat_taken", "The seat is taken"


CONSTRAINTS = {"seats_number_unique": SeatTaken}


async def ping(database: Database) -> None:
    async with database.connection() as connection:
        await connection.fetchval("SELECT 1")
