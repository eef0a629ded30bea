"""`flip webhooks`: check them, send them again, and look at what arrives."""

import time
from typing import Annotated, Final
from uuid import uuid4

import httpx
from cyclopts import App, Parameter, validators

from flip_async import errors
from flip_async._cli._files import InputFile
from flip_async._cli._listen import listen
from flip_async._cli._operation import FAILED, FINE, Json, UsageError, operate
from flip_async._cli._output import complain, print_facts, print_json, print_json_line
from flip_async._cli._recorded import Recorded, reason_of, signing_keys
from flip_async.webhooks import AnyEvent, SigningKeys, sign, verify

webhooks: Final = App(name="webhooks", help="Check webhooks, send them, and look at what arrives.")
webhooks.command(listen)

_LOCAL: Final = "http://127.0.0.1:8000/webhooks/flip"
_FLIP_WAITS_S: Final = 5.0
_WAIT_S: Final = 30.0
_DELIVERED: Final = (200, 204)
_Header = Annotated[
    tuple[str, ...],
    Parameter(name="--header", negative="", help="NAME: VALUE; may be repeated, wins over FILE."),
]


@webhooks.command(name="verify")
def verify_file(
    file: InputFile,
    /,
    *,
    header: _Header = (),
    tolerance_s: Annotated[float, Parameter(validator=validators.Number(gte=0))] = 300.0,
    any_age: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> int:
    """Tell whether a webhook is Flip's, with the key of FLIP_WEBHOOK_SECRET.

    It ends with 0 where the signature holds and the webhook can be read, and with 1 otherwise.

    Parameters
    ----------
    file
        Headers, an empty line and the body, as they came; or the body alone, with --header; - for
        standard input.
    tolerance_s
        How far its time may be from now, in seconds.
    any_age
        Whatever its time is: for a webhook that was recorded.
    """
    return operate(
        lambda: _verify(
            Recorded.read(file).with_headers(header),
            signing_keys(),
            tolerance_s=tolerance_s,
            any_age=any_age,
            as_json=json,
        )
    )


async def _verify(
    recorded: Recorded, keys: SigningKeys, *, tolerance_s: float, any_age: bool, as_json: bool
) -> int:
    try:
        event, is_cut = _verified(recorded, keys, tolerance_s=tolerance_s, any_age=any_age)
    except errors.WebhookError as error:
        if as_json:
            print_json({"ok": False, "error": type(error).__name__, "message": str(error)})
        else:
            complain(f"flip: {reason_of(error)}")
        return FAILED
    if is_cut:
        complain("it holds without the newline at the end of the file, which an editor added")
    _tell(event, as_json=as_json)
    return FINE


def _verified(
    recorded: Recorded, keys: SigningKeys, *, tolerance_s: float, any_age: bool
) -> tuple[AnyEvent, bool]:
    """The event, and whether it had to be freed of a newline that editors add."""
    now = _time_of(recorded) if any_age else None
    try:
        return verify(
            recorded.body, recorded.headers, keys, tolerance_s=tolerance_s, now=now
        ), False
    except errors.WebhookSignatureError:
        body = recorded.body.removesuffix(b"\n").removesuffix(b"\r")
        if body == recorded.body:
            raise
        return verify(body, recorded.headers, keys, tolerance_s=tolerance_s, now=now), True


def _time_of(recorded: Recorded) -> float | None:
    """When it was signed; what is no time is for `verify` to refuse."""
    text = recorded.headers.get("Webhook-Timestamp", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 12 else None


def _tell(event: AnyEvent, *, as_json: bool) -> None:
    sent_object = event.event_object
    if as_json:
        print_json(
            {
                "ok": True,
                "webhook_id": event.webhook_id,
                "event_type": event.event_type,
                "timestamp": event.timestamp.isoformat(),
                "body": event.body.decode(errors="replace"),
            }
        )
        return
    print_facts(
        {
            "signature": "holds",
            "webhook_id": event.webhook_id,
            "event_type": event.event_type,
            "timestamp": event.timestamp.isoformat(),
            "object": getattr(sent_object, "id", None),
        }
    )


@webhooks.command
def replay(
    file: InputFile,
    /,
    *,
    to: str = _LOCAL,
    webhook_id: str | None = None,
    times: Annotated[int, Parameter(validator=validators.Number(gte=1))] = 1,
    json: Json = False,
) -> int:
    """Sign a body anew with the key of FLIP_WEBHOOK_SECRET, and post it.

    It ends with 0 where each was answered with 200 or 204, which Flip takes for delivered, and
    with 1 otherwise.

    Parameters
    ----------
    file
        A body, perhaps behind its headers and an empty line, which are not sent; - for standard
        input.
    to
        Where to post it.
    webhook_id
        Its Webhook-Id; by default a new one.
    times
        How often to post it, each time with the same id: Flip may deliver one twice.
    """
    return operate(
        lambda: _replay(
            Recorded.read(file).body,
            signing_keys(),
            _checked(to),
            webhook_id or f"msg_{uuid4().hex}",
            times=times,
            as_json=json,
        )
    )


async def _replay(
    body: bytes, keys: SigningKeys, url: httpx.URL, webhook_id: str, *, times: int, as_json: bool
) -> int:
    delivered = True
    # A proxy has no business between two programs of a machine.
    async with httpx.AsyncClient(trust_env=not _is_loopback(url), timeout=_WAIT_S) as http:
        for _ in range(times):
            delivered &= await _post(http, url, body, keys, webhook_id, as_json=as_json)
    return FINE if delivered else FAILED


def _checked(to: str) -> httpx.URL:
    try:
        url = httpx.URL(to)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise UsageError(f"--to is http:// or https:// and a host, such as {_LOCAL}")
    return url


def _is_loopback(url: httpx.URL) -> bool:
    return url.host in {"127.0.0.1", "::1", "localhost"}


async def _post(
    http: httpx.AsyncClient,
    url: httpx.URL,
    body: bytes,
    keys: SigningKeys,
    webhook_id: str,
    *,
    as_json: bool,
) -> bool:
    headers = sign(body, keys, webhook_id=webhook_id, timestamp=time.time())
    began_s = time.monotonic()
    outcome: int | str
    try:
        answer = await http.post(
            url, content=body, headers=headers | {"Content-Type": "application/json"}
        )
        outcome = answer.status_code
    except httpx.HTTPError as error:
        outcome = f"{type(error).__name__}: {error}"
    took_s = time.monotonic() - began_s
    if as_json:
        row = {"webhook_id": webhook_id, "outcome": outcome, "seconds": round(took_s, 3)}
        print_json_line(row)
    elif isinstance(outcome, int):
        print(f"{webhook_id}  {outcome}  {took_s:.3f} s", flush=True)
    else:
        complain(f"flip: {url}: {outcome} (is your application running?)")
    if took_s > _FLIP_WAITS_S:
        complain(f"it took {took_s:.1f} s, and Flip waits {_FLIP_WAITS_S:g} s")
    return outcome in _DELIVERED
