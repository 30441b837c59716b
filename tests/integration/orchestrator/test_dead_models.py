"""A model whose process was killed, or hangs, works again by itself; nothing of it is left."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from services.common import stub_regions
from services.imaging import Volume
from services.orchestrator.errors import InferenceFailed, ModelUnavailable
from services.orchestrator.inference import InferenceClient, request_for
from services.orchestrator.model_watch import ModelWatch
from tests.builders.triton import TritonUnderTest, running_triton
from tests.builders.trust import credentials
from tests.integration.orchestrator.conftest import write_small_models

DIGEST = "d" * 64
OWNER = f"deadmodel{os.getpid()}"
SHM = Path("/dev/shm")
# Grows the region that Triton shares with the model's process well beyond what it begins with.
LARGE = Volume(np.ones((64, 128, 128), np.float32), np.eye(4))
WITHIN_S = 60.0


@pytest.fixture(autouse=True)
def regions_need_not_be_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stub_regions, "_SURELY_STARTED_S", 0.0)
    monkeypatch.setattr(stub_regions, "_SETTLED_S", 0.0)


@pytest.fixture
def server(tmp_path: Path) -> Generator[TritonUnderTest]:
    """A Triton of the test's own: it is done harm."""
    repository = write_small_models(tmp_path / "repository", "right", "late")
    with running_triton(repository, ["right", "late"], tmp_path / "log") as running:
        yield running


def _stub(server: TritonUnderTest, model: str) -> psutil.Process:
    for child, words in _commands(server).items():
        if f"/{model}/1/model.py" in " ".join(words):
            return child
    raise AssertionError(f"{model} has no process")


def _client(server: TritonUnderTest, transport: str = "shared_memory", deadline_s: float = 30.0):
    settings = server.settings(transport, deadline_s)  # pyright: ignore[reportArgumentType]
    return InferenceClient(settings, OWNER, credentials("orchestrator"))


def _infer(client: InferenceClient, model: str, volume: Volume = LARGE) -> None:
    volumes = {"image": volume}
    labels = client.infer(model, request_for("2.25.1", DIGEST, volumes, ""), volumes).labels
    assert labels.all()


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _regions_in_use(server: TritonUnderTest) -> set[str]:
    return {
        word
        for words in _commands(server).values()
        for word in words
        if word.startswith("triton_python_backend_shm_region")
    }


def _commands(server: TritonUnderTest) -> dict[psutil.Process, list[str]]:
    """The living processes below the server, with their arguments."""
    found: dict[psutil.Process, list[str]] = {}
    for child in psutil.Process(server.process.pid).children(recursive=True):
        with suppress(psutil.Error):  # one that has died is a zombie until Triton looks
            found[child] = child.cmdline()
    return found


@pytest.mark.parametrize("transport", ["shared_memory", "grpc"])
def test_a_job_finds_the_dead_model_and_the_next_attempt_succeeds(
    server: TritonUnderTest, transport: str
) -> None:
    with _client(server, transport) as client:
        _infer(client, "right")
        _stub(server, "right").kill()
        begun = time.monotonic()
        with pytest.raises(ModelUnavailable) as error:
            _infer(client, "right")
        assert error.value.retryable
        _infer(client, "right")
        assert time.monotonic() - begun < 30
        assert client.troubles() == {}
        _infer(client, "late")  # its neighbour noticed nothing


def test_killed_in_the_middle_of_a_job(server: TritonUnderTest) -> None:
    with _client(server) as client:
        stub = _stub(server, "late")
        timer = threading.Timer(0.7, stub.kill)  # it sleeps for 1.5 s
        timer.start()
        with pytest.raises(ModelUnavailable):
            _infer(client, "late")
        timer.join()
        try:
            _infer(client, "late")
        except ModelUnavailable:
            # Seen in one of some twenty runs: Triton's own backend breaks off (signal 11) where its
            # model's process ends in the middle of a request. Who started Triton starts it again.
            assert server.process.wait(10) != 0


