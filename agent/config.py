"""Settings of the agent: `agent.yaml`, the environment, the command line; the later one wins.

Every key of `deploy/agent.yaml` is a field here. In the environment ``listen.port`` is called
``BORESIDE_LISTEN__PORT``. No numpy here: the port is bound before anything heavy is imported.
"""

import os
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from agent.console.settings import ConsoleSettings
from agent.control_settings import LOOPBACK, ControlSettings
from agent.dicom_settings import DicomSettings
from agent.exam_settings import AuditSettings, ExamSettings
from agent.outbox_settings import OutboxSettings
from agent.requests import RequestSettings
from agent.trigger_site import SitePolicy

DEFAULT_FILE = Path("agent.yaml")


class SettingsError(Exception):
    """A setting is wrong: which one, where it stands, and what would be right."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ListenTls(_Section):
    """TLS of the MRD port: see `agent.tls`.

    Attributes
    ----------
    certificate, key : path
        PEM files of the agent.
    client_ca : path or None
        PEM file of the authorities that sign scanners' certificates. With it, a scanner needs one
        (mutual TLS).
    names : tuple of str
        Names (DNS names, or the common name where there are none) of which a scanner's certificate
        must have one; empty admits every certificate of ``client_ca``.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None
    names: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _named_by_authority(self) -> "ListenTls":
        if self.names and self.client_ca is None:
            raise ValueError("names: expected client_ca, which vouches for the names")
        return self


class Listen(_Section):
    """Where scanners connect.

    Loopback unless told otherwise: MRD knows no authentication, so whoever reaches the port can
    send measurements and read their images. A scanner on another machine or a container's host
    needs ``0.0.0.0`` or, better, the address of the interface on the scanner's own network.

    Attributes
    ----------
    host, port : str, int
    socket : path or None
        A Unix socket to listen on, too; for the agent's user only.
    scanners : tuple of network
        Addresses or networks that may connect over TCP; empty: all.
    tls : ListenTls or None
    """

    host: str = "127.0.0.1"
    port: int = Field(default=9002, ge=0, le=65535)
    socket: Path | None = None
    scanners: tuple[IPvAnyNetwork, ...] = ()
    tls: ListenTls | None = None

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOOPBACK


class MetricsSettings(_Section):
    """Where metrics and health are served (`agent.metrics`); nothing of it is about a patient."""

    host: str = "127.0.0.1"
    port: int = Field(default=9005, ge=0, le=65535)


class SpoolSettings(_Section):
    """Where measurements are kept as they come.

    Attributes
    ----------
    max_bytes : bytes
        Measurements that are done make room, oldest first, when the spool would grow beyond it.
    keep : bool
        Keep measurements that are done until their room is needed, to replay or export them.
    memory_bytes : bytes
        What one measurement may hold in memory when the spool has no room left at all.
    """

    folder: Path = Path("spool")
    max_bytes: ByteSize = Field(default=ByteSize(200 * 10**9), gt=0)
    keep: bool = True
    memory_bytes: ByteSize = Field(default=ByteSize(4 << 30), ge=0)


class LimitSettings(_Section):
    """What peers may ask for; k-space of unfinished images has `gadgets.frame_memory`.

    Attributes
    ----------
    connections, connections_per_minute : int
        At once, and how often new ones are taken.
    silence_s : float
        A peer that neither sends nor takes anything for so long is given up.
    text_bytes, message_bytes : bytes
        See `protocols.mrd.Limits`.
    stop_seconds : float
        How long running measurements may take to end.
    """

    connections: int = Field(default=16, ge=1)
    connections_per_minute: int = Field(default=600, ge=1)
    silence_s: float = Field(default=3600, gt=0)
    text_bytes: ByteSize = Field(default=ByteSize(16 << 20), gt=0)
    message_bytes: ByteSize = Field(default=ByteSize(4 << 30), gt=0)
    stop_seconds: float = Field(default=60, ge=0)


