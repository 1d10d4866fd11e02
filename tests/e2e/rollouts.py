"""Changes under load: versions, the schema, the number of replicas, passwords and keys."""

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import httpx

from tests.e2e.cluster import (
    CHART,
    IMAGES,
    ORIGIN,
    RELEASE,
    ROOT,
    SERVICES,
    STORES,
    Failed,
    build_image,
    helm,
    inside,
    kubectl,
    pods,
    ready,
    revision,
    rollback,
    secret,
    until,
    upgrade,
)
from tests.e2e.load import LOAD

_MIGRATIONS = ROOT / "services/booking/migrations"


def _names(*services: str) -> set[str]:
    return {pod["metadata"]["name"] for service in services for pod in pods(service)}


def an_upgrade_fails_no_request() -> str:
    before = {name: secret(name) for name in ("platform", *STORES)}
    names = _names(*SERVICES)
    with LOAD.running():
        # A value that differs from the last revision's, so that every pod is replaced.
        upgrade(*(f"{service}.shutdownSeconds={20 + int(revision())}" for service in SERVICES))
        until("two new pods of each service", lambda: all(ready(service, 2) for service in SERVICES))
    if names & _names(*SERVICES):
        raise Failed("a pod was not replaced")
    if before != {name: secret(name) for name in before}:
        raise Failed("the upgrade changed a generated secret")
    return LOAD.no_failures()


def a_rollback_fails_no_request() -> str:
    names = _names(*SERVICES)
    with LOAD.running():
        rollback(str(int(revision()) - 1))
        until("two pods of each service", lambda: all(ready(service, 2) for service in SERVICES))
    if names & _names(*SERVICES):
        raise Failed("a pod was not replaced")
    return LOAD.no_failures()


def scaling_to_three_and_back_fails_no_request() -> str:
    with LOAD.running():
        for replicas in (3, 2):
            upgrade(*(f"{service}.replicas={replicas}" for service in SERVICES))
            until(f"{replicas} pods of each service", lambda n=replicas: all(ready(service, n) for service in SERVICES))  # type: ignore[misc]
    return LOAD.no_failures()


def old_and_new_code_share_a_migrating_schema() -> str:
    """Roll out two releases with one more migration each: one adds a column to the busiest table, one drops it."""
    head, before = max(_MIGRATIONS.glob("0*.py")).name[:4], revision()
    expand = _revision("e2e_expand", head, "ALTER TABLE appointments ADD COLUMN e2e text NOT NULL DEFAULT ''")
    contract = _revision("e2e_contract", "e2e_expand", "ALTER TABLE appointments DROP COLUMN e2e")
    images = {
        "e2e_expand": _with_more_migrations("expand", expand),
        "e2e_contract": _with_more_migrations("contract", expand, contract),
    }
    try:
        with LOAD.running():
            for schema, image in images.items():
                _roll_side_by_side(image, schema)
            rollback(before)
            until("only old pods, on the newest schema", lambda: ready("booking", 2))
    finally:
        _sql(f"ALTER TABLE appointments DROP COLUMN IF EXISTS e2e; UPDATE alembic_version SET version_num = '{head}'")
    return LOAD.no_failures()


def _revision(name: str, after: str, statement: str) -> tuple[str, str]:
    return f"{name}.py", (
        f'from alembic import op\n\nrevision, down_revision = "{name}", "{after}"\n\n\n'
        f'def upgrade(application_role: str) -> None:\n    op.execute("{statement}")\n'
    )


@cache
def _with_more_migrations(tag: str, *revisions: tuple[str, str]) -> str:
    image = f"{IMAGES['booking']}-{tag}"
    with tempfile.TemporaryDirectory() as folder:
        for name, text in revisions:
            Path(folder, name).write_text(text)
        Path(folder, "Dockerfile").write_text(
            f"FROM scratch\nCOPY --from={IMAGES['booking']} / /\n"
            "COPY *.py /srv/services/booking/migrations/\nWORKDIR /srv\n"
            "ENV PATH=/srv/venv/bin:/usr/local/bin:/usr/bin:/bin HOST=0.0.0.0 PYTHONUNBUFFERED=1\n"
            'USER 10001:10001\nENTRYPOINT ["service"]\nCMD ["serve"]\n'
        )
        build_image(image, Path(folder))
    return image


def _roll_side_by_side(image: str, schema: str) -> None:
    """Let old pods and a new one serve together for a while before the rollout continues."""
    old = _names("booking")
    helm("upgrade", str(CHART), "--reuse-values", "--set", f"booking.image={image}")
    kubectl("rollout", "pause", f"deployment/{RELEASE}-booking")
    until("two old pods and a new one", lambda: ready("booking", 3))
    if not old < _names("booking"):
        raise Failed("an old pod was removed")
    if schema not in _sql("SELECT version_num FROM alembic_version"):
        raise Failed("the new pod was ready before its schema")
    time.sleep(5)
    kubectl("rollout", "resume", f"deployment/{RELEASE}-booking")
    until("only new pods", lambda: ready("booking", 2) and not old & _names("booking"))


def _sql(statement: str) -> str:
    (pod,) = pods("postgres")
    return inside(pod["metadata"]["name"], "postgres", f'psql -U postgres -d booking -tA -c "{statement}"')


def a_wrong_password_stops_a_rollout() -> str:
    # MongoDB's password, because a migration sets the passwords of PostgreSQL's application roles from their URLs.
    url = f"MONGODB_URL=mongodb://root:wrong@{RELEASE}-mongodb:27017/notification?authSource=admin"
    kubectl("delete", "secret", "wrong", "--ignore-not-found")
    kubectl("create", "secret", "generic", "wrong", "--from-literal", url)
    names, before = _names("notification"), revision()
    with LOAD.running():
        try:
            upgrade("notification.secretEnv.MONGODB_URL=wrong", timeout_seconds=40)
        except Failed:
            stopped = names <= _names("notification")
        else:
            stopped = False
        rollback(before)
        until("only old pods", lambda: ready("notification", 2))
    if not stopped:
        raise Failed("the rollout continued, or an old pod was removed")
    kubectl("delete", "secret", "wrong")
    return LOAD.no_failures()


def new_signing_keys_reject_no_token() -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "keys.json")
        path.write_text(secret("platform")["signing-keys.json"])
        environment = {**os.environ, "AUTH_SIGNING_KEYS_FILE": str(path)}
        subprocess.run([sys.executable, "-m", "services.auth", "rotate-keys"], cwd=ROOT, env=environment, check=True)
        new = json.loads(path.read_bytes())["keys"][-1]["kid"]
        data = {"signing-keys.json": base64.b64encode(path.read_bytes()).decode()}
    # In so many minutes a busy machine causes a few 503 answers. They say nothing about tokens.
    with LOAD.running(retry="unavailable"):
        kubectl("patch", "secret", f"{RELEASE}-platform", "--patch", json.dumps({"data": data}))

        def published() -> bool:
            document = httpx.get(f"{ORIGIN}/api/auth/.well-known/jwks.json", trust_env=False).raise_for_status()
            return new in {key["kid"] for key in document.json()["keys"]}

        began = time.monotonic()
        until("the new key is published", published, 150)
        seconds = time.monotonic() - began
        # The new key signs from five minutes after it was made; until then tokens of both keys are in use.
        while LOAD.signed_by() != {new}:
            if time.monotonic() > began + 400:
                raise Failed("the new key signs nothing")
            time.sleep(5)
            LOAD.sign_in()
    return f"published after {seconds:.0f} s; {LOAD.no_failures()}"
