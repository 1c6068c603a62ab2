"""The line at the bottom of a terminal in which an instrument is played."""

import io
import os
import sys

import pytest

from samplernn_fast.engine.engine import Engine
from samplernn_fast.serving.playing import display
from samplernn_fast.serving.playing.display import status
from samplernn_fast.serving.playing.instrument import Instrument
from samplernn_fast.serving.playing.score import Start


@pytest.fixture
def instrument():
    return Instrument(Engine("demo", backend="cpu", device="cpu"), Start(5))


def test_the_status_is_one_line_of_what_can_be_moved(instrument):
    instrument.set("top_k", 12)
    instrument.set("freeze", True)
    shown = status(instrument, 3)
    assert shown[0] == "temperature 1  top-k 12  top-p off  volume 1  FROZEN  seed 5  0.0 s  3 underruns"


@pytest.mark.parametrize(
    ("width", "seed", "underruns", "shown"),
    [
        (81, 5, 3, "temperature 1  top-k 12  top-p off  volume 1  FROZEN  seed 5  0.0 s  3 underruns"),
        (80, 5, 3, "temp 1  k 12  p off  vol 1  FROZEN  seed 5  0.0 s  3 underruns"),
        (80, 5, 0, "temperature 1  top-k 12  top-p off  volume 1  FROZEN  seed 5  0.0 s  0 underruns"[:-13]),
        (80, 2**64 - 1, 300, "temp 1  k 12  p off  vol 1  FROZEN  0.0 s  300 underruns"),
        (10, 5, 3, "temp 1  k"),
    ],
)
def test_the_status_fits_into_the_terminal(instrument, monkeypatch, width, seed, underruns, shown):
    instrument.set("top_k", 12)
    instrument.set("freeze", True)
    instrument.set("seed", seed)
    written = io.StringIO()
    written.fileno = lambda: 2
    monkeypatch.setattr(display.terminal, "is_watched", lambda: True)
    monkeypatch.setattr(display.os, "get_terminal_size", lambda number: os.terminal_size((width, 30)))
    monkeypatch.setattr(sys, "stderr", written)
    display.StatusLine().draw(status(instrument, underruns))
    assert written.getvalue() == f"\r\x1b[K{shown}" and len(shown) < width