class EngineSettings(_Section):
    """Which networks may run, and how: see `engines.store` and `engines.engine`.

    Attributes
    ----------
    site : path
        Folder of the site's own weights (`boreside engine add`).
    public_key : path or None
        Ed25519 key (PEM) that must have signed them.
    plans : path or None
        Folder of compiled engines [default: in the user's cache].
    runtime : str
    precision : str or None
        The runtime's own by default.
    strength : float
        Of denoising, per cent.
    deadline_ms : float or None
        From an image's last readout: what a network has not finished by then leaves without it.
    research : bool
        Allow "synthetic-stir", "synthetic-ct" and "virtual-enhancement": networks whose images must
        not be read for what is not in them.
    """

    site: Path = Path("weights")
    public_key: Path | None = None
    plans: Path | None = None
    runtime: Literal["onnx", "openvino", "openvino-int8", "torch", "tensorrt"] = "onnx"
    precision: Literal["fp32", "fp16", "bf16"] | None = None
    strength: float = Field(default=100, ge=0, le=100)
    deadline_ms: float | None = Field(default=None, gt=0)
    research: bool = False


class Settings(BaseSettings):
    """All settings of one agent.

    Attributes
    ----------
    threads : int
        Threads of one numerical step (FFT, BLAS).
    chain : str
        Configuration for scanners that name none, or none that we know (`agent.chains`).
    pixel_type : str
        Type of the images that leave; FIRE's own configurations send int16 whatever it says.
    exams : ExamSettings or None
        None: nobody looks at the series.
    control : ControlSettings or None
        None: coverage is asked for within the MRD stream.
    audit : AuditSettings
    site : SitePolicy
        How triggers may ask here.
    dicom : DicomSettings
        How images are written for a PACS.
    outbox : OutboxSettings or None
        None, or no destination in it: nothing leaves as DICOM.
    console : ConsoleSettings or None
        Of the page, which is a process of its own. None: nothing is written for it.
    metrics : MetricsSettings or None
        None: not served.
    requests : RequestSettings or None
        After the scan. None: the agent does none.
    """

    model_config = SettingsConfigDict(
        env_prefix="BORESIDE_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    listen: Listen = Listen()
    spool: SpoolSettings = SpoolSettings()
    limits: LimitSettings = LimitSettings()
    engines: EngineSettings = EngineSettings()
    threads: int = Field(default_factory=lambda: len(os.sched_getaffinity(0)), ge=1)
    chain: str = "conventional"
    pixel_type: Literal["uint16", "float32"] = "uint16"
    exams: ExamSettings | None = None
    control: ControlSettings | None = None
    audit: AuditSettings = AuditSettings()
    site: SitePolicy = SitePolicy()
    dicom: DicomSettings = DicomSettings()
    outbox: OutboxSettings | None = None
    console: ConsoleSettings | None = None
    metrics: MetricsSettings | None = None
    requests: RequestSettings | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls)


def load(file: Path | None = None, **overrides: Any) -> Settings:
    """Return the settings.

    Parameters
    ----------
    file : Path, optional
        By default what ``BORESIDE_CONFIG`` names, else `agent.yaml` of the working folder where
        there is one.
    **overrides
        What the command line says, by section: ``listen={"port": 9003}``.

    Raises
    ------
    SettingsError
    """
    named = file or (Path(found) if (found := os.environ.get("BORESIDE_CONFIG")) else None)
    if named is not None and not named.is_file():
        raise SettingsError(f"{named}: expected a settings file, found none")
    path = named or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)

    class FromFile(Settings):
        model_config = SettingsConfigDict(yaml_file=path)

    try:
        return FromFile(**overrides)
    except ValidationError as error:
        lines = [_explain(dict(e), path, overrides) for e in error.errors()]
        raise SettingsError("\n".join(lines)) from None
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise SettingsError(f"{path}: expected YAML with `key: value` lines: {error}") from None


def _explain(error: dict[str, Any], path: Path | None, overrides: dict[str, Any]) -> str:
    keys = [str(key) for key in error["loc"]]
    variable = "BORESIDE_" + "__".join(keys).upper()
    found: Any = overrides
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    if found is not None:
        where = "command line"
    elif variable in os.environ:
        where = variable
    else:
        where = str(path) if path else "environment"
    if error["type"] == "extra_forbidden":
        section: Any = Settings
        for key in keys[:-1]:
            section = section.model_fields[key].annotation
            # Of a section that may be missing, the type which is not None.
            section = next(iter(get_args(section)), section)
        return f"{where}: {'.'.join(keys)}: unknown key, expected one of " + ", ".join(
            section.model_fields
        )
    return f"{where}: {'.'.join(keys)}: {error['msg']}, got {error['input']!r}"
