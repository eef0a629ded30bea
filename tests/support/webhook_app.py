"""A FastAPI application that writes down what it handled; the tests run it under uvicorn.

`HANDLED` names the file it writes to, `INBOX` the file of its inbox, if it has one.
"""

import os

from fastapi import FastAPI

from flip_async.fastapi import webhook_router
from flip_async.webhooks import Handlers, SettingsEvent, SqliteInbox

handled = os.open(os.environ["HANDLED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
handlers = Handlers()


@handlers.on("settings.apply")
async def on_settings(event: SettingsEvent) -> None:
    os.write(handled, f"{event.event_object['id']}\n".encode())  # one write: no line is cut


inbox = SqliteInbox(os.environ["INBOX"], lease_s=0.5) if "INBOX" in os.environ else None
app = FastAPI()
app.include_router(webhook_router(on=handlers, inbox=inbox))
