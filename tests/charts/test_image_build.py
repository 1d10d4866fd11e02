"""The Dockerfile behind a mirror whose certificate an unknown authority signed, with a made-up service and package."""

import base64
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import uuid
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.charts.rendering import ROOT
from tests.support.certificates import server_certificate

BASE = "python:3.13-slim"
IN_THE_IMAGE = "a sentence of the installed package"


def docker(*command: str | Path) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"DOCKER_BUILDKIT": "1"}  # which engines before 23.0 do not choose themselves
    return subprocess.run(["docker", *command], capture_output=True, text=True, check=False, env=environment)


def mirror(folder: Path) -> str:
    """Write an index with one package, and return its hash as pip's requirements have it."""
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("mirrored.py", f"SENTENCE = {IN_THE_IMAGE!r}\n")
        archive.writestr("mirrored-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: mirrored\nVersion: 1\n")
        archive.writestr("mirrored-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("mirrored-1.dist-info/RECORD", "")
    page = folder / "simple/mirrored"
    page.mkdir(parents=True)
    (page / "mirrored-1-py3-none-any.whl").write_bytes(wheel.getvalue())
    (page / "index.html").write_text('<a href="mirrored-1-py3-none-any.whl">mirrored-1-py3-none-any.whl</a>')
    return f"sha256:{hashlib.sha256(wheel.getvalue()).hexdigest()}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """Yield a build context whose packages are in a mirror with TLS, and the file with the mirror's authority."""
    # Elsewhere than on Linux the engine is in a virtual machine, which does not reach this machine's localhost.
    if sys.platform != "linux" or shutil.which("docker") is None or docker("version").returncode:
        pytest.skip("no Docker engine runs on this machine")
    context, served = tmp_path_factory.mktemp("context"), tmp_path_factory.mktemp("served")
    tls, file = server_certificate(tmp_path_factory.mktemp("certificate"))
    authority = file.with_name("ca.pem")
    authority.write_text("-----BEGIN CERT" + file.read_text().partition("-----BEGIN CERT")[2])
    digest = mirror(served)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(served)))
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (context / "requirements").mkdir()
    index = f"--index-url https://localhost:{server.server_port}/simple/"
    (context / "requirements/trial.txt").write_text(f"{index}\nmirrored==1 --hash={digest}\n")
    (context / "requirements/opentelemetry.txt").touch()
    for package in ("", "kit", "contracts", "trial"):
        (context / "services" / package).mkdir(parents=True)
        (context / "services" / package / "__init__.py").touch()
    (context / "services/trial/__main__.py").write_text("import mirrored\n")
    shutil.copy(ROOT / "Dockerfile", context)
    yield context, authority
    server.shutdown()
    server.server_close()


def build(context: Path, tag: str, *options: str) -> "subprocess.CompletedProcess[str]":
    arguments = ("--build-arg", "SERVICE=trial", "--build-arg", f"BASE_IMAGE={BASE}", "--network", "host", "--no-cache")
    return docker("build", *arguments, *options, "--tag", tag, context)


def files(image: bytes) -> Iterator[bytes]:
    """Yield the content of every file of an archive, those of the archives inside it too, and its names."""
    content = gzip.decompress(image) if image.startswith(b"\x1f\x8b") else image
    if content[257:262] != b"ustar":
        yield content
        return
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            yield member.name.encode()
            opened = archive.extractfile(member) if member.isreg() else None
            if opened:
                yield from files(opened.read())


def test_pip_trusts_the_authorities_of_the_secret_and_no_image_contains_them(authority: tuple[Path, Path]) -> None:
    context, ca = authority
    tag = f"booking-platform-trial:{uuid.uuid4().hex}"
    without = build(context, tag)
    assert without.returncode, "the mirror is trusted without the secret"
    assert "CERTIFICATE_VERIFY_FAILED" in without.stdout + without.stderr
    done = build(context, tag, "--secret", f"id=ca,src={ca}")
    assert done.returncode == 0, done.stderr
    try:
        saved = subprocess.run(["docker", "save", tag], capture_output=True, check=True).stdout
    finally:
        docker("image", "rm", tag)
    contents = list(files(saved))
    assert any(IN_THE_IMAGE.encode() in one for one in contents)
    body = "".join(ca.read_text().split("-----")[2].split())
    for trace in (body[:60].encode(), base64.b64decode(body), b"run/secrets"):
        assert not any(trace in one for one in contents), trace
