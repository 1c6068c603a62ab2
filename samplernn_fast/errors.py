"""The errors a user can meet. Each message is one line: what is wrong, where, and what to do."""


def one_line(text: object) -> str:
    """`text` with every line break and other character that cannot be shown written as its escape, as in `\\n`.

    File names may hold such characters, and bytes that are no text, and a message quotes them.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "backslashreplace").decode()
        for character in str(text)
    )


class SampleRNNError(Exception):
    """Base of every error this package raises on purpose; the command line prints it without a traceback."""

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(message))


class ConfigError(SampleRNNError, ValueError):
    """A model, training or generation setting that cannot work."""


class AudioError(SampleRNNError):
    """An audio file that cannot be read or written."""


class DataError(SampleRNNError):
    """A data folder that is missing, damaged, or does not fit the model."""


class CheckpointError(SampleRNNError):
    """A run folder or checkpoint that is missing, damaged, or of another format."""


class DeviceError(SampleRNNError):
    """A GPU that failed or gave no answer while audio was made."""


class BackendUnavailable(SampleRNNError):
    """A backend was asked for by name and cannot run this model on this device."""
