"""Which networks the agent uses, and how: the section `engines` of its settings.

A scanner's configuration names a chain and nothing else, so what chains need of the settings is
held here for the whole process, as `gadgets.fft` holds the number of threads. Nothing heavy is
imported before a network is asked for.
"""

from typing import TYPE_CHECKING

from agent.config import EngineSettings, Settings

if TYPE_CHECKING:
    from engines.engine import Engine, Options
    from engines.store import Store

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


def engine(name: str) -> "Engine":
    """Return a network on the runtime in use, or an engine which says why it cannot serve."""
    from engines.engine import engine_or_reason

    return engine_or_reason(
        name,
        runtime=_used.runtime,
        store=store(_used),
        options=options(_used, _threads),
    )
