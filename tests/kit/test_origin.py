import pytest

from services.kit.origin import Origin


@pytest.mark.parametrize(
    ("hops", "forwarded_for", "address"),
    [
        (0, "", "192.0.2.1"),
        (0, "203.0.113.7", "192.0.2.1"),
        (1, "", "192.0.2.1"),
        (1, "203.0.113.7", "203.0.113.7"),
        (1, "198.51.100.1, 203.0.113.7", "203.0.113.7"),
        (2, "198.51.100.1, 203.0.113.7, 10.0.0.1", "203.0.113.7"),
        (2, "203.0.113.7", "192.0.2.1"),
        (1, "unknown", "192.0.2.1"),
        (1, ", ,", "192.0.2.1"),
        (1, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        (1, "::ffff:203.0.113.7", "203.0.113.7"),
    ],
)
def test_the_client_is_the_address_that_the_outermost_trusted_proxy_saw(
    hops: int, forwarded_for: str, address: str
) -> None:
    assert Origin("192.0.2.1", forwarded_for, hops).address == address
