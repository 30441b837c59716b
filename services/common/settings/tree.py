"""The tree of settings, each with its default and its reason."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, StringConstraints, model_validator

from services.common.settings.access import AccessToken, GatewaySettings
from services.common.settings.destinations import Destination
from services.common.settings.group import AeTitle, Group, Port, SecretUrl
from services.common.settings.peers import (
    AuditSettings,
    ConflictPolicy,
    Peer,
    StowSettings,
    TlsSettings,
)
from services.common.settings.storage import RetentionSettings, StoreSettings

SopClassUid = Annotated[str, StringConstraints(max_length=64, pattern=r"^[0-9]+(\.[0-9]+)+$")]


class ListenerSettings(Group):
    """The DICOM front door."""

    ae_title: AeTitle = "AXIAL"
    """Our AE title. An association that calls another one is rejected."""
    host: str = "127.0.0.1"
    """Address to listen on. Loopback unless opened on purpose."""
    port: Port = 11112
    """DICOM port."""
    peers: tuple[Peer, ...] = ()
    """Systems that may send. Anyone else is rejected, see accept_unknown_peers."""
    accept_unknown_peers: bool = False
    """Accept associations from anyone. Closed by default: a study is patient data."""
    quiet_period_s: Annotated[float, Field(ge=0)] = 5.0
    """A study with no new instance for this long, after its senders let go of it, is frozen as a
    revision."""
    start_when_wanted: bool = True
    """Freeze a revision as soon as a model has all that it wants, while other series arrive."""
    settle_period_s: Annotated[float, Field(ge=0)] = 0.5
    """A series whose senders went on or ended is examined for models when nothing of it came for
    this long."""
    conflicts: ConflictPolicy = "keep_first"
    """What becomes of other bytes under a known SOP Instance UID: the first instance is kept, and
    `axial conflicts` tells of the other one (keep_first); the other one takes its place, in a new
    revision that supersedes (take_latest); or it is refused at the door with status 0111 (refuse).
    Nothing that was acknowledged is thrown away."""
    max_associations: Annotated[int, Field(ge=1)] = 16
    """Associations served at once; the next one is rejected as 'local limit exceeded'."""
    max_pdu_bytes: Annotated[int, Field(ge=4096, le=1 << 20)] = 131072
    """Largest PDU we accept. 128 KiB is what common senders use at most."""
    idle_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """An association without traffic for this long is aborted. A series of which nothing came for
    this long counts as let go, whatever else its association brings."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """A connection that has not asked for an association by then is closed (ARTIM, PS3.8 9.1.5)."""
    receivers: Annotated[int, Field(ge=1, le=64)] = 4
    """Receiving processes, each for many associations. Two per core that is to receive: while one
    waits for the disk, the other works."""
    max_instance_bytes: Annotated[int, Field(ge=1 << 20)] = 4 << 30
    """The largest instance; a larger one is answered with 'out of resources'."""
    private_sop_classes: tuple[SopClassUid, ...] = ()
    """SOP classes to accept beside the standard's storage classes: private ones of vendors."""
    intake_address: str = "127.0.0.1:51051"
    """Where the listener can be told that a study is complete (gRPC)."""
    health_port: Port = 51061
    """/healthz, /readyz and /metrics."""
    listener_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = Field(
        default_factory=socket.gethostname
    )
    """Fixed name of this listener; after a restart it takes up what lies in its spool."""
    tls: TlsSettings = TlsSettings()
    stow: StowSettings = StowSettings()

    @model_validator(mode="after")
    def _names_peers_once(self) -> ListenerSettings:
        names = [peer.name for peer in self.peers]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two peers are called '{twice[0]}': names must differ")
        return self

    @model_validator(mode="after")
    def _has_tls_where_it_is_asked_for(self) -> ListenerSettings:
        if self.stow.port is not None and self.stow.tls and self.tls.certificate is None:
            raise ValueError("stow.tls needs certificate, key and trusted_certificates of tls")
        return self


