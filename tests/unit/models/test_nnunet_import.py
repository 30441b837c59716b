"""What an imported nnU-Net says, and what of nnU-Net is refused by its name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from models.building.errors import WeightsError
from models.importing import Imported, NotImportableError, Said, import_nnunet
from models.manifest import Manifest, lint_manifest
from models.manifest.plan.infer import Infer
from tests.builders.nnunet_cases import unpacked
from tests.unit.models.test_state_dicts import Harmful

Trained = Callable[..., Path]


@pytest.fixture
def trained(tmp_path: Path) -> Trained:
    """A trained model's folder: of CT, two folds; with other values in its files."""

    def made(
        configuration: dict[str, Any] | None = None,
        plans: dict[str, Any] | None = None,
        dataset: dict[str, Any] | None = None,
        checkpoint: dict[str, Any] | None = None,
        fold: int = 0,
    ) -> Path:
        folder = unpacked("ct-two-folds", tmp_path).folder
        written = json.loads((folder / "plans.json").read_text())
        written["configurations"]["3d_fullres"] |= configuration or {}
        (folder / "plans.json").write_text(json.dumps(written | (plans or {})))
        said = json.loads((folder / "dataset.json").read_text())
        (folder / "dataset.json").write_text(json.dumps(said | (dataset or {})))
        file = folder / f"fold_{fold}" / "checkpoint_final.pth"
        if checkpoint is not None:
            content = torch.load(file, weights_only=False)
            torch.save(content | checkpoint, file)
        return folder

    return made


def imported(folder: Path, **said: Any) -> Imported:
    into = said.pop("into", folder.parent / "models")
    return import_nnunet(folder, Said("balls", into, **said), lambda step: None)


def manifest_of(folder: Path, **said: Any) -> Manifest:
    return lint_manifest(imported(folder, **said).folder)


def of_two(*channels: str) -> dict[str, Any]:
    """A data set of two channels."""
    return {"dataset": {"channel_names": {str(n): name for n, name in enumerate(channels)}}}


def schemes(*names: str, masked: bool = False) -> dict[str, Any]:
    """A configuration that normalises its channels so."""
    return {"normalization_schemes": list(names), "use_mask_for_norm": [masked] * len(names)}


def test_each_channel_is_a_role_told_apart_by_its_contrast(tmp_path: Path) -> None:
    made = imported(unpacked("mr-two-contrasts", tmp_path).folder)
    manifest = lint_manifest(made.folder)
    t1, flair = manifest.roles["t1"], manifest.roles["flair"]
    assert (t1.use, flair.use, manifest.grid_role) == ("grid", "aligned", "t1")
    assert flair.align is not None
    assert (flair.align.to, flair.align.by) == ("t1", "same-frame")
    asked = {
        name: [
            (one.words_match, one.words_do_not_match)
            for one in role.selector
            if one.attribute == "SeriesDescription"
        ]
        for name, role in manifest.roles.items()
    }
    (wanted, _), (_, unwanted) = asked["t1"]
    assert wanted is not None
    assert unwanted is not None
    for name, is_t1 in (
        ("t1 mprage", True), ("t1 post gad", False), ("t1 flair", False), ("t2 flair", False),
    ):  # fmt: skip
        found = re.search(wanted, name) is not None and re.search(unwanted, name) is None
        assert found is is_t1, name
    assert len(asked["flair"]) == 1
    assert manifest.networks["fold-0"].channels == 2
    fields = [one.field for one in made.to_review]
    assert {"roles.t1.selector", "roles.flair.selector", "roles.flair.align"} <= set(fields)
    assert "acceptance.parity.case" in fields
    card = (made.folder / "README.md").read_text(encoding="utf-8")
    assert "| Input | MR (T1), one series |\n| Input | MR (FLAIR), one series |" in card


