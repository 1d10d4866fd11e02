"""One-time codes as a second factor, and recovery codes."""

from alembic import op

from services.kit.postgres.migrations import grant

revision = "0005"
down_revision = "0004"


def upgrade(application_role: str) -> None:
    op.execute("""
        CREATE TABLE second_factors (
            id uuid PRIMARY KEY,
            user_id uuid NOT NULL CONSTRAINT second_factors_one_each UNIQUE
                CONSTRAINT second_factors_of_a_user REFERENCES users (id) ON DELETE CASCADE,
            secret bytea NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            confirmed_at timestamptz,
            last_step bigint NOT NULL DEFAULT 0
        )
    """)
    op.execute("""
        CREATE TABLE recovery_codes (
            factor_id uuid NOT NULL CONSTRAINT recovery_codes_of_a_factor
                REFERENCES second_factors (id) ON DELETE CASCADE,
            code_hash bytea NOT NULL,
            CONSTRAINT recovery_codes_pkey PRIMARY KEY (factor_id, code_hash)
        )
    """)
    grant(application_role, "SELECT, INSERT, UPDATE, DELETE", "second_factors", "recovery_codes")
