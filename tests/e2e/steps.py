"""The steps, in their order. A step raises `Failed`, or returns a remark for the table."""

from collections.abc import Callable

from tests.e2e.capacity import load_adds_pods, memory_stays_within_its_limits
from tests.e2e.cluster import SERVICES, STORES
from tests.e2e.connections import every_allowed_connection_is_open_and_every_other_closed
from tests.e2e.installation import (
    a_gateway_accepts_the_routes,
    a_live_event_passes_the_ingress_immediately,
    a_path_that_no_service_has_is_a_problem_document,
    an_image_holds_its_service_and_no_installer,
    changed_code_reaches_a_running_pod,
    helm_test_books_an_appointment,
    images_are_built,
    one_release_is_the_platform,
    the_api_documents_load_with_their_assets,
    the_demo_runs_through_the_ingress,
    uninstalling_leaves_what_the_notes_list,
)
from tests.e2e.kills import killed
from tests.e2e.outside import a_release_without_stores_and_controller_uses_existing_ones
from tests.e2e.rollouts import (
    a_rollback_fails_no_request,
    a_wrong_password_stops_a_rollout,
    an_upgrade_fails_no_request,
    new_signing_keys_reject_no_token,
    old_and_new_code_share_a_migrating_schema,
    scaling_to_three_and_back_fails_no_request,
)

# If one of these fails, no other step runs.
FIRST: list[Callable[[], str]] = [images_are_built, one_release_is_the_platform]
STEPS: list[Callable[[], str]] = [
    an_image_holds_its_service_and_no_installer,
    helm_test_books_an_appointment,
    the_demo_runs_through_the_ingress,
    the_api_documents_load_with_their_assets,
    a_path_that_no_service_has_is_a_problem_document,
    a_live_event_passes_the_ingress_immediately,
    a_gateway_accepts_the_routes,
    every_allowed_connection_is_open_and_every_other_closed,
    memory_stays_within_its_limits,
    an_upgrade_fails_no_request,
    a_rollback_fails_no_request,
    scaling_to_three_and_back_fails_no_request,
    old_and_new_code_share_a_migrating_schema,
    a_wrong_password_stops_a_rollout,
    *(killed(name, 2) for name in SERVICES),
    *(killed(name, 1) for name in STORES),
    new_signing_keys_reject_no_token,
    load_adds_pods,
    changed_code_reaches_a_running_pod,
    a_release_without_stores_and_controller_uses_existing_ones,
    uninstalling_leaves_what_the_notes_list,
]
