"""Book an appointment in the release and wait for both people's notifications.

The appointment is cancelled and the doctor suspended afterwards, and both stay in the databases.
"""

import os
import secrets
import time
from datetime import UTC, datetime, timedelta

import httpx

RELEASE = os.environ["RELEASE"]


def service(name: str) -> httpx.Client:
    return httpx.Client(base_url=f"http://{RELEASE}-{name}:8000/api", timeout=10, trust_env=False)


auth, booking, notification = service("auth"), service("booking"), service("notification")


def call(client: httpx.Client, method: str, path: str, token: str = "", **body: object) -> dict:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    response = client.request(method, path, headers=headers, json=body or None)
    print(method, response.url, response.status_code)
    if response.is_error:
        raise SystemExit(response.text)
    return response.json()


def join(kind: str, **details: object) -> tuple[str, str]:
    """Sign up and sign in; return the account's id and access token."""
    email, password = f"smoke-{secrets.token_hex(6)}@example.com", secrets.token_urlsafe(24)
    user = call(auth, "POST", f"/{kind}/signup", email=email, password=password, **details)
    return user["id"], call(auth, "POST", f"/{kind}/login", email=email, password=password)["accessToken"]


admin = call(auth, "POST", "/auth/login", email=os.environ["ADMIN_EMAIL"], password=os.environ["ADMIN_PASSWORD"])[
    "accessToken"
]
doctor, doctor_token = join(
    "doctors", fullname="Smoke Test", speciality="Smoke test", experience=1, consultationFee="0.00", timeZone="UTC"
)
if call(auth, "GET", "/auth", doctor_token)["status"] == "PENDING":
    call(auth, "POST", f"/doctors/{doctor}/approve", admin)
try:
    patient, patient_token = join("patients", fullname="Smoke Test")
    start = (datetime.now(UTC) + timedelta(days=7)).replace(minute=0, second=0, microsecond=0)
    deadline = time.monotonic() + 30
    while True:  # booking learns of the approval by an event
        appointment = booking.post(
            "/appointments",
            headers={"Authorization": f"Bearer {patient_token}"},
            json={"doctorId": doctor, "dateTime": start.isoformat()},
        )
        print("POST", appointment.url, appointment.status_code)
        if appointment.status_code == 201:
            break
        if time.monotonic() > deadline:
            raise SystemExit(appointment.text)
        time.sleep(0.5)
    call(booking, "PATCH", f"/appointments/{appointment.json()['id']}", patient_token, status="CANCELLED")
    for person, token in ((patient, patient_token), (doctor, doctor_token)):
        while len(call(notification, "GET", f"/notifications/{person}", token)["items"]) < 2:
            if time.monotonic() > deadline:
                raise SystemExit("no notification within 30 s")
            time.sleep(0.5)
finally:
    call(auth, "POST", f"/doctors/{doctor}/suspend", admin)
print("booked, cancelled, notified")
