"""What one sees meanwhile: a live table of what flows through each service, or a plain line for each simulated week."""

from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from regulars.demo.stage import SERVICES, Stage

REFRESH_SECONDS = 0.25
_SUBJECTS = {
    "ingest": "webhooks → observations",
    "profiles": "observations → facts about people and orders",
    "metrics": "facts → KPIs",
    "messaging": "facts → runs, and mails",
}


@dataclass(slots=True)
class Progress:
    """How far the run has come."""

    start: datetime
    end: datetime
    now: datetime
    sent: int = 0
    total: int = 0
    mails: int = 0


@dataclass(slots=True)
class Screen:
    """Draws on `console`; enter it for the duration of the run."""

    console: Console
    stage: Stage
    _began: float = field(default_factory=monotonic)
    _drawn: float = 0.0
    _weeks: int = 0
    _live: Live | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, progress: Progress, *, last: bool = False) -> None:
        """Draws, unless it was drawn just now."""
        now = monotonic()
        if self._live is None:
            week = (progress.now - progress.start).days // 7
            if week > self._weeks or last:
                self._weeks = week
                self.console.print(self._line(progress), highlight=False, soft_wrap=True)
        elif last or now - self._drawn > REFRESH_SECONDS:
            self._drawn = now
            self._live.update(self._table(progress), refresh=True)

    def _line(self, progress: Progress) -> str:
        seen = "  ".join(f"{name} {self.stage.flows[name].processed:,}" for name in SERVICES)
        return (
            f"{progress.now:%Y-%m-%d}  {progress.sent:,}/{progress.total:,} webhooks  {seen}"
            f"  {progress.mails:,} mails  {monotonic() - self._began:.0f} s"
        )

    def _table(self, progress: Progress) -> Table:
        seconds = monotonic() - self._began
        table = Table(
            title=f"{progress.now:%a %d %b %Y %H:%M}   {progress.sent:,} of {progress.total:,} webhooks"
            f"   {progress.sent / max(seconds, 0.001):,.0f}/s   {progress.mails:,} mails   {seconds:.0f} s",
            title_justify="left",
        )
        table.add_column("service")
        table.add_column("what")
        table.add_column("events", justify="right")
        table.add_column("waiting", justify="right")
        for name in SERVICES:
            flow = self.stage.flows[name]
            table.add_row(name, _SUBJECTS[name], f"{flow.processed:,}", f"{flow.lag:,}")
        return table
