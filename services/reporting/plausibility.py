"""Whether measurements lie in the range that the model's manifest calls plausible."""

from __future__ import annotations

from dataclasses import dataclass

from models.manifest import Manifest
from services.reporting.job import Withholding
from services.reporting.measure import MeasuredValue

# UCUM unit -> millilitres.
_ML = {"mm3": 1e-3, "cm3": 1.0, "mL": 1.0, "ml": 1.0, "L": 1e3, "l": 1e3}


@dataclass(frozen=True, slots=True)
class Plausibility:
    """What the ranges say.

    Attributes:
        withholding: set when a value lies outside a range that must not be left.
        remarks: sentences for the reader of the report, by segment number.
    """

    withholding: Withholding | None
    remarks: dict[int, str]


def judge(manifest: Manifest, values: tuple[MeasuredValue, ...]) -> Plausibility:
    """Compares the measured volumes with the manifest's plausible ranges."""
    remarks: dict[int, str] = {}
    for range_ in manifest.acceptance.plausible:
        for value in values:
            if value.segment_number != range_.segment or value.name != "volume":
                continue
            measured_ml = value.value * _ML[value.unit]
            if range_.min_ml <= measured_ml <= range_.max_ml:
                continue
            if range_.otherwise == "withhold":
                return Plausibility(
                    Withholding(
                        "implausible_measurement",
                        {
                            "segment": value.segment_label,
                            "value": round(measured_ml, 1),
                            "unit": "mL",
                            "minimum": range_.min_ml,
                            "maximum": range_.max_ml,
                        },
                    ),
                    {},
                )
            remarks[range_.segment] = (
                f"{value.segment_label} measures {measured_ml:.1f} mL, outside the expected "
                f"{range_.min_ml:g} to {range_.max_ml:g} mL. Please check the segmentation."
            )
    return Plausibility(None, remarks)
