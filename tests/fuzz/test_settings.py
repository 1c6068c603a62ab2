"""Settings beside a checkpoint, JSON and YAML, in every kind of damage."""

import json
from pathlib import Path

import pytest
from fuzzing import fuzz, fuzz_cases, write_case
from mutations import mutate

from samplernn_fast.importing.settings import read_settings

VALUES = {
    "q_type": "mu-law",
    "q_levels": 256,
    "frame_sizes": [2, 8],
    "model": {"d_hidden": 4, "rate": 1.6e4},
    "x": None,
}
JSON = json.dumps(VALUES).encode()
YAML = b"""model: &m
  d_hidden: 4
  quantization: ${dataset.q}
other: *m
list: [1, 0x2f, 1:30, 2020-01-02]
text: |
  a
"""


@pytest.mark.parametrize("name", ["a.json", "a.yaml"])
@fuzz_cases
def test_settings(name: str, cases: int, tmp_path: Path) -> None:
    file = tmp_path / name

    def target(case: bytes) -> None:
        read_settings(write_case(file, case))

    whole = JSON if name == "a.json" else YAML
    fuzz(target, lambda source: mutate(source, whole, [JSON, YAML]), cases, valid=[whole])
