"""The pictures that a run makes while it trains, where matplotlib is installed: loss.png, and one beside each sound.

They are guests: where one cannot be drawn, a warning is said once, and training goes on without pictures.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from samplernn_fast import files
from samplernn_fast.errors import ConfigError
from samplernn_fast.models.places import PLOT_FILE
from samplernn_fast.training.pictures import curves

if TYPE_CHECKING:
    import numpy as np

_MOST_SHARE = 0.02
"""The most of a run's time that loss.png may take; a checkpoint that comes too early for it has none."""
_FIRST_COST = 1.0
"""The first loss.png takes about so many seconds, because it loads matplotlib."""
_LOWEST_DB = -80.0


class Pictures:
    """Draws into a run folder."""

    def __init__(self, folder: Path, warn: Callable[[str], object]) -> None:
        """warn: takes the line of a failure."""
        self._folder, self._warn, self._draws = folder, warn, True
        self._ended, self._cost = time.monotonic(), _FIRST_COST

    def curve(self, read: Callable[[], dict[str, curves.Curve]], last: bool = False) -> None:
        """Draws loss.png anew, unless the last time was too short ago. read: the curves.

        last: the run ends, so it is drawn whatever it costs, and a failure is not worth a word.
        """
        began = time.monotonic()
        if not self._draws or (not last and self._cost > _MOST_SHARE * (began - self._ended)):
            return
        with self._guarded(silent=last):
            found = read()
            if any(len(curve.bits) > 1 for curve in found.values()):
                curves.draw(found, self._folder / PLOT_FILE, self._folder.resolve().name)
        self._ended = time.monotonic()
        self._cost = self._ended - began

    def spectrogram(self, samples: "np.ndarray", sample_rate: int, path: Path) -> None:
        """Draws the spectrogram of generated audio (T,) as a PNG file."""
        if self._draws:
            with self._guarded():
                draw_spectrogram(samples, sample_rate, path)

    @contextmanager
    def _guarded(self, silent: bool = False) -> Iterator[None]:
        """Where a drawing fails, that is said, and nothing is drawn from then on. A missing matplotlib is none."""
        try:
            yield
        except ConfigError:
            self._draws = False
        except Exception as error:  # whatever a library for pictures may raise, it must not end a training
            self._draws = False
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            if not silent:
                self._warn(f"warning: no picture of the run can be drawn ({reason}); training goes on without them")


def draw_spectrogram(samples: "np.ndarray", sample_rate: int, path: Path) -> None:
    """Writes the spectrogram of audio (T,) as a PNG file: log magnitudes over 80 dB, time and frequency.

    Raises ConfigError without matplotlib, OSError where it cannot be written.
    """
    from samplernn_fast.training.board import spectrogram

    figure = curves.load_figure()(figsize=(6.4, 3.2), layout="constrained")
    axis = figure.subplots()
    picture = spectrogram(samples)[0][::-1]
    extent = (0, len(samples) / sample_rate, 0, sample_rate / 2000)
    shown = axis.imshow(
        _LOWEST_DB * (1 - picture), origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=_LOWEST_DB, vmax=0
    )
    axis.set_xlabel("seconds")
    axis.set_ylabel("kHz")
    figure.colorbar(shown, ax=axis, label="dB below the loudest")
    files.write_figure(path, figure)
