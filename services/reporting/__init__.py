"""Results: measured, written as DICOM, checked, delivered.

The room takes a job's labels from the study store and makes of them what clinicians and archives
use: a segmentation and a structured report, on the source's own grid and with the source's own
patient and study attributes. Nothing leaves that did not pass every check; what is registered is
delivered to each destination on a queue of its own, until it has arrived or a person has been
told. It is *not* for inference, for choosing series, or for telling how a series ended.

    naming, texts, modules, equipment   what objects are called, and what they copy
    source, measure, plausibility       what results are made of
    segmentation, report, regions       the writers
    check, report_reading, validator    the judges
    results, service                    making results, and the calls
    delivery/                           queues and senders
"""

from services.reporting.errors import ReportingError

__all__ = ["ReportingError"]
