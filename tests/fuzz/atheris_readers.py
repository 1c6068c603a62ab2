"""A search for harm in one reader of foreign files, guided by which of its lines a case reaches; for Linux.

    make fuzz FUZZ_SECONDS=600                                       every reader, ten minutes each
    python tests/fuzz/atheris_readers.py pickle --seconds 600        one of pickle, torch, tensorflow

The search begins with the small files of `fuzz_seeds`, keeps what reaches new lines in a folder (--corpus) and ends
with the first case that raises another error than CheckpointError, takes 5 seconds, or makes the process larger than
1.5 GB, torch included. That case is written into the folder. The package's other fuzz tests need no atheris.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris
import torch  # noqa: F401, before what is watched, or all of it would be

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import fuzz_seeds

with atheris.instrument_imports(include=["samplernn_fast.importing.formats", "pickletools", "zipfile"]):
    from samplernn_fast.errors import CheckpointError
    from samplernn_fast.importing.formats import array_pickle, pickles, tf_bundle, torch_file, torch_pickle  # noqa: F401

_MEMORY = 1500  # MB; torch takes about 400
_LONGEST = 4096  # bytes of a case


def _reader(name: str, folder: Path) -> tuple[Callable[[bytes], object], list[bytes]]:
    """What reads a case, and the cases to begin with."""
    file = folder / "case"
    if name == "pickle":
        return lambda case: array_pickle.read_pickle(_written(file, case)), fuzz_seeds.array_pickles()
    if name == "tensorflow":
        index, data = fuzz_seeds.bundle()
        (folder / f"case{fuzz_seeds.DATA}").write_bytes(data)
        (folder / "case").touch()

        def read_index(case: bytes) -> object:
            _written(folder / "case.index", case)
            return tf_bundle.read_bundle(folder / "case", lambda name: True)

        return read_index, [index]

    def read_torch(case: bytes) -> object:
        """The first byte says whether the rest is a file, or the pickle in a whole archive, whose checksum is right."""
        content = case[1:]
        if case[:1] == b"p":
            content = fuzz_seeds.archive(content, **{"data/0": bytes(48), "data/1": bytes(16)})
        return torch_file.read_torch_file(_written(file, content))

    pickled = [fuzz_seeds.torch_pickle(), fuzz_seeds.tensor_pickle("I4\n", "I1\n")]
    return read_torch, [b"p" + one for one in pickled] + [b"f" + one for one in fuzz_seeds.torch_files()]


def _written(file: Path, content: bytes) -> Path:
    file.unlink(missing_ok=True)
    file.write_bytes(content)
    return file


def main() -> None:
    """Searches until the time is over or a case does harm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", choices=("pickle", "torch", "tensorflow"))
    parser.add_argument("--seconds", type=int, default=600, help="how long to search")
    parser.add_argument("--corpus", type=Path, help="folder of the cases, kept for the next search; else a new one")
    given = parser.parse_args()
    corpus = given.corpus or Path(tempfile.mkdtemp(prefix=f"fuzz-{given.reader}-"))
    corpus.mkdir(parents=True, exist_ok=True)
    folder = Path("/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir()) / f"fuzz-{given.reader}"
    folder.mkdir(exist_ok=True)  # in memory where that can be; the search ends the process, so nothing could remove it
    read, seeds = _reader(given.reader, folder)
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)

    def one(case: bytes) -> None:
        try:
            read(case)
        except CheckpointError as error:
            assert str(error).isprintable()

    print(f"searching {given.reader} for {given.seconds} s, cases in {corpus}", flush=True)
    options = [f"-max_total_time={given.seconds}", f"-rss_limit_mb={_MEMORY}", f"-max_len={_LONGEST}", "-timeout=5"]
    atheris.Setup([sys.argv[0], str(corpus), f"-artifact_prefix={corpus}/", *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
