"""A server that speaks HTTP/2 and nothing else, in a thread of its own."""

import asyncio
import contextlib
import json
import ssl

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from tests.support.server_thread import ServerThread


class Http2Server(ServerThread):
    """Echoes the path of each request, in an answer as long as it is told, after some time."""

    def __init__(self, tls: ssl.SSLContext, *, takes_s: float = 0.0, length: int = 0) -> None:
        tls.set_alpn_protocols(["h2"])
        super().__init__(tls, takes_s=takes_s)
        self.length = length

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(h2.exceptions.H2Error):
            await _Connection(self, reader, writer).serve()

    def answer_to(self, path: str) -> bytes:
        return json.dumps({"path": path}).encode().ljust(self.length)


class _Connection:
    def __init__(
        self, server: Http2Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server, self.reader, self.writer = server, reader, writer
        self.state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.may_send_more = asyncio.Condition()

    async def serve(self) -> None:
        self.state.initiate_connection()
        await self._flush()
        async with asyncio.TaskGroup() as answers:
            try:
                while data := await self.reader.read(65536):
                    for event in self.state.receive_data(data):
                        if isinstance(event, h2.events.RequestReceived):
                            answers.create_task(self._answer(event))
                    await self._flush()
                    async with self.may_send_more:
                        self.may_send_more.notify_all()
            finally:
                answers.create_task(self._end(asyncio.current_task()))

    async def _end(self, serving: asyncio.Task[object] | None) -> None:
        assert serving is not None
        serving.cancel()  # with all answers that nobody waits for any more

    async def _flush(self) -> None:
        self.writer.write(self.state.data_to_send())
        await self.writer.drain()

    async def _answer(self, event: h2.events.RequestReceived) -> None:
        stream = event.stream_id
        path = dict(event.headers)[b":path"].decode()
        if self.server.takes_s:
            await asyncio.sleep(self.server.some_time_s())
        body = self.server.answer_to(path)
        try:
            self.state.send_headers(
                stream, [(":status", "200"), ("content-length", f"{len(body)}")]
            )
            while body:
                size = min(
                    self.state.local_flow_control_window(stream),
                    self.state.max_outbound_frame_size,
                )
                if size:
                    self.state.send_data(stream, body[:size])
                    body = body[size:]
                    await self._flush()
                else:
                    async with self.may_send_more:
                        await self.may_send_more.wait()
            self.state.end_stream(stream)
            await self._flush()
        except (OSError, h2.exceptions.H2Error):
            pass  # it was given up
