"""The licence of a model: what must be said. No torch, so that a command can refuse before it loads."""

import re

from samplernn_fast.errors import ConfigError, quoted

_COMMON = "mit, apache-2.0, cc0-1.0, cc-by-4.0, cc-by-sa-4.0, cc-by-nc-4.0, openrail, other"
_ALL = "https://huggingface.co/docs/hub/repositories-licenses"


def check_license(license: str) -> str:
    """The Hub's word for a licence, in small letters. Raises ConfigError where none is given, or it cannot be one.

    The Hub knows some seventy words, and more each year; it refuses a card with another one itself.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{1,60}", license.lower()):
        got = f"got {quoted(license)}" if license else "and is never guessed"
        raise ConfigError(
            f"license must say under which terms others may use the model, {got}; common ones are {_COMMON}"
            f" (all: {_ALL})"
        )
    return license.lower()
