"""See `libs.common.migrations`."""

from libs.common.migrations import migrate

migrate()