def test_the_plan_is_nnunets_order(trained: Trained) -> None:
    manifest = manifest_of(trained())
    assert [step.do for step in manifest.plan] == [
        "orient",
        "crop",
        "normalise",
        "resample",
        "infer",
        "restore",
        "decide",
    ]
    assert list(manifest.networks) == ["fold-0", "fold-1"]
    assert manifest.source_file("beside", "fold-1.safetensors").bytes > 0


def test_every_weight_is_kept_once_and_no_code_comes_along(trained: Trained) -> None:
    from safetensors.torch import load_file

    folder = trained()
    made = imported(folder).folder
    assert sorted(file.name for file in made.iterdir()) == [
        "README.md",
        "fold-0.safetensors",
        "fold-1.safetensors",
        "model.yaml",
    ]
    kept = load_file(made / "fold-0.safetensors")
    checkpoint = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)
    weights: dict[str, torch.Tensor] = checkpoint["network_weights"]
    assert all(torch.equal(weights[name], tensor) for name, tensor in kept.items())
    assert len(kept) == len({tensor.data_ptr() for tensor in weights.values()})


def test_segments_without_codes_are_generic_and_told(trained: Trained) -> None:
    made = imported(trained())
    manifest = lint_manifest(made.folder)
    assert {segment.type.meaning for segment in manifest.segments} == {"Image Region"}
    assert {segment.site.meaning for segment in manifest.segments} == {"Entire body"}
    assert not any(segment.is_anatomical for segment in manifest.segments)
    assert "segments.*.category, type, region" in {one.field for one in made.to_review}
    assert "To be filled in" in (made.folder / "model.yaml").read_text()
    assert "generic codes" in (made.folder / "README.md").read_text()


LIVER: dict[str, Any] = {
    "category": {"scheme": "SCT", "value": "91723000", "meaning": "Anatomical Structure"},
    "type": {"scheme": "SCT", "value": "10200004", "meaning": "Liver"},
    "label": "Liver",
}


def test_codes_of_a_file_become_the_segments(trained: Trained, tmp_path: Path) -> None:
    codes = tmp_path / "codes.yaml"
    codes.write_text(yaml.safe_dump({"bright": LIVER, "dark": {**LIVER, "label": "Other"}}))
    made = imported(trained(), codes=codes)
    segments = lint_manifest(made.folder).segments
    assert [segment.label for segment in segments] == ["Liver", "Other"]
    assert segments[0].type.value == "10200004"
    assert not any("codes" in one.why for one in made.to_review)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"bright": LIVER}, "leaves out dark"),
        ({"bright": LIVER, "dark": LIVER, "spleen": LIVER}, "there is no label spleen"),
        ({"bright": {**LIVER, "typ": 1}, "dark": LIVER}, "typ"),
        ([1], "no mapping"),
    ],
)
def test_codes_that_do_not_fit_the_labels_are_refused(
    content: Any, said: str, trained: Trained, tmp_path: Path
) -> None:
    codes = tmp_path / "codes.yaml"
    codes.write_text(yaml.safe_dump(content))
    with pytest.raises(NotImportableError, match=said):
        imported(trained(), codes=codes)


@pytest.mark.parametrize(
    ("channel", "modality", "found", "words"),
    [
        ("CT", "", "CT", False),
        ("FLAIR", "", "MR", True),
        ("T1w", "", "MR", True),
        ("MRI", "", "MR", False),
        ("noNorm", "us", "US", False),
        ("T2", "CT", "CT", False),
    ],
)
def test_a_channels_name_says_which_series_is_wanted(
    channel: str, modality: str, found: str, words: bool, trained: Trained
) -> None:
    manifest = manifest_of(trained(dataset={"channel_names": {"0": channel}}), modality=modality)
    selector = manifest.roles["image"].selector
    assert selector[0].any_of == (found,)
    assert any(one.attribute == "SeriesDescription" for one in selector) is words


