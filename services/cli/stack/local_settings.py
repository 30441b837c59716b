"""Settings of a self-contained stack in one folder: the demonstration's, and the tests'."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from services.common.settings import Settings


def local_settings(
    folder: Path, *, catalogue: Path, repository: Path, any_ports: bool, **changes: Any
) -> dict[str, Any]:
    """Settings whose data lie in `folder` and whose ports are free now.

    Args:
        folder: where everything is kept.
        catalogue: the models' manifests.
        repository: the built models.
        any_ports: use any free ports; else the defaults, each replaced only where it is in use.
        changes: overrides per group, e.g. ``listener={"quiet_period_s": 1.0}``.
    """
    given: set[int] = set()

    def port(preferred: int) -> int:
        chosen = free_port() if any_ports or not _is_free(preferred) else preferred
        while chosen in given:
            chosen = free_port()
        given.add(chosen)
        return chosen

    def address(preferred: str) -> str:
        return f"127.0.0.1:{port(int(preferred.rpartition(':')[2]))}"

    tree = _tree(folder, catalogue, repository, port, address)
    for group, values in changes.items():
        if isinstance(values, dict):
            tree.setdefault(group, {}).update(values)
        else:
            tree[group] = values
    return tree


def _tree(
    folder: Path,
    catalogue: Path,
    repository: Path,
    port: Callable[[int], int],
    address: Callable[[str], str],
) -> dict[str, Any]:
    defaults = Settings()
    return {
        "data_dir": str(folder / "data"),
        "catalogue_dir": str(catalogue),
        "listener": {
            "port": port(defaults.listener.port),
            "intake_address": address(defaults.listener.intake_address),
            "health_port": port(defaults.listener.health_port),
        },
        "triton": {
            "repository": str(repository),
            "grpc_address": address(defaults.triton.grpc_address),
            "metrics_port": port(defaults.triton.metrics_port),
        },
        "orchestrator": {
            "executor_id": "worker-1",
            "address": address(defaults.orchestrator.address),
            "health_port": port(defaults.orchestrator.health_port),
        },
        "reporting": {
            "address": address(defaults.reporting.address),
            "health_port": port(defaults.reporting.health_port),
        },
        "gateway": {"port": port(defaults.gateway.port)},
    }


def write_settings(file: Path, tree: dict[str, Any]) -> Path:
    """Writes settings as a file that ``axial --config`` reads."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return file


def free_port() -> int:
    """A TCP port on loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
