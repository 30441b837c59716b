"""A real S3 server: SeaweedFS on ports and in a folder of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from tests.builders.network import free_port

BUCKET = "axial"
ACCESS_KEY_ID = "axial-tests"
SECRET_ACCESS_KEY = "not-a-secret"  # of a server that lives as long as its test
_READY_WITHIN_S = 60.0


class S3Server:
    """A server that a test may stop and start again; a context manager that ends it.

    Args:
        folder: its data, its log and the credentials it accepts.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "data").mkdir(parents=True)
        self._ports = {
            name: free_port()
            for name in ("master", "master_grpc", "volume", "volume_grpc", "filer", "filer_grpc")
        }
        self.port = free_port()
        self._s3_grpc = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "s3.json").write_text(json.dumps(_IDENTITIES), encoding="utf-8")
        (folder / "access_key_id").write_text(ACCESS_KEY_ID + "\n", encoding="utf-8")
        (folder / "secret_access_key").write_text(SECRET_ACCESS_KEY + "\n", encoding="utf-8")

    def __enter__(self) -> S3Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def settings(self, prefix: str) -> dict[str, Any]:
        """The ``store`` group of the settings for a place of its own in the bucket."""
        return {
            "url": f"s3://{BUCKET}/{prefix}",
            "endpoint": self.endpoint,
            "access_key_id_file": str(self._folder / "access_key_id"),
            "secret_access_key_file": str(self._folder / "secret_access_key"),
        }

    def start(self) -> None:
        """Starts it and waits until it takes requests and has the bucket."""
        ports = self._ports
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(Path(sys.executable).with_name("weed")),
                    "server",
                    f"-dir={self._folder / 'data'}",
                    "-ip=127.0.0.1",
                    "-ip.bind=127.0.0.1",
                    f"-master.port={ports['master']}",
                    f"-master.port.grpc={ports['master_grpc']}",
                    "-master.volumeSizeLimitMB=64",
                    "-master.telemetry=false",
                    # Alone among its peers it need not wait long before it leads.
                    "-master.electionTimeout=1s",
                    "-master.heartbeatInterval=100ms",
                    f"-volume.port={ports['volume']}",
                    f"-volume.port.grpc={ports['volume_grpc']}",
                    "-volume.max=100",
                    "-filer",
                    f"-filer.port={ports['filer']}",
                    f"-filer.port.grpc={ports['filer_grpc']}",
                    "-s3",
                    f"-s3.port={self.port}",
                    f"-s3.port.grpc={self._s3_grpc}",
                    "-s3.port.iceberg=0",
                    "-s3.port.lance=0",
                    f"-s3.config={self._folder / 's3.json'}",
                ],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait_until_ready()

    def stop(self) -> None:
        """Ends it at once, as a lost machine does; what it acknowledged is kept."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _READY_WITHIN_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            if self._has_bucket() and self._accepts_objects():
                return
            time.sleep(0.1)
        log = (self._folder / "log").read_text(encoding="utf-8", errors="replace")
        self.stop()
        raise RuntimeError(f"The S3 server is not ready.\n{log[-3000:]}")

    def _has_bucket(self) -> bool:
        # The filer's own door: a folder below /buckets is a bucket.
        url = f"http://127.0.0.1:{self._ports['filer']}/buckets/{BUCKET}/"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=5):
                return True
        except urllib.error.HTTPError as error:
            return error.code == 409  # it is there already
        except OSError:
            return False

    def _accepts_objects(self) -> bool:
        # Its volumes are there some seconds after its doors.
        client = S3Store(
            BUCKET,
            endpoint=self.endpoint,
            region="us-east-1",
            access_key_id=ACCESS_KEY_ID,
            secret_access_key=SECRET_ACCESS_KEY,
            client_options={"allow_http": True, "timeout": "5s"},
            retry_config={"max_retries": 0},
        )
        try:
            obstore.put(client, "ready", b"ready")
        except BaseError:
            return False
        return True


_IDENTITIES = {
    "identities": [
        {
            "name": "axial",
            "credentials": [{"accessKey": ACCESS_KEY_ID, "secretKey": SECRET_ACCESS_KEY}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
    ]
}
