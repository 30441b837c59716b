"""Patient and study attributes: copied from the source byte for byte, never invented.

The bytes of an attribute go from the source's file to ours without being decoded, together with
the character set that they are written in; a name that the declared character set cannot express
leaves as it came. Our own texts are ASCII, which every character set of PS3.3 C.12.1.1.2 holds.

Type 2 attributes that the source lacks are written empty. Sequences without items are left out:
they say nothing, and PS3.3 wants at least one item.
"""

from __future__ import annotations

from copy import deepcopy

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

# PS3.3 C.7.1.1, C.7.1.3, C.7.2.1, C.7.2.2, C.7.2.3 (2024 edition), top level.
PATIENT_AND_STUDY = (
    # Patient
    "ReferencedPatientSequence", "PatientName", "PatientID", "IssuerOfPatientID",
    "TypeOfPatientID", "IssuerOfPatientIDQualifiersSequence",
    "SourcePatientGroupIdentificationSequence", "GroupOfPatientsIdentificationSequence",
    "PatientBirthDate", "PatientBirthTime", "PatientBirthDateInAlternativeCalendar",
    "PatientDeathDateInAlternativeCalendar", "PatientAlternativeCalendar", "PatientSex",
    "QualityControlSubject", "StrainDescription", "StrainNomenclature", "StrainStockSequence",
    "StrainAdditionalInformation", "StrainCodeSequence", "GeneticModificationsSequence",
    "OtherPatientNames", "OtherPatientIDsSequence", "ReferencedPatientPhotoSequence",
    "EthnicGroupCodeSequence", "PatientSpeciesDescription", "PatientSpeciesCodeSequence",
    "PatientBreedDescription", "PatientBreedCodeSequence", "BreedRegistrationSequence",
    "ResponsiblePerson", "ResponsiblePersonRole", "ResponsibleOrganization", "PatientComments",
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    # Clinical Trial Subject
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName",
    "IssuerOfClinicalTrialProtocolID", "OtherClinicalTrialProtocolIDsSequence",
    "ClinicalTrialSiteID", "ClinicalTrialSiteName", "IssuerOfClinicalTrialSiteID",
    "ClinicalTrialSubjectID", "IssuerOfClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID",
    "IssuerOfClinicalTrialSubjectReadingID", "ClinicalTrialProtocolEthicsCommitteeName",
    "ClinicalTrialProtocolEthicsCommitteeApprovalNumber",
    # General Study
    "StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber",
    "IssuerOfAccessionNumberSequence", "ReferringPhysicianName",
    "ReferringPhysicianIdentificationSequence", "ConsultingPhysicianName",
    "ConsultingPhysicianIdentificationSequence", "StudyDescription", "ProcedureCodeSequence",
    "PhysiciansOfRecord", "PhysiciansOfRecordIdentificationSequence",
    "NameOfPhysiciansReadingStudy", "PhysiciansReadingStudyIdentificationSequence",
    "ReferencedStudySequence", "StudyID", "RequestingService", "RequestingServiceCodeSequence",
    "ReasonForPerformedProcedureCodeSequence",
    # Patient Study
    "AdmittingDiagnosesDescription", "AdmittingDiagnosesCodeSequence", "PatientAge",
    "PatientSize", "PatientSizeCodeSequence", "PatientBodyMassIndex", "MeasuredAPDimension",
    "MeasuredLateralDimension", "PatientWeight", "MedicalAlerts", "Allergies", "Occupation",
    "SmokingStatus", "AdditionalPatientHistory", "PregnancyStatus", "LastMenstrualDate",
    "PatientSexNeutered", "ReasonForVisit", "ReasonForVisitCodeSequence", "AdmissionID",
    "IssuerOfAdmissionIDSequence", "ServiceEpisodeID", "ServiceEpisodeDescription",
    "IssuerOfServiceEpisodeIDSequence", "PatientState",
    # Clinical Trial Study
    "ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription",
    "LongitudinalTemporalOffsetFromEvent", "LongitudinalTemporalEventType",
    "ClinicalTrialTimePointTypeCodeSequence", "IssuerOfClinicalTrialTimePointID",
    "ConsentForClinicalTrialUseSequence",
)  # fmt: skip

_TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID",
)  # fmt: skip


def copy_patient_and_study(source: Dataset, target: Dataset) -> None:
    """Copies the patient and study modules and the character set from `source` to `target`.

    Args:
        source: as read from a file, so that its elements still hold the bytes as sent.
        target: written with Explicit VR Little Endian afterwards.
    """
    for keyword in ("SpecificCharacterSet", *PATIENT_AND_STUDY):
        tag = _tag(keyword)
        if tag in target:
            del target[tag]
        copy_element(source, target, keyword)
    for keyword in _TYPE_2:
        if keyword not in target:
            setattr(target, keyword, None)


def copy_element(source: Dataset, target: Dataset, keyword: str) -> None:
    """Copies one attribute as its bytes; does nothing when `source` lacks the attribute.

    Sequences, and values of a big-endian or implicit source whose bytes would mean something
    else in Explicit VR Little Endian, are decoded and written anew.
    """
    tag = _tag(keyword)
    if tag not in source:
        return
    element = source.get_item(tag)
    vr = element.VR or dictionary_VR(tag)
    if vr == "SQ":
        items = source[tag].value
        if items:
            target.add_new(tag, "SQ", deepcopy(items))
        return
    if isinstance(element, RawDataElement) and element.is_little_endian and vr != "UN":
        value = element.value or b""
        target[tag] = element._replace(
            VR=vr, value=value, length=len(value), is_implicit_VR=False, value_tell=0
        )
        return
    target.add(deepcopy(source[tag]))


def raw_bytes(dataset: Dataset, keyword: str) -> bytes | None:
    """The attribute's bytes as they lie in the file, without padding; None when absent.

    Args:
        dataset: as read, not decoded yet.
        keyword: of the attribute.

    Raises:
        TypeError: the attribute was decoded already.
    """
    tag = _tag(keyword)
    if tag not in dataset:
        return None
    element = dataset.get_item(tag)
    if not isinstance(element, RawDataElement):
        raise TypeError(f"{keyword} was already decoded; compare bytes before reading values.")
    return (element.value or b"").rstrip(b" \0")


def keep_bytes(dataset: Dataset) -> None:
    """Makes pydicom write raw elements of `dataset` as they are, without decoding them.

    pydicom keeps raw elements only when it believes that the data set was read in the encoding and
    character set in which it is written.
    """
    dataset.set_original_encoding(
        is_implicit_vr=False,
        is_little_endian=True,
        character_encoding=dataset._character_set,  # pyright: ignore[reportPrivateUsage]
    )


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return tag
