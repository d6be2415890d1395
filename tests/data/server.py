"""A local HTTP server that can misbehave in the ways real ones do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What the server serves and how; `requests` notes the Range header of each request."""

    content: bytes
    etag: str = '"one"'
    ranges: bool = True
    drop_after: list[int] = field(default_factory=list)  # bytes, for the next answers in turn
    statuses: list[int] = field(default_factory=list)  # for the next answers in turn
    announced: int | None = None  # a wrong Content-Length
    length: bool = True
    requests: list[str | None] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/set.zip"


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            site.requests.append(asked)
            if site.statuses and (status := site.statuses.pop(0)) != 200:
                self.send_error(status)
                return
            start, total = 0, len(site.content)
            fresh = self.headers.get("If-Range") in (None, site.etag)
            if asked and site.ranges and fresh:
                start = int(asked.removeprefix("bytes=").rstrip("-"))
                if start >= total:
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{total}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            if site.length:
                self.send_header("Content-Length", str(site.announced or total - start))
            if site.etag:
                self.send_header("ETag", site.etag)
            self.end_headers()
            body = site.content[start:]
            self.wfile.write(body[: site.drop_after.pop(0)] if site.drop_after else body)
            self.close_connection = True

    return Handler


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(site))
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
