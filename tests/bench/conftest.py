"""Lets tests import bench/ as a package; it is not installed."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
