"""`save_pretrained`, `push_to_hub`, `from_pretrained`: a model in a folder with its card, and on the Hub."""

import json
import os
import tempfile
from pathlib import Path

from samplernn_fast import hub
from samplernn_fast.errors import CheckpointError, ConfigError, quoted
from samplernn_fast.models import checkpoint
from samplernn_fast.models.base import AudioModel
from samplernn_fast.models.places import CONFIG_FILE, MODEL_FILE, model_file
from samplernn_fast.publishing.card import Heading, card
from samplernn_fast.publishing.facts import Facts, Progress, facts_of, public_info
from samplernn_fast.publishing.licenses import check_license
from samplernn_fast.publishing.places import CARD_FILE, WRITTEN, check_folder
from samplernn_fast.ranges import checked
from samplernn_fast.untrusted import Unreadable, read_bytes

_CARD_BYTES = 1 << 20

ModelOrRun = AudioModel | str | Path


@checked
def save_pretrained(
    model: ModelOrRun,
    folder: str | Path,
    *,
    license: str = "",
    name: str = "",
    about: str = "",
    data: str | Path | None = None,
    test: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write a model for others to a folder: model.safetensors (weights and settings), config.json and a model card.

    model: a run folder, of which the best model is taken, a .safetensors file, a bundled one, or a model in memory,
    of whose training nothing is known. The card, README.md, is made of what the run knows of itself.
    license: the Hub's word for the terms under which others may use the weights, such as "mit" or "cc-by-4.0".
    name: the title of the card; the folder's name. about: a paragraph of your own below the title, in Markdown.
    data: the data folder that the model was trained on, where it does not lie where the run read it. test: score its
    test split for the card; progress is told how many samples are done.
    overwrite: replace what is there. What stands in README.md below its last line, or all of one that this did not
    write, is kept, and so is metadata that it does not write itself.

    Returns the folder. Raises ConfigError without a license and for a folder of a run or of something else, which is
    never written into; CheckpointError for files that exist, and as `load`; DataError.
    """
    licensed, target = check_license(license), check_folder(folder, overwrite)
    existing = _text_in(target / CARD_FILE)
    heading = Heading(name or target.resolve().name, licensed, about)
    facts = facts_of(model, None if data is None else Path(data), test=test, progress=progress)
    _write(model, target, facts, card(facts, heading, existing))
    return target


@checked
def push_to_hub(
    model: ModelOrRun,
    repository: str,
    *,
    license: str = "",
    name: str = "",
    about: str = "",
    data: str | Path | None = None,
    test: bool = False,
    private: bool = False,
    token: str | None = None,
    revision: str | None = None,
    message: str = "Upload a model of samplernn_fast",
    progress: Progress | None = None,
) -> str:
    """Send a model with its card to a repository of the Hugging Face Hub, "owner/name", as one commit.

    The repository is made where it is not there, private: for those alone whom its owner allows. What its README.md
    says in words of others is kept, as in `save_pretrained`, which has the other settings. token: one that may write;
    None takes that of whoever is logged in. revision: the branch, which must be there; None is the main one.

    Returns the address of the page. Raises as `save_pretrained`, CheckpointError where the Hub refuses or cannot be
    reached, and MissingPackage without huggingface_hub.
    """
    licensed, place = check_license(license), hub.repository(repository, revision)
    existing = hub.text_of(place, CARD_FILE, token)
    heading = Heading(name or place.short_name, licensed, about, place.name)
    facts = facts_of(model, None if data is None else Path(data), test=test, progress=progress)
    text = card(facts, heading, existing)
    with tempfile.TemporaryDirectory() as temporary:
        _write(model, Path(temporary), facts, text)
        sent = [Path(temporary) / file for file in WRITTEN]
        return hub.send(place, sent, private=private, token=token, message=message)


@checked
def from_pretrained(name: str | Path, *, revision: str | None = None, token: str | None = None) -> AudioModel:
    """The model of a repository of the Hugging Face Hub, "owner/name", or of a folder; what `load` returns.

    A folder of that name comes first. huggingface_hub keeps what it fetched, so the next call asks the Hub for news
    only, and with HF_HUB_OFFLINE=1 not even that. revision: a branch, a tag or a commit. token: None takes that of
    whoever is logged in. No code of the repository is run, and no pickle is opened.

    Raises CheckpointError where there is no such model, the Hub cannot be reached or the file is no model, and
    MissingPackage without huggingface_hub.
    """
    if os.path.exists(name):
        if revision is not None:
            raise ConfigError(f"revision is one of a repository of the Hub, and {name} is a folder or file here")
        return checkpoint.load_model(name)
    try:
        place = hub.repository(name, revision)
    except ConfigError:
        if revision is None and not hub.is_named(name):
            shown = quoted(str(name))
            raise CheckpointError(f"{shown}: no such folder, and not owner/name of a repository of the Hub") from None
        raise
    folder = hub.fetch(place, MODEL_FILE, (CONFIG_FILE,), token)
    return checkpoint.load_model(folder / MODEL_FILE)


def _text_in(file: Path) -> str | None:
    """A README.md that is there; None where there is none. Raises ConfigError where it cannot be read."""
    if not file.exists():
        return None
    try:
        return read_bytes(file, _CARD_BYTES).decode("utf-8-sig")
    except (Unreadable, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error}), and its text would be lost; move it away") from None


def _write(model: ModelOrRun, folder: Path, facts: Facts, text: str) -> None:
    """Writes the three files, each whole or not at all, the card last."""
    if isinstance(model, AudioModel):
        checkpoint.save_model(folder / MODEL_FILE, model)
    else:
        source = model_file(model)
        checkpoint.copy_model(source, folder / MODEL_FILE, public_info(source))
    settings = {"library_name": "samplernn-fast", "model_type": facts.config.system, "model": facts.config.to_dict()}
    checkpoint.write_text(folder / CONFIG_FILE, json.dumps(settings, indent=1) + "\n")
    checkpoint.write_text(folder / CARD_FILE, text)
