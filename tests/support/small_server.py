"""A server in a thread that says what a test tells it to, for programs with a loop of their own."""

import json
import ssl
import threading
import time
from collections.abc import Mapping
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

TOKEN = {"access_token": "at_1", "token_type": "Bearer", "expires_in": 3600}


class SmallServer:
    """Serves until its context is left.

    Attributes:
        answers: What each path is answered with; bytes are sent as HTML. Others get 404.
        ahead_s: How far its clock is ahead.
        statuses: The statuses of paths that are not answered with 200.
        asked: Method, path and body of each request.
    """

    def __init__(
        self,
        answers: Mapping[str, object] | None = None,
        *,
        statuses: Mapping[str, int] | None = None,
        ahead_s: float = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.answers = {"/token": TOKEN, "/v1/sites": []} if answers is None else answers
        self.statuses = statuses or {}
        self.ahead_s = ahead_s
        self.asked: list[tuple[str, str, bytes]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                server.answer(self)

            do_GET = do_POST = do_CONNECT = answer  # noqa: N815  # as its base calls them

            def date_time_string(self, timestamp: float | None = None) -> str:
                return formatdate(time.time() + server.ahead_s, usegmt=True)

            def log_message(self, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._http.socket = tls.wrap_socket(
                self._http.socket, server_side=True, do_handshake_on_connect=False
            )
        self._scheme = "http" if tls is None else "https"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))

    @property
    def port(self) -> int:
        return self._http.server_port

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def variables(self) -> dict[str, str]:
        return {
            "FLIP_API_URL": self.url,
            "FLIP_OAUTH_URL": self.url,
            "FLIP_CLIENT_ID": "your_client_id",
            "FLIP_CLIENT_SECRET": "your_client_secret",
        }

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        self.asked.append((request.command, path, body))
        answer = self.answers.get(path)
        is_html = isinstance(answer, bytes)
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        default = 404 if path not in self.answers else 200
        request.send_response(self.statuses.get(path, default))
        request.send_header("Content-Type", "text/html" if is_html else "application/json")
        request.send_header("Content-Length", str(0 if answer is None else len(content)))
        request.end_headers()
        if request.command != "HEAD" and answer is not None:
            request.wfile.write(content)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
