"""The links of the audit trail's chain that were removed when they expired."""

from sqlalchemy import MetaData

from services.kit.postgres.migrations import create, grant
from services.kit.trail.tables import audit_tables

revision = "0005"
down_revision = "0004"


def upgrade(application_role: str) -> None:
    create(audit_tables(MetaData()).expiries)
    grant(application_role, "SELECT", "audit_expiries")
