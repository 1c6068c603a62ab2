"""Names and calls of other projects, answered by this package."""

from samplernn_fast.compat import deepsound as deepsound
