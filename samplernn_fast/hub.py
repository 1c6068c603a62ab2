"""The one door to the Hugging Face Hub: names of repositories there, what is fetched from it, what is sent to it.

The package huggingface_hub does the work, and is loaded by the first call. It keeps what it fetched in its cache, finds
the token of whoever is logged in, and reads HF_HUB_OFFLINE. What goes wrong is a CheckpointError of one line.
"""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from samplernn_fast.errors import CheckpointError, ConfigError, MissingPackage, quoted

PREFIX = "hf:"
"""What the name of a model on the Hub begins with where a folder might bear it too."""
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_NAME = re.compile(rf"({_PART}/{_PART})(?:@(\S{{1,200}}))?")
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_ENDPOINT = "https://huggingface.co"
_NEWS_SECONDS = 60.0
_recent: dict[tuple["Repository", str], tuple[float, Path]] = {}  # when it was asked for, and where it lies


@dataclass(frozen=True)
class Repository:
    """A repository of the Hub at one of its revisions."""

    name: str
    """As owner/name."""
    revision: str | None = None
    """A branch, a tag or a commit; None is the newest."""

    def __str__(self) -> str:
        return self.name if self.revision is None else f"{self.name}@{self.revision}"

    @property
    def short_name(self) -> str:
        """The name without its owner."""
        return self.name.partition("/")[2]


def is_named(name: object) -> bool:
    """Whether a model's name is one of the Hub's, such as hf:owner/name. Two slashes begin the address of a file."""
    text = str(name)
    return text.startswith(PREFIX) and not text.startswith(f"{PREFIX}/")


def repository(name: str | Path, revision: str | None = None) -> Repository:
    """The repository that is named owner/name, hf:owner/name or hf:owner/name@revision. Raises ConfigError."""
    found = _NAME.fullmatch(str(name).removeprefix(PREFIX))
    if found is None or "--" in found[1] or ".." in found[1]:
        raise ConfigError(f"a repository of the Hub must be named owner/name, got {quoted(str(name))}")
    if found[2] is not None and revision not in (None, found[2]):
        raise ConfigError(f"revision must be that of the name, {found[2]}, got {quoted(revision)}")
    return Repository(found[1], found[2] or revision)


def fetch(of: Repository, file: str, others: tuple[str, ...] = (), token: str | None = None) -> Path:
    """The folder in the cache where `file` of a repository lies, once it was fetched.

    others: files that are fetched too where they are there. Raises CheckpointError, or MissingPackage.
    """
    hub, token = _library(), _checked(token)
    options: dict[str, Any] = {"revision": of.revision, "token": token}
    with _explained(of, file, token):
        folder = Path(hub.hf_hub_download(of.name, file, **options)).parent
    for other in others:
        if (folder / other).exists():
            continue
        try:
            hub.hf_hub_download(of.name, other, **options)
        except (hub.errors.HTTPError, OSError, ValueError, hub.errors.EntryNotFoundError):
            continue  # nothing depends on it
    return folder


def fetched(of: Repository, file: str, others: tuple[str, ...] = ()) -> Path:
    """As `fetch`, which is asked once a minute at most: one command looks for its model several times, and a network
    that is gone would be waited for each time."""
    key, now = (of, file), time.monotonic()
    if key not in _recent or now - _recent[key][0] > _NEWS_SECONDS:
        folder = fetch(of, file, others)
        _recent[key] = (time.monotonic(), folder)
    return _recent[key][1]


def text_of(of: Repository, file: str, token: str | None = None) -> str | None:
    """A file of text as the Hub has it now; None where the repository or the file is not there."""
    hub, token = _library(), _checked(token)
    missing = (hub.errors.RepositoryNotFoundError, hub.errors.EntryNotFoundError, hub.errors.RevisionNotFoundError)
    with _explained(of, file, token):
        try:
            path = hub.hf_hub_download(of.name, file, revision=of.revision, token=token)
        except hub.errors.LocalEntryNotFoundError:  # an EntryNotFoundError too, of a Hub that gives no answer
            raise
        except missing:
            return None
        return Path(path).read_bytes().decode("utf-8", "replace")


