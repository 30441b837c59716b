"""What each step of a plan does to arrays: one file a step, by the step's name."""

from __future__ import annotations

from models.manifest.plan import AnyStep
from models.manifest.plan.clean import Clean
from models.manifest.plan.combine import Combine
from models.manifest.plan.crop import Crop
from models.manifest.plan.decide import Decide
from models.manifest.plan.infer import Infer
from models.manifest.plan.measure_uncertainty import MeasureUncertainty
from models.manifest.plan.normalise import Normalise
from models.manifest.plan.orient import Orient
from models.manifest.plan.pad import Pad
from models.manifest.plan.register import Register
from models.manifest.plan.resample import Resample
from models.manifest.plan.restore import Restore
from models.runtime.running import Run, Value
from models.runtime.steps.clean import clean
from models.runtime.steps.combine import combine
from models.runtime.steps.crop import crop
from models.runtime.steps.decide import decide
from models.runtime.steps.infer import infer
from models.runtime.steps.measure_uncertainty import measure_uncertainty
from models.runtime.steps.normalise import normalise
from models.runtime.steps.orient import orient
from models.runtime.steps.pad import pad
from models.runtime.steps.register import register
from models.runtime.steps.resample import resample
from models.runtime.steps.restore import restore
from models.runtime.steps.stack import stack

__all__ = ["run_step"]


def run_step(step: AnyStep, run: Run) -> None:
    """Run one step on the values that are there; what it makes joins them.

    Raises:
        NothingFound, Refused: the run ends here.
    """
    run.keep(step.out, _made(step, run))


def _made(step: AnyStep, run: Run) -> Value:
    match step:
        case Clean():
            return clean(step, run)
        case Combine():
            return combine(step, run)
        case Crop():
            return crop(step, run)
        case Decide():
            return decide(step, run)
        case Infer():
            return infer(step, run)
        case MeasureUncertainty():
            return measure_uncertainty(step, run)
        case Normalise():
            return normalise(step, run)
        case Orient():
            return orient(step, run)
        case Pad():
            return pad(step, run)
        case Register():
            return register(step, run)
        case Resample():
            return resample(step, run)
        case Restore():
            return restore(step, run)
        case _:
            return stack(step, run)
