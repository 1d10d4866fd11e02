"""Any request can be answered once: an answer may have no address and no version, and one call takes all the locks."""

from alembic import op

from services.kit.postgres.migrations import grant

revision = "0004"
down_revision = "0003"


def upgrade(application_role: str) -> None:
    op.execute("ALTER TABLE idempotency_keys ALTER location DROP NOT NULL, ALTER etag DROP NOT NULL")
    # A function, because each statement in it sees what was committed before that statement: the look-up must see the
    # answer of the request that held the lock until now. Two statements of the client would be two round trips.
    op.execute("""
        CREATE FUNCTION begin_request(
            request_lock bigint, locks bigint[], caller uuid, called_route text, given_key text,
            OUT locked boolean, OUT fingerprint bytea, OUT status smallint, OUT location text, OUT etag text,
            OUT body bytea
        ) LANGUAGE plpgsql AS $$
        #variable_conflict use_column
        BEGIN
            locked := pg_try_advisory_xact_lock(request_lock);
            IF NOT locked THEN
                RETURN;
            END IF;
            SELECT k.fingerprint, k.status, k.location, k.etag, k.body INTO fingerprint, status, location, etag, body
            FROM idempotency_keys AS k
            WHERE k.user_id = caller AND k.route = called_route AND k.key = given_key;
            IF NOT FOUND THEN
                PERFORM pg_advisory_xact_lock(lock) FROM unnest(locks) AS lock;
            END IF;
        END $$
    """)
    op.execute("REVOKE ALL ON FUNCTION begin_request(bigint, bigint[], uuid, text, text) FROM PUBLIC")
    grant(application_role, "EXECUTE", "FUNCTION begin_request(bigint, bigint[], uuid, text, text)")
