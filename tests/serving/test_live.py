"""The live server as its clients meet it: sound, settings, many listeners, other addresses, ends of all kinds."""

import io
import ipaddress
import json
import signal
import socket as socket_module
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

pytest.importorskip("samplernn_fast._C", reason="the C++ engine is not built")
pytest.importorskip("websockets", reason="needs websockets, of the extra `serve`")
pytest.importorskip("prometheus_client", reason="needs prometheus-client, of the extra `serve`")

from live import HEADER, PATIENCE, LiveServer, served_live, until
from websockets.exceptions import ConnectionClosed, InvalidStatus

import samplernn_fast

RATE = 8000


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with served_live(("demo", "demo-piano"), "--max-listeners", "8") as served:
        yield served


def generated(samples: int, **settings: Any) -> np.ndarray:
    return samplernn_fast.generate("demo", duration=samples / RATE, **settings).samples[0]


def test_a_stream_is_what_generate_makes(server: LiveServer) -> None:
    with server.client() as client:
        assert [model["name"] for model in client.hello["models"]] == ["demo", "demo-piano"]
        playing = client.play(seed=7, temperature=0.9, top_k=50, top_p=0.99, block=100)
        assert playing["is"] == "playing" and playing["block"] == 128 and playing["rate"] == RATE
        assert playing["sha256"] == samplernn_fast.generate("demo", duration=0.01).info["model_sha256"]
        made = np.concatenate([client.hear(640), client.hear(128), client.hear(1280)])
        assert np.array_equal(made, generated(2048, seed=7, temperature=0.9, top_k=50, top_p=0.99))
        assert client.number == playing["play"] == 1


def test_another_model_of_the_same_server(server: LiveServer) -> None:
    with server.client() as client:
        playing = client.play(model="demo-piano", seed=1)
        assert playing["rate"] == 16000
        made = client.hear(1024)
    wanted = samplernn_fast.generate("demo-piano", duration=1024 / 16000, seed=1)
    assert np.array_equal(made, wanted.samples[0])


def test_a_seed_that_nobody_chose_is_told(server: LiveServer) -> None:
    with server.client() as client:
        seed = client.play(seed=None)["seed"]
        assert np.array_equal(client.hear(256), generated(256, seed=seed))


def test_settings_change_at_once_and_a_score_makes_the_same_again(server: LiveServer) -> None:
    with server.client() as client:
        client.play(seed=3, block=64)
        made = [client.hear(256)]
        client.say(do="set", id=41, temperature=0.4, top_k=5)
        made.append(client.hear(256))
        assert client.obeys == 41
        client.say(do="reset", id=42)
        made.append(client.hear(512))
        client.say(do="set", id=43, frozen=True)
        made.append(client.hear(10_240))
        changes = [event for event in client.events if event["is"] == "set"]
        assert [(event["id"], event["at"]) for event in changes] == [(41, 256), (42, 512), (43, 1024)]
        assert changes[0]["changes"] == {"temperature": 0.4, "top_k": 5}
        score = [[event["at"], event["changes"]] for event in changes]
        assert client.play(seed=3, block=512, score=score)["play"] == 2
        assert np.array_equal(client.hear(11_264), np.concatenate(made))


def test_a_change_falls_into_sound_that_was_sent(server: LiveServer) -> None:
    with server.client() as client:
        playing = client.play(seed=6, block=64)
        assert playing["rewinds"] and playing["kept"] == 128
        client.say(do="want", until=2048, keep=0)
        before = client.hear(2048)
        client.say(**{"do": "reset", "id": 4, "from": 1000, "until": 1536})
        assert client.said() == {"is": "set", "id": 4, "at": 1024, "changes": {"reset": True}}
        blocks = [client.socket.recv(timeout=PATIENCE) for _ in range(8)]
        heads = [HEADER.unpack(block[: HEADER.size]) for block in blocks]
        assert [(int(position), obeys) for position, obeys, _ in heads] == [(at, 4) for at in range(1024, 1536, 64)]
        with pytest.raises(TimeoutError):
            client.socket.recv(timeout=0.2)
        after = np.concatenate([np.frombuffer(block[HEADER.size :], "<f4") for block in blocks])
    with server.client() as client:
        client.play(seed=6, block=64, score=[[1024, {"reset": True}]])
        assert np.array_equal(client.hear(1536), np.concatenate([before[:1024], after]))


