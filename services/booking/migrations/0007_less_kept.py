"""History stores what a change changed; a stored answer tells whose data it has; erasure works in batches."""

from alembic import op

from services.kit.postgres.migrations import grant, run

revision = "0007"
down_revision = "0006"

# Only additions: the release before still writes and reads whole states, in `before` and `after`, and erases by
# `forget_typed_texts`, until its last process is gone.
_CHANGES = """
ALTER TABLE appointment_history ADD changes jsonb;
ALTER TABLE appointment_history ALTER after DROP NOT NULL;
ALTER TABLE appointment_history
    ADD CONSTRAINT appointment_history_has_changes CHECK (changes IS NOT NULL OR after IS NOT NULL);
ALTER TABLE idempotency_keys ADD people uuid[] NOT NULL DEFAULT '{}';
CREATE INDEX idempotency_keys_by_person ON idempotency_keys USING gin (people);
"""


def upgrade(application_role: str) -> None:
    run(_CHANGES)
    # Runs with its owner's rights: the service can erase what users typed, but cannot change what was done. Returns the
    # last row that it looked at, for the next call to continue after, or none at the end. LATERAL keeps the planner
    # from reading other patients' history in search of a last batch that is not full.
    op.execute("""
        CREATE FUNCTION forget_history(erased uuid, after_appointment uuid, after_version integer, batch integer)
        RETURNS TABLE (appointment_id uuid, version integer)
        LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
            WITH next AS (
                SELECT a.id AS appointment_id, h.version
                FROM (
                    SELECT id FROM appointments WHERE patient_id = erased AND id >= after_appointment ORDER BY id
                ) AS a CROSS JOIN LATERAL (
                    SELECT version FROM appointment_history
                    WHERE appointment_id = a.id
                        AND version > CASE WHEN a.id = after_appointment THEN after_version ELSE 0 END
                    ORDER BY version LIMIT batch
                ) AS h
                ORDER BY a.id, h.version LIMIT batch
            ), forgotten AS (
                UPDATE appointment_history AS h SET
                    before = h.before || jsonb_build_object('notes', NULL, 'cancellationReason', NULL),
                    after = h.after || jsonb_build_object('notes', NULL, 'cancellationReason', NULL),
                    changes = h.changes || (
                        SELECT coalesce(jsonb_object_agg(name, NULL), '{}')
                        FROM unnest(ARRAY['notes', 'cancellationReason']) AS name WHERE h.changes ? name
                    ),
                    reason = CASE WHEN h.actor_role = 'SYSTEM' THEN h.reason END
                FROM next WHERE h.appointment_id = next.appointment_id AND h.version = next.version
            )
            SELECT next.appointment_id, next.version FROM next
            ORDER BY next.appointment_id DESC, next.version DESC LIMIT 1
        $$
    """)
    op.execute("REVOKE ALL ON FUNCTION forget_history(uuid, uuid, integer, integer) FROM PUBLIC")
    grant(application_role, "EXECUTE", "FUNCTION forget_history(uuid, uuid, integer, integer)")
    # The release before erases by this function, also what the new one wrote.
    op.execute("""
        CREATE OR REPLACE FUNCTION forget_typed_texts(erased_patient uuid) RETURNS void
        LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
            UPDATE appointment_history AS h SET
                before = h.before || jsonb_build_object('notes', NULL, 'cancellationReason', NULL),
                after = h.after || jsonb_build_object('notes', NULL, 'cancellationReason', NULL),
                changes = h.changes || (
                    SELECT coalesce(jsonb_object_agg(name, NULL), '{}')
                    FROM unnest(ARRAY['notes', 'cancellationReason']) AS name WHERE h.changes ? name
                ),
                reason = CASE WHEN actor_role = 'SYSTEM' THEN reason END
            WHERE appointment_id IN (SELECT id FROM appointments WHERE patient_id = erased_patient)
        $$
    """)
