"""How long to wait before the next try, wherever a database, Kafka or a shop is waited for without being told when."""

import random

FIRST = 0.2


def pause_before(failures: int, longest: float) -> float:
    """Seconds after so many failures in a row: each time twice as many, up to `longest`, less up to half by chance.

    The chance is for those who wait beside us: they do not all come back at one moment.
    """
    return random.uniform(0.5, 1) * min(FIRST * 2.0 ** (min(failures, 32) - 1), longest)  # noqa: S311 (no secret)
