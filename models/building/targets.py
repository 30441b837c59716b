"""The networks of a model, converted for a target and compared with the trained ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.building.errors import BuildError, ClassesError, TargetMissingError
from models.building.fetching import fetch_weights, source_in_words
from models.building.network_modules import save_network
from models.building.parity import (
    ParityReference,
    compare,
    known_answer_of,
    require_accepted,
    segment_volume,
)
from models.building.reference_volumes import ReferenceVolume, parity_case
from models.building.triton_config import plan_config
from models.manifest import Manifest, Precision, Target, plan_model_name, triton_model_name
from models.manifest.lint import Problem, problem_in
from models.manifest.record import Parity
from models.runtime.errors import NetworkUnavailableError
from models.runtime.known_answer import KnownAnswer
from models.runtime.networks import Network
from models.runtime.torch_network import TorchNetwork, TorchScores

__all__ = ["Built", "build_networks", "save_modules"]

Report = Callable[[str, str], None]
Networks = dict[str, Network]
# Two threads compute the same as many; a build need not take the whole machine.
_BUILD_THREADS = 2


@dataclass(frozen=True, slots=True)
class Built:
    """A target's networks: the chosen precision, all comparisons, and the files by network.

    `unconfirmed`: what was wanted more, and the device does not compute in.
    """

    target: Target
    precision: Precision
    unconfirmed: tuple[Precision, ...]
    parity: tuple[Parity, ...]
    known_answer: KnownAnswer
    files: Mapping[str, tuple[Path, ...]]

    def place(self, manifest: Manifest, digest: str, staged: Path) -> None:
        """Move the files to where the target's Triton models have them."""
        for network, files in self.files.items():
            if self.target is Target.TENSORRT:
                folder = staged / plan_model_name(manifest.name, digest, network)
                (folder / "1").mkdir(parents=True)
                (folder / "config.pbtxt").write_text(plan_config(manifest, digest, network))
                shutil.move(files[0], folder / "1" / "model.plan")
                continue
            for file in files:
                name = triton_model_name(manifest.name, digest)
                shutil.move(file, staged / name / "1" / file.name)


def build_networks(
    manifest_folder: Path,
    manifest: Manifest,
    target: Target,
    wanted: tuple[Precision, ...],
    cache: Path,
    work: Path,
    report: Report,
    mirror: Path | None = None,
) -> Built:
    """Convert, compare in every wanted precision that the device confirms, take the first.

    Raises:
        BuildError: the device lacks the target (TargetMissingError), a file is not to be had
            (FetchError), or the networks differ too much (ParityError).
        ManifestError: the manifest promises what cannot be built.
    """
    _require(target)
    work.mkdir(parents=True)
    save_modules(manifest_folder, manifest, cache, work, report, mirror)
    report("fetch", "the volume for the parity check")
    case = parity_case(manifest_folder, manifest, cache)
    reference = _reference(manifest, case, work, report)
    files: dict[Precision, dict[str, tuple[Path, ...]]] = {}
    unconfirmed: list[Precision] = []
    parity: list[Parity] = []
    known: KnownAnswer | None = None
    for precision in wanted:
        try:
            networks, files[precision] = _converted(manifest, target, precision, work, report)
        except NetworkUnavailableError as error:
            report("skip", str(error))
            if not parity:
                unconfirmed.append(precision)
            continue
        labels = segment_volume(manifest, networks, case)
        parity.append(compare(manifest, precision, labels, reference))
        report("parity", _told(parity[-1]))
        known = known or known_answer_of(manifest, networks, case, labels)
        del networks
    if known is None:
        names = ", ".join(precision.value for precision in wanted)
        raise TargetMissingError(
            f"{manifest.name}: this device computes in none of {names}. Allow another precision "
            f"under precision.{target.value} of its manifest."
        )
    chosen = parity[0]
    require_accepted(manifest, chosen)
    return Built(
        target,
        chosen.precision,
        tuple(unconfirmed),
        tuple(parity),
        known,
        files[chosen.precision],
    )


def _require(target: Target) -> None:
    if target is Target.TENSORRT:
        from models.building.tensorrt_plan import require_tensorrt

        require_tensorrt()
    if target in (Target.TENSORRT, Target.TORCH):
        import torch

        if not torch.cuda.is_available():
            raise TargetMissingError(
                f"The target {target.value} is built on a machine with a GPU, and torch sees none "
                "here. Build the target cpu."
            )


