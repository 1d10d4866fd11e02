"""How pods start, are replaced and stop."""

import pytest
import yaml

from tests.charts.rendering import CHART, ROOT, SERVICES, containers, of_kind, pod_specs, render, secret_keys


def test_a_pods_connections_are_those_that_its_service_opens() -> None:
    declared = yaml.safe_load((CHART / "values.yaml").read_text())
    kit = (ROOT / "services/kit/postgres/database.py").read_text()
    auth = (ROOT / "services/auth/database.py").read_text()
    assert "max_connections: int = 20," in kit
    assert "\n_CONNECTIONS = 5\n" in auth
    # The pool and the relay; auth has a second pool.
    assert declared["booking"]["databaseConnections"] == 20 + 1
    assert declared["auth"]["databaseConnections"] == 20 + 1 + 5


@pytest.mark.parametrize("service", SERVICES)
def test_a_rollout_removes_no_pod_before_the_next_one_is_ready(service: str) -> None:
    deployment = of_kind(render(), "Deployment")[f"test-{service}"]["spec"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    (container,) = deployment["template"]["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/api/health"
    assert container["livenessProbe"]["httpGet"]["path"] == "/api/health/live"
    assert container["startupProbe"]["httpGet"]["path"] == "/api/health/live"


@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_has_longer_to_stop_than_its_server_needs(service: str) -> None:
    spec = pod_specs(render(f"{service}.shutdownSeconds=77"))[f"Deployment/test-{service}"]
    (container,) = spec["containers"]
    pre_stop = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert {"name": "SHUTDOWN_SECONDS", "value": "77"} in container["env"]
    assert pre_stop > 0
    assert spec["terminationGracePeriodSeconds"] >= pre_stop + 77 + 10


@pytest.mark.parametrize("service", SERVICES)
def test_autoscaling_and_a_fixed_number_of_pods_exclude_each_other(service: str) -> None:
    fixed = render(f"{service}.replicas=4")
    scaled = render(f"{service}.autoscaling.enabled=true", "postgres.maxConnections=500")
    name = f"test-{service}"
    assert of_kind(fixed, "Deployment")[name]["spec"]["replicas"] == 4
    assert name not in of_kind(fixed, "HorizontalPodAutoscaler")
    assert "replicas" not in of_kind(scaled, "Deployment")[name]["spec"]
    assert of_kind(scaled, "HorizontalPodAutoscaler")[name]["spec"]["scaleTargetRef"]["name"] == name
    assert of_kind(scaled, "PodDisruptionBudget")[name]["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("service", SERVICES)
def test_a_setting_is_one_line_of_values(service: str) -> None:
    objects = render(
        f"{service}.env.MAIL_FROM=us@example.com",
        f"{service}.secretEnv.SMTP_URL=smtp",
        f"{service}.secretEnv.OTHER=smtp/PASSWORD",
    )
    (container,) = pod_specs(objects)[f"Deployment/test-{service}"]["containers"]
    assert {"name": "MAIL_FROM", "value": "us@example.com"} in container["env"]
    assert {("smtp", "SMTP_URL"), ("smtp", "PASSWORD")} <= secret_keys(container)


def test_a_mail_leaves_by_tls_only_unless_an_operator_chooses_otherwise() -> None:
    (container,) = pod_specs(render())["Deployment/test-notification"]["containers"]
    assert {"name": "SMTP_TLS", "value": "required"} in container["env"]


def test_a_migration_that_runs_something_else_is_another_job() -> None:
    def names(*sets: str) -> set[str]:
        return {name for name in of_kind(render(*sets), "Job") if "booking-migrate" in name}

    assert names() == names("auth.replicas=3")
    assert not names() & names("global.image.tag=v2")


def test_migrations_and_services_trust_the_given_authorities() -> None:
    for name, spec in pod_specs(render("global.trustedCertificates=authorities")).items():
        container = spec["containers"][0]
        trusted = {v.get("value") for v in container.get("env", []) if v["name"] in {"PGSSLROOTCERT", "SSL_CERT_FILE"}}
        mounts = [mount["mountPath"] for mount in container.get("volumeMounts", []) if mount["name"] == "trusted"]
        ours = "Job/" in name or name.removeprefix("Deployment/test-") in SERVICES
        assert (trusted, mounts) == (({"/trusted/ca.crt"}, ["/trusted"]) if ours else (set(), [])), name


def test_expired_audit_entries_are_exported_to_a_claim_or_kept() -> None:
    assert of_kind(render(), "CronJob") == {}
    objects = render("global.auditExpiry.claim=files", "global.auditExpiry.retentionMonths=36")
    for service in SERVICES:
        job = of_kind(objects, "CronJob")[f"test-{service}-audit"]["spec"]
        assert (job["schedule"], job["concurrencyPolicy"]) == ("23 3 1 * *", "Forbid")
        spec = job["jobTemplate"]["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        assert container["args"] == ["expire-audit", "--export", "/export"]
        assert {"name": "export", "mountPath": "/export"} in container["volumeMounts"]
        assert {"name": "export", "persistentVolumeClaim": {"claimName": "files"}} in spec["volumes"]
        assert {"name": "AUDIT_RETENTION_MONTHS", "value": "36"} in container["env"]


def test_a_stores_new_rules_make_a_new_pod() -> None:
    (spec,) = (one["spec"]["template"] for one in of_kind(render(), "StatefulSet").values() if "redis" in str(one))
    assert len(spec["metadata"]["annotations"]["booking-platform/redis-rules"]) == 64
    assert containers(spec["spec"])[0]["args"][-2:] == ["--aclfile", "/etc/redis/users.acl"]
