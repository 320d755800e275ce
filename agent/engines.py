"""Which networks the agent uses, and how: the section `engines` of its settings.

A scanner's configuration names a chain and nothing else, so what chains need of the settings is
held here for the whole process, as `gadgets.fft` holds the number of threads. Nothing heavy is
imported before a network is asked for.
"""

from typing import TYPE_CHECKING

import structlog

from agent.config import EngineSettings, Settings

if TYPE_CHECKING:
    from engines.engine import Engine, Options
    from engines.manifest import Manifest
    from engines.store import Store
    from protocols.header import Header

_log = structlog.get_logger(__name__)

_used = EngineSettings()
_threads: int | None = None


def use(settings: Settings) -> None:
    """Use these settings for every chain from now on."""
    global _used, _threads
    _used, _threads = settings.engines, settings.threads


def used() -> EngineSettings:
    """Return the settings in use."""
    return _used


def store(settings: EngineSettings) -> "Store":
    """Return the store: shipped weights and the site's."""
    from engines.store import Store

    return Store(settings.site, settings.public_key, settings.plans)


def options(
    settings: EngineSettings, threads: int | None, precision: str | None = None
) -> "Options":
    """Return how runtimes are to run."""
    from engines.engine import Options

    precision = precision or settings.precision
    if threads is None:
        return Options(precision=precision, plans=settings.plans)
    return Options(threads, precision, settings.plans)


def engine(name: str, header: "Header") -> "Engine":
    """Return a network on the runtime in use, or an engine which says why it cannot serve.

    It has been warmed up for the images of a measurement: this happens before its first readout.
    """
    from engines.deadline import Deadlines
    from engines.engine import engine_or_reason

    found = engine_or_reason(
        name,
        runtime=_used.runtime,
        store=store(_used),
        options=options(_used, _threads),
    )
    if found.manifest is not None:
        try:
            # Like every run: an engine that hangs here must not keep a measurement waiting.
            shapes = _shapes(header, found.manifest)
            Deadlines().run(lambda check: found.warm_up(shapes), None)
        except Exception as error:
            _log.warning("engine not warmed up", engine=name, reason=str(error))
    return found


CHAINED = ("denoiser", "regulariser")
"""Kinds that run in this process; others run in the worker beside it."""


def ready(settings: Settings) -> list[tuple[str, str, bool]]:
    """Return name and newest version of each network, and whether it can serve.

    What can is loaded afterwards, and is not loaded again by the first chain that needs it.
    """
    from engines.engine import engine_or_reason

    here = store(settings.engines)
    found = {}
    for listed in here.networks():
        if listed.name in found:
            continue
        serves = not listed.problem
        if listed.manifest is not None and listed.manifest.kind in CHAINED:
            engine = engine_or_reason(
                listed.name,
                runtime=settings.engines.runtime,
                store=here,
                options=options(settings.engines, settings.threads),
            )
            serves = engine.reason is None
        found[listed.name] = (listed.name, listed.version, serves)
    return list(found.values())


def renew(settings: Settings) -> list[str]:
    """Have chains use the newest versions from now on, where all of those can serve.

    Measurements under way keep what they have.

    Returns
    -------
    list of str
        Why one cannot; then everything stays as it was.
    """
    from engines import engine
    from engines.errors import EngineUnavailable

    here = store(settings.engines)
    asked = options(settings.engines, settings.threads)
    reasons = []
    for name in sorted({listed.name for listed in here.networks()}):
        try:
            weights = here.open(name)
            if weights.manifest.kind in CHAINED:
                engine.open_engine(weights, settings.engines.runtime, asked)
        except EngineUnavailable as error:
            reasons.append(str(error))
    if not reasons:
        engine.forget()
        use(settings)
        ready(settings)
    return reasons


def _shapes(header: "Header", manifest: "Manifest") -> list[tuple[int, int, int]]:
    from gadgets.denoise import BATCH_PIXELS
    from protocols.header import encodings

    shapes = []
    for encoding in encodings(header):
        _, y, z = encoding.encoded_matrix
        y, x = (n + -n % manifest.multiple_of for n in (y, encoding.recon_matrix[0]))
        if y * x <= manifest.limits.pixels:
            shapes.append((min(z, max(1, BATCH_PIXELS // (y * x))), y, x))
    return shapes
