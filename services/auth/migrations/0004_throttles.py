"""How often something was tried."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade(application_role: str) -> None:
    op.execute("""
        CREATE TABLE throttles (
            scope text NOT NULL,
            subject bytea NOT NULL,
            count integer NOT NULL CONSTRAINT throttles_count_positive CHECK (count > 0),
            blocked_until timestamptz NOT NULL,
            CONSTRAINT throttles_pkey PRIMARY KEY (scope, subject)
        )
    """)
    op.execute("CREATE INDEX throttles_by_age ON throttles (blocked_until)")
    role = op.get_bind().dialect.identifier_preparer.quote_identifier(application_role)
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON throttles TO {role}")
