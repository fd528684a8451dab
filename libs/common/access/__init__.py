"""Schema `common`: API keys and remembered answers, made in every service's database.

`await run_migrations(url, SCHEMA, MIGRATIONS)` makes it.
"""

from pathlib import Path

SCHEMA = "common"
MIGRATIONS = Path(__file__).parent / "migrations"
