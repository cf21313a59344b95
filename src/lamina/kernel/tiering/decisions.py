"""What a tier policy is told and what it answers: usage of cubes, budgets, measured costs; decisions with reasons.

MemOS: A Memory OS for AI System, arXiv 2507.03724, section 5.1 (MemScheduler) names the roles; the paper gives no
formulas. Everything here is a value, so that the same log and clock give the same decisions byte for byte.

Times are integers on one injected clock: nanoseconds in service, logical calls in a proof. Unusual: a cube knows its
*place* in the bundle it is cached in. Reusing a cache exactly needs an identical token prefix, so cubes are
cached one after another, and taking one out costs prefilling all that come after it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Protocol

from lamina.errors import InvalidInput
from lamina.kernel.tiering.heat import LN2, Heat

DAY = 86_400 * 10**9  # nanoseconds


class Tier(StrEnum):
    """The form that a memory is used in. Its text is always there as well."""

    TEXT = "text"
    ACTIVATION = "activation"
    PARAMETER = "parameter"


class Reason(StrEnum):
    """Why a cube moved."""

    HOT_STABLE = "HOT_STABLE"
    COLD = "COLD"
    STALE_PARENT = "STALE_PARENT"
    ACL = "ACL"
    MODEL = "MODEL"
    BUDGET = "BUDGET"
    CONTEXT = "CONTEXT"
    TTL = "TTL"
    FORGET = "FORGET"
    PROBE_FAIL = "PROBE_FAIL"
    PIN = "PIN"


MANDATORY = frozenset(
    {Reason.STALE_PARENT, Reason.ACL, Reason.MODEL, Reason.TTL, Reason.FORGET, Reason.PROBE_FAIL}
)  # what no pin and no rate limit holds back

_BECAUSE = {
    Reason.HOT_STABLE: "it is used often and has settled",
    Reason.COLD: "it is no longer used enough to pay for its place",
    Reason.STALE_PARENT: "the text it was made from changed",
    Reason.ACL: "who may read it changed",
    Reason.MODEL: "it belongs to another model",
    Reason.BUDGET: "its bytes are worth more to another memory",
    Reason.CONTEXT: "the cache of its owner would fill too much of the model's context window",
    Reason.TTL: "it expired",
    Reason.FORGET: "it was forgotten",
    Reason.PROBE_FAIL: "the adapter did not know it when asked",
    Reason.PIN: "it is pinned",
}


@dataclass(frozen=True, slots=True)
class Costs:
    """What a machine was measured to take, in seconds. Defaults: SmolLM2-135M, float32, one core.

    ``prefill`` a token read into a cache; ``attend`` what one more cached token adds to each generated token;
    ``generated`` tokens a call writes. ``bundled``: cubes share one prefix, so that removing one prefills all after
    it; False for caches that can be taken out alone.
    """

    prefill: float = 3.3e-3
    attend: float = 9e-6
    generated: int = 32
    bundled: bool = True

    def __post_init__(self) -> None:
        if not (self.prefill > 0 and self.attend >= 0 and self.generated >= 0):
            raise InvalidInput(f"{self}: prefill must be positive and no other cost negative; measure them again")

    @property
    def resident(self) -> float:
        """Seconds a call pays for each token in its cache, used or not."""
        return self.attend * self.generated

    @property
    def burden(self) -> float:
        """``resident`` as a share of prefilling the token: caching pays for cubes used in more calls than that."""
        return self.resident / self.prefill


@dataclass(frozen=True, slots=True)
class Budgets:
    """What all resident activations may take, and what a single bundle may take of the context window."""

    activation_bytes: int
    context_tokens: int | None = None  # None: no limit of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class CubeStats:
    """What a policy knows of one memory. ``bundle`` names the prefix it would be cached in.

    A bundle is one (scope, readers, model, template): memories that differ in any never share one.
    ``invalid`` is why the cached or trained form may no longer be used, whatever else is true.
    """

    id: str
    bundle: str
    tokens: int
    nbytes: int  # of its keys and values, resident or not
    heat: Heat
    version: int = 1
    version_since: int = 0
    created: int = 0
    last: int | None = None  # time of the last use
    uses: int = 0  # ever
    uses_this_version: int = 0
    sessions: int = 0
    semantic_type: str = "fact"
    allowed: tuple[str, ...] = ("text", "activation", "parameter")
    usable: bool = True  # in state active or frozen, and free of open conflicts
    sensitive: bool = False
    content: str = ""  # digest of what this version says: versions that say the same differ in their state alone
    pinned: bool = False
    tier: Tier = Tier.TEXT
    resident_since: int = 0
    place: int | None = None  # from 0, in its bundle
    invalid: Reason | None = None
    retry_after: int = 0  # no consolidation before


@dataclass(frozen=True, slots=True)
class Stats:
    """All that is warm or not plain text; ``calls`` is the heat of each bundle's model calls.

    ``last_call`` are the memories of the latest call, the best first. ``forecast`` is the share of the next calls that
    the conversation makes likely for each, zero for those it leaves out; ``None``: nobody forecasts.
    """

    cubes: tuple[CubeStats, ...]
    calls: Mapping[str, Heat] = field(default_factory=dict)
    last_call: tuple[str, ...] = ()
    forecast: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """One move, with the figures it rested on.

    ``share`` of its bundle's calls that used it, ``rate`` uses per unit of the clock, ``saving`` the seconds that
    the move is expected to save over the next ``half_life / ln 2`` (negative: what obeying costs).
    """

    at: int
    cube: str
    version: int
    bundle: str
    source: Tier
    target: Tier
    reason: Reason
    heat: float
    share: float
    rate: float
    tokens: int
    saving: float

    def sentence(self) -> str:
        """For people: ``abc v2 moved from text to activation (HOT_STABLE): it is used often ...``."""
        return (
            f"{self.cube} v{self.version} moved from {self.source} to {self.target} ({self.reason}): "
            f"{_BECAUSE[self.reason]}. Heat {self.heat:.2f}, in {self.share:.0%} of calls, {self.tokens} tokens, "
            f"expected to {'save' if self.saving >= 0 else 'cost'} {abs(self.saving):.3g} s"
        )

    def line(self) -> str:
        """One line of JSON; equal decisions have equal bytes."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))


class Policy(Protocol):
    """Decides on moves; executes none. Demotions come before the promotions that need their room."""

    def decide(self, stats: Stats, budgets: Budgets, now: int) -> list[Decision]:
        """Moves to make now, in the order to make them."""


def decision(
    cube: CubeStats, target: Tier, reason: Reason, now: int, *, calls: float = 0.0, saving: float = 0.0
) -> Decision:
    """A decision about ``cube`` with its figures at ``now``; ``calls`` is the heat of its bundle."""
    heat = cube.heat.at(now)
    return Decision(
        at=now,
        cube=cube.id,
        version=cube.version,
        bundle=cube.bundle,
        source=cube.tier,
        target=target,
        reason=reason,
        heat=heat,
        share=min(1.0, heat / calls) if calls > 0 else 0.0,
        rate=heat * LN2 / cube.heat.half_life,
        tokens=cube.tokens,
        saving=saving,
    )
