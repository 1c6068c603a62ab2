"""The command line. Each command has a file; `main` chooses one, and `flags` turns flags into arguments.

A command checks its flags, calls the room that does the work, and prints. Read `main` first. `COMMANDS` here is what is
known of each before it is imported, so that the overview is printed without the packages that the commands need.
"""

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple


class Command(NamedTuple):
    """What is known of a command before it is loaded."""

    summary: str
    """The first line of its docstring."""
    example: str
    """A call that works, where the files that it names are there."""
    module: str
    """The module of this room that holds it."""
    function: str
    parts: tuple[str, ...] = ()
    """The functions of the module whose arguments are the flags, where the first word chooses one of them and the
    command takes the words themselves."""

    def load(self) -> Callable[..., None]:
        """The function, whose arguments are the flags, or the words themselves."""
        loaded: Callable[..., None] = getattr(import_module(f"{__name__}.{self.module}"), self.function)
        return loaded

    def load_flags(self) -> list[Callable[..., None]]:
        """The functions whose arguments are the flags, for every command but those of `TRAINING`."""
        module = import_module(f"{__name__}.{self.module}")
        return [getattr(module, part) for part in self.parts or (self.function,)]


COMMANDS = {
    "prepare": Command(
        "Turn audio files into a data folder to train on.",
        "samplernn-fast prepare recordings -o data",
        "preparation",
        "prepare",
    ),
    "train": Command(
        "Train a model: PRESET, then any setting of the run or the model as a flag. The same command resumes.",
        "samplernn-fast train laptop --data data --out run",
        "training",
        "train",
    ),
    "sparsify": Command(
        "Make a model faster: train on from it while most of its weights become zero. The same command resumes.",
        "samplernn-fast sparsify run --density 0.25 --data data --out sparse",
        "training",
        "sparsify",
    ),
    "generate": Command(
        "Make new audio with a model.",
        "samplernn-fast generate run -o new.wav --duration 10 --temperature 0.95",
        "generation.command",
        "generate",
    ),
    "serve": Command(
        "Play models live on a page, where their settings can be moved while they sound, until ctrl-C.",
        "samplernn-fast serve demo",
        "live.serve",
        "serve",
    ),
    "play": Command(
        "Play a model as an instrument in the terminal, by keys, MIDI and OSC, to speakers, a pipe or a file.",
        "samplernn-fast play demo --seed 7",
        "live.play",
        "play",
    ),
    "radio": Command(
        "Endless sound that nobody has to watch, into a pipe or a folder. The same command goes on.",
        "samplernn-fast radio demo -o radio --file-minutes 60",
        "live.radio",
        "radio",
    ),
    "audition": Command(
        "Choose by ear on a page: checkpoints by temperatures by seeds; favourites become a playlist or commands.",
        "samplernn-fast audition run --temperatures 0.8 0.9 1.0 --seeds 4",
        "live.audition",
        "audition",
        ("listen", "export"),
    ),
    "evaluate": Command(
        "Negative log-likelihood of a split in bits per sample, whole recordings with the state carried.",
        "samplernn-fast evaluate run --data data",
        "evaluation",
        "evaluate",
    ),
    "reproduce": Command(
        "The paper's tables and figures from one line each: EXPERIMENT, then its flags. The same command goes on.",
        "samplernn-fast reproduce table1 --data data --out experiments --minutes 10",
        "experiments.command",
        "reproduce",
        ("tables", "figure2", "memory"),
    ),
    "search": Command(
        "Random search over settings of train: PRESET, ranges, and a budget for each trial. The same command goes on.",
        "samplernn-fast search laptop --data data --out search --range lr=1e-3:1e-2:log --trials 10 --minutes 5",
        "experiments.search",
        "search",
        ("Search",),
    ),
    "clips": Command(
        "What is wrong with generated audio: silence, clipping, an offset, loops, noise, clicks; one line a file.",
        "samplernn-fast clips out",
        "clips.command",
        "clips",
    ),
    "fidelity": Command(
        "FID, inception scores and AM score of generated words, by a small classifier that is trained on real ones.",
        "samplernn-fast fidelity made --data data --classifier classifier.safetensors",
        "clips.fidelity",
        "fidelity",
    ),
    "import": Command(
        "Make a run folder of another project's checkpoint: deepsound, PRiSM, s4 or the authors' Theano code.",
        "samplernn-fast import checkpoint.pt -o imported --sample-rate 16000",
        "imports",
        "import_",
    ),
    "publish": Command(
        "Give a model to others, with a card made from its run: to the Hugging Face Hub, or into a folder.",
        "samplernn-fast publish run -o published --license cc-by-4.0",
        "publishing.command",
        "publish",
    ),
    "abtest": Command(
        "Blind listening tests of pairs, as in the paper: make one, serve its page, count the answers.",
        "samplernn-fast abtest make quick=runs/quick paper=runs/paper -o test",
        "listening.command",
        "abtest",
        ("make", "serve", "tally", "export", "import_"),
    ),
    "jobs": Command(
        "Share a command between many processes: submit its shards, see how far they are, check what they made.",
        "samplernn-fast jobs status out",
        "jobs.command",
        "jobs",
        ("submit", "status", "merge", "manifest"),
    ),
    "info": Command(
        "What a model is: its settings, size, hash and how it was trained.",
        "samplernn-fast info run",
        "info",
        "info",
    ),
    "doctor": Command("What this machine can run, and why not the rest.", "samplernn-fast doctor", "info", "doctor"),
    "bench": Command(
        "How fast this machine makes audio: every backend beside plain torch.",
        "samplernn-fast bench demo --batch-size 1",
        "benchmark.command",
        "bench",
    ),
    "demo": Command(
        "From nothing to sound: synthesise a little music, train on it, and make new audio.",
        "samplernn-fast demo -o demo.wav",
        "demo",
        "demo",
    ),
}
"""Every command by name, in the order of the overview."""
SENDING = ("prepare", "train", "sparsify", "generate")
"""The commands whose output may be an address, such as s3://bucket/run; every command reads models and data there."""
TRAINING = ("train", "sparsify")
"""The commands whose flags are the settings of a `TrainConfig`. They take the words themselves."""
