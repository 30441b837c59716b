"""The reporting service as a process, as the orchestrator meets it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import yaml
from axial.v1 import reporting_pb2, reporting_pb2_grpc

from services.common.settings import Destination
from services.reporting.job import Job
from tests.builders.network import free_port
from tests.builders.peers import wait_until
from tests.builders.reporting import CATALOGUE, Workplace
from tests.builders.trust import CERTIFICATES, channel_to, credentials

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass
class ReportingProcess:
    """A running `python -m services.reporting`."""

    process: subprocess.Popen[bytes]
    address: str
    health_port: int
    log: Path
    crash_file: Path

    @property
    def ready(self) -> bool:
        """What /readyz says."""
        try:
            with urllib.request.urlopen(self._url("/readyz"), timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def metrics(self) -> str:
        """What /metrics says."""
        with urllib.request.urlopen(self._url("/metrics"), timeout=5) as answer:
            return answer.read().decode()

    @contextmanager
    def stub(self, caller: str = "orchestrator") -> Generator[reporting_pb2_grpc.ReportingStub]:
        """Calls to the service, as another one makes them."""
        with channel_to(self.address, "reporting", caller=caller) as channel:
            yield reporting_pb2_grpc.ReportingStub(channel)

    def crash_at(self, point: str) -> None:
        """Has the process kill itself at a named point."""
        self.crash_file.write_text(f"{point}\n")

    def wait_for_death(self) -> None:
        """Waits until it has killed itself."""
        assert self.process.wait(30) == -signal.SIGKILL

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.health_port}{path}"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()  # does nothing to one that has ended
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def reporting_process(
    folder: Path,
    place: Workplace,
    destinations: Sequence[Destination],
    environment: dict[str, str] | None = None,
    **reporting: Any,
) -> Generator[ReportingProcess]:
    """Starts the service on the workplace's database and store; stops it at the end."""
    address, health_port = f"127.0.0.1:{free_port()}", free_port()
    settings = {
        "data_dir": str(place.store.root.parent),
        "database_url": place.engine.url.render_as_string(hide_password=False),
        "catalogue_dir": str(CATALOGUE),
        "rpc": {"certificates": str(CERTIFICATES)},
        "reporting": {
            "address": address,
            "health_port": health_port,
            "sender_id": "test",
            "destinations": [each.model_dump(mode="json") for each in destinations],
            **reporting,
        },
    }
    credentials("reporting")  # made before the process looks for them
    config = folder / "axial.yaml"
    config.write_text(yaml.safe_dump(settings))
    crash_file, log = folder / "crash", folder / "reporting.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.reporting", "--config", str(config)],
            cwd=CHECKOUT,
            env={**os.environ, "AXIAL_CRASH_FILE": str(crash_file), **(environment or {})},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    running = ReportingProcess(process, address, health_port, log, crash_file)
    try:
        wait_until(lambda: running.ready or process.poll() is not None, 30, "the service is ready")
        assert process.poll() is None, log.read_text()[-2000:]
        yield running
    finally:
        _end(process)


def make_request(job: Job) -> reporting_pb2.MakeResultsRequest:
    """The call that the orchestrator makes for a job."""
    return reporting_pb2.MakeResultsRequest(
        job_uid=job.job_uid,
        study_uid=job.study_uid,
        revision=job.revision,
        model_name=job.manifest.name,
        model_version=job.manifest.version,
        model_digest=job.model_digest,
        selection=[
            reporting_pb2.RoleSelection(
                role=job.layers.grid_role,
                series_uid=job.series_uid,
                sop_instance_uids=job.sop_instance_uids,
            )
        ],
        outputs=[
            reporting_pb2.JobOutput(
                name=job.layers.name,
                kind="layers",
                grid_role=job.layers.grid_role,
                store_key=job.layers.store_key,
                digest=job.layers.digest,
                touching_unmeasured=sorted(job.layers.touching_unmeasured),
            ),
            *(
                reporting_pb2.JobOutput(
                    name=name,
                    kind="values",
                    values=numbers.whole,
                    segment_values=[
                        reporting_pb2.JobSegmentValues(name=of, by_segment=by_segment)
                        for of, by_segment in numbers.of_segments.items()
                    ],
                )
                for name, numbers in job.numbers.items()
            ),
        ],
        analysis_started=job.analysis_started.isoformat(),
        supersedes_job_uid=job.supersedes_job_uid,
        incomplete=job.incomplete,
    )


def release_request(job: Job) -> reporting_pb2.ReleaseResultsRequest:
    """The call that releases a job's results."""
    return reporting_pb2.ReleaseResultsRequest(job_uid=job.job_uid)


RpcError = grpc.RpcError
