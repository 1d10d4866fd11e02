"""The public workflow: what it runs is pinned, and what it publishes is scanned and signed."""

import re
from typing import Any

import yaml

from tests.charts.rendering import ROOT, SERVICES

TEXT = (ROOT / ".github/workflows/ci.yml").read_text()
JOBS: dict[str, Any] = yaml.safe_load(TEXT)["jobs"]
STEPS: list[dict[str, Any]] = JOBS["images"]["steps"]


def position(word: str) -> int:
    (found,) = (number for number, step in enumerate(STEPS) if word in str(step))
    return found


def test_every_action_is_pinned_by_its_commit_and_names_its_version() -> None:
    used = re.findall(r"uses: (\S+)(.*)", TEXT)
    assert len(used) == sum("uses" in step for job in JOBS.values() for step in job["steps"])
    for action, comment in used:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action


def test_every_tool_that_is_downloaded_has_one_version() -> None:
    for tool in re.findall(r"uvx (?:--from )?(\S+)", TEXT):
        assert re.search(r"(@|==)\d+\.\d+", tool), tool


def test_an_image_is_published_after_its_scan_only_and_is_signed_with_its_bill_of_materials() -> None:
    assert JOBS["images"]["strategy"]["matrix"]["service"] == list(SERVICES)
    assert set(JOBS["images"]["needs"]) == {"check", "controls", "supply-chain"}
    build, materials, scan, publish = (
        position(word) for word in ("build-push-action", "sbom-action", "scan-action", "docker push")
    )
    assert build < materials < scan < publish
    assert "push" not in STEPS[build]["with"]
    image = STEPS[build]["with"]["tags"]
    # Of the image, not of a requirements file: Debian's packages are in it.
    assert (STEPS[materials]["with"]["image"], STEPS[materials]["with"]["format"]) == (image, "cyclonedx-json")
    assert STEPS[scan]["with"]["sbom"] == STEPS[materials]["with"]["output-file"]
    assert (STEPS[scan]["with"]["fail-build"], STEPS[scan]["with"]["severity-cutoff"]) == (True, "high")
    assert not any("if" in STEPS[number] for number in (build, materials, scan))
    script = STEPS[publish]["run"]
    assert 'docker tag "scanned:' in script
    assert 'cosign sign --yes "$pushed"' in script
    assert "cosign attest --yes --type cyclonedx" in script
    assert '"$IMAGE@"' in script  # by digest, never by a tag
    assert JOBS["images"]["permissions"]["id-token"] == "write"


def test_the_fault_tests_are_tested_by_platforms_that_they_must_find_out() -> None:
    assert any("make faults CONTROLS=1" in step.get("run", "") for step in JOBS["controls"]["steps"])
    assert "if" not in JOBS["controls"]


def test_known_vulnerabilities_insecure_code_and_secrets_fail_the_workflow() -> None:
    script = str(JOBS["supply-chain"]["steps"])
    for tool in ("pip-audit", "bandit", "detect-secrets-hook"):
        assert tool in script
    assert "continue-on-error" not in TEXT
    assert "|| true" not in TEXT