def save_modules(
    manifest_folder: Path,
    manifest: Manifest,
    cache: Path,
    work: Path,
    report: Report,
    mirror: Path | None = None,
) -> None:
    """Write `<network>.pt` for every network: trained weights with the pipeline's case.

    Raises:
        BuildError: weights are not those that were pinned, or are not to be had (FetchError).
        ManifestError: a network is not as it is described.
    """
    for name, network in manifest.networks.items():
        source, path = network.weights.source, network.weights.path
        report("fetch", f"{source_in_words(manifest, source)}: {path}")
        weights = fetch_weights(manifest_folder, manifest, network.weights, cache, mirror)
        built_in = manifest.head_of(name)
        try:
            save_network(network, built_in, weights, work / f"{name}.pt")
        except ClassesError as error:
            raise problem_in(
                manifest_folder,
                Problem(
                    ("networks", name, "classes"),
                    f"the network in {network.weights.path} has {error.found} classes.",
                    f"Write {error.found}.",
                ),
            ) from error


def _reference(
    manifest: Manifest, case: ReferenceVolume, work: Path, report: Report
) -> ParityReference:
    """Run the trained networks by torch in float32 on the CPU, whatever the target."""
    report("reference", "the trained networks in torch, f32")
    networks: Networks = {
        name: _torch(manifest, name, work / f"{name}.pt", "f32", "cpu")
        for name in manifest.networks
    }
    return ParityReference(case, segment_volume(manifest, networks, case))


def _converted(
    manifest: Manifest, target: Target, precision: Precision, work: Path, report: Report
) -> tuple[Networks, dict[str, tuple[Path, ...]]]:
    """Convert every network and load it as the target will run it."""
    networks: Networks = {}
    files: dict[str, tuple[Path, ...]] = {}
    for name, described in manifest.networks.items():
        report("convert", f"{name} for {target.value} in {precision.value}")
        module, shape = work / f"{name}.pt", described.patch
        if target is Target.CPU:
            networks[name], files[name] = _openvino(manifest, name, module, precision)
        elif target is Target.TORCH:
            networks[name] = _torch(manifest, name, module, precision.value, "cuda")
            files[name] = (module,)
        elif manifest.head_of(name).threshold is None:
            raise BuildError(
                f"Network {name}: plans are built of networks whose answer a threshold decides; "
                "this one's scores are merged. Build the target torch."
            )
        else:
            networks[name], files[name] = _plan(name, module, shape, precision)
    return networks, files


def _torch(manifest: Manifest, name: str, module: Path, precision: str, device: str) -> Network:
    patch = manifest.networks[name].patch
    scores = manifest.head_of(name).threshold is None
    make = TorchScores if scores else TorchNetwork
    return make(name, module, patch, precision, device)


def _openvino(
    manifest: Manifest, name: str, module: Path, precision: Precision
) -> tuple[Network, tuple[Path, ...]]:
    from models.building.exporting import save_ir
    from models.building.openvino_ir import save_openvino_ir
    from models.runtime.openvino_network import OpenVinoNetwork, OpenVinoScores

    described, xml = manifest.networks[name], module.with_suffix(".xml")
    scores = manifest.head_of(name).threshold is None
    if not xml.exists() and scores:
        save_ir(module, (described.channels, *described.patch), None, xml)
    elif not xml.exists():
        save_openvino_ir(module, described.patch, xml)
    make = OpenVinoScores if scores else OpenVinoNetwork
    network = make(name, xml, precision.value, _BUILD_THREADS)
    return network, (xml, xml.with_suffix(".bin"))


def _plan(
    name: str, module: Path, shape: tuple[int, int, int], precision: Precision
) -> tuple[Network, tuple[Path, ...]]:
    from models.building.tensorrt_plan import PlanNetwork, export_onnx, save_plan

    onnx = module.with_suffix(".onnx")
    if not onnx.exists():
        export_onnx(module, shape, onnx)
    plan = module.with_name(f"{name}-{precision.value}.plan")
    save_plan(onnx, precision.value, plan)
    return PlanNetwork(name, plan, shape, precision.value), (plan,)


def _told(parity: Parity) -> str:
    verdict = "accepted" if parity.accepted else "NOT accepted"
    return (
        f"{parity.precision.value}: Dice {parity.dice:.5f}, {parity.differing_voxels} of "
        f"{parity.reference_voxels} voxels differ, {verdict}"
    )
