"""`flip doctor`: one line for each thing that can stand between a program and Flip."""

import asyncio
import platform
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Final

import attrs
import httpx
from cyclopts import Parameter, validators

from flip_async import ApiKeyAuth, Environment, FlipClient, Retries, Token, __version__, errors
from flip_async._cli._checkup import Finding, failed, fine, print_findings, skipped
from flip_async._cli._client import ANYWHERE, Where
from flip_async._cli._clock_skew import skew_of
from flip_async._cli._operation import FAILED, FINE, Json, operate
from flip_async._cli._road import Road, certificates, proxies, reach, roads_to
from flip_async._cli._settings import credential, environment, is_api_key
from flip_async._cli._token import bearer_of

_ORDER: Final = ("proxy", "certificates", "network", "token", "API", "clock")
_FIRST_TROUBLE_S: Final = 2.0
"""How long a token request may go on failing before that is told."""


def doctor(
    *,
    where: Where = ANYWHERE,
    timeout_s: Annotated[float, Parameter(validator=validators.Number(gt=0))] = 10.0,
    json: Json = False,
) -> int:
    """Find out what stands between this machine and Flip: one line a check, and what to do.

    It looks at the credential (and never shows it), the environment, proxy and certificates in
    use, takes a token, asks the API for one site, and compares the clocks. It changes nothing. It
    ends with 0 where no check failed, and with 1 otherwise; a warning is no failure.

    Parameters
    ----------
    timeout_s
        How long each of its requests may take, in seconds.
    """
    return operate(lambda: _doctor(Surroundings.of(where), where, timeout_s, as_json=json))


async def _doctor(around: "Surroundings", where: Where, timeout_s: float, *, as_json: bool) -> int:
    findings: list[Finding] = []
    async for finding in _examine(around, where, timeout_s):
        findings.append(finding)
        if not as_json:
            finding.print()
    if as_json:
        print_findings(findings)
    return FAILED if any(finding.status == "failed" for finding in findings) else FINE


@attrs.frozen
class Surroundings:
    """What can be seen with no request.

    Attributes:
        findings: What of it is well, and what is not.
        place: Which Flip is meant.
        roads: The roads there.
        tls: What checks certificates; `None` where it cannot be made.
    """

    findings: list[Finding]
    place: Environment | None
    roads: list[Road]
    tls: ssl.SSLContext | None

    @classmethod
    def of(cls, where: Where) -> "Surroundings":
        """Look around."""
        versions = (
            f"flip_async {__version__}, httpx {httpx.__version__}, "
            f"Python {platform.python_version()}, {platform.system()}"
        )
        of_environment, place = environment(where.environment)
        findings = [fine("versions", versions), credential(), of_environment]
        if place is None:
            return cls(findings, None, [], None)
        roads = roads_to(place, with_tokens=not is_api_key())
        of_certificates, tls = certificates(roads)
        return cls([*findings, *proxies(roads), of_certificates], place, roads, tls)

    def failed(self, *checks: str) -> str | None:
        """Which of some checks has failed, if one has."""
        found = (one.check for one in self.findings if one.status == "failed")
        return next((name for name in found if name in checks), None)


async def _examine(around: Surroundings, where: Where, timeout_s: float) -> AsyncIterator[Finding]:
    for finding in around.findings:
        yield finding
    broken = around.failed("environment") or around.failed("proxy", "certificates")
    first = "proxy" if around.place is None else "network"
    if broken is None:
        for road in around.roads:
            finding = await reach(road, around.tls, timeout_s)
            yield finding
            broken = "network" if finding.status == "failed" else broken
        first, broken = "token", broken or around.failed("credential")
    if broken is not None or around.place is None:
        for finding in _not_tried(f"the check of the {broken}", first=first):
            yield finding
        return
    async for finding in _ask(where, around.place, timeout_s):
        yield finding


def _not_tried(what: str, *, first: str) -> Iterator[Finding]:
    """The checks from one on, where something that they need has failed."""
    for name in _ORDER[_ORDER.index(first) :]:
        yield skipped(name, f"not tried, since {what} failed")


