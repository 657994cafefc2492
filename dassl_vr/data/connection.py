"""HTTP connections that are closed when they are too slow, and that follow redirections to HTTP addresses only."""

import contextlib
import functools
import http.client
import socket
import string
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

TIMEOUT = 30  # seconds without a byte
PATIENCE = 4  # the speed is measured over this many time-outs
MIN_SPEED = 1000  # bytes per second
REDIRECTS = 10


class DeliveryError(Exception):
    """An address did not deliver the file, and a retry would not help."""


class Watch:
    """Closes a connection that is too slow or past its deadline: a socket's time-out only limits the time between two bytes.

    Args:
        deadline: on the clock of `time.monotonic`.
        late: the reason once it has passed.

    Attributes:
        received: bytes so far; the reader counts them.
        reason: why the connection was closed; "" while it is open.
    """

    def __init__(self, deadline, late):
        self.deadline, self.late = deadline, late
        self.received = 0
        self.sockets = []
        self.reason = ""
        self._ended = threading.Event()

    def __enter__(self):
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *error):
        self._ended.set()
        for connection in self.sockets:
            connection.close()

    def _run(self):
        before, window = 0, PATIENCE * TIMEOUT
        while not self._ended.wait(min(window, max(self.deadline - time.monotonic(), 0.1))):
            if time.monotonic() >= self.deadline:
                self.reason = self.late
            elif self.received - before < MIN_SPEED * window:
                self.reason = f"slower than {MIN_SPEED} bytes per second"
            before = self.received
            for connection in self.sockets if self.reason else ():
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class _Connection(http.client.HTTPConnection):
    def connect(self):
        super().connect()
        self.watch.sockets.append(self.sock.dup())  # a duplicate: TLS takes over the first, and its handshake may be slow too


class _SecureConnection(http.client.HTTPSConnection, _Connection):
    pass


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    def __init__(self, watch):
        super().__init__()
        self.watch = watch

    def http_open(self, request):
        return self.do_open(functools.partial(self._connection, _Connection), request)

    def https_open(self, request):
        return self.do_open(functools.partial(self._connection, _SecureConnection), request)

    def _connection(self, kind, *args, **options):
        connection = kind(*args, **options)
        connection.watch = self.watch
        return connection


def open_address(url: str, headers: dict, watch: Watch) -> http.client.HTTPResponse:
    """Open `url`. Redirections are followed here: `urllib` would follow them to other protocols, and read their bodies whole."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Handler(watch),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    for _ in range(REDIRECTS):
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise DeliveryError("only http and https are fetched")
        try:
            return opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            location = error.headers.get("Location")
            if error.code not in (301, 302, 303, 307, 308) or not location:
                raise
            error.close()
            url = urllib.parse.urljoin(url, urllib.parse.quote(location, safe=string.punctuation, encoding="latin-1"))
    raise DeliveryError(f"redirected more than {REDIRECTS} times")