class TritonSettings(Group):
    """The inference server."""

    grpc_address: str = "127.0.0.1:18001"
    """Triton's gRPC endpoint."""
    control_key: SecretStr | None = None
    """What Triton wants for everything but health. `axial up` makes one at each start and hands it
    to Triton and the orchestrator alone; elsewhere both have it from a Secret."""
    metrics_port: Port = 18002
    """Triton's metrics, on the same host: models tell there how far a job has come. `axial up`
    opens them on loopback."""
    repository: Path = Path("build/models")
    """Root of the built models, one folder per target."""
    target: Literal["cpu", "torch", "tensorrt"] = "cpu"
    """Which build of the models is served."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads of a network, for `axial up`. None: one for each processor of this machine."""
    idle_release_s: Annotated[float, Field(gt=0)] = 20.0
    """A model that had no request for this long gives its working memory back, for `axial up`."""
    transport: Literal["shared_memory", "grpc"] = "shared_memory"
    """How volumes travel. Shared memory needs Triton on the same machine and IPC namespace."""
    infer_deadline_s: Annotated[float, Field(gt=0)] = 300.0
    """The longest an inference may take before it is given up, of a model that takes half a minute
    or less; as many times longer as its manifest says (`resources.typical_seconds`)."""
    load_deadline_s: Annotated[float, Field(gt=0)] = 180.0
    """The longest a model may take to load."""


class OrchestratorSettings(Group):
    """Selection and the durable workflow."""

    address: str = "127.0.0.1:51052"
    """Where revisions are announced (gRPC)."""
    executor_id: str = Field(default_factory=socket.gethostname)
    """Fixed name of this worker; a restarted worker with the same name takes up its own work."""
    workflow_database_url: SecretUrl | None = None
    """The workflow engine's database. None: next to database_url (SQLite) or the same server."""
    max_concurrent_jobs: Annotated[int, Field(ge=1)] = 1
    """Jobs at once in this worker: each holds one volume in memory."""
    max_concurrent_revisions: Annotated[int, Field(ge=1)] = 2
    """Revisions whose series are selected at once in this worker: each holds its headers in
    memory. After an outage the others wait in their queue."""
    priority_lead_s: Annotated[float, Field(ge=0, le=86400 * 30)] = 600.0
    """A job of a higher priority (listener.peers[].priority) starts before those of the next lower
    one that came up to this long before it. What waits longer is overtaken no more."""
    heartbeat_interval_s: Annotated[float, Field(gt=0)] = 5.0
    """How often a worker says that it lives."""
    heartbeat_timeout_s: Annotated[float, Field(gt=0)] = 20.0
    """A worker silent for this long is taken for dead and its work is adopted."""
    infer_attempts: Annotated[int, Field(ge=1)] = 20
    """Attempts to reach the inference server before a job fails."""
    reporting_attempts: Annotated[int, Field(ge=1)] = 20
    """Attempts to reach the reporting service before a job fails."""
    health_port: Port = 51062
    """/healthz, /readyz and /metrics."""


class ReportingSettings(Group):
    """Results and delivery."""

    address: str = "127.0.0.1:51053"
    """Where results are asked for (gRPC)."""
    sender_id: str = Field(default_factory=socket.gethostname)
    """Fixed name of this replica; after a restart it takes up what it was sending."""
    destinations: tuple[Destination, ...] = ()
    """Where results go. Each has a queue of its own."""
    series_number_base: Annotated[int, Field(ge=1, le=2_000_000_000)] = 9000
    """First series number of our results; outside the scanners' range."""
    check_with_dciodvfy: bool = True
    """Run dciodvfy on every object before it leaves; a finding of level error withholds it."""
    health_port: Port = 51063
    """/healthz, /readyz and /metrics."""


class RpcSettings(Group):
    """How the services know each other: mutual TLS on every call between them, and to Triton."""

    certificates: Path | None = None
    """Folder with a folder for each service (listener, orchestrator, reporting, gateway, triton)
    that holds its tls.crt, tls.key and ca.crt. None: `<data_dir>/run/certificates`, made anew by
    every `axial up`, for services of one machine."""


class AccessSettings(Group):
    """Who may use the gateway and STOW-RS."""

    tokens: tuple[AccessToken, ...] = ()
    """Bearer tokens, by their hashes. Where there are some, every request to the gateway but health
    and metrics needs one."""

    @model_validator(mode="after")
    def _names_tokens_once(self) -> AccessSettings:
        names = [token.name for token in self.tokens]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two tokens are called '{twice[0]}': names must differ")
        return self


