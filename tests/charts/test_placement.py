"""Where pods run, what they carry, and with which ids: values that reach every pod of the chart."""

import json
import re
from typing import Any

import pytest

from tests.charts.rendering import EVERYTHING, SERVICES, STORES, Object, Refused, pods, render

PARTS = (*SERVICES, *STORES, "ingress-nginx", "smokeTest")
SERVICE_PODS = ("Deployment/test-{}", "Job/test-{}-migrate", "CronJob/test-{}-audit")
SPREAD = {"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}
TAINT = {"key": "batch", "operator": "Exists"}
AFFINITY: Object = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "rack"}]}}
# A value of every part, and where a pod has it.
VALUES: dict[str, tuple[Any, str, Any]] = {
    "imagePullSecrets": (["pull"], "spec.imagePullSecrets", [{"name": "pull"}]),
    "nodeSelector": ({"disk": "ssd"}, "spec.nodeSelector", {"disk": "ssd"}),
    "tolerations": ([TAINT], "spec.tolerations", [TAINT]),
    "affinity": (AFFINITY, "spec.affinity", AFFINITY),
    "topologySpreadConstraints": (
        [{**SPREAD, "labelSelector": {}}],
        "spec.topologySpreadConstraints",
        [{**SPREAD, "labelSelector": {}}],
    ),
    "priorityClassName": ("high", "spec.priorityClassName", "high"),
    "podLabels": ({"team": "clinic"}, "metadata.labels.team", "clinic"),
    "podAnnotations": ({"example.com/scan": "yes"}, "metadata.annotations.example.com/scan", "yes"),
}
IDS = {"runAsUser", "runAsGroup", "fsGroup", "supplementalGroups"}


def rendered(*sets: str, **values: object) -> dict[str, Object]:
    """Return every pod that the chart can make, without the hashes of their names; `values` by part."""
    json_values = ",".join(f"{path}={json.dumps(value)}" for path, value in values.items())
    found = pods(render(*EVERYTHING, "global.liveUpdate=true", *sets, json=json_values))
    return {re.sub("-migrate-[0-9a-f]{8}$", "-migrate", name): pod for name, pod in found.items()}


ALL = rendered()


def found(pod: Object, path: str) -> Any:
    """Return what is at the path, whose last key may contain dots; nothing if it is absent."""
    first, second, *rest = path.split(".", 3 if ".labels." in path else 2)
    inner = pod[first].get(second)
    return inner.get(".".join(rest)) if rest and inner else inner


def part_of(name: str) -> str:
    if name == "Pod/test-smoke-test":
        return "smokeTest"
    return next(part for part in PARTS if name.partition("/test-")[2].startswith(part))


def test_all_pods_are_looked_at() -> None:
    of_services = {pod.format(service) for service in SERVICES for pod in SERVICE_PODS}
    others = {"Deployment/test-ingress-nginx", "Pod/test-smoke-test", *(f"StatefulSet/test-{one}" for one in STORES)}
    assert ALL.keys() == of_services | others


@pytest.mark.parametrize("part", ["global", *PARTS])
def test_each_value_is_in_every_pod_or_in_those_of_its_part_alone(part: str) -> None:
    given = rendered(**{f"{part}.{value}": VALUES[value][0] for value in VALUES})
    for value, (_, path, shown) in VALUES.items():
        having = {name for name, pod in given.items() if found(pod, path) == shown}
        assert having == {name for name in ALL if part in {"global", part_of(name)}}, value
        assert not any(found(pod, path) == shown for pod in ALL.values())


def test_a_parts_maps_are_merged_with_the_global_ones_and_its_other_values_replace_them() -> None:
    general = {"imagePullSecrets": ["all"], "nodeSelector": {"disk": "ssd", "zone": "a"}, "tolerations": [TAINT]}
    own = {"imagePullSecrets": ["own"], "nodeSelector": {"disk": "", "arch": "arm64"}, "tolerations": [{"key": "db"}]}
    sets = {f"global.{name}": value for name, value in general.items()}
    specs = {
        name: pod["spec"] for name, pod in rendered(**sets, **{f"postgres.{n}": v for n, v in own.items()}).items()
    }
    postgres, redis = specs["StatefulSet/test-postgres"], specs["StatefulSet/test-redis"]
    assert postgres["nodeSelector"] == {"disk": "", "zone": "a", "arch": "arm64"}
    assert postgres["imagePullSecrets"] == [{"name": "own"}]
    assert postgres["tolerations"] == [{"key": "db"}]
    assert redis["nodeSelector"] == general["nodeSelector"]
    assert redis["tolerations"] == general["tolerations"]