def test_nothing_is_made_that_nobody_wants(server: LiveServer) -> None:
    with server.client() as client:
        client.play(seed=1, block=64)
        client.hear(64)
        until(lambda: server.metric("slots") == 1)  # the listeners of earlier tests leave theirs
        before = server.metric("samples_total")
        time.sleep(0.3)
        assert server.metric("samples_total") == before
        # However much is wanted, it is made as it leaves, and the place is free at once.
        client.say(do="want", until=10**9)
        until(lambda: server.metric("samples_total") - before >= RATE)
        assert server.metric("slots") == 1
        client.say(do="stop")
        until(lambda: server.metric("slots") == 0)


def test_eight_at_once_hear_what_each_would_hear_alone(server: LiveServer) -> None:
    heard: dict[int, np.ndarray] = {}

    def listen(seed: int) -> None:
        with server.client() as client:
            client.play(seed=seed, temperature=0.6 + seed / 20, top_k=None if seed % 2 else 64, block=64 << seed % 3)
            heard[seed] = np.concatenate([client.hear(512, ahead=512) for _ in range(4)])

    threads = [threading.Thread(target=listen, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
        time.sleep(0.01)
    for thread in threads:
        thread.join(PATIENCE)
    for seed in range(8):
        settings = {"temperature": 0.6 + seed / 20, "top_k": None if seed % 2 else 64}
        assert len(heard[seed]) >= 2048
        assert np.array_equal(heard[seed], generated(len(heard[seed]), seed=seed, **settings)), seed
    until(lambda: server.metric("slots") == 0)


def test_the_ninth_is_told_that_all_places_are_taken(server: LiveServer) -> None:
    clients = [server.client() for _ in range(9)]
    for client in clients[:8]:
        assert client.play()["is"] == "playing"
    refused = clients[8].play()
    message = "all 8 places are taken; try again when somebody has stopped"
    assert refused == {"is": "error", "message": message, "fatal": False, "play": 1}
    clients[0].socket.close()
    until(lambda: server.metric("slots") == 7)
    assert clients[8].play(seed=2)["is"] == "playing"
    assert np.array_equal(clients[8].hear(128), generated(128, seed=2))
    for client in clients:
        client.socket.close()


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("hello", "is not JSON"),
        ("[1]", "must be names with values"),
        ("{}", "has no do"),
        ('{"do": "fly"}', "called 'fly'"),
        ('{"do": "want", "until": 5}', "nothing is played"),
        ('{"do": "play", "model": "demp"}', "no model 'demp' here; did you mean demo"),
        ('{"do": "play", "model": "demo", "seed": -1}', "seed of the message must be"),
        ('{"do": "play", "model": "demo", "temperature": 1e9}', "temperature must be"),
        ('{"do": "play", "model": "demo", "prompt": "no"}', "not kept here"),
        ('{"do": "play", "model": "demo", "block": 1e3}', "block of the message must be"),
        ('{"do": "play", "model": "demo", "score": [[1, {}]]}', "multiples of 64"),
        ('{"do": "play", "model": "demo", "score": [[64, {"volume": 1}]]}', "no setting 'volume'"),
        ('{"do": "play", "model": "demo", "score": [[64, {"temperature": NaN}]]}', "temperature must be"),
        ('{"do": "set", "id": 1, "from": -1}', "from of the message must be"),
        ('{"do": "want", "until": 5, "keep": 0.5}', "keep of the message must be"),
        ("[" * 5000, "too deep"),
    ],
)
def test_a_message_that_cannot_be_obeyed_is_answered(server: LiveServer, message: str, reason: str) -> None:
    with server.client() as client:
        client.socket.send(message)
        answer = client.said()
        assert answer["is"] == "error" and answer["fatal"] is False and reason in answer["message"]
        assert client.play(seed=1)["is"] == "playing"
        assert len(client.hear(128)) == 128


