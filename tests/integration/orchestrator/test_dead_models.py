"""A model whose process was killed, or hangs, works again by itself; nothing of it is left."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from sqlalchemy import Engine

from models.building.repository import say_served
from models.manifest import repository_folder, served_file, triton_model_name
from services.common import stub_regions
from services.common.database import migrate, open_database
from services.common.manifests import StoredManifests
from services.common.settings import TritonSettings
from services.common.store import StudyStore
from services.imaging import Volume
from services.orchestrator.deployments import given_to, read_deployments
from services.orchestrator.errors import InferenceFailed, ModelUnavailable
from services.orchestrator.inference import InferenceClient, request_for
from services.orchestrator.model_watch import ModelWatch
from services.orchestrator.sent_volumes import sent
from tests.builders.builds import record_of, write_build
from tests.builders.triton import TritonUnderTest, running_triton
from tests.builders.trust import credentials
from tests.integration.orchestrator.conftest import digest_of, write_served_models

DIGEST = "d" * 64
RIGHT, LATE = (triton_model_name(name, digest_of(name)) for name in ("right", "late"))
OWNER = f"deadmodel{os.getpid()}"
SHM = Path("/dev/shm")
# Grows the region that Triton shares with the model's process well beyond what it begins with.
LARGE = Volume(np.ones((64, 128, 128), np.float32), np.eye(4))
WITHIN_S = 60.0


@dataclass(frozen=True)
class Opened:
    """What a watch works with."""

    client: InferenceClient
    engine: Engine
    manifests: StoredManifests
    folder: Path

    def watch(self) -> ModelWatch:
        """A watch whose rounds the test makes."""
        settings = TritonSettings(repository=self.folder / "models")
        return ModelWatch(self.engine, self.client, self.manifests, settings)

    def states(self) -> dict[str, str]:
        """Model -> state of its build."""
        return {each.model: each.state.value for each in read_deployments(self.engine, "cpu")}

    def given(self, model: str) -> str:
        """The digest of the build that a study is given to."""
        return given_to("1.2", read_deployments(self.engine, "cpu"))[model].digest


def server_folder(opened: Opened) -> Path:
    """The repository of the server."""
    return repository_folder(opened.folder / "models", "cpu")


@pytest.fixture(autouse=True)
def regions_need_not_be_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stub_regions, "_SURELY_STARTED_S", 0.0)
    monkeypatch.setattr(stub_regions, "_UNANSWERED_FOR_S", 0.0)


@pytest.fixture
def server(tmp_path: Path) -> Generator[TritonUnderTest]:
    """A Triton of the test's own: it is done harm."""
    names = write_served_models(tmp_path / "models", "right", "late")
    assert names == [RIGHT, LATE]
    repository = repository_folder(tmp_path / "models", "cpu")
    with running_triton(repository, names, tmp_path / "log") as running:
        yield running


@pytest.fixture
def opened(server: TritonUnderTest, tmp_path: Path) -> Generator[Opened]:
    """What a watch works with: a database, a store, and the server."""
    engine = open_database(f"sqlite:///{tmp_path / 'axial.sqlite'}")
    migrate(engine)
    with _client(server) as client:
        yield Opened(client, engine, StoredManifests(StudyStore(tmp_path / "store")), tmp_path)
    engine.dispose()


def _stub(server: TritonUnderTest, model: str) -> psutil.Process:
    for child, words in _commands(server).items():
        if f"/{model}/1/model.py" in " ".join(words):
            return child
    raise AssertionError(f"{model} has no process")


def _client(server: TritonUnderTest, transport: str = "shared_memory", deadline_s: float = 30.0):
    settings = server.settings(transport, deadline_s)  # pyright: ignore[reportArgumentType]
    return InferenceClient(settings, OWNER, credentials("orchestrator"))


def _infer(client: InferenceClient, model: str, volume: Volume = LARGE) -> None:
    volumes = {"image": sent("image", volume)}
    request = request_for("2.25.1", DIGEST, "image", volumes, "")
    (output,) = client.infer(model, request, volumes).outputs
    assert output.array is not None
    assert output.array.all()