def send(
    of: Repository, files: Sequence[Path], *, private: bool = False, token: str | None = None, message: str
) -> str:
    """Puts files into a repository as one commit, and makes the repository where it is not there; returns its address.

    private: refuse a repository that is public. Raises CheckpointError where that fails, and MissingPackage. A branch
    that is missing is refused before the repository is made.
    """
    hub, token = _library(), _checked(token)
    api = hub.HfApi(token=token)
    with _explained(of, "", token, sending=True):
        if of.revision not in (None, "main"):
            try:
                api.model_info(of.name, revision=of.revision)
            except hub.errors.RepositoryNotFoundError:
                raise CheckpointError(
                    f"{PREFIX}{of}: no such repository, or none that this account may read, so nothing was sent; leave"
                    f" revision out, because a new one has no branch {quoted(of.revision)}"
                ) from None
        address = api.create_repo(of.name, private=private or None, exist_ok=True)
        if private and not api.model_info(of.name).private:
            raise CheckpointError(
                f"{PREFIX}{of}: it is there already and is public, so nothing was sent; make it private on its page, or"
                " choose another name"
            )
        operations = [hub.CommitOperationAdd(file.name, str(file)) for file in files]
        api.create_commit(of.name, operations, commit_message=message, revision=of.revision)
    return str(address)


def _checked(token: str | None) -> str | None:
    """A token without spaces around it. Raises ConfigError, without its text, for one that is no word: an error of the
    network would print it."""
    token = None if token is None else token.strip()
    if token is not None and (not token or not token.isascii() or not token.isprintable() or " " in token):
        raise ConfigError("token must be one word, as the page of the Hub's settings shows it")
    return token


def _library() -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.errors  # which huggingface_hub itself does not load
    except ImportError:
        raise MissingPackage(
            "models on the Hub need huggingface_hub; pip install huggingface_hub (extra `hub`)"
        ) from None
    return huggingface_hub


@contextmanager
def _explained(of: Repository, file: str, token: str | None, *, sending: bool = False) -> Iterator[None]:
    """What huggingface_hub raises in the block becomes a CheckpointError that says what to do."""
    errors: Any = _library().errors
    kinds = (errors.HTTPError, errors.EntryNotFoundError, OSError, ValueError)
    try:
        yield
    except kinds as error:
        try:
            _refuse(of, file, error, errors, sending)
        except CheckpointError as explained:
            raise CheckpointError(_without_token(str(explained), token)) from None


def _refuse(of: Repository, file: str, error: Exception, errors: Any, sending: bool) -> NoReturn:
    """Raises the CheckpointError that stands for an error of huggingface_hub."""
    # A Hub that gives no answer, or a bad one, is the cause of an error that says that nothing is in the cache.
    cause = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ else error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if isinstance(cause, errors.OfflineModeIsEnabled):
        kept = "nothing is sent" if sending else "it is not in the cache of huggingface_hub"
        reason = f"HF_HUB_OFFLINE is set, and {kept}; unset it and try again"
    elif isinstance(cause, errors.GatedRepoError):
        reason = f"its owner gives it to whom they allow; ask on {_ENDPOINT}/{of.name}, then {_LOG_IN}"
    elif isinstance(cause, errors.RevisionNotFoundError):
        reason = f"it has no revision {quoted(of.revision)}; {'make the branch first' if sending else 'leave it out'}"
    elif sending and status in (401, 403, 404):
        reason = f"this account may not write there ({status}); {_LOG_IN} with a token that may write"
    elif isinstance(cause, errors.RepositoryNotFoundError) or status == 401:
        reason = f"no such model on the Hub, or a private one; look at the name, or {_LOG_IN}"
    elif status == 403:
        reason = f"this account may not read it; {_LOG_IN} with a token that may"
    elif isinstance(cause, errors.RemoteEntryNotFoundError):
        reason = f"it has no {file}, so it holds no model of samplernn_fast"
    elif status is not None:
        said = getattr(cause, "server_message", None) or _first_line(cause)
        reason = f"the Hub answered {status} ({said}){'' if status == 400 else '; try again later'}"
    elif isinstance(cause, OSError) and cause.errno is not None and cause.filename is not None:
        reason = f"the cache of huggingface_hub cannot be written ({cause}); HF_HOME names another folder"
    else:
        reason = f"the Hub cannot be reached ({_first_line(cause)}); look at the network, and try again"
    raise CheckpointError(f"{PREFIX}{of}: {reason}") from None


def _without_token(text: str, token: str | None) -> str:
    """A message with stars in place of the token that was given, and of what a library shows of a header with one."""
    text = text if not token else text.replace(token, "***")
    return re.sub(r"(?i)\bbearer [^;]*", "Bearer ***", text)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:200]
