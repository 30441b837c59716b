"""Results: measured, written as DICOM, checked, delivered.

The room takes a job's labels from the study store and makes of them what clinicians and archives
use: a segmentation and a structured report, on the source's own grid and with the source's own
patient and study attributes. Nothing leaves that did not pass every check; what is registered is
delivered to each destination on a queue of its own, until it has arrived or a person has been
told. It is *not* for inference, for choosing series, or for telling how a series ended.

    source/        what results copy and refer to
    analysis/      counts, measurements, what is to be said of them
    objects/       what objects of every kind share, and the last judge of them
    kinds/         one folder for each kind of result: writing and checking it
    delivery/      queues and senders
    results        makes the results of a job
    service        the calls
"""

from services.reporting.errors import ReportingError

__all__ = ["ReportingError"]