async def _ask(where: Where, place: Environment, timeout_s: float) -> AsyncIterator[Finding]:
    """The road of every call: a token, and a request."""
    try:
        flip = where.client(retries=Retries(max_attempts=1))
    except errors.FlipError as error:  # the credential is one, and cannot be used here
        yield failed("token", str(error), "correct what it names")
        for finding in _not_tried("the token", first="API"):
            yield finding
        return
    async with flip:
        token = await _take_token(flip, timeout_s)
        if isinstance(token, Finding):
            yield token
            for finding in _not_tried("the token", first="API"):
                yield finding
            return
        yield _describe(flip, token)
        response, finding = await _list_one_site(flip, place, timeout_s)
        yield finding
        yield skew_of(response)


async def _take_token(flip: FlipClient, timeout_s: float) -> Token | Finding:
    auth = bearer_of(flip)
    task = asyncio.ensure_future(auth.token())
    try:
        # It goes on trying for half a minute; whoever waits here wants to know what is wrong.
        await asyncio.wait({task}, timeout=min(timeout_s, _FIRST_TROUBLE_S))
        if auth.trouble is None:
            await asyncio.wait({task}, timeout=max(0.0, timeout_s - _FIRST_TROUBLE_S))
        if task.done():
            return task.result()
        trouble = auth.trouble
    except errors.FlipError as error:
        trouble = error
    finally:
        task.cancel()
    url = flip.environment.token_url
    if trouble is None:
        return failed("token", f"no answer from {url} within {timeout_s:g} s", _LATER)
    return failed("token", str(trouble), _way_to_a_token(trouble))


_LATER: Final = "try again later, or with a larger --timeout-s; look at the proxy, if there is one"
_NO_FLIP: Final = (
    "is this Flip? look at FLIP_API_URL and FLIP_OAUTH_URL, and for a captive portal or a proxy"
)
_NEW_CREDENTIAL: Final = "take a new one from Flip's developer console, and look for a mix-up"


def _way_to_a_token(error: errors.FlipError) -> str:
    match error:
        case (
            errors.TokenRequestError(error="invalid_client")
            | errors.TokenRequestError(status_code=401)
        ):
            return f"FLIP_CLIENT_ID and FLIP_CLIENT_SECRET do not fit: {_NEW_CREDENTIAL}"
        case errors.TokenRequestError(error="invalid_scope"):
            return "leave out FLIP_SCOPE, or let the OAuth client have these scopes"
        case errors.TokenRequestError() | errors.TokenResponseError():
            return _NO_FLIP
        case errors.ConfigurationError():
            return "correct what it names"
        case _:
            return _LATER


def _describe(flip: FlipClient, token: Token) -> Finding:
    if isinstance(flip.auth, ApiKeyAuth):
        return fine("token", "none is needed: an API key is sent as it is, and never expires")
    scope = "scopes not told" if token.scope is None else f"scopes {token.scope}"
    return fine("token", f"lives {token.lifetime_s:g} s, {scope}")


async def _list_one_site(
    flip: FlipClient, place: Environment, timeout_s: float
) -> tuple[httpx.Response | None, Finding]:
    call = flip.sites.list(limit=1, max_items=1, deadline_s=timeout_s)
    asked = f"GET {place.api_url}/v1/sites"
    try:
        _, response = await flip.with_raw_response(call)
    except errors.StatusError as error:
        return error.response, failed("API", str(error), _way_to_the_api(error))
    except errors.DecodeError as error:
        return error.response, failed("API", str(error), _NO_FLIP)
    except errors.FlipError as error:
        return None, failed("API", str(error), _LATER)
    took_s = response.elapsed.total_seconds()
    return response, fine("API", f"{asked} answers {response.status_code} in {took_s:.2f} s")


def _way_to_the_api(error: errors.StatusError) -> str:
    match error:
        case errors.AuthenticationError():
            return (
                f"the credential is refused: {_NEW_CREDENTIAL}, such as one of another organisation"
            )
        case errors.PermissionDeniedError():
            return "the credential is good, and may not list sites: let it have that scope"
        case errors.RateLimitError() | errors.ServerError():
            return "it is for Flip to mend: try again later"
        case _:
            return _NO_FLIP
