"""The service with a web front end, which mails link to."""

from collections.abc import Callable
from functools import partial

import pytest

from services.contracts.enums import Role
from services.contracts.events import UserState
from services.kit.http.service import Service
from tests.notification.delivery.email.account_mails.mails import BASE
from tests.support.auth_stub import AuthStub


@pytest.fixture
def emailing(emailing: Callable[..., Service]) -> Callable[..., Service]:
    return partial(emailing, LINK_BASE_URL=BASE)


@pytest.fixture
def patient(auth: AuthStub) -> UserState:
    return auth.register(Role.PATIENT, "Bo Patient", time_zone="America/New_York")
