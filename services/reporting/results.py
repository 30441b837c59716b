"""Making the results of a job: read, measure, encode, check, register.

Every step may run twice: UIDs and bytes derive from the job, files are replaced as a whole, and
the rows of a job's results are written in one transaction, after every object passed its checks.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from sqlalchemy import Engine, select

from services.common.crashpoints import crashpoint
from services.common.database import JobRow, ResultRow, utc_now
from services.common.errors import AxialError
from services.common.fates import Refusal
from services.common.identity import hashed, sha256_hex
from services.common.settings import ReportingSettings
from services.common.store import StudyStore, job_key
from services.common.telemetry import get_logger, span
from services.imaging.labels import read_labels
from services.reporting.analysis.analysis import Analysis
from services.reporting.analysis.interval import with_intervals
from services.reporting.analysis.judging import judge
from services.reporting.analysis.measure import (
    MeasuredValue,
    SegmentCount,
    count_voxels,
    measure,
    unknown_labels,
    voxel_histogram,
)
from services.reporting.database import insert_new
from services.reporting.errors import ReportingError
from services.reporting.job import Job, Withholding, object_check_failed
from services.reporting.kinds.kind import Kind, Order
from services.reporting.kinds.registry import KINDS, Kinds
from services.reporting.objects.validator import RunningValidator
from services.reporting.orders import Occasion, orders_for
from services.reporting.predecessor import earlier_results
from services.reporting.source.series import load_source

_log = get_logger("reporting")


@dataclass(frozen=True, slots=True)
class Result:
    """An object made by a job.

    Attributes:
        kind: the kind's name.
        form: the form's name for that kind; empty for the plain form.
    """

    sop_instance_uid: str
    series_uid: str
    kind: str
    form: str
    store_key: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Made:
    """What became of a job's labels.

    Attributes:
        results: those registered; empty when the results are withheld.
        counts: of every segment that was looked for; none when the labels were not read.
        withholding: why nothing was registered.
        seconds: by stage.
        remarks: sentences that a reader has to see, by the segment's number in the manifest.
    """

    results: tuple[Result, ...]
    counts: tuple[SegmentCount, ...]
    values: tuple[MeasuredValue, ...]
    withholding: Withholding | None
    seconds: dict[str, float]
    remarks: Mapping[int, str] = field(default_factory=dict[int, str])


@dataclass(frozen=True, slots=True)
class _Written:
    """The objects of one order, and their files as the store gives them."""

    kind: Kind
    order: Order
    results: list[Result]
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Clock:
    seconds: dict[str, float] = field(default_factory=dict[str, float])

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        begun = time.perf_counter()
        with span(f"reporting.{name}"):
            yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun


class ResultMaker:
    """Makes results of jobs and registers them."""

    def __init__(
        self,
        engine: Engine,
        store: StudyStore,
        settings: ReportingSettings,
        kinds: Kinds = KINDS,
    ) -> None:
        self._engine = engine
        self._store = store
        self._settings = settings
        self._kinds = kinds

    def make(self, job: Job) -> Made:
        """Makes, checks and registers the results of `job`; sends nothing.

        Raises:
            JobError: the job does not fit its manifest, the store or the database.
            StoreError, ImagingError: the labels or the source cannot be read.
            ValidatorError: the validator is configured and cannot be run.
        """
        clock = _Clock()
        with clock.stage("read"):
            analysis = self._analyse(job)
        if isinstance(analysis, Withholding):
            return _withheld(job, analysis, None, clock)
        verdict = judge(analysis)
        registered = self._registered(job)
        if registered:
            return Made(
                registered, analysis.counts, analysis.values, None, clock.seconds, verdict.remarks
            )
        if verdict.withholding is not None:
            return _withheld(job, verdict.withholding, analysis, clock)
        outcome = self._write_and_check(analysis, verdict.remarks, clock)
        if isinstance(outcome, Withholding):
            return _withheld(job, outcome, analysis, clock)
        with clock.stage("register"):
            self._register(job, outcome)
        crashpoint("reporting.results.registered")
        _log.info(
            "results_registered",
            job=hashed(job.job_uid),
            model=job.manifest.name,
            results=len(outcome),
            found=sum(count.found for count in analysis.counts),
        )
        return _made(outcome, analysis, verdict.remarks, clock)

    def _analyse(self, job: Job) -> Analysis | Withholding:
        source = load_source(job, self._engine, self._store)
        if isinstance(source, Withholding):
            return source
        layers = job.layers
        labels = read_labels(self._store, layers.store_key, source.shape, layers.digest)
        if isinstance(labels, Refusal):
            return Withholding(labels.reason, dict(labels.values))
        histogram = voxel_histogram(labels)
        unknown = unknown_labels(histogram, job.manifest)
        if unknown:
            numbers = ", ".join(map(str, unknown))
            return object_check_failed("labels", f"{numbers} is no segment of {job.manifest.name}")
        counts = count_voxels(histogram, job.manifest)
        values = measure(job.manifest, counts, source.voxel_volume_mm3, source.steps)
        return Analysis(job, source, labels, counts, with_intervals(job, values))

    def _registered(self, job: Job) -> tuple[Result, ...]:
        """The results of a job that was made before, as far as their files are there."""
        with self._engine.connect().execution_options(axial_readonly=True) as connection:
            rows = connection.execute(
                select(ResultRow.__table__)
                .where(ResultRow.job_uid == job.job_uid)
                .order_by(ResultRow.sequence, ResultRow.form)
            ).all()
        if not all(self._store.exists(row.store_key) for row in rows):
            return ()
        return tuple(
            Result(
                sop_instance_uid=row.sop_instance_uid,
                series_uid=row.series_uid,
                kind=row.kind,
                form=row.form,
                store_key=row.store_key,
                digest=row.digest,
                size_bytes=row.size_bytes,
            )
            for row in rows
        )

    def _write_and_check(
        self, analysis: Analysis, remarks: Mapping[int, str], clock: _Clock
    ) -> tuple[Result, ...] | Withholding:
        """Writes all kinds and forms and checks each.

        dciodvfy judges a file in a process beside this one, which writes and checks meanwhile. What
        it judges for longest, reports, is written first.
        """
        job = analysis.job
        written: list[_Written] = []
        with ExitStack() as checks:  # the validators stop before their files may go
            validators: list[tuple[Kind, RunningValidator]] = []
            orders = orders_for(self._kinds, analysis, self._occasion(job, remarks))
            for kind, order in reversed(orders):
                with clock.stage(f"encode_{kind.name.lower()}"):
                    contents = _encoded(kind, analysis, order)
                with clock.stage("write"):
                    results = self._write(job, kind, order, contents)
                # What is checked is what the store holds.
                keys = [each.store_key for each in results]
                local = checks.enter_context(self._store.local(keys))
                written.append(_Written(kind, order, results, tuple(local[key] for key in keys)))
                if self._settings.check_with_dciodvfy and kind.is_dicom:
                    for file in written[-1].files:
                        validator = RunningValidator(file, analysis.source.uids)
                        checks.callback(validator.stop)
                        validators.append((kind, validator))
            written.reverse()
            with clock.stage("check"):
                withholding = _check_problem(written, analysis) or _validation_problem(
                    job, validators
                )
            return withholding or tuple(result for each in written for result in each.results)

    def _occasion(self, job: Job, remarks: Mapping[int, str]) -> Occasion:
        with self._engine.connect().execution_options(axial_readonly=True) as connection:
            earlier = {
                kind.name: earlier_results(connection, job.supersedes_job_uid, kind.name)
                for kind in self._kinds
                if kind.names.names_predecessor
            }
        base = self._settings.series_number_base
        return Occasion(self._settings.destinations, base, self._rank(job), earlier, remarks)

    def _write(self, job: Job, kind: Kind, order: Order, contents: Sequence[bytes]) -> list[Result]:
        names, form = kind.names, order.form
        written: list[Result] = []
        for instance, content in enumerate(contents, start=1):
            parts = [
                kind.name.lower(),
                names.form_name(form),
                str(instance) if instance > 1 else "",
            ]
            key = job_key(job.job_uid, "-".join(filter(None, parts)) + kind.suffix)
            size = self._store.put(key, [content])
            crashpoint(f"reporting.{kind.name.lower()}.written")
            written.append(
                Result(
                    sop_instance_uid=names.sop_instance_uid(job.job_uid, form, instance),
                    series_uid=names.series_uid(job.job_uid, form),
                    kind=kind.name,
                    form=names.form_name(form),
                    store_key=key,
                    digest=sha256_hex(content),
                    size_bytes=size,
                )
            )
        return written

    def _rank(self, job: Job) -> int:
        """The job's place among the study's jobs, in the order in which they were made.

        A job that the orchestrator has not written down comes after those that it has.
        """
        with self._engine.connect().execution_options(axial_readonly=True) as connection:
            jobs = connection.execute(
                select(JobRow.job_uid)
                .where(JobRow.study_uid == job.study_uid)
                .order_by(JobRow.created_at, JobRow.job_uid)
            ).scalars()
            known = list(jobs)
        return known.index(job.job_uid) if job.job_uid in known else len(known)

    def _register(self, job: Job, results: tuple[Result, ...]) -> None:
        now = utc_now()
        rows = [
            {
                "sop_instance_uid": result.sop_instance_uid,
                "job_uid": job.job_uid,
                "study_uid": job.study_uid,
                "series_uid": result.series_uid,
                "sop_class_uid": self._kinds[result.kind].names.sop_class_uid,
                "kind": result.kind,
                "form": result.form,
                "sequence": self._kinds.sequence(result.kind),
                "store_key": result.store_key,
                "digest": result.digest,
                "size_bytes": result.size_bytes,
                "created_at": now,
            }
            for result in results
        ]
        with self._engine.begin() as connection:
            insert_new(connection, ResultRow, rows, refresh=("digest", "size_bytes"))


def _check_problem(written: list[_Written], analysis: Analysis) -> Withholding | None:
    for each in written:
        problem = each.kind.check(each.files, analysis, each.order)
        if problem:
            return object_check_failed(each.kind.name, problem)
    return None


def _encoded(kind: Kind, analysis: Analysis, order: Order) -> tuple[bytes, ...]:
    try:
        return kind.write(analysis, order)
    except (AxialError, MemoryError):
        raise
    except Exception as error:
        # The encoder refuses what no check of ours foresaw, or the source is damaged, for which
        # pydicom raises whatever it meets, OSError too; their words may quote attributes. What is
        # read and written here lies in memory: trying again would not help.
        _log.error("object_not_written", object=kind.name, kind=type(error).__name__)
        raise ReportingError(
            f"The {kind.name} cannot be written: the encoder does not take what it was given, or "
            "the source is damaged."
        ) from error


def _validation_problem(
    job: Job, validators: list[tuple[Kind, RunningValidator]]
) -> Withholding | None:
    problem: Withholding | None = None
    for kind, validator in validators:
        validation = validator.result()
        if validation.inherited:
            _log.info(
                "source_attributes_invalid",
                job=hashed(job.job_uid),
                kind=kind.name,
                errors=len(validation.inherited),
            )
        if validation.own and problem is None:
            problem = object_check_failed(kind.name, f"dciodvfy: {validation.own[0]}")
    return problem


def _made(
    results: tuple[Result, ...], analysis: Analysis, remarks: Mapping[int, str], clock: _Clock
) -> Made:
    return Made(results, analysis.counts, analysis.values, None, clock.seconds, remarks)


def _withheld(job: Job, withholding: Withholding, analysis: Analysis | None, clock: _Clock) -> Made:
    """Nothing leaves; what was counted is told all the same, where anything was."""
    _log.warning(
        "results_withheld",
        job=hashed(job.job_uid),
        model=job.manifest.name,
        reason=withholding.reason,
        problem=cast(str, withholding.values.get("problem", "")),
    )
    counts, values = (analysis.counts, analysis.values) if analysis else ((), ())
    return Made((), counts, values, withholding, clock.seconds)
