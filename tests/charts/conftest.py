from tests.charts.rendering import TOOLS

# Without the tools, which `make charts` downloads, there is nothing to render with.
collect_ignore_glob = [] if (TOOLS / "helm4").exists() else ["test_*.py"]
