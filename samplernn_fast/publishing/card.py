"""The model card: a README.md whose front matter the Hub reads, and whose text is made of what is known of a model.

What is not known is left out, sentence by sentence. The text of whoever publishes the model stands below a line of its
own, and is kept when the card is made anew.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from samplernn_fast import terminal
from samplernn_fast.errors import ConfigError, one_line
from samplernn_fast.models.config import AudioConfig
from samplernn_fast.models.other_configs import MixtureConfig
from samplernn_fast.publishing.facts import Facts
from samplernn_fast.training.progress import shape
from samplernn_fast.untrusted import YAML_BYTES, Unreadable, parse_yaml

MARKER = "<!-- Your own text goes below this line; samplernn-fast writes what is above, and keeps what is below. -->"
_TASK = "text-to-audio"
"""The only task of the Hub's list under which models that make audio are found; it has none without a text."""
_TAGS = ("audio-generation", "unconditional-audio-generation", "samplernn")
_FRONT_MATTER = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_PAPER = "https://arxiv.org/abs/1612.07837"
_TITLES = {
    "samplernn": "a SampleRNN",
    "samplernn-real-input": "a SampleRNN without an embedding",
    "samplernn-sparse": "a SampleRNN, most of whose weights are zero",
    "multi-softmax": "a SampleRNN that draws several samples at once",
    "samplernn-gmm": "a SampleRNN that predicts a mixture of Gaussians",
    "rnn": "an RNN over single samples, the baseline of SampleRNN",
    "rnn-gmm": "an RNN over single samples that predicts a mixture of Gaussians",
    "wavenet": "a WaveNet, as SampleRNN's paper compares itself with it",
    "hybrid-wavenet": "a hybrid of SampleRNN and WaveNet",
    "hybrid-rnn-wavenet": "a hybrid of SampleRNN and WaveNet",
}
_SPLIT_NAMES = {"train": "training", "valid": "validation", "test": "test"}
_LITTLE = 3600.0  # seconds of training audio below which much of it is learnt by heart


@dataclass(frozen=True)
class Heading:
    """What whoever publishes a model says of it."""

    name: str
    """The title of the card."""
    license: str
    """The Hub's word for the licence of the weights."""
    about: str = ""
    """A paragraph below the title."""
    repository: str = ""
    """Where the model will lie on the Hub, as owner/name; empty for a folder."""


