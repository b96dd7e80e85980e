"""Open a port on 127.0.0.1 and serve a page there until Ctrl-C."""

import secrets
import socket
import threading
import webbrowser

import uvicorn
from starlette.types import ASGIApp

from cai.errors import ConfigError

HOST = "127.0.0.1"


def open_port(port: int) -> socket.socket:
    """A listening socket; port 0 takes one that is free. Connections wait until they are served.

    Raises:
        ConfigError: the port is taken.
    """
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((HOST, port))
    except OSError as error:
        opened.close()
        raise ConfigError(f"port {port} cannot be had ({error}); name another --port, or 0 for any") from error
    opened.listen()
    return opened


def new_token() -> str:
    return secrets.token_urlsafe(24)


def server(app: ASGIApp) -> uvicorn.Server:
    """Without an access log: the token is in every address. `run(sockets=[…])` serves until a signal comes."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)


def show(url: str) -> None:
    """Open a browser, and wait for none."""
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
