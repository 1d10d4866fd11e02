"""Every value: explained, in the README's table, and with a user."""

import json

import pytest

from tests.charts import values_table
from tests.charts.rendering import EVERYTHING, OUTSIDE, Refused, of_kind, render, text


# A value, and what it renders, which is not rendered without it.
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
        (("ingress.annotations.waf=guarded",), "waf: guarded"),
        (("ingress-nginx.namespace=edge",), "namespace: edge"),
        (
            ("global.corsOrigins[0]=https://a.test", "global.corsOrigins[1]=http://b.test:1"),
            "https://a.test,http://b.test:1",
        ),
        (("global.internalTls=true",), "https://test-auth:9000"),
        (
            ("global.tracing.endpoint=http://otel.test:4318",),
            'OTEL_EXPORTER_OTLP_ENDPOINT, value: "http://otel.test:4318"',
        ),
        (
            ("global.tracing.endpoint=http://otel.test:4318", "global.tracing.ratio=1"),
            'OTEL_TRACES_SAMPLER_ARG, value: "1"',
        ),
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
def test_a_value_changes_the_rendered_text(sets: tuple[str, ...], shows: str) -> None:
    assert shows in text(*sets)
    assert shows not in text()


# A value other than the default, where the type alone does not give one.
OTHERWISE: dict[str, object] = {
    "corsOrigins": ["https://app.example.com"],
    "endpoint": "https://collector.example.com",
    "ratio": 0.5,
    "tracingTo": [{"podSelector": {}}],
    "pullPolicy": "Never",
    "type": "LoadBalancer",
    "adminEmail": "root@example.com",
    "imagePullSecrets": ["pull"],
    "cidrs": ["10.0.0.0/8"],
    "apiServerCidrs": ["10.0.0.1/32"],
    "secretEnv": {"SMTP_URL": "smtp"},
    "migrateSecretEnv": {"SMTP_URL": "smtp"},
    "parentRefs": [{"namespace": "other"}],
    "storage": "3Gi",
    "hostnames": ["booking.example.com"],
    "ingressFrom": [{"podSelector": {}}],
    "metricsFrom": [{"podSelector": {}}],
    "egress": {"auth": [{"ports": [{"port": 25}]}]},
    "env": {"LOG_LEVEL": "DEBUG"},
    "tolerations": [{"key": "batch"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [],
    "adaptSecurityContext": "force",
    "smokeTest": {"nodeSelector": {"disk": "ssd"}},
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
    """Whether the value changes what is rendered, or is refused with a sentence, as too many connections are."""

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


@pytest.mark.parametrize("origin", ["*", "https://app.example.com/", "app.example.com", "ftp://app.example.com"])
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(Refused, match="corsOrigins"):
        render(f"global.corsOrigins[0]={origin}")


@pytest.mark.parametrize(
    "value",
    ["endpoint=collector:4318", "endpoint=http://user:pass@collector", "endpoint=grpc://c", "ratio=2", "ratio=-1"],
)
def test_a_malformed_tracing_value_is_refused(value: str) -> None:
    with pytest.raises(Refused, match="tracing"):
        render(f"global.tracing.{value}")


def test_a_services_own_variable_replaces_the_charts() -> None:
    sets = "global.tracing.endpoint=http://collector:4318", "auth.env.OTEL_TRACES_SAMPLER=parentbased_always_on"
    (container,) = of_kind(render(*sets), "Deployment")["test-auth"]["spec"]["template"]["spec"]["containers"]
    found = [(one["name"], one["value"]) for one in container["env"] if one["name"].startswith("OTEL_")]
    assert sorted(found) == [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_on"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.1"),
    ]