class TelemetrySettings(Group):
    """Logs, metrics and traces. None of them carries patient data."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level that is written."""
    log_format: Literal["json", "console"] = "json"
    """json for machines; console for a person at a terminal."""
    traces: Literal["none", "file", "otlp"] = "none"
    """Where spans go: nowhere, `<data_dir>/traces/<service>.jsonl`, or an OTLP collector."""
    otlp_endpoint: str = "http://127.0.0.1:4317"
    """The OTLP collector (gRPC), with traces: otlp."""


class Settings(Group):
    """All settings of all services."""

    data_dir: Path = Path("axial-data")
    """Where the study store, the databases (SQLite) and the run files lie."""
    database_url: SecretUrl | None = None
    """SQLAlchemy URL. None: SQLite in data_dir. PostgreSQL: postgresql+psycopg://user@host/db."""
    catalogue_dir: Path = Path("models/catalogue")
    """Where the models' manifests lie."""
    health_host: str = "127.0.0.1"
    """Address of the health and metrics endpoints of all services; 0.0.0.0 in a container."""
    grace_period_s: Annotated[float, Field(gt=0)] = 20.0
    """How long a process may take to stop after SIGTERM."""
    listener: ListenerSettings = ListenerSettings()
    triton: TritonSettings = TritonSettings()
    orchestrator: OrchestratorSettings = Field(default_factory=OrchestratorSettings)
    reporting: ReportingSettings = ReportingSettings()
    gateway: GatewaySettings = GatewaySettings()
    rpc: RpcSettings = RpcSettings()
    access: AccessSettings = AccessSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    audit: AuditSettings = AuditSettings()
    store: StoreSettings = StoreSettings()
    retention: RetentionSettings = RetentionSettings()

    @model_validator(mode="after")
    def _makes_space_before_declining(self) -> Settings:
        wanted = self.retention.min_free_bytes
        if wanted is not None and wanted <= self.store.min_free_bytes:
            raise ValueError("retention.min_free_bytes has to be above store.min_free_bytes")
        return self

    @model_validator(mode="after")
    def _has_a_token_beyond_loopback(self) -> Settings:
        good = [token for token in self.access.tokens if {"read", "act"} & set(token.actions)]
        if not self.gateway.on_loopback and not good:
            raise ValueError(
                f"gateway.host {self.gateway.host} is reached from other machines: configure a "
                "token with the action read in access.tokens (`axial token` makes one), or listen "
                "on 127.0.0.1"
            )
        return self

    @property
    def resolved_database_url(self) -> str:
        """The database's SQLAlchemy URL, with the SQLite default filled in."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{(self.data_dir / 'axial.sqlite').resolve()}"

    @property
    def resolved_workflow_database_url(self) -> str:
        """The workflow engine's database URL (it wants a bare postgresql:// scheme)."""
        explicit = self.orchestrator.workflow_database_url
        if explicit is not None:
            return explicit.get_secret_value()
        database = self.resolved_database_url
        if database.startswith("postgresql"):
            return "postgresql" + database[database.index("://") :]
        return f"sqlite:///{(self.data_dir / 'workflows.sqlite').resolve()}"

    @property
    def certificates_dir(self) -> Path:
        """The folder of the services' certificates."""
        return self.rpc.certificates or self.data_dir / "run" / "certificates"

    @property
    def spool_dir(self) -> Path:
        """This listener's spool: what was received and is not in the study store yet."""
        return self.data_dir / "spool" / self.listener.listener_id

    @property
    def outbox_dir(self) -> Path:
        """What this listener has registered and a store in S3 does not have yet."""
        return self.data_dir / "outbox" / self.listener.listener_id

    @property
    def resolved_cache_dir(self) -> Path:
        """Where copies of objects of a store in S3 lie while they are worked on."""
        return self.store.cache_dir or self.data_dir / "cache"

    @property
    def audit_dir(self) -> Path:
        """The folder of the audit trail."""
        return self.audit.folder or self.data_dir / "audit"
