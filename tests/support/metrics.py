"""Reading a page of metrics in Prometheus' text format."""


def samples(page: str) -> dict[str, float]:
    """Return each sample's value by its name and labels, as the page writes them."""
    lines = (line.rpartition(" ") for line in page.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def total(page: str, prefix: str) -> float:
    """Add up the samples whose name and labels start with `prefix`."""
    return sum(value for name, value in samples(page).items() if name.startswith(prefix))
