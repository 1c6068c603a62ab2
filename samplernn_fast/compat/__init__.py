"""The names and calls of other projects, with this package behind them. `deepsound` is the only one so far."""

from samplernn_fast.compat import deepsound as deepsound
