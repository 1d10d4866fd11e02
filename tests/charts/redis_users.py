"""The rules of the services' Redis users, as the chart and compose.yaml have them.

`python -m tests.charts.redis_users` writes them anew from services/standalone/redis_users.py.
"""

import textwrap
from pathlib import Path

from services.standalone.redis_users import SERVICES, acl_rules

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "charts/booking-platform/templates/_redis.tpl"
COMPOSE = ROOT / "compose.users.acl"
_BEGIN, _END = '{{- define "platform.redisRules" -}}\n', "{{- end }}\n"


def template() -> str:
    rules = {service: textwrap.wrap(acl_rules(service), 116, break_on_hyphens=False) for service in SERVICES}
    text = "".join(f"{service}: >-\n{textwrap.indent(chr(10).join(lines), '  ')}\n" for service, lines in rules.items())
    return TEMPLATE.read_text().split(_BEGIN)[0] + _BEGIN + text + _END


def compose() -> str:
    """Return the users of compose.yaml, whose passwords are public."""
    users = (f"user {service} on >{service} {acl_rules(service)}\n" for service in SERVICES)
    return "".join(["user default on >redis ~* &* +@all\n", *users])


if __name__ == "__main__":
    TEMPLATE.write_text(template())
    COMPOSE.write_text(compose())
