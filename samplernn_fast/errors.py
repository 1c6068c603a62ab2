"""The errors a user can meet. Each message is one line: what is wrong, where, and what to do."""


class SampleRNNError(Exception):
    """Base of every error this package raises on purpose; the command line prints it without a traceback."""


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
