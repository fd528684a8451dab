"""What the consumer loop tells Prometheus. Labels are bounded: consumers, topics and partitions."""

from prometheus_client import Counter, Gauge, Histogram

from libs.common.telemetry import gauge

RECORDS = Counter("regulars_consumer_records_total", "Records processed and committed", ["consumer"])
BATCH = Histogram(
    "regulars_consumer_batch_records",
    "Records in a committed batch",
    ["consumer"],
    buckets=(1, 5, 20, 50, 100, 250, 500),
)
COMMIT = Histogram(
    "regulars_consumer_batch_seconds",
    "Seconds from the begin of a batch's transaction to its commit",
    ["consumer"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
FENCED = Counter(
    "regulars_consumer_fenced_total", "Batches rolled back since another worker owns the partition", ["consumer"]
)
DEAD = Counter("regulars_consumer_dead_letters_total", "Records that became dead letters", ["consumer"])
RETRIES = Counter("regulars_consumer_retries_total", "Pauses because of a transient fault", ["consumer"])
# Of several processes the worst one speaks: that another worker is well does not help who waits for this one.
HALTED = Gauge(
    "regulars_consumer_halted",
    "1 while the consumer has stopped itself",
    ["consumer"],
    multiprocess_mode="livemax",
)
OLDEST = Gauge(
    "regulars_consumer_oldest_unprocessed_seconds",
    "Age of the oldest record that waits for the consumer; 0 when none does",
    ["consumer", "topic"],
    multiprocess_mode="livemax",
)
LAG = gauge("regulars_consumer_lag_records", "Records not yet processed", ["consumer", "topic", "partition"])
REPEATS = Counter(
    "regulars_log_repeats_total", "Records that the relay sent to Kafka again, and that were dropped", ["topic"]
)
