import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from tests.charts import values_table
from tests.charts.rendering import (
    CHART,
    EVERYTHING,
    HELMS,
    OUTSIDE,
    ROOT,
    SERVICES,
    TOOLS,
    VALUES,
    Refused,
    of_kind,
    pod_specs,
    render,
    text,
)

MINORS = ("1.32", "1.33", "1.34")
# Kinds of others, of which the validator has no schema.
FOREIGN = {"HTTPRoute", "ServiceMonitor", "PrometheusRule"}


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("minor", MINORS)
def test_what_is_rendered_is_valid(minor: str, values: str, tmp_path: Path) -> None:
    sets = EVERYTHING if values == "default" else ()
    own = [one for one in render(*sets, values=VALUES[values]) if one["kind"] not in FOREIGN]
    own.append(yaml.safe_load((ROOT / "k8s/namespace.yaml").read_text()))
    rendered = tmp_path / "chart.yaml"
    rendered.write_text(yaml.safe_dump_all(own))
    command: list[str | Path] = [
        TOOLS / "python",
        TOOLS / "kubernetes-validate",
        "--strict",
        "--no-warn",
        "-k",
        f"{minor}.0",
        rendered,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("passed") == len(own)


def test_an_http_route_is_what_the_gateway_api_defines() -> None:
    (version,) = yaml.safe_load((ROOT / "tests/charts/crds/httproute.yaml").read_text())["spec"]["versions"]
    schema = closed(version["schema"]["openAPIV3Schema"])
    (route,) = of_kind(render(*EVERYTHING, "gateway.hostnames[0]=booking.example.com"), "HTTPRoute").values()
    jsonschema_rs.validate(schema, route)
    route["spec"]["rules"][0]["matches"][0]["paths"] = "misspelt"
    assert not jsonschema_rs.is_valid(schema, route)


def closed(schema: Any) -> Any:
    """The API server drops what a definition does not know; here it is an error."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    return (
        inner | {"additionalProperties": False} if schema.get("type") == "object" and "properties" in schema else inner
    )


def test_the_cluster_of_kind_reaches_the_controllers_ports_in_the_namespace_of_the_docs() -> None:
    cluster = yaml.safe_load((ROOT / "k8s/kind.yaml").read_text())
    (node,) = cluster["nodes"]
    service = of_kind(render(values=VALUES["dev"]), "Service")["test-ingress-nginx"]
    ports = {port["nodePort"]: port["port"] for port in service["spec"]["ports"]}
    assert {one["containerPort"]: one["hostPort"] for one in node["extraPortMappings"]} == ports
    assert cluster["name"] in (ROOT / "README.md").read_text().split("kind load docker-image", 1)[1].split("\n")[0]
    namespace = yaml.safe_load((ROOT / "k8s/namespace.yaml").read_text())
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("values", VALUES)
def test_helm_3_and_4_render_the_same(values: str) -> None:
    def comparable(helm: str) -> list[object]:
        # Secrets are random.
        return [one for one in render(values=VALUES[values], helm=helm) if one["kind"] != "Secret"]

    assert comparable("helm3") == comparable("helm4")


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize("wrong", ["nobody=1", "auth.replcias=2", "postgres.imagine=1", "auth.replicas=many"])
def test_an_unknown_or_malformed_value_is_refused(helm: str, wrong: str) -> None:
    with pytest.raises(Refused, match="schema"):
        text(wrong, helm=helm)


@pytest.mark.parametrize(
    ("sets", "sentence"),
    [
        (("postgres.enabled=false",), "say in global.existingSecrets.postgres"),
        (("booking.replicas=9",), "all pods together may open 293 connections"),
        (("auth.autoscaling.enabled=true", "auth.autoscaling.maxReplicas=20"), "raise it, or lower replicas"),
        (("ingress-nginx.enabled=false",), "say in ingress.className"),
        (("gateway.enabled=true",), "say in gateway.parentRefs"),
    ],
)
def test_what_cannot_work_is_refused_with_a_sentence(sets: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        text(*sets)


def test_the_connections_of_a_pod_are_those_that_the_services_open() -> None:
    declared = yaml.safe_load((CHART / "values.yaml").read_text())
    kit = (ROOT / "services/kit/postgres/database.py").read_text()
    auth = (ROOT / "services/auth/database.py").read_text()
    assert "max_connections: int = 20," in kit
    assert "\n_CONNECTIONS = 5\n" in auth
    # The pool and the relay; auth has a second pool.
    assert declared["booking"]["databaseConnections"] == 20 + 1
    assert declared["auth"]["databaseConnections"] == 20 + 1 + 5


@pytest.mark.parametrize("service", SERVICES)
def test_a_rollout_never_takes_a_pod_away_before_the_next_one_is_ready(service: str) -> None:
    deployment = of_kind(render(), "Deployment")[f"test-{service}"]["spec"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    (container,) = deployment["template"]["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/api/health"
    assert container["livenessProbe"]["httpGet"]["path"] == "/api/health/live"
    assert container["startupProbe"]["httpGet"]["path"] == "/api/health/live"


@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_has_longer_to_end_than_its_server_needs(service: str) -> None:
    spec = pod_specs(render(f"{service}.shutdownSeconds=77"))[f"Deployment/test-{service}"]
    (container,) = spec["containers"]
    pre_stop = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert {"name": "SHUTDOWN_SECONDS", "value": "77"} in container["env"]
    assert pre_stop > 0
    assert spec["terminationGracePeriodSeconds"] >= pre_stop + 77 + 10


@pytest.mark.parametrize("service", SERVICES)
def test_autoscaling_and_a_fixed_number_exclude_each_other(service: str) -> None:
    fixed, scaled = (
        render(f"{service}.replicas=4"),
        render(f"{service}.autoscaling.enabled=true", "postgres.maxConnections=500"),
    )
    name = f"test-{service}"
    assert of_kind(fixed, "Deployment")[name]["spec"]["replicas"] == 4
    assert name not in of_kind(fixed, "HorizontalPodAutoscaler")
    assert "replicas" not in of_kind(scaled, "Deployment")[name]["spec"]
    assert of_kind(scaled, "HorizontalPodAutoscaler")[name]["spec"]["scaleTargetRef"]["name"] == name
    assert of_kind(scaled, "PodDisruptionBudget")[name]["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("service", SERVICES)
def test_a_setting_is_one_line_of_values(service: str) -> None:
    objects = render(f"{service}.env.MAIL_FROM=us@example.com", f"{service}.secretEnv.SMTP_URL=smtp")
    env = pod_specs(objects)[f"Deployment/test-{service}"]["containers"][0]["env"]
    assert {"name": "MAIL_FROM", "value": "us@example.com"} in env
    assert {"name": "SMTP_URL", "valueFrom": {"secretKeyRef": {"name": "smtp", "key": "SMTP_URL"}}} in env


def test_a_migration_that_runs_something_else_is_another_job() -> None:
    def names(*sets: str) -> set[str]:
        return {name for name in of_kind(render(*sets), "Job") if "booking-migrate" in name}

    assert names() == names("auth.replicas=3")
    assert not names() & names("global.image.tag=v2")


def test_only_migrations_have_the_role_that_may_change_the_schema() -> None:
    for name, spec in pod_specs(render()).items():
        given = {variable["name"] for variable in spec["containers"][0]["env"] if "MIGRATION" in variable["name"]}
        assert bool(given) == (name.startswith(("Job/test-auth", "Job/test-booking")) or "postgres" in name), name


def test_migrations_and_services_trust_the_authorities_that_they_are_given() -> None:
    for name, spec in pod_specs(render("global.trustedCertificates=authorities")).items():
        container = spec["containers"][0]
        trusted = {v.get("value") for v in container.get("env", []) if v["name"] in {"PGSSLROOTCERT", "SSL_CERT_FILE"}}
        mounts = [mount["mountPath"] for mount in container.get("volumeMounts", []) if mount["name"] == "trusted"]
        ours = "migrate" in name or name.removeprefix("Deployment/test-") in {"auth", "booking", "notification"}
        assert (trusted, mounts) == (({"/trusted/ca.crt"}, ["/trusted"]) if ours else (set(), [])), name


# A value, where it shows, and that it shows nowhere without it.
@pytest.mark.parametrize(
    ("sets", "shows"),
    [
        (("global.image.registry=registry.example.com/b",), "image: registry.example.com/b/booking:0.1.0"),
        (("global.image.tag=v7",), "/notification:v7"),
        (("global.image.pullPolicy=Never",), "imagePullPolicy: Never"),
        (("global.liveUpdate=true",), "{name: code, mountPath: /srv/services}"),
        (("global.trustedCertificates=authorities",), "name: authorities"),
        (("global.imagePullSecrets[0]=pull",), "- name: pull"),
        (("auth.image=registry.example.com/auth@sha256:0",), "image: registry.example.com/auth@sha256:0"),
        (("auth.adminEmail=root@example.com",), 'value: "root@example.com"'),
        (("postgres.image=postgres:17",), "image: postgres:17"),
        (("postgres.maxConnections=333",), "max_connections=333"),
        (("redis.storage=3Gi",), "requests: {storage: 3Gi}"),
        (("mongodb.storageClassName=fast",), "storageClassName: fast"),
        (("mongodb.resources.limits.memory=3Gi",), "memory: 3Gi"),
        (("ingress-nginx.className=other",), "ingressClassName: other"),
        (("ingress-nginx.replicas=5",), "replicas: 5"),
        (("ingress-nginx.config.use-gzip=yes",), 'use-gzip: "yes"'),
        (("ingress-nginx.service.type=LoadBalancer",), "type: LoadBalancer"),
        (("ingress-nginx.service.httpNodePort=31111",), "nodePort: 31111"),
        (("ingress.host=booking.example.com",), "host: booking.example.com"),
        (("ingress.className=theirs",), "ingressClassName: theirs"),
        (("ingress.tls.secretName=tls",), "- secretName: tls"),
        (("ingress.tls.clusterIssuer=le",), "cert-manager.io/cluster-issuer: le"),
        (
            ("gateway.enabled=true", "gateway.parentRefs[0].name=gw", "gateway.hostnames[0]=b.example.com"),
            "- b.example.com",
        ),
        (("networkPolicy.metricsFrom[0].podSelector.matchLabels.app=prometheus",), "app: prometheus"),
        (("networkPolicy.ingressFrom[0].podSelector.matchLabels.app=traefik",), "app: traefik"),
        (("networkPolicy.egress.notification[0].ports[0].port=587",), "- port: 587"),
        (("monitoring.serviceMonitor.enabled=true", "monitoring.serviceMonitor.intervalSeconds=99"), "interval: 99s"),
        (("monitoring.dashboard.enabled=true", "monitoring.labels.release=prom"), "release: prom"),
        (("auth.preStopSeconds=9",), "sleep: {seconds: 9}"),
        (
            (
                "booking.autoscaling.enabled=true",
                "booking.autoscaling.cpuPercent=55",
                "booking.autoscaling.maxReplicas=4",
            ),
            "averageUtilization: 55",
        ),
    ],
)
def test_a_value_changes_what_it_says(sets: tuple[str, ...], shows: str) -> None:
    assert shows in text(*sets)
    assert shows not in text()


# What else than the default a value can be, where its type does not tell.
OTHERWISE: dict[str, object] = {
    "pullPolicy": "Never",
    "type": "LoadBalancer",
    "adminEmail": "root@example.com",
    "imagePullSecrets": ["pull"],
    "cidrs": ["10.0.0.0/8"],
    "parentRefs": [{"namespace": "other"}],
    "storage": "3Gi",
    "hostnames": ["booking.example.com"],
    "ingressFrom": [{"podSelector": {}}],
    "metricsFrom": [{"podSelector": {}}],
    "egress": {"auth": [{"ports": [{"port": 25}]}]},
    "env": {"LOG_LEVEL": "DEBUG"},
}


@pytest.mark.parametrize("path", values_table.paths())
def test_a_value_has_a_user(path: str) -> None:
    name, value = path.rpartition(".")[2], values_table.default(path)
    other = OTHERWISE.get(name)
    if other is None:
        other = not value if isinstance(value, bool) else value + 1000 if isinstance(value, int) else "changed"
        other = {"changed": "changed"} if isinstance(value, dict) else other
    assert any(changes(context, f"{path}={json.dumps(other)}") for context in ((), EVERYTHING, OUTSIDE))


def changes(context: tuple[str, ...], value: str) -> bool:
    """Or is refused with a sentence, as what goes beyond the connection budget is."""

    def documents(json: str = "") -> list[str]:
        # Secrets are random.
        return [one for one in text(*context, json=json).split("\n---\n") if "\nkind: Secret\n" not in one]

    try:
        return documents() != documents(value)
    except Refused as refused:
        return "schema" not in str(refused)


def test_every_value_is_explained_and_in_the_readmes_table() -> None:
    assert values_table.unexplained() == []
    assert values_table.written() == values_table.table(), "the table is old: python -m tests.charts.values_table"


def test_the_dashboard_is_json() -> None:
    (board,) = (
        one["data"]["booking-platform.json"]
        for name, one in of_kind(render(*EVERYTHING), "ConfigMap").items()
        if name == "test-dashboard"
    )
    assert len(json.loads(board)["panels"]) > 8