def _infer_again(server: TritonUnderTest, client: InferenceClient, model: str) -> bool:
    """The next attempt, after a model's process was killed; returns whether Triton lived on.

    Seen in up to one of ten on a busy machine: Triton's own backend breaks off (signal 11) where it
    meets the process that is gone. Who started Triton starts it again, and attempts after that have
    to succeed; so long as Triton lives, this one has to.
    """
    try:
        _infer(client, model)
    except ModelUnavailable:
        server.start_again()
        stub_regions.sweep_after_server()
        _until(lambda: _works(client, model))  # the connection is made anew
        return False
    return True


def _works(client: InferenceClient, model: str) -> bool:
    try:
        _infer(client, model)
    except ModelUnavailable:
        return False
    return True


def _look(server: TritonUnderTest, watch: ModelWatch) -> None:
    """A round of the watch, after a model's process was killed; see `_infer_again`."""
    watch.look()
    with suppress(subprocess.TimeoutExpired):
        if watch.problems() and server.process.wait(1.0):
            server.start_again()
            _until(lambda: _finds_nothing(watch))


def _finds_nothing(watch: ModelWatch) -> bool:
    watch.look()
    return not watch.problems()


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
        _infer(client, RIGHT)
        _stub(server, RIGHT).kill()
        begun = time.monotonic()
        with pytest.raises(ModelUnavailable) as error:
            _infer(client, RIGHT)
        assert error.value.retryable
        if _infer_again(server, client, RIGHT):
            assert time.monotonic() - begun < 30
        assert client.troubles() == {}
        _infer(client, LATE)  # its neighbour noticed nothing


def test_killed_in_the_middle_of_a_job(server: TritonUnderTest) -> None:
    with _client(server) as client:
        stub = _stub(server, LATE)
        timer = threading.Timer(0.7, stub.kill)  # it sleeps for 1.5 s
        timer.start()
        with pytest.raises(ModelUnavailable):
            _infer(client, LATE)
        timer.join()
        _infer_again(server, client, LATE)


def test_the_watch_revives_a_model_that_died_while_nobody_used_it(
    server: TritonUnderTest, opened: Opened
) -> None:
    watch = opened.watch()
    assert watch.problems() == ["The models have not been asked yet."]
    watch.register()
    watch.look()
    assert watch.problems() == watch.remarks() == []
    assert opened.states() == {"right": "serving", "late": "serving"}
    dead = _stub(server, RIGHT)
    dead.kill()
    _look(server, watch)
    assert watch.problems() == watch.remarks() == []
    assert _stub(server, RIGHT).pid != dead.pid
    _infer(opened.client, RIGHT)


def test_a_model_that_cannot_be_loaded_again_is_said_and_others_go_on(
    server: TritonUnderTest, opened: Opened
) -> None:
    program = server_folder(opened) / RIGHT / "1" / "model.py"
    working = program.read_text()
    watch = opened.watch()
    watch.register()
    watch.look()
    program.write_text("raise RuntimeError('no longer')")
    _stub(server, RIGHT).kill()
    _look(server, watch)
    assert watch.problems() == []
    (remark,) = watch.remarks()
    assert RIGHT in remark
    _infer(opened.client, LATE)
    # Alone, it is what keeps every model from working.
    served_file(opened.folder / "models", "cpu", "late").unlink()
    watch.register()
    watch.look()
    (problem,) = watch.problems()
    assert RIGHT in problem
    program.write_text(working)
    watch.look()
    assert watch.problems() == []
    _infer(opened.client, RIGHT)


def test_a_new_build_serves_once_it_answers_and_the_old_one_is_unloaded(
    server: TritonUnderTest, opened: Opened
) -> None:
    watch = opened.watch()
    watch.register()
    watch.look()
    folder = server_folder(opened)
    record = record_of("right", "f" * 64, dt.datetime.now(dt.UTC))
    new = triton_model_name("right", record.digest)
    shutil.copytree(folder / RIGHT, folder / new)
    config = folder / new / "config.pbtxt"
    config.write_text(config.read_text().replace(RIGHT, new))
    (folder / new / "build-record.json").write_text(record.model_dump_json(by_alias=True))
    say_served(opened.folder / "models", record)
    assert watch.register()
    assert opened.given("right") == digest_of("right")
    watch.look()
    assert opened.given("right") == record.digest
    _infer(opened.client, new)
    assert not server.client.is_model_ready(RIGHT)
    assert not watch.register()


