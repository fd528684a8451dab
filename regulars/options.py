"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

DataDir = Annotated[
    Path, typer.Option(envvar="REGULARS_DATA_DIR", help="Folder of the embedded PostgreSQL and of generated keys.")
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(envvar="REGULARS_DATABASE_URL", help="A PostgreSQL of your own instead.", show_default="embedded"),
]
