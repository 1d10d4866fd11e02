import signal
import subprocess
import sys

import pytest

from services.kit.failpoints import arm, failpoint
from services.kit.settings import ServiceSettings, SettingsError, load
from tests.kit.test_settings import GIVEN

PASSES = "from services.kit.failpoints import arm, failpoint; arm(*{!r}); failpoint('committed'); print('lives')"


@pytest.mark.parametrize(
    ("chances", "status"), [("committed=1", -signal.SIGKILL), ("committed=0", 0), ("handled=1", 0), ("", 0)]
)
def test_a_process_dies_where_it_was_told_to(chances: str, status: int) -> None:
    command = [sys.executable, "-c", PASSES.format((chances, "test"))]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (status, "lives\n" if status == 0 else ""), ended.stderr


def test_production_refuses_them_and_is_what_nobody_chose() -> None:
    settings = load(ServiceSettings, {**GIVEN, "FAILPOINTS": "committed=1"})
    with pytest.raises(SettingsError, match=r"^FAILPOINTS is for tests"):
        arm(settings.failpoints, settings.environment)
    failpoint("committed")


def test_an_unknown_one_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"^FAILPOINTS is malformed: expected names among committed,"):
        arm("commited=1", "test")


@pytest.mark.parametrize("chances", ["committed", "committed=2", "committed=1,", "COMMITTED=1", "committed=.5"])
def test_a_malformed_setting_is_named(chances: str) -> None:
    with pytest.raises(SettingsError, match=r"^FAILPOINTS is malformed: expected pairs"):
        load(ServiceSettings, {**GIVEN, "FAILPOINTS": chances})
