"""The end of a job: its units are checked, its manifest is written, and what is made of the units is put together."""

import sys

from samplernn_fast import terminal
from samplernn_fast.jobs.ledger import Ledger
from samplernn_fast.jobs.status import check_complete, status_of


def merge(ledger: Ledger) -> None:
    """Checks every unit by its hash and writes the manifest. Prints what there is then.

    Raises DataError, which says what to do, where a unit is missing or wrong.
    """
    with terminal.Bar(len(ledger.plan.units), "unit", title="check", shown=sys.stderr.isatty()) as bar:
        status = status_of(ledger, each=bar.advance)
    check_complete(status)
    path = ledger.write_manifest()
    print(f"{terminal.counted(status.total, 'unit')} of {ledger.plan.command} are there and right: {path}")
