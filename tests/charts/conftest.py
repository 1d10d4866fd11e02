from tests.charts.rendering import TOOLS

# `make charts` downloads the tools; without them nothing can be rendered.
collect_ignore_glob = [] if (TOOLS / "helm4").exists() else ["test_*.py"]
