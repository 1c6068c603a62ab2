"""Pieces that `generate` makes all at once, once every flag is checked: files, or a WAV on standard output."""

import json as json_module
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplernn_fast import terminal
from samplernn_fast.commands.clips.choosing import Choice, choose
from samplernn_fast.commands.generation.faster import tell_of_faster
from samplernn_fast.commands.generation.places import make_folder
from samplernn_fast.errors import DiskFull, Interrupted, needing_torch
from samplernn_fast.stores.addresses import spelled

if TYPE_CHECKING:
    from samplernn_fast.api import Saved, Stream
    from samplernn_fast.audio.takes import Names
    from samplernn_fast.commands.clips.choosing import Chosen
    from samplernn_fast.evaluation.clips.judging import Judge
    from samplernn_fast.models.base import AudioModel


@dataclass(frozen=True)
class Making:
    """What is made, once every flag is checked. ctrl-C and SIGTERM keep what is made so far.

    A second ctrl-C ends the program at once and keeps nothing.
    """

    model: str
    settings: dict[str, Any]
    duration: float
    json: bool
    choice: Choice

    def check_model(self) -> None:
        """Raises CheckpointError where there is no such model."""
        from samplernn_fast.models.places import model_file

        model_file(self.model)

    def save(self, names: "Names") -> None:
        """Writes files, whose folder is made, and prints their names. Where pieces are chosen, that comes after the
        last is whole; an interruption keeps all of them."""
        stream, model = self.stream(), self._model()
        tell_of_faster(stream.engine, self.settings["backend"], stream.state.num_streams)
        usual = [] if model is None else self.choice.usual_bits(model)
        with terminal.interrupts(signal.SIGTERM) as caught:
            make_folder(names.path.parent)
            judge = self._judge(stream, model)
            heard = None if judge is None else judge.add
            full: DiskFull | None = None
            try:
                saved = stream.save(names, self.duration, progress=True, should_stop=lambda: bool(caught), heard=heard)
            except DiskFull as error:
                full, saved = error, error.saved
            repeated = None if self.json else names.repeated(saved.paths)
            if caught or full or judge is None:
                chosen = None
            else:
                chosen = choose(self.choice, saved.paths, judge.clips(), usual)
            if saved.paths:
                _report(saved, self.json, chosen, repeated)
            if full:
                raise full
            if caught and chosen is None:
                kept = f": kept the first {saved.seconds:.2f} seconds" if saved.paths else " before anything was made"
                raise Interrupted(f"interrupted{kept}", caught[0])

    def play(self) -> None:
        """Writes a WAV to standard output, each block as it is made."""
        from samplernn_fast.audio.takes import comment
        from samplernn_fast.audio.writing import WavPipe

        stream = self.stream()
        with terminal.interrupts(signal.SIGTERM) as caught:
            out = sys.stdout.buffer
            told = comment(stream.info(), 0)
            pipe = WavPipe(out, stream.sample_rate, frames=stream.steps(self.duration), comment=told)
            samples = 0
            for levels in stream.slices(self.duration, progress=True, should_stop=lambda: bool(caught)):
                pipe.write(stream.quantizer.decode(levels[0]))
                samples += levels.shape[1]
            if caught:
                raise Interrupted(f"interrupted: wrote {samples / stream.sample_rate:.2f} seconds", caught[0])

    def stream(self) -> "Stream":
        """The stream, which has heard the prompt. A signal ends the program here, because nothing is made yet."""
        prompt = "" if self.settings["prompt"] is None else ", and listening to the prompt"
        with terminal.waiting(f"loading the model{prompt}"):
            from samplernn_fast import api

            return api.stream(self.model, **self.settings)

    def _model(self) -> "AudioModel | None":
        """The torch model that judges pieces, where some are to be chosen."""
        if not self.choice.wanted:
            return None
        with terminal.waiting("loading torch, which judges the pieces"), needing_torch("to choose among pieces"):
            from samplernn_fast.models.checkpoint import load_model
        return load_model(self.model)

    def _judge(self, stream: "Stream", model: "AudioModel | None") -> "Judge | None":
        """What judges the pieces while they are made, where some are to be chosen."""
        if model is None:
            return None
        from samplernn_fast.evaluation.clips.judging import Judge

        return Judge(model, stream.state.num_streams, stream.engine.device)


def _report(saved: "Saved", json: bool, chosen: "Chosen | None", repeated: Path | None) -> None:
    """Prints what was made. repeated: a file that was there before and is the same take."""
    files = saved.paths if chosen is None else [path for path, _ in chosen.kept]
    if json:
        clips = {} if chosen is None else {"clips": chosen.rows()}
        made = {"files": [spelled(path) for path in files], "audio_seconds": saved.seconds}
        print(json_module.dumps(saved.info | made | clips))
        return
    for path in files:
        print(spelled(path))
    if chosen is not None:
        print(chosen.text())
    each, pieces = saved.info["x_real_time"], len(saved.paths)
    speed = f"{each:.3g}x real time (RTF {saved.info['rtf']:.3g})"
    if pieces > 1:
        speed = f"{pieces * each:.3g}x real time together, {each:.3g}x each"
    made_by = f"{saved.info['backend']} backend, {saved.info['dtype']}, seed {saved.info['seed']}"
    print(f"{pieces} x {saved.seconds:.2f} s, {speed}, {made_by}")
    if repeated is not None:
        print(f"the same settings and seed make the same as before, in {spelled(repeated)}; try --seed random")
