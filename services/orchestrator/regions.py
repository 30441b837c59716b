"""The memory that a request shares with Triton: a region for each volume, one for each output."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tritonclient.grpc as triton
import tritonclient.utils.shared_memory as shared_memory
from tritonclient.utils import InferenceServerException

from services.common.telemetry import get_logger
from services.orchestrator.errors import ModelUnavailable
from services.orchestrator.sent_volumes import SentVolume
from services.orchestrator.triton_answers import status_of

_log = get_logger("orchestrator")

# Output tensor -> the library's handle of its region.
Shared = Mapping[str, Any]

_REGION_FOLDER = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory lies on Linux
_REGION_PREFIX = "axial-"
# Deadline of calls that move no pixels.
CONTROL_DEADLINE_S = 10.0
# Triton's Python backend grows its own regions beside ours.
_ROOM_FOR_OTHERS = 16 << 20
# gRPC states in which asking again at once helps nothing.
_SILENT = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED")
# Triton lets go of a request's regions within microseconds; half a second in all.
_RELEASE_ATTEMPTS, _RELEASE_WAIT_S = 50, 0.01


class Regions:
    """The regions of one worker.

    Args:
        client: the library's client of Triton.
        owner: name under which the regions are made, so that what a dead process of this name
            left can be removed.
    """

    def __init__(self, client: Any, owner: str) -> None:
        self._client = client
        self._owner = "".join(c if c.isalnum() else "-" for c in owner)
        # Names that Triton would not let go of: of requests that outlived their deadline.
        self._still_registered: set[str] = set()

    def remove_left(self) -> None:
        """Removes the regions that an earlier process of this name left."""
        left_over = list(_REGION_FOLDER.glob(f"{self._names()}*"))
        # While Triton holds a registration the memory stays taken, also of a file that is gone.
        self._still_registered |= {file.name for file in left_over} | self._registered()
        self._release_refused()
        for file in left_over:
            file.unlink(missing_ok=True)

    @contextmanager
    def shared(
        self, volumes: Mapping[str, SentVolume], output_bytes: Mapping[str, int]
    ) -> Generator[tuple[list[triton.InferInput], list[triton.InferRequestedOutput], Shared]]:
        """A request's memory: its inputs, its outputs, and the regions that outputs come in.

        Volumes are written into that memory once; all of it is freed when the context is left.

        Args:
            volumes: role -> what is sent.
            output_bytes: output tensor -> its bytes at most.

        Raises:
            ModelUnavailable: there is no room for the regions.
            InferenceServerException: Triton refuses a region.
        """
        self._release_refused()
        name = f"{self._names()}{uuid.uuid4().hex[:8]}"
        _require_room(sum(output_bytes.values()) + sum(v.nbytes for v in volumes.values()))
        made: list[tuple[str, Any]] = []
        try:
            inputs = [self._input(f"{name}.in.{role}", v, made) for role, v in volumes.items()]
            outputs: list[triton.InferRequestedOutput] = []
            regions: dict[str, Any] = {}
            for tensor, size in output_bytes.items():
                region_name = f"{name}.out.{tensor}"
                regions[tensor] = self._register(region_name, size, made)
                output = triton.InferRequestedOutput(tensor)
                output.set_shared_memory(region_name, size)
                outputs.append(output)
            yield inputs, outputs, regions
        finally:
            for region_name, region in made:
                self._unregister(region_name)
                shared_memory.destroy_shared_memory_region(region)

    def _input(self, name: str, volume: SentVolume, made: list[tuple[str, Any]]) -> Any:
        region = self._register(name, volume.nbytes, made)
        shape = list(volume.shape)
        volume.write(shared_memory.get_contents_as_numpy(region, volume.dtype, shape))
        tensor = triton.InferInput(volume.tensor, shape, volume.datatype)
        tensor.set_shared_memory(name, volume.nbytes)
        return tensor

    def _register(self, name: str, size: int, made: list[tuple[str, Any]]) -> Any:
        try:
            region = shared_memory.create_shared_memory_region(name, f"/{name}", size)
        except shared_memory.SharedMemoryException as error:
            raise ModelUnavailable(f"No shared memory of {size} bytes: {error}") from error
        made.append((name, region))
        self._client.register_system_shared_memory(
            name, f"/{name}", size, client_timeout=CONTROL_DEADLINE_S
        )
        return region

    def _names(self) -> str:
        # No owner has a dot: "worker" never takes the memory of "worker-1" for its own.
        return f"{_REGION_PREFIX}{self._owner}."

    def _registered(self) -> set[str]:
        """Our regions that Triton knows; none when it does not answer."""
        try:
            status: Any = self._client.get_system_shared_memory_status(
                client_timeout=CONTROL_DEADLINE_S
            )
        except InferenceServerException as error:
            _log.info("shared_memory_status_unknown", status=status_of(error))
            return set()
        return {str(name) for name in status.regions if name.startswith(self._names())}

    def _unregister(self, name: str) -> None:
        # Triton answers a request before it has let go of its regions, and refuses until it has:
        # a registration that stays would keep the memory of every job mapped there.
        for _ in range(_RELEASE_ATTEMPTS):
            refusal = self._refusal_to_unregister(name)
            if refusal is None:
                return
            if any(state in refusal for state in _SILENT):
                break
            time.sleep(_RELEASE_WAIT_S)
        # The model works on, past the deadline of its request: asked again before the next job.
        self._still_registered.add(name)
        _log.warning("shared_memory_stays_registered")

    def _release_refused(self) -> None:
        """Asks once more for the regions that Triton would not let go of."""
        for name in list(self._still_registered):
            refusal = self._refusal_to_unregister(name)
            if refusal is None:
                self._still_registered.discard(name)
            elif any(state in refusal for state in _SILENT):
                return

    def _refusal_to_unregister(self, name: str) -> str | None:
        """Triton's status when it does not let go of a region; None when it has."""
        try:
            self._client.unregister_system_shared_memory(name, client_timeout=CONTROL_DEADLINE_S)
        except InferenceServerException as error:
            return status_of(error)
        return None


def _require_room(size: int) -> None:
    """A region that does not fit is found out when it is written: by a signal that kills us."""
    free = shutil.disk_usage(_REGION_FOLDER).free
    if free < size + _ROOM_FOR_OTHERS:
        raise ModelUnavailable(
            f"{_REGION_FOLDER} has {free >> 20} MiB free, {size >> 20} MiB are needed. Make it "
            "larger, or set triton.transport to grpc."
        )
