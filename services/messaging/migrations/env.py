"""Schema `messaging`; see `libs.common.migrations`."""

from libs.common.migrations import migrate

migrate()