def test_a_scan_to_compare_on_lies_beside_the_manifest(trained: Trained, tmp_path: Path) -> None:
    import nibabel
    import numpy as np

    scan = tmp_path / "liver_001.nii.gz"
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4))  # pyright: ignore[reportPrivateImportUsage]
    nibabel.save(image, scan)  # pyright: ignore[reportPrivateImportUsage]
    made = imported(trained(), case=scan)
    case = lint_manifest(made.folder).acceptance.parity.case
    assert (case.source, case.path) == ("beside", "case.nii.gz")
    assert (made.folder / "case.nii.gz").read_bytes() == scan.read_bytes()


def test_folds_tiles_and_mirror_passes_may_be_fewer(trained: Trained) -> None:
    manifest = manifest_of(trained(), folds=("1",), step=0.8, mirror=False)
    infer = next(step for step in manifest.plan if isinstance(step, Infer))
    assert (infer.members, infer.mirror) == (("fold-1",), ())
    assert getattr(infer.tiling, "step", None) == 0.8


def test_axes_are_the_readers_or_a_persons(trained: Trained, tmp_path: Path) -> None:
    folder = trained(plans={"image_reader_writer": "NibabelIOWithReorient"})
    assert manifest_of(folder, into=tmp_path / "one").plan[0].model_dump()["axes"] == "SAR"
    said = manifest_of(folder, into=tmp_path / "other", axes="SPL")
    assert said.plan[0].model_dump()["axes"] == "SPL"


def test_without_resampling_there_is_no_such_step(trained: Trained) -> None:
    none = "no_resampling_data_or_seg_to_shape"
    folder = trained({"resampling_fn_data": none, "resampling_fn_probabilities": none})
    assert "resample" not in [step.do for step in manifest_of(folder).plan]


def test_weights_that_were_trained_on_several_devices_have_the_same_names(
    trained: Trained,
) -> None:
    folder = trained()
    file = folder / "fold_0" / "checkpoint_final.pth"
    content = torch.load(file, weights_only=False)
    wrapped = {f"module.{name}": one for name, one in content["network_weights"].items()}
    torch.save(content | {"network_weights": wrapped}, file)
    assert (imported(folder).folder / "fold-0.safetensors").is_file()


