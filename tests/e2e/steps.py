"""What is proven on a cluster, in this order. A step raises `Failed`, or gives a remark for the table."""

from collections.abc import Callable

from tests.e2e.capacity import load_adds_pods_by_itself, memory_stays_within_its_limits
from tests.e2e.cluster import SERVICES, STORES
from tests.e2e.connections import every_allowed_connection_is_open_and_every_other_shut
from tests.e2e.installation import (
    a_gateway_takes_the_routes,
    a_live_event_passes_the_ingress_at_once,
    an_image_has_its_service_and_nothing_to_install_with,
    changed_code_reaches_a_running_pod,
    helm_test_books,
    images_are_built,
    one_release_is_the_platform,
    the_demo_runs_through_the_ingress,
    the_documents_come_with_their_assets,
    uninstalling_leaves_what_it_says,
)
from tests.e2e.kills import killed
from tests.e2e.outside import a_release_without_stores_and_controller_uses_those_it_is_told_of
from tests.e2e.rollouts import (
    a_rollback_fails_no_request,
    a_wrong_password_stops_a_rollout,
    an_upgrade_fails_no_request,
    new_signing_keys_reject_nobody,
    old_and_new_code_share_a_migrating_schema,
    scaling_to_three_and_back_fails_no_request,
)

# Without these there is nothing to try.
FIRST: list[Callable[[], str]] = [images_are_built, one_release_is_the_platform]
STEPS: list[Callable[[], str]] = [
    an_image_has_its_service_and_nothing_to_install_with,
    helm_test_books,
    the_demo_runs_through_the_ingress,
    the_documents_come_with_their_assets,
    a_live_event_passes_the_ingress_at_once,
    a_gateway_takes_the_routes,
    every_allowed_connection_is_open_and_every_other_shut,
    memory_stays_within_its_limits,
    an_upgrade_fails_no_request,
    a_rollback_fails_no_request,
    scaling_to_three_and_back_fails_no_request,
    old_and_new_code_share_a_migrating_schema,
    a_wrong_password_stops_a_rollout,
    *(killed(name, 2) for name in SERVICES),
    *(killed(name, 1) for name in STORES),
    new_signing_keys_reject_nobody,
    load_adds_pods_by_itself,
    changed_code_reaches_a_running_pod,
    a_release_without_stores_and_controller_uses_those_it_is_told_of,
    uninstalling_leaves_what_it_says,
]
