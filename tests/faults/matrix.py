"""The rows of the matrix, in the order of their names."""

from tests.faults.rows import clocks, contention, databases, events, network, processes, redis

_ROWS = (
    processes.one_booking_worker,
    processes.all_booking_workers,
    processes.committed_but_unanswered,
    processes.appended_but_not_marked,
    processes.handled_but_not_acknowledged,
    processes.accepted_but_not_marked,
    processes.received_but_not_handled,
    redis.redis_crash,
    redis.redis_loses_data,
    redis.redis_away,
    databases.mongodb_away,
    databases.postgres_crash,
    databases.postgres_hangs,
    databases.serialization_failures,
    contention.storm,
    contention.races,
    events.replay,
    events.poison,
    clocks.skewed_clocks,
    network.partitions,
    network.bad_network,
    processes.rolling_restart,
)
ROWS = {row.name: row for row in _ROWS}
