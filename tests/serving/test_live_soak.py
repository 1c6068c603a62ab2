"""Live sound for a long time: memory stays, listeners come and go, and every stream is what it is alone."""

import random
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("samplernn_fast._C", reason="the C++ engine is not built")
pytest.importorskip("websockets", reason="needs websockets, of the extra `serve`")

from live import served_live

from samplernn_fast.engine.engine import Engine
from samplernn_fast.serving.live.settings import Settings
from samplernn_fast.serving.live.slot import Slot, advance

LISTENERS = 8
BLOCKS = 64  # of 256 samples, in a session


def resident(process: int) -> float:
    """The memory of a process, in MB."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096 / 1e6


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux, to see the memory of a process")
def test_sessions_of_eight_listeners(request: pytest.FixtureRequest) -> None:
    """Forty sessions of two seconds of eight listeners, who move settings, reset, freeze, and leave properly or not."""
    chance, engine = random.Random(1), Engine("demo", dtype="int8", num_threads=1)
    memory: list[float] = []
    with served_live(("demo",), "--max-listeners", str(LISTENERS), "--dtype", "int8") as server:
        for session in range(40):
            clients = [server.client() for _ in range(LISTENERS)]
            heard: list[list[np.ndarray]] = [[] for _ in clients]
            for seed, client in enumerate(clients):
                client.play(seed=seed + session, block=256)
            for block in range(BLOCKS):
                for client in clients:
                    if chance.random() < 0.1:
                        changes = [{"temperature": chance.uniform(0.5, 1.2)}, {"top_k": 9}, {"frozen": block % 2 == 0}]
                        client.say(do="set", id=block + 1, **chance.choice(changes))
                    if chance.random() < 0.02:
                        client.say(do="reset", id=block + 1)
                    client.say(do="want", until=(block + 1) * 256)
                for seed, client in enumerate(clients):
                    heard[seed].append(client.hear((block + 1) * 256 - client.position))
            for seed, client in enumerate(clients):
                score = [(event["at"], event["changes"]) for event in client.events if event["is"] == "set"]
                slot = Slot(engine, seed + session, Settings(), score=score)
                assert np.array_equal(np.concatenate(heard[seed]), advance(engine, [slot], BLOCKS * 256)[0])
                if seed % 2:
                    client.socket.close()
                else:
                    client.socket.socket.close()  # as a machine that is switched off
            memory.append(resident(server.process.pid))
        assert max(memory[20:]) < max(memory[:20]) + 8
