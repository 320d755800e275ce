"""What all our DICOM objects have in common: patient, study, equipment, and their marks.

Every object is marked for research (Content Qualification); what a network or a synthesis took part
in says so in standard attributes which any reader shows: Image Type, Derivation Description,
Contributing Equipment with a Device UID that is another one for other weights (IHE AI Results),
Synthetic Data where voxels were not acquired. docs/dicom.md has the table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.metadata import version

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from agent.dicom_codes import code_item, scheme
from agent.dicom_identity import Identity, text
from agent.dicom_picture import Picture
from agent.dicom_settings import DicomSettings
from agent.dicom_uid import uid
from gadgets.items import Role
from gadgets.series import step_name
from protocols.header import Header

MANUFACTURER = "Boreside"
MODEL = "Boreside agent"
IMPLEMENTATION_UID = uid("implementation")


@cache
def software_version() -> str:
    """Return the version of this agent."""
    return version("boreside")


@dataclass(frozen=True)
class Context:
    """What the objects of one measurement share.

    Attributes
    ----------
    settings : DicomSettings
    identity : Identity
    measurement : str
        The spool's name: all UIDs are made of it.
    header : Header or None
    """

    settings: DicomSettings
    identity: Identity
    measurement: str
    header: Header | None

    @property
    def simulated(self) -> bool:
        """Whether the readouts came from a simulated scanner."""
        system = getattr(self.header, "acquisitionSystemInformation", None)
        return getattr(system, "systemModel", None) in self.settings.simulated_systems

    @property
    def step(self) -> str:
        """The protocol's name of what was measured."""
        return step_name(self.header) if self.header is not None else "series"

    def series_number(self, offset: int) -> int:
        """Return the number of the ``offset``-th series made of the scanner's own."""
        about = getattr(self.header, "measurementInformation", None)
        return 100 * int(getattr(about, "initialSeriesNumber", None) or 0) + offset


def begin(
    context: Context, sop_class: str, instance_uid: str, modality: str, synthetic: bool
) -> Dataset:
    """Return a new object with all that does not depend on its kind.

    Parameters
    ----------
    context : Context
    sop_class, instance_uid : str
    modality : str
    synthetic : bool
        Voxels were made, not acquired.
    """
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = instance_uid
    dataset.Modality = modality
    context.identity.write(dataset)
    mark(dataset, context, synthetic)
    return dataset


def mark(dataset: Dataset, context: Context, synthetic: bool) -> None:
    """Say who made an object, when (local time, as the scanner's), and what it may be taken for."""
    now = datetime.now()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.InstanceCreationDate = now.strftime("%Y%m%d")
    dataset.InstanceCreationTime = now.strftime("%H%M%S")
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = MODEL
    dataset.SoftwareVersions = software_version()
    dataset.DeviceSerialNumber = context.settings.serial_number
    dataset.StationName = context.settings.station_name
    system = getattr(context.header, "acquisitionSystemInformation", None)
    if institution := text(getattr(system, "institutionName", None), 64):
        dataset.InstitutionName = institution
    dataset.ContentQualification = "RESEARCH"
    dataset.CodingSchemeIdentificationSequence = [scheme()]
    if synthetic or context.simulated:
        dataset.SyntheticData = "YES"


def equipment(context: Context, role: Role, networks: Sequence[str]) -> list[Dataset]:
    """Return the Contributing Equipment Sequence: the scanner, this agent, and each network."""
    system = getattr(context.header, "acquisitionSystemInformation", None)
    scanner = _device(
        codes.DCM.AcquisitionEquipment,
        text(getattr(system, "systemVendor", None), 64) or "unknown",
        text(getattr(system, "systemModel", None), 64) or "unknown",
        "acquired the raw data",
    )
    if serial := text(getattr(system, "deviceSerialNumber", None), 64):
        scanner.DeviceSerialNumber = serial
    synthesis = role is Role.SYNTHETIC
    purpose = codes.DCM.SynthesizingEquipment if synthesis else codes.DCM.ProcessingEquipment
    agent = _device(purpose, MANUFACTURER, MODEL, "synthesized" if synthesis else "reconstructed")
    agent.SoftwareVersions = software_version()
    agent.DeviceUID = uid("agent", software_version())
    items = [scanner, agent]
    for name in networks:
        network = _device(purpose, MANUFACTURER, text(name, 64), "neural network")
        network.SoftwareVersions = text(name, 64)
        network.DeviceUID = uid("network", name)
        items.append(network)
    return items


def _device(purpose: Code, manufacturer: str, model: str, what: str) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item(purpose)]
    item.Manufacturer = manufacturer
    item.ManufacturerModelName = model
    item.ContributionDescription = what
    return item


def derivation(picture: Picture) -> str:
    """Return in words what was done (Derivation Description, ST)."""
    words = list(picture.history)
    if picture.networks:
        words.insert(0, f"neural network: {', '.join(picture.networks)}")
    if picture.role is Role.SYNTHETIC:
        words.insert(0, "SYNTHETIC: computed, not acquired")
    return text("; ".join(words) or "reconstructed", 1024)


def series_description(context: Context, picture: Picture) -> str:
    """Return the name of an image's series, its marks in front."""
    marks = "[SYNTHETIC] " if picture.role is Role.SYNTHETIC else ""
    marks += "[AI] " if picture.expected_network else ""
    name = "" if picture.quantity == "magnitude" else f" {picture.quantity}"
    return text(f"{marks}{context.step}{name}", 64)
