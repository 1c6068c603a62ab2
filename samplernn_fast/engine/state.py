"""`EngineState`: all that changes while audio is made. It can be saved, restored and moved to another process."""

import json
import os
from pathlib import Path
from typing import Any, cast

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from samplernn_fast.engine.memory import Memory, arrays_of, as_array
from samplernn_fast.engine.temperature import Temperature, TemperatureCurve, parse
from samplernn_fast.errors import CheckpointError, ConfigError
from samplernn_fast.files import replacing
from samplernn_fast.models.config import AudioConfig
from samplernn_fast.models.layout import Hidden
from samplernn_fast.models.stored.arrays import hash_of
from samplernn_fast.models.stored.header import STATE_KIND, metadata, opened
from samplernn_fast.ranges import checked
from samplernn_fast.reference import limits
from samplernn_fast.reference.randomness import Drawing, Randomness
from samplernn_fast.untrusted import Fields, Unreadable

_MAX_TIME = 2**62  # samples; the native engines count time in signed 64 bits


class EngineState:
    """Where every stream stands: hidden states, the last L levels, the time t, and how to draw.

    Made by `Engine.init_state`. `temperature`, `top_k` and `top_p` may be changed between two calls of `run`.
    """

    def __init__(
        self,
        hidden: Hidden,
        history: np.ndarray,
        seed: int,
        streams: np.ndarray,
        config: AudioConfig,
        model_sha256: str,
    ) -> None:
        self._hidden, self.history, self.seed, self.streams = hidden, history, seed, streams
        # These say whether a Memory may hold the hidden states too, which must not change then, and whether a reader
        # may hold them, whose changes are heard.
        self._remembered = self._lent = False
        self.config, self.model_sha256, self.t = config, model_sha256, 0
        self.prompt_length = 0  # samples; a temperature over time begins behind the prompt
        self._temperature: Temperature = 1.0
        self.top_k, self.top_p = 0, 1.0

    @property
    def num_streams(self) -> int:
        """B, the number of streams."""
        return len(self.streams)

    @property
    def hidden(self) -> list[np.ndarray]:
        """The hidden states, (n, B, H) for each tier, lowest first.

        Between two calls a GPU keeps them in its own memory. Whoever asks for them gets arrays, which are the state's
        until it advances: a change of them is heard, and no `memory` changes with them. Raises DeviceError as `arrays`.
        """
        before = self._hidden
        if not self._remembered and all(isinstance(one, np.ndarray) for one in before):
            self._lent = True
            return cast("list[np.ndarray]", before)
        arrays = self._copies()
        if self._hidden is before:  # no other thread has advanced the state meanwhile
            self._hidden, self._remembered, self._lent = arrays, False, True
        return arrays

    @property
    def kept(self) -> Hidden:
        """The hidden states where the last call has left them. They are only to be read."""
        return self._hidden

    def _copies(self) -> list[np.ndarray]:
        """The hidden states as arrays that nobody else has."""
        return [np.array(one) for one in arrays_of(self._hidden)]

    @property
    def temperature(self) -> Temperature:
        """One number, one number per stream, or a function of the seconds since the prompt (`temperature.schedule`).

        A text such as "0:0.7,10:1.1" is taken as such a function.
        """
        return self._temperature

    @temperature.setter
    def temperature(self, value: Temperature) -> None:
        value = parse(value) if isinstance(value, str) else value
        self._temperature = value if callable(value) else self._checked(value)

    def _checked(self, value: Any) -> Temperature:
        """One temperature or one per stream, as numbers. Raises ConfigError."""
        several = "" if self.num_streams == 1 else f" or {self.num_streams}, one per stream"
        wanted = f"temperature must be one number{several}"
        try:
            values = as_array(value)
        except (TypeError, ValueError, RuntimeError):  # lists of different lengths
            raise ConfigError(wanted) from None
        if values.ndim == 0:
            return limits.check_temperature(values.item())
        if values.shape != (self.num_streams,):
            raise ConfigError(f"{wanted}, got an array of the shape {values.shape}")
        return tuple(limits.check_temperature(one) for one in values.tolist())

    def set_truncation(self, top_k: int | None, top_p: float | None) -> None:
        """Draw from the top_k likeliest levels, and from the top_p nucleus; None is off."""
        self.top_k, self.top_p = self._checked_truncation(*limits.check_truncation(top_k, top_p, self.config.q_levels))

    def _checked_truncation(self, top_k: int, top_p: float) -> tuple[int, float]:
        """Returns both. ConfigError where one is on and the model has no probabilities of levels."""
        if self.config.mixture and (top_k or top_p < 1):
            raise ConfigError(
                f"top_k and top_p choose among levels, and {self.config.system} draws from a mixture of Gaussians;"
                " leave them out, or lower the temperature"
            )
        return top_k, top_p

    def drawing(self, steps: int) -> Drawing:
        """How the next `steps` samples of every stream are drawn."""
        return Drawing(Randomness(self.seed, self.streams), self.temperatures(steps), self.top_k, self.top_p)

    def temperatures(self, steps: int) -> np.ndarray:
        """The temperature of the next `steps` samples of every stream: (B, steps) float32."""
        if callable(self._temperature):
            times = np.maximum(0, self.t - self.prompt_length + np.arange(steps)) / self.config.sample_rate
            if isinstance(self._temperature, TemperatureCurve):  # its points were checked when it was made
                row = self._temperature.values(times)
            else:
                row = np.asarray([limits.check_temperature(self._temperature(time)) for time in times])
            return np.tile(row.astype(np.float32), (self.num_streams, 1))
        column = np.asarray(self._temperature, np.float32).reshape(-1, 1)
        return np.broadcast_to(column, (self.num_streams, steps))

    def advance(self, hidden: Hidden, history: np.ndarray, steps: int) -> None:
        """Take what an engine made of it: the hidden states and the last L levels after `steps` more samples."""
        # Signals wait for a call or a loop, so ctrl-C finds all three old or all three new.
        self._hidden, self.history, self.t = hidden, history, self.t + steps
        self._remembered = self._lent = False

    def memory(self) -> Memory:
        """Returns what the model remembers now."""
        if self._lent:
            return Memory(self._copies(), self.history.copy(), self.t)
        self._remembered = True
        return Memory(self._hidden, self.history.copy(), self.t)

    def recall(self, memory: Memory, *, go_back: bool = False) -> None:
        """Give the model a memory that it had before, or another state of as many streams.

        Its time stays, so that it draws other numbers, unless it is to go back too. Raises CheckpointError for a memory
        of another shape, and for one of another place in a top frame unless it goes back.
        """
        if not isinstance(memory, Memory):
            raise ConfigError(f"recall: memory must be what EngineState.memory gave, got {memory!r:.60}")
        shapes = [[tuple(one.shape) for one in hidden] for hidden in (memory.hidden, self._hidden)]
        if shapes[0] != shapes[1] or memory.history.shape != self.history.shape:
            raise _misfit("the memory is of another model or of another number of streams")
        if not go_back and (memory.t - self.t) % self.config.top_frame:
            frame = self.config.top_frame
            raise _misfit(
                f"the memory is {abs(self.t - memory.t)} samples away, which is no multiple of a top frame's {frame};"
                " with go_back=True the state's time goes back too"
            )
        time = memory.t if go_back else self.t
        self._remembered, self._lent = True, False
        self._hidden, self.history, self.t = memory.hidden, memory.history.copy(), time
        self.prompt_length = min(self.prompt_length, time)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles hold arrays in place of a GPU's tensors, so that any process can load them."""
        return self.__dict__ | {"_hidden": self._copies(), "_remembered": False, "_lent": False}

    def state_dict(self) -> dict[str, Any]:
        """Everything but a temperature that is a function: arrays, numbers, lists, text. `save` writes it to a file."""
        return {
            "model_sha256": self.model_sha256,
            "hidden": self._copies(),
            "history": self.history.copy(),
            "t": self.t,
            "prompt_length": self.prompt_length,
            "seed": self.seed,
            "streams": self.streams.tolist(),
            "temperature": self._saved_temperature(),
            "top_k": self.top_k,
            "top_p": self.top_p,
        }

    def _saved_temperature(self) -> Any:
        """Numbers, a curve as text, and None for a function."""
        if isinstance(self._temperature, TemperatureCurve):
            return str(self._temperature)
        return None if callable(self._temperature) else self._temperature

    def check_model(self, sha256: str) -> None:
        """Raises CheckpointError where `sha256` is that of another model than the one this state is of."""
        if sha256 != self.model_sha256:
            raise _misfit("it is of another model")

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken. Tensors of torch are taken too.

        Raises CheckpointError, which says what does not fit, where `saved` is of another model or number of streams
        or holds a value that cannot be; then nothing has changed.
        """
        try:
            self._take(saved)
        except (Unreadable, ConfigError) as error:
            raise _misfit(error) from None

    @checked
    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write `state_dict` to a safetensors file, whole or not at all.

        A temperature that is a function is left out; whoever loads the state must set it again. An earlier state is
        replaced. Raises CheckpointError for any other file that exists (unless `overwrite`), and where the file cannot
        be written.
        """
        saved, file = self.state_dict(), Path(path)
        if not overwrite and os.path.lexists(file) and not file.is_dir() and not _holds_state(file):
            raise CheckpointError(
                f"{file} exists and holds no state; choose another name, or replace it with overwrite=True"
            )
        arrays = {f"hidden.{tier}": np.ascontiguousarray(h) for tier, h in enumerate(saved.pop("hidden"))}
        arrays["history"] = np.ascontiguousarray(saved.pop("history"))
        parts = {"info": saved, "sha256": hash_of(arrays, _text(saved))}
        try:
            with replacing(file) as temporary:
                save_file(arrays, temporary, metadata=metadata(STATE_KIND, parts))
        except (OSError, SafetensorError, ValueError) as error:  # a ValueError is a path without a name
            raise CheckpointError(f"{file}: cannot be written ({error}); what was there before is kept") from None

    @checked
    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on where `save` was called. Raises CheckpointError where there is no such file, or as `load_state_dict`;
        then nothing has changed."""
        file = Path(path)
        with opened(file, (STATE_KIND,), "np") as (content, header):
            arrays = {name: content.get_tensor(name) for name in content.keys()}
        if header.get("sha256") not in (None, hash_of(arrays, _text(header["info"]))):  # earlier states have none
            raise CheckpointError(f"{file}: is damaged: it holds other values than were saved")
        info = header["info"] | {"history": arrays.pop("history", None)}
        try:
            self.load_state_dict(info | {"hidden": [arrays.get(f"hidden.{tier}") for tier in range(len(arrays))]})
        except CheckpointError as error:
            raise CheckpointError(f"{file}: {error}") from None

    def _take(self, saved: Any) -> None:
        """Checks every entry of `saved`, and only then takes all of them. Raises Unreadable or ConfigError, and
        CheckpointError where it is of another model."""
        fields = Fields(saved, "the state")
        self.check_model(fields.text("model_sha256"))
        given = fields.value("hidden")
        if not isinstance(given, (list, tuple)) or len(given) != len(self._hidden):
            raise Unreadable(f"hidden must be a list of {len(self._hidden)} arrays")
        pairs = zip(self._hidden, given, strict=True)
        hidden = [_like(mine, one, f"hidden[{tier}]") for tier, (mine, one) in enumerate(pairs)]
        history = _like(self.history, fields.value("history"), "history")
        if int(history.min()) < 0 or int(history.max()) >= self.config.q_levels:
            raise Unreadable(f"its levels must be 0 to {self.config.q_levels - 1}")
        t = fields.integer("t", 0, _MAX_TIME)
        prompt_length = fields.integer("prompt_length", 0, t)
        seed = fields.integer("seed", 0, 2**64 - 1)
        streams = fields.integers("streams", self.num_streams, 0, 2**32 - 1)
        top_k = fields.integer("top_k", 0, limits.LEVELS)
        _, top_p = limits.check_truncation(None, fields.number("top_p", 0, 1))
        self._checked_truncation(top_k, top_p)
        temperature = self._temperature  # one that was a function was not saved, and the loader's own stays
        if isinstance(fields.value("temperature"), str):
            temperature = parse(fields.text("temperature"))
            if not isinstance(temperature, TemperatureCurve):  # a number is saved as one
                raise Unreadable("temperature must be a number, numbers or a curve")
        elif isinstance(fields.value("temperature"), (list, tuple)):
            temperature = self._checked(fields.numbers("temperature", self.num_streams, 0, 1e3))
        elif fields.value("temperature") is not None:
            temperature = self._checked(fields.number("temperature", 0, 1e3))
        # Every entry is good: from here on nothing fails, so the state is all old or all new.
        self._hidden, self.history, self.t, self.prompt_length = hidden, history, t, prompt_length
        self._remembered = self._lent = False
        self.seed, self.streams = seed, np.asarray(streams, dtype=np.uint32)
        self._temperature, self.top_k, self.top_p = temperature, top_k, top_p


def _misfit(reason: object) -> CheckpointError:
    """The error of a state that cannot be taken."""
    return CheckpointError(f"engine state does not fit: {reason}")


def _text(info: dict[str, Any]) -> str:
    """Returns the text by which all but the arrays of a saved state goes into its hash."""
    return json.dumps(info, sort_keys=True)


def _holds_state(file: Path) -> bool:
    """Returns whether a file holds a state, of whichever model."""
    try:
        with opened(file, (STATE_KIND,), "np"):
            return True
    except CheckpointError:
        return False


def _like(mine: Any, given: Any, name: str) -> np.ndarray:
    """A copy of an array or tensor of a saved state, of the dtype of the array or tensor `mine`. Raises Unreadable."""
    shape, dtype = tuple(mine.shape), np.dtype(str(mine.dtype).removeprefix("torch."))
    try:  # some kinds of tensors do not even have a shape
        found = as_array(given) if hasattr(given, "shape") else None
    except (TypeError, ValueError, RuntimeError):
        found = None
    if found is None:
        raise Unreadable(f"{name} must be a plain array")
    if found.shape != shape:
        raise Unreadable(f"{name} must have the shape {shape}, got {found.shape}")
    if found.dtype.kind not in ("f" if dtype.kind == "f" else "iu"):
        raise Unreadable(f"{name} must hold {dtype}, got {found.dtype}")
    with np.errstate(over="ignore"):  # a value that becomes infinite is refused
        copy = np.array(found, dtype, order="C")
    if not np.isfinite(copy).all():
        raise Unreadable(f"{name} holds a value that is not finite")
    return copy