RESAMPLING = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("scheme", {"configuration": {"normalization_schemes": ["Mine"]}}, "normalisation Mine"),
    ("resampling", {"configuration": {"resampling_fn_data": "resample_torch_fornnunet"}},
     "resampling_fn_data resample_torch_fornnunet is not known"),
    ("scores", {"configuration": {"resampling_fn_probabilities": "mine"}},
     "resampling_fn_probabilities mine is not known"),
    ("one-way", {"configuration": {"resampling_fn_data": "no_resampling_data_or_seg_to_shape"}},
     "images or scores, and not both"),
    ("order", {"configuration": {"resampling_fn_data_kwargs": {**RESAMPLING, "order": 2}}},
     "cannot be said: order may be 1 or 3"),
    ("separate", {"configuration": {
        "resampling_fn_data_kwargs": {**RESAMPLING, "force_separate_z": True}}},
     "force_separate_z null or false"),
    ("preprocessor", {"configuration": {"preprocessor_name": "Mine"}}, "preprocessor Mine"),
    ("cascade", {"configuration": {"previous_stage": "3d_lowres"}}, "cascade: it sees what 3d_low"),
    ("network", {"configuration": {"architecture": {
        "network_class_name": "my.Net", "arch_kwargs": {}}}}, "network my.Net is not known"),
    ("arguments", {"configuration": {"architecture": {"network_class_name":
        "dynamic_network_architectures.architectures.unet.PlainConvUNet"}}}, "no arch_kwargs"),
    ("old", {"configuration": {"architecture": None}}, "class None of old plans"),
    ("inherits", {"configuration": {"inherits_from": "3d_fullres"}}, "inherits from itself"),
    ("field", {"configuration": {"patch_size": [0, 1, 2]}}, "patch_size.0"),
    ("reader", {"plans": {"image_reader_writer": "Tiff3DIO"}}, "reader Tiff3DIO is not known"),
    ("transpose", {"plans": {"transpose_forward": [0, 0, 2]}}, "no order of axes"),
    ("labels-by", {"plans": {"label_manager": "Mine"}}, "label manager Mine"),
    ("intensities", {"plans": {"foreground_intensity_properties_per_channel": {}}},
     "CTNormalization needs"),
    ("configuration", {"checkpoint": {"init_args": {"configuration": "2d", "fold": 0}}},
     "configuration 2d is not there"),
    ("trainer", {"checkpoint": {"trainer_name": "nnUNetTrainerUMambaBot"}},
     "trainer nnUNetTrainerUMambaBot is not one"),
    ("batch-norm", {"checkpoint": {"trainer_name": "nnUNetTrainerBN"}}, "trainer nnUNetTrainerBN"),
    ("folds", {"checkpoint": {"trainer_name": "nnUNetTrainerNoMirroring"}, "fold": 1},
     "of nnUNetTrainerNoMirroring 3d_fullres, and the fold before of nnUNetTrainer"),
    ("channels", {"dataset": {"channel_names": {"0": "T1", "1": "T2"}}},
     r"2 channels \(T1, T2\), and plans.json normalises 1"),
    ("alike", {**of_two("CT", "CT"), "configuration": schemes(*["NoNormalization"] * 2)},
     "Nothing tells which series is which of the channels CT, CT"),
    ("one-contrast", {**of_two("T2", "T2w"), "configuration": schemes(*["NoNormalization"] * 2)},
     "Nothing tells which series is which of the channels T2, T2w"),
    ("one-mask", {**of_two("T1", "T2"),
     "configuration": schemes("ZScoreNormalization", "NoNormalization", masked=True)},
     "the mask is one of all channels"),
    ("unit", {**of_two("CT", "PET"), "configuration": schemes(*["NoNormalization"] * 2)},
     "PET is normalised by NoNormalization, which depends on the unit"),
    ("second-intensities", {**of_two("CT", "MR"),
     "configuration": schemes("NoNormalization", "CTNormalization")}, "CTNormalization needs"),
    ("channel", {"dataset": {"channel_names": {"0": "zscore"}}}, "zscore, which says no modality"),
    ("numbered", {"dataset": {"channel_names": {"T1": "T1"}}}, "not numbered"),
    ("gap", {"dataset": {"labels": {"background": 0, "a": 1, "b": 3}}}, "without gaps"),
    ("empty", {"dataset": {"labels": {"background": 0}}}, "no label beside the background"),
    ("v1", {"dataset": {"labels": {"0": "background"}}}, "no background"),
    ("order-of-regions", {"dataset": {"labels": {"background": 0, "w": [1, 2], "c": 2}}},
     "2 regions need as many numbers"),
    ("same-region", {"dataset": {"labels": {"background": 0, "w": [1, 2], "c": 2},
     "regions_class_order": [1, 1]}}, "names a number twice"),
    ("many", {"dataset": {"labels": {"background": 0, **{f"l{n}": n for n in range(1, 300)}}}},
     "labels above 255"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED]
)
def test_what_a_plan_cannot_say_is_refused_by_its_name(
    changes: dict[str, Any], said: str, trained: Trained, tmp_path: Path
) -> None:
    folder = trained(**changes)
    with pytest.raises(NotImportableError, match=said):
        imported(folder)
    assert list((tmp_path / "models").glob("*")) == [], "what is refused leaves nothing"


def test_a_trainer_of_ones_own_is_taken_where_a_person_answers_for_it(trained: Trained) -> None:
    folder = trained(checkpoint={"trainer_name": "MyTrainer"}, fold=0)
    assert manifest_of(folder, folds=("0",), trainer_like="nnUNetTrainer").name == "balls"