def ended(client: Any) -> tuple[str, int]:
    """The last error that a client was told, and the code of its connection's end."""
    told = ""
    try:
        while True:
            message = client.socket.recv(timeout=PATIENCE)
            if isinstance(message, str) and (value := json.loads(message))["is"] == "error":
                told = value["message"]
    except ConnectionClosed as closed:
        return told, closed.rcvd.code if closed.rcvd else 0


def test_who_breaks_the_rules_is_sent_away(server: LiveServer) -> None:
    with server.client() as client:
        client.socket.send(b"\0" * 8)
        assert ended(client) == ("messages to this server are text", 1008)
    with server.client() as client:
        with suppress(ConnectionClosed):
            for _ in range(2000):
                client.say(do="underrun", count=1)
        assert ended(client) == ("more than 200 messages a second came", 1008)
    with server.client() as client:
        client.socket.send(json.dumps({"do": "stop", "x": "y" * (1 << 18)}))
        assert ended(client)[1] == 1009


def test_a_client_that_never_reads_gets_nothing_more(server: LiveServer) -> None:
    """Its connection is full after some hundred kilobytes, and then no more is made for it."""
    with socket_module.socket() as narrow:
        narrow.setsockopt(socket_module.SOL_SOCKET, socket_module.SO_RCVBUF, 1 << 12)  # which stops its growth too
        narrow.connect(("127.0.0.1", server.port))
        with server.client(sock=narrow, max_queue=1) as client:
            client.play(seed=1, block=4096)
            before = server.metric("samples_total")
            client.say(do="want", until=10**12)
            made = [0.0]

            def rests() -> bool:
                """Whether nothing was made for two seconds."""
                time.sleep(0.5)
                made.append(server.metric("samples_total") - before)
                assert made[-1] < 1e5
                return len(made) > 5 and made[-1] == made[-5] > 2 * RATE

            until(rests)
            assert server.metric("slots") == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Origin": "http://evil.example"}, 403), ({"Origin": "null"}, 403), ({"Host": "evil.example:1"}, 421)],
)
def test_pages_of_others_are_refused(server: LiveServer, headers: dict[str, str], status: int) -> None:
    complaints = server.errors()
    if "Origin" in headers:
        with pytest.raises(InvalidStatus) as refused:
            server.client(origin=headers["Origin"])
        assert refused.value.response.status_code == status
    for path, body in (("api/prompts", b"x"), ("metrics", None), ("stream.ogg", None)):
        assert server.ask(path, body, **headers)[0] == status
    assert server.ask("metrics", sec_fetch_site="cross-site")[0] == 403
    assert server.errors() == complaints


def test_a_prompt_is_uploaded_and_heard(server: LiveServer) -> None:
    import soundfile

    heard, file = generated(4000, seed=5), io.BytesIO()
    soundfile.write(file, heard, RATE, format="WAV", subtype="FLOAT")
    status, content = server.ask("api/prompts?name=mine.wav", file.getvalue())
    told = json.loads(content)
    assert status == 201 and told["seconds"] == 0.5
    with server.client() as client:
        assert client.play(seed=9, prompt=told["prompt"])["prompt"] == told["prompt"]
        assert np.array_equal(client.hear(512), generated(512, seed=9, prompt=heard))
    status, content = server.ask("api/prompts", b"this is no audio" * 9)
    assert status == 400 and "the recording" in json.loads(content)["detail"]
    status, answer = server.ask("api/prompts", b"\0" * ((1 << 24) + 1))
    assert status == 413 and "may have 16.7 MB at most" in answer.decode()
    status, answer = server.ask("api/prompts", b"\0" * 16_700_000)
    assert status == 400 and "MB" not in answer.decode()  # it is no audio, but has the size that may be sent


def test_a_clip_becomes_flac(server: LiveServer) -> None:
    import soundfile

    clip = generated(1000)
    status, content = server.ask(f"api/flac?rate={RATE}", clip.astype("<f4").tobytes())
    samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    assert status == 200 and rate == RATE and np.abs(samples - clip).max() < 2**-23
    for query, body in (("rate=0", clip.tobytes()), ("rate=x", clip.tobytes()), (f"rate={RATE}", b"123")):
        assert server.ask(f"api/flac?{query}", body)[0] == 400
    assert server.ask(f"api/flac?rate={RATE}", np.float32([np.nan]).tobytes())[0] == 400


