"""When an exam protocol asks for more coverage: triggers, as the protocol engineer writes them.

A trigger says what must have been seen (`when`), what must have been shown before "nothing there"
may be said (`needs`), what forbids asking (`unless`), what would be scanned (`scan`) and what the
technologist is asked (`ask`). `protocols.trigger_text` reads one aloud, `agent.triggers` decides.
"""

from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Tag,
)
from pydantic import model_validator as _model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from protocols.findings import FindingType, Fraction, Side, Structure

LEVEL_PATTERN = (
    r"^(C[1-7]|T([1-9]|1[0-3])|L[1-6]|S[1-5])(/(C[1-7]|T([1-9]|1[0-3])|L[1-6]|S[1-5]))?$"
)
NAME_PATTERN = r"^[a-z][a-z0-9]*([_-][a-z0-9]+)*$"

PROBABILITY_MARGIN = 0.15
"""Between `up` and `down` of a probability: less would let noise ring the bell."""

PLACEHOLDERS = ("side", "level", "structure", "minutes", "steps")
"""What the text of a question may name, in braces."""

Item = TypeVar("Item")


class _Several:
    """Lets one value stand for a list of one, in files and in their JSON Schema."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(self._listed, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        listed = handler(schema)
        return {"anyOf": [listed["items"], listed]}

    @staticmethod
    def _listed(value: Any) -> Any:
        return tuple(value) if isinstance(value, list | tuple) else (value,)


OneOrMore = Annotated[tuple[Item, ...], _Several()]
LevelName = Annotated[str, Field(pattern=LEVEL_PATTERN)]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]


class Model(BaseModel):
    """Of every part of a protocol: frozen, and no key which is not known."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class Thresholds(Model):
    """Two thresholds: what lies between them changes nothing (hysteresis)."""

    up: float
    down: float

    @_model_validator(mode="after")
    def _ordered(self) -> "Thresholds":
        if not self.down < self.up:
            raise ValueError(f"expected down below up, got up {self.up:g} and down {self.down:g}")
        return self


class ProbabilityThresholds(Model):
    """It counts from `up` on, and goes on counting until it falls below `down`."""

    up: Fraction = 0.80
    down: Fraction = 0.60

    @_model_validator(mode="after")
    def _apart(self) -> "ProbabilityThresholds":
        if self.up - self.down < PROBABILITY_MARGIN - 1e-9:
            raise ValueError(
                f"expected down at least {PROBABILITY_MARGIN:g} below up, "
                f"got up {self.up:g} and down {self.down:g}"
            )
        return self


class Persistence(Model):
    """What makes a candidate certain enough: enough neighbouring slices, or enough series."""

    adjacent_slices: int = Field(default=2, ge=1)
    series: int = Field(default=2, ge=1)
    area_mm2: float = Field(default=30, ge=0)
    """In-plane, of its largest slice; needed in either case."""


class FindingCondition(Model):
    """At least `count` findings like this."""

    finding: OneOrMore[FindingType] = Field(min_length=1)
    where: OneOrMore[Structure] = ()
    """Any structure where none is named."""
    side: Side | None = None
    level: OneOrMore[LevelName] = ()
    seen_on: OneOrMore[Name] = ()
    """Steps, of which one at least must show it."""
    probability: ProbabilityThresholds = ProbabilityThresholds()
    cnr: Thresholds | None = None
    """Contrast to the reference region, in noise sigmas."""
    depth_mm: Thresholds | None = None
    """From the joint surface; a finding without a depth does not count."""
    persists: Persistence = Persistence()
    count: int = Field(default=1, ge=1)


class _Bounded(Model):
    above: Thresholds | None = None
    """It counts from `up` on, and goes on counting until it falls below `down`."""
    below: Thresholds | None = None
    """It counts from `down` on, and goes on counting until it rises above `up`."""

    @_model_validator(mode="after")
    def _one_bound(self) -> "_Bounded":
        if (self.above is None) == (self.below is None):
            raise ValueError("expected one of above and below, each with up and down")
        return self


class MeasureCondition(_Bounded):
    """A measure, at any of these levels, is this high or low."""

    measure: Name
    level: OneOrMore[LevelName] = ()


class CoverageCondition(_Bounded):
    """This fraction of a structure has been shown, on this side or on either one."""

    coverage: Structure
    side: Side | None = None


