"""The interactive API documents in a real browser that can reach no other host."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.standalone.browser import EXECUTABLE, Page, chromium, opened
from tests.standalone.people import admin
from tests.standalone.platform import Platform

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="Chromium is not installed")

CALLS = {
    "auth": "getOwnAccount",
    "booking": "listAppointments",
    "notification": "getNotificationStatistics",
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


def assert_local_and_without_errors(page: Page, platform: Platform) -> None:
    loaded = {url for url in page.requested if not url.startswith(("data:", "about:", "blob:"))}
    assert loaded
    assert {urlsplit(url).netloc for url in loaded} == {urlsplit(platform.url).netloc}
    assert page.errors == []


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("path", ["/api/docs", "/api/docs/errors"])
def test_a_page_for_integrators_fits_a_phone_and_a_desk(
    platform: Platform, browser: str, path: str, width: int
) -> None:
    with opened(browser, f"{platform.url}{path}") as page:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        page.call("Emulation.setDeviceMetricsOverride", **size)
        page.wait_for("document.querySelectorAll('h2').length > 5")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert page.evaluate("parseFloat(getComputedStyle(document.body).fontSize) >= 16")
        assert_local_and_without_errors(page, platform)


def test_the_type_of_a_problem_leads_to_its_section(platform: Platform, client: httpx.Client, browser: str) -> None:
    problem = client.get("/api/nothing").json()
    with opened(browser, f"{platform.url}{problem['type']}") as page:
        heading = page.wait_for("document.querySelector(':target h2')?.innerText")
        assert problem["code"] in heading


def test_the_index_leads_to_the_three_documents(platform: Platform, browser: str) -> None:
    with opened(browser, f"{platform.url}/api/docs") as page:
        page.wait_for("document.querySelectorAll('li').length === 3")
        page.click("a[href='/api/docs/booking']")
        page.wait_for("document.querySelectorAll('.opblock').length > 0")
        assert_local_and_without_errors(page, platform)


@pytest.mark.parametrize("service", CALLS)
def test_a_signed_in_call_is_made_from_the_page(
    platform: Platform, client: httpx.Client, browser: str, service: str
) -> None:
    token = admin(client, "admin@example.com", platform.admin_password).headers["Authorization"].split()[1]
    described = client.get(f"/api/docs/{service}/openapi.json").json()["paths"].values()
    call = f"[id$='-{CALLS[service]}']"
    with opened(browser, f"{platform.url}/api/docs/{service}") as page:
        page.wait_for(f"document.querySelectorAll('.opblock').length === {sum(map(len, described))}")
        # Open the operation first: Swagger UI resolves its references then, and answers "not found" to an earlier call.
        page.click(f"{call} .opblock-summary-control")
        page.wait_for(f"document.querySelectorAll(`{call} .responses-table tbody tr.response`).length > 2")
        page.click(".auth-wrapper .btn.authorize")
        page.type(".modal-ux input", token)
        page.click(".modal-ux button.authorize")
        page.click(".modal-ux button.btn-done")
        page.click(f"{call} button.execute")
        status = page.wait_for(
            f"document.querySelector(`{call} .live-responses-table tbody .response-col_status`)?.innerText"
        )
        assert status.split()[0] == "200"
        assert_local_and_without_errors(page, platform)
