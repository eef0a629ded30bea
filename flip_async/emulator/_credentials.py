"""What the emulated Flip accepts, and signs with."""

import attrs

from flip_async._checks import clean_bearer, clean_secret, clean_text
from flip_async.emulator._random_source import RandomSource
from flip_async.webhooks import SigningKeys


@attrs.frozen
class Credentials:
    """The credentials of the one customer that there is.

    Attributes:
        api_key: Its API key.
        client_id: Id of its OAuth client.
        client_secret: Secret of that client.
        webhook_secret: What its webhooks are signed with.
    """

    api_key: str = attrs.field(repr=False)
    client_id: str
    client_secret: str = attrs.field(repr=False)
    webhook_secret: str = attrs.field(repr=False)

    @classmethod
    def of(
        cls,
        *,
        api_key: str | None,
        client_id: str | None,
        client_secret: str | None,
        webhook_secret: str | None,
        source: RandomSource,
    ) -> "Credentials":
        """Those that are given, and new ones in place of the others.

        Raises:
            ConfigurationError: One cannot be what it is; no error shows it.
        """
        # Each is drawn, whether it is needed or not: with a seed the others stay the same.
        key, secret = f"fl_emulator_{source.hex(8)}", source.hex(16)
        signing_key = f"whsec_{source.base64(32)}"
        if webhook_secret is not None:
            SigningKeys.of(webhook_secret, "webhook_secret")
            signing_key = webhook_secret
        return cls(
            api_key=key if api_key is None else clean_bearer(api_key, field="api_key").reveal(),
            client_id="emulator" if client_id is None else clean_text(client_id, field="client_id"),
            client_secret=secret
            if client_secret is None
            else clean_secret(client_secret, field="client_secret").reveal(),
            webhook_secret=signing_key,
        )