def test_a_constraint_without_a_selector_counts_the_pods_of_its_own_part() -> None:
    for name, pod in rendered(**{"global.topologySpreadConstraints": [SPREAD]}).items():
        selector = {"matchLabels": pod["metadata"]["labels"]}
        assert pod["spec"]["topologySpreadConstraints"] == [{**SPREAD, "labelSelector": selector}], name


def test_the_pods_of_a_service_are_spread_over_nodes_and_zones() -> None:
    for service in SERVICES:
        spread = ALL[f"Deployment/test-{service}"]["spec"]["topologySpreadConstraints"]
        assert [one["topologyKey"] for one in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
        assert {one["whenUnsatisfiable"] for one in spread} == {"ScheduleAnyway"}
        assert all(one["labelSelector"]["matchLabels"]["app.kubernetes.io/name"] == service for one in spread)


def test_the_charts_own_annotations_stay() -> None:
    for name, pod in rendered(**{"global.podAnnotations": {"helm.sh/hook": "mine", "a": "b"}}).items():
        annotations = pod["metadata"]["annotations"]
        assert annotations.items() >= ALL[name]["metadata"].get("annotations", {}).items(), name
        assert annotations["a"] == "b"


@pytest.mark.parametrize("part", ["global", *PARTS])
def test_a_malformed_value_is_refused(part: str) -> None:
    wrong = {
        "podLabels": {"app.kubernetes.io/name": "mine"},
        "nodeSelector": {"gpu": True},
        "tolerations": {"key": "batch"},
        "affinity": {"nodeAfinity": {}},
        "topologySpreadConstraints": [{"maxSkew": 1}],
    }
    with pytest.raises(Refused, match="schema") as refused:
        rendered(**{f"{part}.{name}": value for name, value in wrong.items()})
    named = ("app.kubernetes.io/name", "nodeSelector", "tolerations", "nodeAfinity", "topologySpreadConstraints")
    assert [one for one in named if one not in str(refused.value)] == []
    with pytest.raises(Refused, match="nodeSelctor"):
        rendered(**{f"{part}.nodeSelctor": {}})


def ids(value: Any) -> set[str]:
    """Return the names of the ids that are given anywhere inside."""
    if isinstance(value, dict):
        return (value.keys() & IDS).union(*map(ids, value.values()))
    return set().union(*map(ids, value)) if isinstance(value, list) else set()


@pytest.mark.parametrize("pod", ALL)
def test_the_cluster_may_choose_every_id(pod: str) -> None:
    left = rendered("global.compatibility.openshift.adaptSecurityContext=force")[pod]
    assert ids(ALL[pod]) == {"runAsUser", "runAsGroup", "fsGroup"}
    assert ids(left) == set()
    assert left["spec"]["securityContext"]["runAsNonRoot"] is True


def test_only_openshift_chooses_the_ids_unless_an_operator_says_otherwise() -> None:
    def given(mode: str, api: str) -> bool:
        objects = render(f"global.compatibility.openshift.adaptSecurityContext={mode}", api=api)
        (is_given,) = {bool(ids(pod)) for pod in pods(objects).values()}
        return is_given

    openshift = "security.openshift.io/v1"
    assert [given(mode, "") for mode in ("auto", "disabled", "force")] == [True, True, False]
    assert [given(mode, openshift) for mode in ("auto", "disabled", "force")] == [False, True, False]


# The most characters of a name: a StatefulSet's is in a label of its pods with a suffix, a Job's without one, and a
# CronJob's begins its Jobs'.
LIMITS = {"StatefulSet": 52, "CronJob": 52, "Job": 63, "Service": 63}
LONGEST = 33


@pytest.mark.parametrize("length", [1, LONGEST])
def test_the_longest_release_name_leaves_room_for_every_name(length: int) -> None:
    objects = render(*EVERYTHING, release="r" * length)
    room = {
        (one["kind"], one["metadata"]["name"]): LIMITS.get(one["kind"], 253) - len(one["metadata"]["name"])
        for one in objects
    }
    labels = [value for one in objects for value in one["metadata"].get("labels", {}).values()]
    assert min(room.values()) == LONGEST - length, min(room, key=lambda name: room[name])
    assert max(map(len, labels)) <= 63


@pytest.mark.parametrize("name", ["r" * (LONGEST + 1), "with.dot", "1st"])
def test_a_release_name_that_kubernetes_cannot_lengthen_is_refused(name: str) -> None:
    with pytest.raises(Refused, match=rf"{name}, has {len(name)} characters: it may have at most {LONGEST}, "):
        render(release=name)
