"""What glibc's allocator is told in processes that now and then hold a large value: ours and PostgreSQL's backends."""

GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": str(1024 * 1024)}
"""As environment. What is larger than 1 MiB is the system's again once it is freed. By default the allocator takes the
first such value as a sign of more to come, and each process keeps as much (a body of 5 MB: 5 to 15 MB) for ever."""
