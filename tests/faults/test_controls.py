"""The negative controls follow the services: every name, statement and constraint that they replace exists."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.faults.controls import CONTROLS, Control
from tests.faults.matrix import ROWS
from tests.faults.rows import databases
from tests.faults.scenario import Scenario
from tests.support.program import completed

_SERVICES = ("auth", "booking", "notification")
_COMMANDS = {command for control in CONTROLS for command in control.commands.values()}
_COMMANDS |= {("tests.faults.patched", "clock300", f"services.{service}", "serve") for service in _SERVICES}
_IN_BOOKING = ("no exclusion constraint, no locks", "a watermark relay")


@pytest.mark.parametrize("command", sorted(_COMMANDS), ids=lambda command: f"{command[1]} {command[2]}")
def test_a_patch_fits_its_service(command: tuple[str, ...]) -> None:
    ended = completed(*command[:-1], "--help", environment={})
    assert ended.returncode == 0, ended.stderr
    assert "serve" in ended.stdout


@pytest.mark.parametrize("control", [one for one in CONTROLS if one.name in _IN_BOOKING], ids=lambda one: one.name)
async def test_the_sql_of_a_control_fits_the_schema(scenario: Scenario, control: Control) -> None:
    platform: Any = SimpleNamespace(execute=scenario.booking.execute)
    assert control.prepare is not None
    await control.prepare(platform)


async def test_the_triggers_of_row_14_fit_the_schema(scenario: Scenario) -> None:
    await scenario.booking.execute(databases.FAIL_AT_RANDOM)
    await scenario.booking.execute(databases.FAIL_NO_MORE)


def test_every_control_names_a_row() -> None:
    assert {control.row for control in CONTROLS} <= ROWS.keys()
