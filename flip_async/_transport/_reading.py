"""An answer's body, whole and bounded."""

from collections.abc import Iterator
from typing import Final

import httpx

from flip_async._secret import shape

LARGEST_ANSWER: Final = 64 * 1024 * 1024
_LARGEST_GROWTH: Final = 1032  # of deflate: what is smaller by this cannot pass the limit
_CODINGS_AT_MOST: Final = 2


class UnreadableError(Exception):
    """An answer came and was carried out, and its body cannot be read.

    Attributes:
        response: The answer, with the body as it came.
        reason: What is wrong with it.
    """

    def __init__(self, response: httpx.Response, reason: str) -> None:
        super().__init__(reason)
        self.response: Final = response
        self.reason: Final = reason


async def read_whole(response: httpx.Response, *, most: int) -> httpx.Response:
    """Read an answer that streams, and decode it.

    Args:
        response: The answer; one that was read already stays as it is.
        most: How many bytes it may have at most, as they come and decoded.

    Returns:
        It, or a copy with the body as it came, where that cannot be decoded.

    Raises:
        UnreadableError: It is a success, and cannot be decoded, or is too large.
    """
    if response.is_closed:
        return response
    try:
        raw = await read_raw(response, most=most)
    finally:
        await close_quietly(response)
    return decode(response, raw, most=most)


def is_read(response: httpx.Response) -> bool:
    """Whether its content is there."""
    try:
        _ = response.content
    except httpx.ResponseNotRead:
        return False
    return True


async def read_raw(response: httpx.Response, *, most: int) -> bytes | UnreadableError:
    """Read the bytes of a body as they come; what is too large is cut off."""
    parts: list[bytes] = []
    size = 0
    assert isinstance(response.stream, httpx.AsyncByteStream)
    async for part in response.stream:
        parts.append(part)
        size += len(part)
        if size > most:
            return _unreadable(response, b"".join(parts)[:most], f"more than {most:,} bytes")
    return b"".join(parts)


async def close_quietly(response: httpx.Response) -> bool:
    """Close an answer that was read; whether that went well. It throws no answer away.

    With no scope around it: httpcore shields its own, and who is cancelled here loses an answer
    that he does not wait for any more.
    """
    try:
        await response.aclose()
    except Exception:
        return False
    return True


def decode(response: httpx.Response, raw: bytes | UnreadableError, *, most: int) -> httpx.Response:
    """Give an answer its body, decoded.

    Returns:
        It, or a copy with the body as it came.

    Raises:
        UnreadableError: It is a success, and cannot be read. Of an error the status tells
            enough.
    """
    reason = ""
    if isinstance(raw, bytes):
        if "Content-Encoding" not in response.headers:
            _give(response, raw)
            return response
        _stream_again(response, raw)
        try:
            reason = "" if inflates_within(response, raw, most) else f"more than {most:,} bytes"
            if not reason:
                response.read()
                return response
        except httpx.DecodingError:
            coding = response.headers["Content-Encoding"]
            reason = f"no {coding[:40]} ({shape(raw)})"
        raw = _unreadable(response, raw, reason)
    if response.is_success:
        raise raw
    return raw.response


def _give(response: httpx.Response, content: bytes) -> None:
    """Do what `response.read()` does in the end, where there is nothing to decode.

    By names of httpx's own: through its generators it costs a thirtieth of a call. A version
    that keeps its content elsewhere reads it as ever.
    """
    response.stream = httpx.ByteStream(content)
    response.is_closed = response.is_stream_consumed = True
    response._content, response._num_bytes_downloaded = content, len(content)
    if not is_read(response):
        _stream_again(response, content)
        response.read()


def _stream_again(response: httpx.Response, raw: bytes) -> None:
    response.stream = httpx.ByteStream(raw)
    # Both are about what was done before: the stream is another one now.
    response.is_closed = response.is_stream_consumed = False


def _unreadable(response: httpx.Response, raw: bytes, reason: str) -> UnreadableError:
    return UnreadableError(as_it_came(response, raw), f"its body is {reason}")


def as_it_came(response: httpx.Response, raw: bytes) -> httpx.Response:
    """A copy whose content is the body before it was decoded."""
    headers = httpx.Headers(
        [pair for pair in response.headers.raw if pair[0].lower() not in _ABOUT_THE_BODY]
    )
    return httpx.Response(
        response.status_code,
        headers=headers,
        content=raw,
        request=response.request,
        extensions=response.extensions,
    )


_ABOUT_THE_BODY: Final = (b"content-encoding", b"content-length", b"transfer-encoding")


def inflates_within(response: httpx.Response, raw: bytes, most: int) -> bool:
    """Whether a body has at most so many bytes when it is decoded.

    httpx inflates without a limit. What could pass it is decoded once for its size alone, in
    pieces so small that none of them can fill the memory.

    Raises:
        httpx.DecodingError: It cannot be decoded.
    """
    text = response.headers["Content-Encoding"]
    codings = [one.strip().lower() for one in text.split(",") if one.strip()]
    if not codings or codings == ["identity"]:
        return True
    if len(codings) > _CODINGS_AT_MOST:
        raise httpx.DecodingError(f"{len(codings)} codings")
    is_deflate = codings[0] in ("gzip", "deflate") and len(codings) == 1
    if is_deflate and len(raw) * _LARGEST_GROWTH <= most:
        return True
    trial = httpx.Response(
        200,
        headers={"Content-Encoding": text},
        stream=_Pieces(raw, 4096 if is_deflate else 16),
        request=response.request,
    )
    size = 0
    for part in trial.iter_bytes():
        size += len(part)
        if size > most:
            return False
    return True


class _Pieces(httpx.SyncByteStream):
    """A body that comes in pieces."""

    def __init__(self, raw: bytes, size: int) -> None:
        self._raw: Final = raw
        self._size: Final = size

    def __iter__(self) -> Iterator[bytes]:
        for begin in range(0, len(self._raw), self._size):
            yield self._raw[begin : begin + self._size]
