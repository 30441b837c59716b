"""Builds come and go while studies flow: none fails, none is mixed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.head_studies import study_uid, write_head
from tests.e2e.stack import CHECKOUT, DEADLINE_S, SEG, StackUnderTest, running_stack

MODEL = "brain-extraction"
MOST_UNDER_WAY = 3


class Place:
    """A stack with a catalogue and a repository of its own.

    Attributes:
        sent: names of the studies that were sent.
    """

    def __init__(self, stack: StackUnderTest, folder: Path) -> None:
        self.stack, self.folder = stack, folder
        self.sent: list[str] = []

    @property
    def manifest(self) -> Path:
        """The model's manifest in the catalogue."""
        return self.folder / "catalogue" / MODEL / "model.yaml"

    def build(self, *arguments: str) -> str:
        """Builds as a person does; returns the digest."""
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "services.cli",
                "--config",
                str(self.stack.settings_file),
                "models",
                "build",
                "--json",
                *arguments,
            ],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)[0]["digest"])

    def states(self) -> dict[str, str]:
        """Digest -> state of the build."""
        found: Any = self.stack.client.get("/api/v1/models")
        return {each["digest"]: each["state"] for each in found}

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Waits until something is so."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, (
                f"{what}: {self.states()}\n{self.stack.last_words()}"
            )
            time.sleep(0.1)

    @contextmanager
    def studies_flow(self) -> Generator[None]:
        """Sends study after study while the context is open."""
        enough = threading.Event()
        failed: list[BaseException] = []

        def send() -> None:
            while not enough.is_set():
                name = f"flow-{len(self.sent)}"
                write_head(self.folder / name, name, step=3)
                try:
                    self.stack.send(self.folder / name)
                except BaseException as error:  # noqa: BLE001 - told where it can be seen
                    failed.append(error)
                    return
                self.sent.append(name)
                # As many as are worked on in the meantime, whatever the machine is worth.
                while not enough.wait(0.2) and self._under_way() > MOST_UNDER_WAY:
                    pass

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            enough.set()
            thread.join()
        assert failed == []

    def _under_way(self) -> int:
        studies = (self.stack.study(study_uid(name)) for name in self.sent[-2 * MOST_UNDER_WAY :])
        return sum(1 for study in studies if study is None or study["state"] != "done")

    def one_more(self) -> None:
        """Waits until a study that was sent from here on is done."""
        count = len(self.sent)
        self.wait_for(lambda: len(self.sent) > count, "another study is sent")
        self.stack.wait_until_done(study_uid(self.sent[count]))


@pytest.fixture
def place(tmp_path: Path) -> Generator[Place]:
    shutil.copytree(CHECKOUT / "models" / "catalogue", tmp_path / "catalogue")
    shutil.copytree(CHECKOUT / "build" / "models", tmp_path / "models", symlinks=True)
    with running_stack(
        tmp_path / "stack",
        catalogue=tmp_path / "catalogue",
        repository=tmp_path / "models",
    ) as stack:
        yield Place(stack, tmp_path)


@pytest.mark.timeout(900)
def test_builds_come_and_go_while_studies_flow(place: Place) -> None:
    (first,) = place.states()
    with place.studies_flow():
        place.one_more()
        precise = place.build(MODEL, "--precision", "f32")
        place.wait_for(lambda: place.states().get(precise) == "serving", "f32 serves")
        if precise != first:  # a processor without bf16 was served f32 before
            place.wait_for(lambda: place.states()[first] == "retired", "bf16 is retired")
        place.one_more()

        # Broken in the catalogue, it is served as it was built.
        written = place.manifest.read_text(encoding="utf-8")
        place.manifest.write_text(written.replace("max_ml: 2100", "max_ml: much"))
        place.one_more()
        edited = written.replace("max_ml: 2100", "max_ml: 2090")
        assert edited != written
        place.manifest.write_text(edited, encoding="utf-8")
        place.one_more()
        changed = place.build(MODEL)
        assert changed not in (first, precise)
        place.wait_for(lambda: place.states().get(changed) == "serving", "the edited one serves")
        place.one_more()

        other = place.folder / "catalogue" / "brain-again" / "model.yaml"
        other.parent.mkdir()
        other.write_text(edited.replace(f"name: {MODEL}", "name: brain-again", 1))
        place.one_more()
        added = place.build("brain-again")
        place.wait_for(lambda: place.states().get(added) == "serving", "the added model serves")
        assert place.states()[changed] == "serving"
        place.one_more()

    used: dict[str, int] = {}
    for name in place.sent:
        study = place.stack.wait_until_done(study_uid(name))
        by_model = {fate["model"]: fate["reason"] for fate in study["fate"]}
        # Small heads are segmented; one that is told of as unusual is segmented all the same.
        assert by_model[MODEL] in ("segmented", "segmented_flagged"), study
        assert by_model.get("brain-again", "segmented") != "inference_failed"
        for job in study["jobs"]:
            used[job["model_digest"]] = used.get(job["model_digest"], 0) + 1
        digests = {job["model_digest"] for job in study["jobs"] if job["state"] == "processed"}
        assert _builds_in(place.stack, study_uid(name)) == {each[:16] for each in digests}
    assert set(used) == {first, precise, changed, added}


def _builds_in(stack: StackUnderTest, uid: str) -> set[str]:
    """The builds that the delivered segmentations say they are of."""
    return {str(data.DeviceSerialNumber) for data in stack.in_pacs(uid, SEG)}
