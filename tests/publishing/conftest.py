"""A stand-in for the Hub, which huggingface_hub asks in place of the real one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub import WRITER, Hub

from samplernn_fast import hub as door


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """An empty Hub, with an empty cache; whoever asks may write."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs huggingface_hub, of the extra `hub`")
    empty = Hub()
    with empty.served() as address:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # huggingface_hub waits before it asks again
        monkeypatch.setenv("HF_TOKEN", WRITER)
        door._recent.clear()
        yield empty
    door._recent.clear()
