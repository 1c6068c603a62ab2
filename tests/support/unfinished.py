"""The command line, but the process waits where it would put a unit of a shard in place: `unfinished.py UNIT WORDS...`.

UNIT counts from 1. So the process is still there when a test kills it.
"""

import sys
import time

from samplernn_fast.commands import main
from samplernn_fast.jobs.ledger import Ledger

adopt, last = Ledger.adopt, int(sys.argv.pop(1))
adopted = []


def adopt_until_then(*args):
    adopted.append(args)
    if len(adopted) == last:
        time.sleep(600)
    adopt(*args)


if __name__ == "__main__":
    Ledger.adopt = adopt_until_then
    main.main(sys.argv[1:])