def test_a_new_build_that_cannot_be_loaded_leaves_the_old_one_serving(
    server: TritonUnderTest, opened: Opened
) -> None:
    watch = opened.watch()
    watch.register()
    watch.look()
    record = write_build(opened.folder / "models", "right", "f" * 64)
    folder = server_folder(opened) / triton_model_name("right", record.digest)
    (folder / "1").mkdir()
    (folder / "1" / "manifest.yaml").write_text("no manifest")
    say_served(opened.folder / "models", record)
    watch.register()
    watch.look()
    assert opened.given("right") == digest_of("right")
    assert watch.problems() == []
    watch.look()  # and it is not tried again and again
    (remark,) = watch.remarks()
    assert "is not served" in remark
    _infer(opened.client, RIGHT)


def test_a_hanging_model_is_loaded_again(
    server: TritonUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.orchestrator.reviving.ANSWERS_WITHIN_S", 1.0)
    stub = _stub(server, RIGHT)
    with _client(server, "shared_memory", 1.0) as client:
        stub.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(InferenceFailed):
                _infer(client, RIGHT)
            _infer(client, RIGHT)
        finally:
            stub.send_signal(signal.SIGCONT)


def test_a_model_at_work_is_left_alone(
    server: TritonUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker's job keeps it from answering a question: that is no reason to end it."""
    monkeypatch.setattr("services.orchestrator.reviving.ANSWERS_WITHIN_S", 0.3)
    before = _stub(server, LATE).pid
    with _client(server) as client, _client(server) as other:
        job = threading.Thread(target=_infer, args=(other, LATE))
        job.start()
        # Its volume and its labels are registered just before it is sent; it takes 1.5 s then.
        _until(lambda: len(server.client.get_system_shared_memory_status().regions) == 2)
        assert client.look_after(LATE, ["image"]) is None
        job.join(WITHIN_S)
        assert not job.is_alive()
    assert _stub(server, LATE).pid == before


def test_no_region_is_left_and_its_memory_is_given_back(server: TritonUnderTest) -> None:
    with _client(server) as client:
        _infer(client, RIGHT)
        grown = max(
            (SHM / name for name in _regions_in_use(server)), key=lambda file: file.stat().st_size
        )
        with grown.open("rb") as kept:
            assert os.fstat(kept.fileno()).st_blocks * 512 > 4 << 20
            _stub(server, RIGHT).kill()
            with pytest.raises(ModelUnavailable):
                _infer(client, RIGHT)
            lived = _infer_again(server, client, RIGHT)
            client.look_after(RIGHT, ["image"])
            assert not grown.exists()
            if lived:
                # Triton keeps it mapped: what counts is that little memory is behind it any more.
                assert os.fstat(kept.fileno()).st_blocks * 512 < 2 << 20
        for name in _regions_in_use(server):
            assert (SHM / name).exists()
        _infer(client, RIGHT)
        _infer(client, LATE)


def test_no_region_is_left_when_the_server_ends(tmp_path: Path) -> None:
    names = write_served_models(tmp_path / "models", "right")
    repository = repository_folder(tmp_path / "models", "cpu")
    with running_triton(repository, names, tmp_path / "log") as server:
        regions = _regions_in_use(server)
        _stub(server, RIGHT).kill()
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
    sizes = {name: (SHM / name).stat().st_blocks for name in regions}
    # How many are freed is not asked: another server of this machine may have lost a model.
    for _ in range(2):  # what is found at the first call is freed at the second at the earliest
        stub_regions.free_left_regions()
        stub_regions.sweep_after_server()
    assert {name: (SHM / name).stat().st_blocks for name in regions} == sizes
    with _client(server) as client:
        _infer(client, RIGHT)
        _infer(client, LATE)
