"""Every error Lamina raises on purpose. Each message says what was wrong, with what value, and what to do.

``LaminaError`` is the one class to catch. Errors about arguments are also ``ValueError``, as
Python programmers (and mem0's callers) expect.
"""

from __future__ import annotations


class LaminaError(Exception):
    """Base of all errors. ``code`` is stable and meant for programs, the message for people."""

    code = "LAMINA"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code

    def __str__(self) -> str:  # KeyError would print the repr of its message
        return str(self.args[0])


class InvalidInput(LaminaError, ValueError):
    """An argument is wrong: the message names it, its value and the remedy."""

    code = "INVALID_INPUT"


class NotFound(InvalidInput):
    """No such memory, version, system or model."""

    code = "NOT_FOUND"


class Conflict(LaminaError):
    """Optimistic concurrency: the version that was read is no longer the newest."""

    code = "CONFLICT"


class CorruptCube(LaminaError):
    """A ``.cube`` file is truncated, altered, oversized or hostile."""

    code = "CORRUPT_CUBE"


class CorruptStore(LaminaError):
    """The database or a blob does not read back as it was written."""

    code = "CORRUPT_STORE"


class StoreUnavailable(LaminaError):
    """The store cannot be opened or written: missing rights, full disk, or locked for too long."""

    code = "STORE_UNAVAILABLE"


class FingerprintMismatch(LaminaError):
    """An activation or parameter cube belongs to another model than the one loaded."""

    code = "FINGERPRINT_MISMATCH"


class MissingDependency(LaminaError, ImportError):
    """An optional package is not installed; the message says which command installs it."""

    code = "MISSING_DEPENDENCY"


class LLMError(LaminaError):
    """A language model could not be reached or did not answer in the asked form."""

    code = "LLM_ERROR"


class LLMUnavailable(LLMError):
    """The model did not answer at all (network, time-out, 429, 5xx): the same request may succeed later."""

    code = "LLM_UNAVAILABLE"


class Busy(LLMUnavailable):
    """All places for work that may wait for a model are taken, and nothing was done: come again after ``retry_after``
    seconds."""

    code = "BUSY"
    retry_after = 5.0


class BudgetError(LaminaError):
    """Something does not fit the byte budget it was given."""

    code = "BUDGET"


class NotPermitted(LaminaError):
    """Governance refused: the message says whom, what and why."""

    code = "NOT_PERMITTED"


class FrozenCube(NotPermitted):
    """A frozen memory may be read and copied, not changed; whoever governs it unfreezes it first."""

    code = "FROZEN_CUBE"


class RateLimited(NotPermitted):
    """Too often: permitted again after ``retry_after`` seconds."""

    code = "RATE_LIMITED"

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class IllegalTransition(LaminaError):
    """A memory cannot go from the state it is in to the one asked for."""

    code = "ILLEGAL_TRANSITION"


class UntrustedBundle(LaminaError):
    """A bundle of memories is not signed by a known key, or is not what was signed."""

    code = "UNTRUSTED_BUNDLE"
