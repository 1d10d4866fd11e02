"""Replicas whose clocks differ."""

import asyncio
from uuid import uuid4

from tests.faults.row import row
from tests.faults.run import Run

_CLOCK = "auth by another clock"


@row("20", "clocks differ by 5 minutes and by an hour")
async def skewed_clocks(run: Run) -> None:
    run.platform.people.forget_tokens()
    statuses = {20: 200, 300: 401, 3600: 401, -300: 200, -3600: 401}  # by the seconds that auth's clock is ahead
    for seconds, expected in statuses.items():
        async with run.fault(f"auth {seconds:+} s"):
            user_id, token = await _sign_up_by_a_clock(run, seconds)
        for service, path in (("booking", "/api/appointments"), ("notification", f"/api/notifications/{user_id}")):
            answer = await run.client.send(service, "GET", path, {"Authorization": f"Bearer {token}"})
            run.require(answer.status == expected, f"{service}, auth's clock {seconds:+} s: {answer.status}")
    commands = {"booking": _by_a_clock("booking", 300), "notification": _by_a_clock("notification", -300)}
    async with run.fault("booking +300 s, notification -300 s"):
        await run.configure(commands=commands)
        async with run.load():
            pass


def _by_a_clock(service: str, seconds: int) -> tuple[str, ...]:
    return ("tests.faults.patched", f"clock{seconds}", f"services.{service}", "serve")


async def _sign_up_by_a_clock(run: Run, seconds: int) -> tuple[str, str]:
    """Sign a patient up and in at one more replica of auth, and return the patient's id and access token."""
    deployment = run.platform.deployment
    environment = deployment.environment_of("auth")
    replica = deployment.launch(_CLOCK, *_by_a_clock("auth", seconds), **environment)
    try:
        await replica.ready()
        credentials = {"email": f"{uuid4().hex}@example.com", "password": "correct horse battery staple"}
        await run.client.send_to(replica, "/api/patients/signup", {"fullname": "Bo Example", **credentials})
        answer = await run.client.send_to(replica, "/api/patients/login", credentials)
    finally:
        del deployment.processes[_CLOCK]
        await asyncio.to_thread(replica.stop)
    return answer.json()["user"]["id"], answer.json()["accessToken"]
