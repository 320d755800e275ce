"""A new version of a network takes over, or the old one stays: nothing in between.

    for line in update(folder, settings): print(line)

What is new is verified (hashes, and the signature where a key is set), proves itself on its golden
vector and makes the golden exam in a folder of its own. Then it is put among the site's weights in
one step, and all of that is done again there; where anything fails, it is taken out again.
Measurements under way keep the engine they have. A running agent takes the new one at SIGHUP, after
it has proved itself there, too.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from agent import engines, golden_exam
from agent.config import Settings
from engines.engine import open_engine
from engines.errors import EngineUnavailable

WORSE = 1.1
"""Times the error of the conventional image, and of the version before, that is still taken."""


class NotUpdated(Exception):
    """The new version is not used: why, and which one is."""


def update(folder: Path, settings: Settings) -> Iterator[str]:
    """Have a new version of a network used; yield what was found on the way.

    Raises
    ------
    NotUpdated
        The version before is used, as it was.
    """
    here = engines.store(settings.engines)
    with tempfile.TemporaryDirectory(prefix="boreside-") as staging:
        staged = settings.model_copy(
            update={"engines": settings.engines.model_copy(update={"site": Path(staging)})}
        )
        try:
            weights = engines.store(staged.engines).add(folder)
            about = weights.manifest
            before = _newest(settings, about.name)
            yield f"{about.label}: whole{', signed' if weights.signed else ''}"
            limit, said = _limit(settings, about.name, before)
            yield from said
            yield from _check(staged, about.name, about.version, limit)
        except (EngineUnavailable, golden_exam.NoImage, ValueError, OSError) as error:
            raise NotUpdated(f"{error}; nothing has changed") from None
    try:
        here.add(folder)
    except (EngineUnavailable, ValueError, OSError) as error:
        raise NotUpdated(f"{error}; nothing has changed") from None
    try:
        yield from _check(settings, about.name, about.version, limit)
    except (EngineUnavailable, golden_exam.NoImage, ValueError, OSError) as error:
        here.withdraw(about.name, about.version)
        raise NotUpdated(f"{error}; rolled back to {before or 'none'}") from None
    yield f"{about.name}: {about.version} instead of {before or 'none'}"


def _newest(settings: Settings, name: str) -> str | None:
    try:
        return engines.store(settings.engines).open(name).manifest.version
    except EngineUnavailable:
        return None


def _limit(settings: Settings, name: str, before: str | None) -> tuple[float, list[str]]:
    """Return the error that the golden exam's image may have, and what it comes from."""
    chain = golden_exam.CHAINS.get(name)
    if chain is None:
        return 0.0, [f"{name}: no golden exam for it, its golden vector must do"]
    errors = {"conventional": golden_exam.error(settings, "conventional")}
    if before is not None:
        try:
            errors[before] = golden_exam.error(settings, chain)
        except golden_exam.NoImage:
            pass  # what is there does not serve here: nothing to be as good as
    said = ", ".join(f"{who} {value:.4f}" for who, value in errors.items())
    return WORSE * min(errors.values()), [f"golden exam, error: {said}"]


def _check(settings: Settings, name: str, version: str, limit: float) -> Iterator[str]:
    """Check that this version is the newest, reproduces its vector and makes the golden exam."""
    weights = engines.store(settings.engines).open(name)
    if weights.manifest.version != version:
        raise ValueError(f"expected a version after {weights.manifest.version}, got {version}")
    asked = engines.options(settings.engines, settings.threads)
    engine = open_engine(weights, settings.engines.runtime, asked)
    yield f"{version} on {engine.runtime}: golden vector within {engine.prove():.1e}"
    chain = golden_exam.CHAINS.get(name)
    if chain is None:
        return
    found = golden_exam.error(settings, chain)
    if not found <= limit:
        raise ValueError(
            f"{version}: golden exam, error {found:.4f}, expected at most {limit:.4f}: {WORSE:g} "
            "times the least of the conventional image's and the version's before"
        )
    yield f"{version}: golden exam, error {found:.4f}"