class AnomalyCondition(Model):
    """The exam is unlike the normal ones."""

    anomaly: ProbabilityThresholds


class AllOf(Model):
    """Every one of these."""

    all: tuple["Condition", ...] = Field(min_length=1)


class AnyOf(Model):
    """At least one of these."""

    any: tuple["Condition", ...] = Field(min_length=1)


class NoneOf(Model):
    """None of these, not even as a candidate."""

    none: tuple["Condition", ...] = Field(min_length=1)


CONDITIONS = ("finding", "measure", "coverage", "anomaly", "all", "any", "none")


def _kind(value: Any) -> str | None:
    keys = value if isinstance(value, dict) else type(value).model_fields
    found = [key for key in CONDITIONS if key in keys]
    return f"<{found[0]}>" if len(found) == 1 else None


Condition = Annotated[
    Annotated[FindingCondition, Tag("<finding>")]
    | Annotated[MeasureCondition, Tag("<measure>")]
    | Annotated[CoverageCondition, Tag("<coverage>")]
    | Annotated[AnomalyCondition, Tag("<anomaly>")]
    | Annotated[AllOf, Tag("<all>")]
    | Annotated[AnyOf, Tag("<any>")]
    | Annotated[NoneOf, Tag("<none>")],
    Discriminator(
        _kind,
        custom_error_type="condition",
        custom_error_message="expected a condition with one of " + ", ".join(CONDITIONS),
    ),
]


class CoverageNeed(Model):
    """A structure which must have been shown."""

    structure: Structure
    sides: OneOrMore[Side] = (Side.LEFT, Side.RIGHT)
    """Each of them."""
    shown: Fraction | None = None
    """At least; where not given, triage says whether it was enough to judge."""


class Needs(Model):
    """What must have been shown before "nothing there" may be said; till then it abstains."""

    series: OneOrMore[Name] = ()
    """Steps, in usable quality."""
    coverage: tuple[CoverageNeed, ...] = ()


class OrderFlag(StrEnum):
    """What an order says about the patient or the study that forbids extra scanning."""

    EXTRA_DECLINED = "extra_declined"
    PREGNANCY = "pregnancy"
    CONDITIONAL_IMPLANT = "conditional_implant"
    CLAUSTROPHOBIA = "claustrophobia"
    PAIN = "pain"
    SEDATION = "sedation"
    PAEDIATRIC = "paediatric"
    EMERGENCY = "emergency"


class Unless(Model):
    """What forbids asking.

    Images or reconstructions which cannot be trusted make the trigger abstain; an order, a plan or
    too little SAR headroom block it. A step which is already planned is never asked for.
    """

    snr_below: float = Field(default=5, ge=0)
    motion_above: Fraction = 0.5
    fat_suppression_failed_above: Fraction = 0.05
    reconstructions_differ: bool = True
    """The network's and the conventional reconstruction do not say the same."""
    one_reconstruction: bool = False
    """There was only one of them."""
    levels_uncertain: bool = False
    order: tuple[OrderFlag, ...] = tuple(OrderFlag)
    sar_headroom_below: Fraction | None = 0.2
    """Of what the accepted SAR mode allows; unknown headroom blocks too. Null: not asked."""


class Ask(Model):
    """What the technologist is asked; no answer is a decline."""

    text: str = Field(min_length=1, max_length=300)
    """Says what is seen, never what it may be. May name {side}, {level}, {structure}, {minutes}
    and {steps}."""
    countdown_s: float = Field(default=60, ge=5, le=600)


class Trigger(Model):
    """One reason to ask for more coverage."""

    name: Name
    title: str = ""
    priority: int = Field(default=1, ge=1)
    """1 goes first."""
    when: Condition
    needs: Needs = Needs()
    unless: Unless = Unless()
    scan: OneOrMore[Name] = Field(min_length=1)
    """Steps of `on_demand`."""
    ask: Ask
    expected_per_100_exams: float | None = Field(default=None, gt=0, le=100)
    """In how many of 100 exams its condition held at commissioning; far more or far fewer open
    the circuit breaker, and it only notes what it would have asked."""


class Budget(Model):
    """What all triggers together may cost one exam."""

    extra_minutes: float = Field(default=6, ge=0, le=60)
    proposals: int = Field(default=1, ge=0, le=10)
    none_in_last_minutes: float = Field(default=3, ge=0)
    """Of the slot."""
