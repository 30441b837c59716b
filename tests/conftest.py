"""What all tests share: real scans, a real PostgreSQL, and hypothesis' manners."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

import hypothesis
import psycopg
import pytest
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

from tests.builders.network import free_port
from tests.builders.scans import listed_scans, listed_weights, unpack

_POSTGRES_BINARIES = (Path("/usr/lib/postgresql/15/bin"), Path("/usr/lib/postgresql/16/bin"))

# Deterministic: the same examples in every run, so that a failure is the change's, not the day's.
# Hypothesis also tries constants of our modules that are loaded by then, which depends on the tests
# before and on how workers share them; there is no setting for it.
if not hasattr(providers, "_get_local_constants"):
    raise RuntimeError("Hypothesis keeps constants elsewhere now: see tests/conftest.py.")
providers._get_local_constants = Constants  # pyright: ignore[reportPrivateUsage]
hypothesis.settings.register_profile(
    "axial",
    derandomize=True,
    deadline=None,
    max_examples=40,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("axial")

Scan = Callable[[str], Path]


@pytest.fixture(scope="session")
def scan() -> Scan:
    """Gives the folder of a real scan by name: ``scan("philips-mr-mprage-classic")``."""
    return _scan_folder


def _scan_folder(name: str) -> Path:
    folder = unpack(listed_scans()[name])
    if folder is None:
        # One reason for all, so that pytest says it in one line.
        pytest.skip("needs the real scans: make test-data")
    return folder


@pytest.fixture(scope="session")
def weights() -> Scan:
    """Gives the folder of published weights by name: ``weights("blast-ct-v1")``."""
    return _weights_folder


def _weights_folder(name: str) -> Path:
    folder = unpack(listed_weights()[name])
    if folder is None:
        pytest.skip("needs the published weights: make test-data")
    return folder


@pytest.fixture(scope="session")
def postgres_server() -> Generator[str]:
    """A PostgreSQL of its own for this test session; yields the URL of its first database."""
    binaries = next((folder for folder in _POSTGRES_BINARIES if folder.is_dir()), None)
    if binaries is None:
        pytest.skip("needs PostgreSQL's server (Debian: postgresql)")
    try:
        owner = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
    except KeyError:
        pytest.skip("needs the user postgres: PostgreSQL does not run as root")
    # Not below pytest's folder: only its owner may look into that.
    folder = Path(tempfile.mkdtemp(prefix="axial-postgres-"))
    data, port = folder / "data", free_port()
    try:
        if owner is not None:
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        _as_owner(owner, [binaries / "initdb", "-D", data, "-A", "trust", "-U", "axial", "-N"])
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        control = [binaries / "pg_ctl", "-D", data, "-l", folder / "log", "-w"]
        _as_owner(owner, [*control, "-o", options, "start"])
        try:
            yield f"postgresql+psycopg://axial@127.0.0.1:{port}/postgres"
        finally:
            _as_owner(owner, [*control, "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    """The URL of an empty PostgreSQL database of this test's own."""
    name = f"axial_{uuid.uuid4().hex}"
    server = postgres_server.replace("+psycopg", "")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return postgres_server.removesuffix("/postgres") + f"/{name}"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite database of this test's own; the file does not exist yet."""
    return f"sqlite:///{tmp_path / 'axial.sqlite'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database: the test runs once on each engine that Axial supports."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    return request.getfixturevalue(name)


def _as_owner(owner: pwd.struct_passwd | None, command: Iterable[object]) -> None:
    arguments = [str(word) for word in command]
    if owner is not None:
        ids = [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
        arguments = ["setpriv", *ids, *arguments]
    done = subprocess.run(
        arguments,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{arguments[-1]}: {done.stderr}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything is installed (``AXIAL_NO_SKIPS=1``), a skipped test is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or os.environ.get("AXIAL_NO_SKIPS") != "1":
        return
    if reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
