"""Secrets managers on loopback, which the real client libraries are pointed at."""

import json
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class SecretServer:
    """AWS Secrets Manager and Vault's KV version 2, as far as reading goes.

    Args:
        secrets: What it gives, one at each reading; the last one for ever.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = list(secrets)
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # AWS: the operation is in a header
                length = int(self.headers["Content-Length"])
                body = json.loads(self.rfile.read(length))
                assert self.headers["X-Amz-Target"] == "secretsmanager.GetSecretValue"
                outer.asked.append(body["SecretId"])
                secret = json.dumps({"client_secret": outer.next()})
                self._answer({"Name": body["SecretId"], "SecretString": secret})

            def do_GET(self) -> None:  # Vault
                assert self.headers["X-Vault-Token"] == "your_vault_token"
                outer.asked.append(self.path)
                data = {"client_secret": outer.next()}
                self._answer({"data": {"data": data, "metadata": {"version": 1}}})

            def _answer(self, document: object) -> None:
                body = json.dumps(document).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def next(self) -> str:
        return self._secrets.pop(0) if len(self._secrets) > 1 else self._secrets[0]

    def variables(self) -> dict[str, str]:
        """What points boto3 and hvac here."""
        return {
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": self.url,
            "AWS_ACCESS_KEY_ID": "your_key_id",
            "AWS_SECRET_ACCESS_KEY": "your_secret_key",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "VAULT_ADDR": self.url,
            "VAULT_TOKEN": "your_vault_token",
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
