"""TLS between the services, as a value of the chart."""

import base64
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.charts.rendering import EVERYTHING, HELMS, SERVICES, of_kind, pod_specs, render

TLS = ("global.internalTls=true",)
FILES = {
    "INTERNAL_CERTIFICATE_FILE": "/tls/tls.crt",
    "INTERNAL_KEY_FILE": "/tls/tls.key",
    "INTERNAL_AUTHORITY_FILE": "/tls/ca.crt",
}
ADDRESSES = {
    "auth": {"BOOKING_INTERNAL_URL": "test-booking:9000"},
    "booking": {
        "AUTH_INTERNAL_URL": "test-auth:9000",
        "JWKS_URL": "test-auth:9000/api/auth/.well-known/jwks.json",
    },
    "notification": {
        "AUTH_INTERNAL_URL": "test-auth:9000",
        "JWKS_URL": "test-auth:9000/api/auth/.well-known/jwks.json",
    },
}


@pytest.mark.parametrize("service", SERVICES)
def test_services_call_each_other_at_internal_ports_only_and_by_tls_where_it_is_on(service: str) -> None:
    for sets, scheme in (((), "http"), (TLS, "https")):
        (container,) = pod_specs(render(*sets))[f"Deployment/test-{service}"]["containers"]
        env = {variable["name"]: variable.get("value") for variable in container["env"]}
        addresses = {name: f"{scheme}://{address}" for name, address in ADDRESSES[service].items()}
        assert {name: value for name, value in env.items() if str(value).startswith("http")} == addresses
        files = {name for name in env if name.startswith("INTERNAL_")}
        assert files == (
            {"INTERNAL_CERTIFICATE_FILE", "INTERNAL_KEY_FILE", "INTERNAL_AUTHORITY_FILE"} if sets else set()
        )


@pytest.mark.parametrize("helm", HELMS)
def test_the_generated_certificates_are_for_their_service_and_of_one_authority(helm: str, tmp_path: Path) -> None:
    secrets = of_kind(render(*TLS, helm=helm), "Secret")
    authorities, keys = set(), set()
    for service in SERVICES:
        secret = secrets[f"test-{service}-tls"]
        assert secret["type"] == "kubernetes.io/tls"
        data = {key: base64.b64decode(value) for key, value in secret["data"].items()}
        certificate, authority = (x509.load_pem_x509_certificate(data[key]) for key in ("tls.crt", "ca.crt"))
        certificate.verify_directly_issued_by(authority)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        name = f"test-{service}"
        assert names.get_values_for_type(x509.DNSName) == [name, f"{name}.booking", f"{name}.booking.svc"]
        assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
        (tmp_path / "tls.crt").write_bytes(data["tls.crt"])
        (tmp_path / "tls.key").write_bytes(data["tls.key"])
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
        authorities.add(data["ca.crt"])
        keys.add(data["tls.key"])
    assert (len(authorities), len(keys)) == (1, 3)


def test_certificates_of_ones_own_replace_the_generated_ones() -> None:
    own = tuple(f"{service}.tlsSecret={service}-mine" for service in SERVICES)
    objects = render(*TLS, *own)
    assert not [name for name in of_kind(objects, "Secret") if name.endswith("-tls")]
    for service in SERVICES:
        volumes = pod_specs(objects)[f"Deployment/test-{service}"]["volumes"]
        (tls,) = (volume["secret"] for volume in volumes if volume["name"] == "tls")
        assert tls["secretName"] == f"{service}-mine"


def test_without_the_value_there_is_no_certificate() -> None:
    assert not [name for name in of_kind(render(), "Secret") if name.endswith("-tls")]


@pytest.mark.parametrize("service", SERVICES)
def test_prometheus_reads_metrics_by_tls_and_checks_the_service(service: str) -> None:
    monitor = of_kind(render(*EVERYTHING), "ServiceMonitor")[f"test-{service}"]["spec"]
    (endpoint,) = monitor["endpoints"]
    assert (endpoint["scheme"], endpoint["port"]) == ("https", "internal")
    assert endpoint["tlsConfig"] == {
        "serverName": f"test-{service}",
        "ca": {"secret": {"name": f"test-{service}-tls", "key": "ca.crt"}},
    }
    assert endpoint["relabelings"] == [{"targetLabel": "service", "replacement": service}]
    assert monitor["selector"]["matchLabels"]["app.kubernetes.io/name"] == service