def test_the_watch_revives_a_model_that_died_while_nobody_used_it(
    server: TritonUnderTest,
) -> None:
    with _client(server) as client:
        watch = ModelWatch(client, lambda: {"right": ["image"], "late": ["image"]})
        assert watch.problems() == ["The models have not been asked yet."]
        watch.look()
        assert watch.problems() == watch.remarks() == []
        dead = _stub(server, "right")
        dead.kill()
        watch.look()
        assert watch.problems() == watch.remarks() == []
        assert _stub(server, "right").pid != dead.pid
        _infer(client, "right")


def test_a_model_that_cannot_be_loaded_again_is_said_and_others_go_on(
    server: TritonUnderTest, tmp_path: Path
) -> None:
    program = tmp_path / "repository" / "right" / "1" / "model.py"
    working = program.read_text()
    with _client(server) as client:
        one = ModelWatch(client, lambda: {"right": ["image"]})
        both = ModelWatch(client, lambda: {"right": ["image"], "late": ["image"]})
        program.write_text("raise RuntimeError('no longer')")
        _stub(server, "right").kill()
        one.look()
        both.look()
        assert len(one.problems()) == 1
        assert "right" in one.problems()[0]
        assert both.problems() == []
        assert len(both.remarks()) == 1
        _infer(client, "late")
        program.write_text(working)
        one.look()
        assert one.problems() == []
        _infer(client, "right")


def test_a_hanging_model_is_loaded_again(
    server: TritonUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.orchestrator.inference.ANSWERS_WITHIN_S", 1.0)
    stub = _stub(server, "right")
    with _client(server, "shared_memory", 1.0) as client:
        stub.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(InferenceFailed):
                _infer(client, "right")
            _infer(client, "right")
        finally:
            stub.send_signal(signal.SIGCONT)


def test_a_model_at_work_is_left_alone(
    server: TritonUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker's job keeps it from answering a question: that is no reason to end it."""
    monkeypatch.setattr("services.orchestrator.inference.ANSWERS_WITHIN_S", 0.3)
    before = _stub(server, "late").pid
    with _client(server) as client, _client(server) as other:
        job = threading.Thread(target=_infer, args=(other, "late"))
        job.start()
        # Its volume and its labels are registered just before it is sent; it takes 1.5 s then.
        _until(lambda: len(server.client.get_system_shared_memory_status().regions) == 2)
        assert client.look_after("late", ["image"]) is None
        job.join(WITHIN_S)
        assert not job.is_alive()
    assert _stub(server, "late").pid == before


def test_no_region_is_left_and_its_memory_is_given_back(server: TritonUnderTest) -> None:
    with _client(server) as client:
        _infer(client, "right")
        grown = max(
            (SHM / name for name in _regions_in_use(server)), key=lambda file: file.stat().st_size
        )
        with grown.open("rb") as kept:
            assert os.fstat(kept.fileno()).st_blocks * 512 > 4 << 20
            _stub(server, "right").kill()
            with pytest.raises(ModelUnavailable):
                _infer(client, "right")
            _infer(client, "right")
            client.look_after("right", ["image"])
            assert not grown.exists()
            # Triton keeps it mapped: what counts is that no memory is behind it any more.
            assert os.fstat(kept.fileno()).st_blocks * 512 <= 1 << 20
        for name in _regions_in_use(server):
            assert (SHM / name).exists()
        _infer(client, "right")
        _infer(client, "late")


def test_no_region_is_left_when_the_server_ends(tmp_path: Path) -> None:
    repository = write_small_models(tmp_path / "repository", "right")
    with running_triton(repository, ["right"], tmp_path / "log") as server:
        regions = _regions_in_use(server)
        _stub(server, "right").kill()
        server.process.kill()
        server.process.wait()
    _until(lambda: _is_swept(regions))
    assert not [name for name in regions if (SHM / name).exists()]


def _is_swept(regions: set[str]) -> bool:
    stub_regions.sweep_after_server()
    return not any((SHM / name).exists() for name in regions)


def test_regions_of_living_models_are_never_touched(server: TritonUnderTest) -> None:
    regions = _regions_in_use(server)
    assert len(regions) == 2
    assert stub_regions.free_left_regions() == 0
    stub_regions.sweep_after_server()
    assert all((SHM / name).exists() for name in regions)
