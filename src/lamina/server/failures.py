"""Errors of the library as HTTP answers: ``{"error": {"code", "message"}}``, and a status for each kind."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from lamina import errors
from lamina.errors import LaminaError


class Unauthorized(LaminaError):
    """No key, or one that proves nothing."""

    code = "UNAUTHORIZED"


STATUS: list[tuple[type[LaminaError], int]] = [  # the first that fits
    (Unauthorized, 401),
    (errors.NotFound, 404),
    (errors.InvalidInput, 400),
    (errors.Conflict, 409),
    (errors.IllegalTransition, 409),
    (errors.FingerprintMismatch, 409),
    (errors.RateLimited, 429),
    (errors.NotPermitted, 403),
    (errors.CorruptCube, 422),
    (errors.UntrustedBundle, 422),
    (errors.BudgetError, 422),
    (errors.MissingDependency, 501),
    (errors.LLMUnavailable, 503),
    (errors.LLMError, 502),
    (errors.StoreUnavailable, 503),
]


def status_of(error: LaminaError) -> int:
    return next((code for kind, code in STATUS if isinstance(error, kind)), 500)


def answer(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message}}, status_code=status, headers=headers)


def install(app: FastAPI) -> None:
    """Every error of ``app`` in one shape."""

    async def ours(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, LaminaError)
        status = status_of(error)
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        wait = getattr(error, "retry_after", 1 if status == 503 else None)
        if wait is not None:
            headers["Retry-After"] = str(max(1, round(wait)))
        return answer(status, error.code, str(error), headers)

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5])
        return answer(422, "INVALID_INPUT", told)

    async def http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return answer(error.status_code, f"HTTP_{error.status_code}", str(error.detail), dict(error.headers or {}))

    app.add_exception_handler(LaminaError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