def card(facts: Facts, heading: Heading, existing: str | None = None) -> str:
    """The text of README.md. existing: one that is there, whose own text and whose other metadata are kept.

    Raises ConfigError where the front matter of that cannot be read.
    """
    kept, own = ({}, "") if existing is None else _own_parts(existing)
    body = "\n\n".join([f"# {_plain(heading.name)}", *_paragraphs(facts, heading), MARKER])
    front = yaml.safe_dump(_metadata(facts, heading, kept), sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{front}---\n\n{body}\n" + (f"\n{own}\n" if own else "")


def _own_parts(existing: str) -> tuple[dict[str, Any], str]:
    """The metadata of a README.md, and the text that samplernn-fast did not write: all of it where it wrote none."""
    found = _FRONT_MATTER.match(existing.removeprefix("\ufeff"))
    text = existing if found is None else existing.removeprefix("\ufeff")[found.end() :]
    own = text.partition(MARKER)[2] if MARKER in text else text
    if found is None:
        return {}, own.strip()
    try:
        metadata = parse_yaml(found[1][: YAML_BYTES + 1])
    except Unreadable as error:
        raise ConfigError(f"the README.md that is there: its front matter {error}; mend it, or move it away") from None
    return (metadata if isinstance(metadata, dict) else {}), own.strip()


def _metadata(facts: Facts, heading: Heading, kept: Mapping[str, Any]) -> dict[str, Any]:
    """The front matter. kept: that of the README.md that is there; ours takes its place, and tags are added up."""
    system = facts.config.system
    tags = [*_TAGS, *([] if system == "samplernn" else [system])]
    given = kept.get("tags")
    tags += [one for one in (given if isinstance(given, list) else []) if isinstance(one, str) and one not in tags]
    ours: dict[str, Any] = {
        "license": heading.license,
        "library_name": "samplernn-fast",
        "pipeline_tag": _TASK,
        "tags": tags,
        "sample_rate": facts.config.sample_rate,
    }
    if facts.base:
        ours["base_model"] = facts.base
    results = [
        {"type": "bits-per-sample", "value": round(bits, 4), "name": f"Bits per sample, {name} split"}
        for name, bits in _scores(facts)
    ]
    if results:
        data = facts.data or heading.name
        index = {
            "task": {"type": _TASK, "name": "Audio generation"},
            "dataset": {"type": data, "name": data},
            "metrics": results,
        }
        ours["model-index"] = [{"name": heading.name, "results": [index]}]
    return ours | {name: value for name, value in kept.items() if name not in (*ours, "model-index")}


def _scores(facts: Facts) -> Iterator[tuple[str, float]]:
    if facts.valid_bits is not None:
        yield "validation", facts.valid_bits
    if facts.test is not None:
        yield "test", facts.test.nll_bits


def _paragraphs(facts: Facts, heading: Heading) -> Iterator[str]:
    """The text below the title, part by part."""
    config = facts.config
    what = _TITLES.get(config.system, f"a model of the system {config.system}")
    yield (
        f"{what[0].upper()}{what[1:]} ([paper]({_PAPER})): it makes sound one sample after another, mono, at"
        f" {config.sample_rate:,} Hz. It takes no text: it makes more of what it heard in training, or goes on from a"
        " recording."
    )
    if heading.about.strip():
        yield heading.about.strip()
    yield _playing(heading)
    yield "## Training data"
    yield from _data(facts)
    yield "## The model"
    yield _table(_model_rows(facts))
    rows = list(_training_rows(facts))
    if rows:
        yield "## Training"
        yield _table(rows)
    scores = list(_score_rows(facts))
    if scores:
        yield "## How well it predicts"
        yield "Negative log-likelihood of a sample given all before it, on recordings that it was not trained on:"
        yield _table(scores)
    yield "## Limits"
    yield "\n".join(f"- {line}" for line in _limits(facts))


def _playing(heading: Heading) -> str:
    """How to play it, in the shell and in Python."""
    install, where = "pip install 'samplernn-fast[hub]'", f"hf:{heading.repository}"
    load = f'srnn.from_pretrained("{heading.repository}")'
    if not heading.repository:
        install, where, load = "pip install samplernn-fast", ".", 'srnn.load(".")'
    place = "" if heading.repository else ", in the folder of this card"
    return f"""## Play it

In the shell{place}:

```bash
{install}
samplernn-fast generate {where} -o new.wav --duration 10
```

In Python:

```python
import samplernn_fast as srnn

model = {load}
srnn.generate(model, duration=10, seed=1).save("take.wav")
```"""


def _data(facts: Facts) -> Iterator[str]:
    name = f" `{_plain(facts.data)}`" if facts.data else ""
    if not facts.splits:
        yield (
            f"The data folder{name}; how much audio it has is not recorded."
            if name
            else "What it was trained on is not recorded in its file."
        )
        return
    total = terminal.audio_length(sum(split.seconds for split in facts.splits))
    yield f"The data folder{name}, {total} of audio at {facts.config.sample_rate:,} Hz:"
    rows = [
        (_SPLIT_NAMES[split.name], f"{terminal.audio_length(split.seconds)} | {split.recordings:,}")
        for split in facts.splits
    ]
    yield _table(rows, "| split | audio | recordings |\n|---|---|---|")


def _model_rows(facts: Facts) -> Iterator[tuple[str, str]]:
    config, count = facts.config, facts.parameters
    yield "network", shape(config)
    yield "the next sample", _outputs(config)
    yield "parameters", f"{count:,}" if count < 10**6 else f"{count / 1e6:.3g} million"
    yield "sample rate", f"{config.sample_rate:,} Hz"
    if facts.origin:
        yield "weights", facts.origin
    yield "SHA-256", f"`{facts.sha256}`"


def _outputs(config: AudioConfig) -> str:
    if isinstance(config, MixtureConfig):
        return f"a mixture of {terminal.counted(config.components, 'Gaussian')} over the amplitude, drawn in 16 bits"
    return f"one of {config.q_levels:,} levels, {config.quantization}"


def _training_rows(facts: Facts) -> Iterator[tuple[str, str]]:
    batch, length = (facts.setting(name, 1) for name in ("batch_size", "seq_len"))
    if facts.steps is not None:
        yield "updates", f"{facts.steps:,}"
    if batch is not None and length is not None:
        each = batch * length / facts.config.sample_rate
        yield "an update reads", f"{batch:,.0f} subsequences of {length:,.0f} samples ({each:.3g} s of audio)"
    rate, changed = facts.setting("lr"), facts.setting("change_lr")
    if rate is not None:
        schedule = facts.settings.has("lr_schedule") and facts.settings.value("lr_schedule") == "cosine"
        falls = ", falling by a cosine" if schedule and changed is None else ""
        last = "" if changed is None else f", in the end {changed:g}"
        decay = facts.setting("weight_decay") or 0
        optimizer = f"AdamW, weight decay {decay:g}" if decay else "Adam"
        yield "learning rate", f"{rate:g} ({optimizer}){falls}{last}"
    average = facts.setting("ema") or 0
    if average:
        yield "weights", f"the moving average of those of all updates, which keeps {average:g} of itself at each"
    seed = facts.setting("seed")
    if seed is not None:
        yield "seed", f"{seed:.0f}"
    if facts.seconds is not None:
        yield "time", terminal.duration(facts.seconds)


def _score_rows(facts: Facts) -> Iterator[tuple[str, str]]:
    levels = ", of 256 linear levels" if facts.config.mixture else ""
    for name, bits in _scores(facts):
        yield f"{name} split{_part_read(facts) if name == 'validation' else ''}", f"{bits:.3f} bits per sample{levels}"
    if facts.test is not None and facts.test.nll_nats is not None:
        yield "test split", f"{facts.test.nll_nats:.3f} nats of the density of the normalised signal"


def _part_read(facts: Facts) -> str:
    """That a validation reads the first seconds of its split only, where that is so."""
    most, whole = facts.setting("eval_seconds"), sum(one.seconds for one in facts.splits if one.name == "valid")
    return f" (its first {most:g} s)" if most and whole > most else ""


def _limits(facts: Facts) -> Iterator[str]:
    heard, rate = facts.seconds_heard, facts.config.sample_rate
    yield (
        "It knows nothing but the sound of the recordings that it was trained on: no words, no notes, no form. It can"
        " fall silent, repeat itself, hum or click; `samplernn-fast clips` finds that, and another `--seed` or another"
        " `--temperature` often helps."
    )
    if 0 < heard < _LITTLE:
        yield (
            f"It was trained on {terminal.audio_length(heard)} of audio, which is little: what it plays may be close to"
            " passages of the recordings."
        )
    yield f"Nothing above {rate / 2000:g} kHz is in its sound, which is mono."
    yield (
        "Where the recordings are of somebody's voice or playing, it imitates that person; do not pass its sound off as"
        " theirs. The licence above is that of the weights; it says nothing of the rights in the recordings."
    )


def _table(rows: Any, head: str = "| | |\n|---|---|") -> str:
    return "\n".join([head, *(f"| {name} | {value} |" for name, value in rows)])


def _plain(text: str) -> str:
    """A name that may be anything, on one line of Markdown without a meaning of its own there."""
    return " ".join(re.sub(r"[`<>|\[\]*]", " ", one_line(text)).split())