@pytest.mark.parametrize(
    "trainer",
    [
        "nnUNetTrainer",
        "nnUNetTrainerNoMirroring",
        "nnUNetTrainer_4000epochs_NoMirroring",
        "nnUNetTrainer_onlyMirror01_DASegOrd0",
        "nnUNetTrainerDA5Segord0",
        "nnUNetTrainerVanillaAdam3en4",
        "nnUNetTrainer_probabilisticOversampling_033",
        "nnUNetTrainerDiceCELoss_noSmooth",
        "nnUNetTrainer_MOSAIC_1k_QuarterLR_NoMirroring",
        "nnUNetTrainerDiceTopK10Loss_2000epochs",
    ],
)
def test_nnunets_own_trainers_of_other_lengths_losses_and_augmentations_are_known(
    trainer: str, trained: Trained
) -> None:
    folder = trained(checkpoint={"trainer_name": trainer})
    assert manifest_of(folder, folds=("0",)).name == "balls"


def test_weights_of_another_network_are_refused(trained: Trained) -> None:
    folder = trained(dataset={"labels": {"background": 0, "a": 1, "b": 2, "c": 3}})
    with pytest.raises(NotImportableError, match="Weights of other shapes"):
        imported(folder)


def test_a_checkpoint_that_names_code_is_refused_and_the_code_not_run(
    trained: Trained, tmp_path: Path
) -> None:
    harm = tmp_path / "harm"
    folder = trained(checkpoint={"x": Harmful(harm)})
    with pytest.raises(WeightsError, match=r"names the code commands\.call"):
        imported(folder)
    assert not harm.exists()


@pytest.mark.parametrize("name", ["Balls", "balls_1", "../balls", ""])
def test_a_name_that_is_none_is_refused(name: str, trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(NotImportableError, match="no name of a model"):
        import_nnunet(trained(), Said(name, tmp_path / "models"), lambda step: None)


def test_a_model_is_never_written_over(trained: Trained, tmp_path: Path) -> None:
    folder = trained()
    made = imported(folder).folder
    (made / "model.yaml").write_text("corrected")
    with pytest.raises(NotImportableError, match="is there already"):
        imported(folder)
    assert (made / "model.yaml").read_text() == "corrected"


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("plans.json", r"plans\.json is wanted in it"),
        ("dataset.json", r"dataset\.json cannot be read"),
    ],
)
def test_a_folder_that_is_no_trained_model_is_called_so(
    missing: str, said: str, trained: Trained
) -> None:
    folder = trained()
    (folder / missing).unlink()
    with pytest.raises(NotImportableError, match=said):
        imported(folder)


def test_a_fold_or_file_that_is_not_there_is_named_with_those_that_are(trained: Trained) -> None:
    folder = trained()
    with pytest.raises(NotImportableError, match=r"of fold 4. It has 0, 1; name those"):
        imported(folder, folds=("4",))
    with pytest.raises(NotImportableError, match=r"no checkpoint_best\.pth of fold 0"):
        imported(folder, checkpoint="checkpoint_best.pth")


def test_a_data_sets_folder_with_one_training_is_that_training(
    trained: Trained, tmp_path: Path
) -> None:
    folder = trained()
    assert manifest_of(folder.parent, into=tmp_path / "models").name == "balls"


def test_a_data_sets_folder_with_several_trainings_asks_which(
    trained: Trained, tmp_path: Path
) -> None:
    folder = trained()
    other = folder.with_name("nnUNetTrainer__nnUNetPlans__2d")
    other.mkdir()
    (other / "plans.json").write_text("{}")
    with pytest.raises(NotImportableError, match="several: nnUNetTrainer__nnUNetPlans__2d, nnUNet"):
        imported(folder.parent, into=tmp_path / "models")


def test_a_pickle_of_post_processing_is_told_and_not_read(trained: Trained) -> None:
    folder = trained()
    (folder / "postprocessing.pkl").write_bytes(b"not read")
    assert any("postprocessing.pkl was not read" in one.why for one in imported(folder).to_review)
