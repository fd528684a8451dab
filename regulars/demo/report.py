"""What the demo leaves on the screen: the table of equality, one mail, and where to look next."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from regulars.demo.compare import SHOWN, Row
from regulars.demo.drive import Captured
from regulars.demo.stage import Stage
from regulars.shop.messages import CART


def print_rows(console: Console, rows: Sequence[Row], *, seconds: float) -> bool:
    """The table, and below it what differs; whether nothing does."""
    table = Table(title="the platform against the shop's own truth", title_justify="left")
    table.add_column("what")
    table.add_column("expected", justify="right")
    table.add_column("found", justify="right")
    table.add_column("")
    for row in rows:
        table.add_row(
            row.what, row.expected, row.found, "✔" if row.equal else "✘", style="" if row.equal else "bold red"
        )
    console.print(table)
    wrong = [row for row in rows if not row.equal]
    for row in wrong:
        console.print(f"[bold red]✘ {row.what}[/]: {row.found} of {row.expected}")
        for difference in row.differences[:SHOWN]:
            console.print(Text(f"    {difference}"), soft_wrap=True)
        if len(row.differences) > SHOWN:
            console.print(f"    … and {len(row.differences) - SHOWN} more")
    verdict = "everything is equal" if not wrong else f"{len(wrong)} of {len(rows)} differ"
    console.print(f"{verdict}, after {seconds:.0f} s", style="bold green" if not wrong else "bold red")
    return not wrong


def print_recovery_mail(console: Console, captured: Sequence[Captured]) -> None:
    """The text of one mail to somebody who left a checkout behind."""
    mail = next((each.letter for each in captured if each.flow == CART), None)
    if mail is None:
        return
    parsed = mail.parsed
    body = parsed.get_body(("plain",))
    console.rule("a recovery mail, as it came")
    for name in ("From", "To", "Date", "Subject", "List-Unsubscribe", "List-Unsubscribe-Post"):
        console.print(Text(f"{name}: {parsed[name]}"), soft_wrap=True)
    console.print()
    console.print(Text(body.get_content().strip() if body is not None else ""), soft_wrap=True)
    console.rule()


def print_next(console: Console, stage: Stage, captured: Sequence[Captured], *, keep: bool) -> None:
    """What to ask the platform now."""
    if not keep:
        console.print("To look around in it: make demo KEEP=1", highlight=False, soft_wrap=True)
        return
    someone = next((each.letter.recipient for each in captured if each.flow == CART), "ada@example.com")
    address, key = stage.client.address, stage.client.key
    console.print(
        f"It goes on running at {address} until Ctrl-C, its clock standing still. The key: {key}\n", highlight=False
    )
    for target in (
        "/v1/kpis?window=30d",
        f"/v1/profiles/email:{someone}",
        f"/v1/orders?store={stage.keys['shopify']}&limit=3",
        "/v1/messages?state=skipped&limit=5",
        "/v1/dead-letters/ingest",
        "/v1/pipeline/messaging",
    ):
        console.print(Text(f"curl -sH 'Authorization: Bearer {key}' '{address}{target}'"), soft_wrap=True)
    console.print(f"\nAll endpoints: {address}/openapi.json", highlight=False, soft_wrap=True)
