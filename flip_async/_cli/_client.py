"""The client of a subcommand: from options, and from the environment."""

import os
from pathlib import Path
from typing import Annotated, Final, Literal

import attrs
from cyclopts import Parameter

from flip_async import PRODUCTION, SANDBOX, Environment, FileTokenStore, FlipClient, Retries
from flip_async.errors import ConfigurationError

ENVIRONMENTS: Final = {"production": PRODUCTION, "sandbox": SANDBOX}

EnvironmentName = Annotated[
    Literal["production", "sandbox"] | None,
    Parameter(help="Which Flip; by default FLIP_ENVIRONMENT, or FLIP_API_URL."),
]
TokenFile = Annotated[
    Path | None,
    Parameter(help="Where to keep the access token, so that many runs sign in once (mode 0600)."),
]

CREDENTIAL_VARIABLES: Final = (
    "FLIP_API_KEY",
    "FLIP_API_KEY_FILE",
    "FLIP_CLIENT_ID",
    "FLIP_CLIENT_SECRET",
    "FLIP_CLIENT_SECRET_FILE",
)
NO_CREDENTIAL: Final = (
    "no credential: set FLIP_API_KEY, or FLIP_CLIENT_ID and FLIP_CLIENT_SECRET "
    "(FLIP_API_KEY_FILE and FLIP_CLIENT_SECRET_FILE name files instead)"
)
ENVIRONMENT_VARIABLES: Final = ("FLIP_ENVIRONMENT", "FLIP_API_URL", "FLIP_OAUTH_URL")


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Where:
    """Which Flip, and where its token is kept."""

    environment: EnvironmentName = None
    token_file: TokenFile = None

    def client(self, *, retries: Retries | None = None) -> FlipClient:
        """A client.

        Raises:
            ConfigurationError: What was given, or found in the environment, cannot work.
        """
        return make_client(self.environment, self.token_file, retries=retries)


ANYWHERE: Final = Where()


def make_client(
    environment: str | None, token_file: Path | None, *, retries: Retries | None = None
) -> FlipClient:
    """A client, with errors that name the options of the command line.

    Raises:
        ConfigurationError: What was given, or found in the environment, cannot work.
    """
    found = find_environment(environment)
    if not any_of(CREDENTIAL_VARIABLES):
        raise ConfigurationError(NO_CREDENTIAL)
    return FlipClient(
        environment=found,
        token_store=None if token_file is None else FileTokenStore(token_file),
        retries=retries,
    )


def find_environment(name: str | None) -> Environment | None:
    """The environment that was asked for; `None` where the variables tell.

    Raises:
        ConfigurationError: Nothing tells.
    """
    if name is not None:
        return ENVIRONMENTS[name]
    if not any_of(ENVIRONMENT_VARIABLES):
        raise ConfigurationError(
            "no environment: pass --environment sandbox or --environment production, or set "
            "FLIP_ENVIRONMENT"
        )
    return None


def any_of(variables: tuple[str, ...]) -> list[str]:
    """Which of some variables are set."""
    return [name for name in variables if os.environ.get(name, "").strip()]
