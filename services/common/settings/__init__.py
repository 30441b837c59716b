"""Settings: one typed tree, from ``axial.yaml`` and the environment.

The field's docstring is its documentation: ``axial config show`` prints every value with where it
came from, and the configuration reference is generated from the same text.
"""

from services.common.settings.access import AccessToken, GatewaySettings
from services.common.settings.destinations import AnyDestination, CStoreDestination, transport_of
from services.common.settings.load import (
    LoadedSettings,
    SettingsError,
    load_settings,
)
from services.common.settings.peers import AuditSettings, Peer, StowSettings, TlsSettings
from services.common.settings.storage import RetentionSettings, StoreSettings
from services.common.settings.tree import (
    AccessSettings,
    Destination,
    ListenerSettings,
    OrchestratorSettings,
    ReportingSettings,
    RpcSettings,
    Settings,
    TelemetrySettings,
    TritonSettings,
)

__all__ = [
    "AccessSettings",
    "AccessToken",
    "AnyDestination",
    "AuditSettings",
    "CStoreDestination",
    "Destination",
    "GatewaySettings",
    "ListenerSettings",
    "LoadedSettings",
    "OrchestratorSettings",
    "Peer",
    "ReportingSettings",
    "RetentionSettings",
    "RpcSettings",
    "Settings",
    "SettingsError",
    "StoreSettings",
    "StowSettings",
    "TelemetrySettings",
    "TlsSettings",
    "TritonSettings",
    "load_settings",
    "transport_of",
]