def test_any_player_can_have_an_endless_stream(server: LiveServer) -> None:
    import soundfile

    with urllib.request.urlopen(f"{server.address}stream.ogg?model=demo&seed=3&temperature=0.9") as answer:
        assert answer.headers["content-type"] == "audio/ogg"
        content = answer.read(12_000)
        until(lambda: server.metric("slots") == 1)  # the listeners of earlier tests leave theirs
    until(lambda: server.metric("slots") == 0)
    samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    assert rate == RATE
    wanted, size = generated(len(samples) + 400, seed=3, temperature=0.9), len(samples) - 800
    closest = max(np.corrcoef(samples[:size], wanted[at : at + size])[0, 1] for at in range(400))
    assert closest > 0.7  # Opus loses some of it, and begins some samples late
    for query, reason in (
        ("model=no", "no model"), ("seed=x", "a number"), ("temperature=1e9", "temperature"),
        ("temprature=1", "a stream has no 'temprature'; did you mean temperature?"),
        ("x=1", "a stream has no 'x'; it may have model, seed, temperature, top_k, top_p"),
    ):  # fmt: skip
        status, told = server.ask(f"stream.ogg?{query}")
        assert status == 400 and reason in json.loads(told)["detail"]


def test_the_page_and_what_watches_over_the_server(server: LiveServer) -> None:
    assert server.ask("healthz") == (200, b"ok")
    for name in ("nothing.html", "..%2Flive%2Fslot.py", "__init__.py", "%2e%2e"):
        assert server.ask(name)[0] == 404
    _, text = server.ask("metrics")
    assert 'samplernn_load_bucket{le="0.5",model="demo"}' in text.decode()


def test_beyond_this_machine_there_is_a_token() -> None:
    with served_live(("demo",), "--host", "0.0.0.0") as server:
        server.address = f"http://127.0.0.1:{server.port}/"
        assert server.query.startswith("?token=") and len(server.query) > 20
        assert server.ask("metrics")[0] == 401 and server.ask("metrics?token=no")[0] == 401
        status, text = server.ask("metrics" + server.query, Host="music.example")
        assert status == 200
        for series in ("samples_total", "blocks_total", "busy_seconds_total", "load_count", "slots"):
            assert f'samplernn_{series}{{model="demo"}} 0.0' in text.decode()
        with server.client() as client:
            assert client.play(seed=1)["is"] == "playing"


def test_the_address_of_all_addresses_is_one_that_can_be_opened() -> None:
    from samplernn_fast.serving import sockets

    assert sockets.shown("127.0.0.1") == "127.0.0.1" and sockets.shown("::1") == "[::1]"
    assert ipaddress.ip_address(sockets.shown("0.0.0.0")).version == 4
    assert sockets.shown("::").startswith("[") and sockets.shown("music.example") == "music.example"


def test_it_ends_by_ctrl_c_and_goes_on_behind_a_crash() -> None:
    server = LiveServer(("demo",))
    client = server.client()
    client.play(seed=1)
    first = client.hear(256)
    server.kill()
    again = LiveServer(("demo",), port=server.port)
    with again.client() as client:
        client.play(seed=1)
        assert np.array_equal(client.hear(256), first)
        status, errors = again.stop(signal.SIGINT)
    assert status == 130 and errors == "samplernn-fast: the server has ended\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("demo", "./demo.safetensors"), "would both be called demo"),
        (("no-such-run",), "no-such-run"),
        (("demo", "--host", "no.such.host.invalid"), "host no.such.host.invalid"),
        (("demo", "--max-listeners", "0"), "--max-listeners must be 1 to 150"),
        (("demo", "--backend", "gpu"), "gpu"),
    ],
)
def test_a_server_that_cannot_begin_says_why(words: tuple[str, ...], message: str, capsys: Any) -> None:
    from command_line import assert_one_line_error, run

    assert run("serve", *words, "--port", "0") in (1, 2)
    assert message in assert_one_line_error(capsys)
