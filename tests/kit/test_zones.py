import zoneinfo

import pytest

from services.kit.errors import BadRequest
from services.kit.zones import TZDATA_VERSION, zone


def test_zones_are_read_from_the_pinned_package_and_not_from_the_host() -> None:
    assert zoneinfo.TZPATH == ()
    assert zone("Europe/Berlin").key == "Europe/Berlin"
    assert TZDATA_VERSION


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../../etc/passwd", "europe/berlin", "Europe/Berlin\x00"])
def test_an_unknown_zone_is_refused_with_the_name_of_its_field(name: str) -> None:
    with pytest.raises(BadRequest) as refused:
        zone(name, "timeZone")
    assert [error.path for error in refused.value.errors or []] == ["timeZone"]
