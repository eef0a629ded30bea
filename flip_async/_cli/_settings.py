"""What the variables of the environment say: a credential, and where Flip is."""

import os
from typing import Final

from flip_async import PRODUCTION, SANDBOX, Environment, FlipClient, errors
from flip_async._cli._checkup import Finding, failed, fine
from flip_async._cli._client import (
    CREDENTIAL_VARIABLES,
    ENVIRONMENT_VARIABLES,
    NO_CREDENTIAL,
    any_of,
    find_environment,
)

_MOUNT: Final = "it must name a file that this user can read"
_ANY_KEY: Final = "fl_any_key_that_goes_nowhere"


def credential() -> Finding:
    """Which credential is found, and where; never what it is."""
    found = any_of(CREDENTIAL_VARIABLES)
    if not found:
        problem, _, advice = NO_CREDENTIAL.partition(": ")
        return failed("credential", problem, advice)
    try:
        FlipClient(environment=SANDBOX)  # makes no connection
    except errors.FlipError as error:
        mount = any(name.endswith("_FILE") for name in found) and "two credentials" not in str(
            error
        )
        return failed("credential", str(error), _MOUNT if mount else None)
    kind = "API key" if is_api_key() else "OAuth client"
    return fine("credential", f"{kind}, from {' and '.join(map(_shown, found))}")


def is_api_key() -> bool:
    """Whether the credential is an API key, for which there is no token."""
    return bool(any_of(CREDENTIAL_VARIABLES[:2]))


def _shown(name: str) -> str:
    return f"the file {os.environ[name].strip()} ({name})" if name.endswith("_FILE") else name


def environment(name: str | None) -> tuple[Finding, Environment | None]:
    """Which Flip is meant, and by what."""
    try:
        given = find_environment(name)
        # A key of no worth, so that only the environment can be wrong.
        found = FlipClient(environment=given, api_key=_ANY_KEY).environment
    except errors.FlipError as error:
        problem, _, advice = str(error).partition(": ")
        return failed("environment", problem, advice or None), None
    source = "--environment" if name else " and ".join(any_of(_telling()))
    known = f"{found.name}, " if found in (PRODUCTION, SANDBOX) else ""
    text = f"{known}by {source}: API {found.api_url}, tokens {found.token_url}"
    return fine("environment", text), found


def _telling() -> tuple[str, ...]:
    """The URLs win over the name."""
    urls = ENVIRONMENT_VARIABLES[1:]
    return urls if any_of(urls) else ENVIRONMENT_VARIABLES
