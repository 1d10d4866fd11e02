import signal
import subprocess
import sys

import pytest

from services.kit.failpoints import arm, failpoint
from services.kit.settings import ServiceSettings, SettingsError, load

_REQUIRED = {"REDIS_URL": "redis://127.0.0.1:6379/0"}
SCRIPT = "from services.kit.failpoints import arm, failpoint; arm(*{!r}); failpoint('committed'); print('lives')"


@pytest.mark.parametrize(
    ("chances", "status"), [("committed=1", -signal.SIGKILL), ("committed=0", 0), ("handled=1", 0), ("", 0)]
)
def test_a_process_dies_at_an_armed_failpoint(chances: str, status: int) -> None:
    command = [sys.executable, "-c", SCRIPT.format((chances, "test"))]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (status, "lives\n" if status == 0 else ""), ended.stderr


def test_failpoints_are_refused_in_production_which_is_the_default() -> None:
    settings = load(ServiceSettings, {**_REQUIRED, "FAILPOINTS": "committed=1"})
    with pytest.raises(SettingsError, match=r"^FAILPOINTS is for tests"):
        arm(settings.failpoints, settings.environment)
    failpoint("committed")


def test_an_unknown_failpoint_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"^FAILPOINTS is malformed: expected names among committed,"):
        arm("commited=1", "test")


@pytest.mark.parametrize("chances", ["committed", "committed=2", "committed=1,", "COMMITTED=1", "committed=.5"])
def test_a_malformed_setting_is_refused(chances: str) -> None:
    with pytest.raises(SettingsError, match=r"^FAILPOINTS is malformed: expected pairs"):
        load(ServiceSettings, {**_REQUIRED, "FAILPOINTS": chances})
