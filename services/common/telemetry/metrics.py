"""The metrics of all services, with one meaning each. Labels never carry UIDs or patient data."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

INSTANCES_RECEIVED = Counter(
    "axial_instances_received_total",
    "Instances offered to the listener, by what became of them.",
    ["outcome"],  # stored, repeated, conflicting, refused
)
BYTES_RECEIVED = Counter(
    "axial_received_bytes_total", "Bytes of data sets that were acknowledged and stored."
)
ASSOCIATIONS_OPEN = Gauge("axial_associations_open", "DICOM associations being served.")
ASSOCIATIONS_REJECTED = Counter(
    "axial_associations_rejected_total", "DICOM associations rejected, by reason.", ["reason"]
)
FILES_QUARANTINED = Counter(
    "axial_files_quarantined_total",
    "Files of the spool that were put aside, by reason.",
    ["reason"],
)
STOW_REQUESTS = Counter(
    "axial_stow_requests_total",
    "STOW-RS requests by the status of their answer; gone: the sender left before it.",
    ["status"],
)
AUDIT_EVENTS = Counter("axial_audit_events_total", "Events of the audit trail.", ["event"])
AUDIT_EVENTS_LOST = Counter(
    "axial_audit_events_lost_total", "Events that the audit trail's disk did not take."
)
REVISIONS_FROZEN = Counter(
    "axial_revisions_frozen_total", "Revisions frozen, by what triggered it.", ["trigger"]
)
FATES = Counter(
    "axial_fates_total",
    "Series by how they ended, for each model.",
    ["model", "fate", "reason"],
)
STAGE_SECONDS = Histogram(
    "axial_stage_seconds", "Duration of a stage of a job.", ["stage"], buckets=_SECONDS
)
QUEUE_DEPTH = Gauge("axial_queue_depth", "Entries waiting in a queue.", ["queue"])
DELIVERIES = Counter(
    "axial_deliveries_total",
    "Attempts to deliver a result, by destination and outcome.",
    ["destination", "outcome"],  # delivered, retry, dead
)
EXECUTORS_ADOPTED = Counter(
    "axial_executors_adopted_total", "Dead workers whose work this one took up."
)
MODELS_REVIVED = Counter(
    "axial_models_revived_total", "Models that had died and were loaded again.", ["model"]
)
OBJECTS_WAITING = Gauge(
    "axial_objects_waiting", "Objects on the listener's disk that the store does not have yet."
)
OBJECTS_SHIPPED = Counter(
    "axial_objects_shipped_total", "Objects that the listener sent to a study store in S3."
)
SHIPPED_BYTES = Counter("axial_shipped_bytes_total", "Their bytes.")
SHIPPING_FAILURES = Counter(
    "axial_shipping_failures_total", "Rounds of sending to the study store that failed."
)
STUDIES_REMOVED = Counter(
    "axial_studies_removed_total",
    "Studies whose images were removed from the study store, by why.",
    ["cause"],  # age, size, space
)
REMOVED_BYTES = Counter("axial_removed_bytes_total", "Bytes of their images.")
