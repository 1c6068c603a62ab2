"""The header of a file of ours, and the opening of one: safetensors with JSON, so that reading one runs no code.

Nothing here needs torch. `models.checkpoint` writes such files, and reads them as torch's tensors.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from samplernn_fast._version import __version__
from samplernn_fast.errors import CheckpointError
from samplernn_fast.models.config import AudioConfig
from samplernn_fast.models.other_configs import config_from_dict
from samplernn_fast.untrusted import Fields, open_file, parse_json

FORMAT_VERSION = 1
KEY = "samplernn_fast"
"""The name under which our header lies in the metadata of the file."""
AUDIO_KINDS = ("model", "training")
"""The kinds of files that hold a model: it alone, or with everything that exact resumption needs."""
CLASSIFIER_KIND = "classifier"
"""The kind of a file that holds a classifier of words."""
STATE_KIND = "state"
"""The kind of a file that holds the state of an engine."""
_KINDS = (*AUDIO_KINDS, CLASSIFIER_KIND, STATE_KIND)
# What readers raise of damaged files; an AttributeError is a type of numbers that NumPy does not have.
_UNREADABLE = (SafetensorError, OSError, ValueError, TypeError, RuntimeError, OverflowError, AttributeError)
_HEADER_BYTES = 1 << 24  # most bytes of our header; a place in the data has some twenty for each row of a batch
_MOST_LIST = 2 * _HEADER_BYTES  # most bytes of the list of tensors, in which our header is text
_MOST_TENSORS = 20_000
_MOST_LISTS = 10_000  # lists and mappings of our header


def read_header(file: Path) -> dict[str, Any]:
    """The header of a file that holds a model, without its tensors. Raises CheckpointError."""
    with opened(file, AUDIO_KINDS, "np") as (_, header):
        return header


def metadata(kind: str, parts: dict[str, Any]) -> dict[str, str]:
    """The metadata of a new file of this kind. parts: what belongs to that kind, for JSON."""
    header = {"kind": kind, **parts, "format_version": FORMAT_VERSION, "made_by": f"samplernn_fast {__version__}"}
    return {KEY: json.dumps(header)}


@contextmanager
def opened(file: Path, kinds: Sequence[str], framework: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The open file, whose tensors are those of `framework` ("np" or "pt"), and its header. What goes wrong in the
    block is a CheckpointError too."""
    if not os.path.lexists(file):
        raise CheckpointError(f"{file}: no such file")
    try:
        with open_file(file) as stream:  # a pipe or a device is refused here
            length = int.from_bytes(stream.read(8), "little")
        if length > _MOST_LIST:
            raise ValueError(f"its list of tensors would have {length} bytes")
        with safe_open(file, framework=framework) as content:
            header, count = _header(file, (content.metadata() or {}).get(KEY, "null"), kinds), len(content.keys())
            if count > _MOST_TENSORS:
                raise ValueError(f"it lists {count} tensors")
            yield content, header
    except CheckpointError:
        raise
    except _UNREADABLE as error:
        reason = " ".join(str(error)[:400].split())[:200]
        raise CheckpointError(f"{file}: not a readable checkpoint, truncated or of another format ({reason})") from None


def _header(file: Path, text: str, kinds: Sequence[str]) -> dict[str, Any]:
    """Our header in a file: its kind, config, and what else belongs to that kind. Raises CheckpointError."""
    # A million empty lists are short as text and take 100 MB once they are read.
    small = len(text) <= _HEADER_BYTES and text.count("[") + text.count("{") <= _MOST_LISTS
    header = parse_json(text) if small else None
    if not isinstance(header, dict) or header.get("kind") not in _KINDS:
        raise CheckpointError(f"{file}: a safetensors file, but not one of samplernn_fast")
    if header["kind"] not in kinds:
        raise CheckpointError(f"{file}: holds a {header['kind']} of samplernn_fast, not a {kinds[0]}")
    if header.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{file}: format version {str(header.get('format_version'))[:20]}, this program reads {FORMAT_VERSION};"
            " made by another version of samplernn_fast"
        )
    parts = Fields(header, "the header")
    parts.fields("progress" if header["kind"] == "training" else "info")
    parts.text("made_by")
    return header


def config_in(header: dict[str, Any], file: Path) -> AudioConfig:
    """The settings of the model in a file's header. Raises CheckpointError."""
    with usable_settings(file):
        return config_from_dict(header["config"])


@contextmanager
def usable_settings(file: Path) -> Iterator[None]:
    """Errors of settings that are not those of any model become a CheckpointError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{file}: its model settings cannot be used: {error}") from None
