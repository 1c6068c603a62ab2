"""Writes and prints what `samplernn-fast doctor` finds, as JSON, on a machine without the command line's packages.

python bench/doctor.py FILE
"""

import json
import sys
from pathlib import Path

from samplernn_fast.backends.diagnosis import diagnose

text = json.dumps(diagnose(), indent=1)
Path(sys.argv[1]).write_text(text + "\n")
print(text)
