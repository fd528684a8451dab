from libs.common.migrations import migrate

migrate()
