"""The end of a job: its units are checked, its manifest is written, and what is made of the units is put together."""

import inspect
import sys
from pathlib import Path

from samplernn_fast import terminal
from samplernn_fast.jobs.ledger import Ledger
from samplernn_fast.jobs.status import check_complete, status_of

_PREPARE, _EVALUATE = "prepare", "evaluate"


def merge(ledger: Ledger) -> None:
    """Checks every unit by its hash, writes the manifest, and makes the data folder of `prepare` or the scores of
    `evaluate`. Prints what there is then.

    Raises DataError, which says what to do, where a unit is missing or wrong.
    """
    if ledger.plan.command == _PREPARE:
        _make_data(ledger)
        return
    if ledger.plan.command == _EVALUATE:
        _make_scores(ledger)
        return
    with terminal.Bar(len(ledger.plan.units), "unit", title="check", shown=sys.stderr.isatty()) as bar:
        status = status_of(ledger, each=bar.advance)
    check_complete(status)
    path = ledger.write_manifest()
    verb = "is" if status.total == 1 else "are"
    print(f"{terminal.counted(status.total, 'unit')} of {ledger.plan.command} {verb} there and right: {path}")


def _make_data(ledger: Ledger) -> None:
    """Puts the parts of `prepare` together, where no process has done so before."""
    from samplernn_fast.commands.flags import spell
    from samplernn_fast.commands.preparation import prepare
    from samplernn_fast.data.shared.sharing import put_together

    report = put_together(ledger, progress=True)
    if report is not None:
        print(spell(report.summary(), inspect.signature(prepare).parameters))
    elif ledger.is_closed():
        print(f"the data folder of {ledger.folder} is there")
    else:
        print(f"another process is making the data folder of {ledger.folder}")


def _make_scores(ledger: Ledger) -> None:
    """Writes the result of `evaluate` where it was to be."""
    from samplernn_fast.evaluation.sharing import put_together

    out = ledger.folder.parent / Path(str(ledger.plan.settings.get("out"))).name
    print(f"{put_together(ledger, out).text(str(ledger.plan.settings['split']))}: {out}")
