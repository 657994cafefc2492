"""A server of files, with the bad manners that real ones have."""

import hashlib
from http.server import BaseHTTPRequestHandler

CONTENT = bytes(range(256)) * 2000  # 512,000 bytes
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT in the manner that the path names; `server.log` holds (path, Range) of each request."""

    def do_GET(self):
        range_ = self.headers.get("Range")
        self.server.log.append((self.path, range_))
        count = sum(path == self.path for path, _ in self.server.log)
        getattr(self, self.path.strip("/").split(".")[0])(range_, count)

    def answer(self, body, code=200, cut=None, **headers):
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body[:cut])
        self.close_connection = True

    def good(self, range_, count, cut=None):
        start = int(range_[6:-1]) if range_ else 0
        if start >= len(CONTENT):
            return self.answer(b"", 416, Content_Range=f"bytes */{len(CONTENT)}")
        code = 206 if range_ else 200
        self.answer(CONTENT[start:], code, cut, Content_Range=f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")

    def cut(self, range_, count):
        """Breaks off after 200,000 bytes of each answer."""
        self.good(range_, count, cut=200_000)

    def no_range(self, range_, count):
        """Knows no ranges, and breaks off once."""
        self.answer(CONTENT, cut=1000 if count == 1 else None)

    def busy(self, range_, count):
        self.answer(b"", 503) if count < 3 else self.good(range_, count)

    def broken(self, range_, count):
        self.answer(b"", 500)

    def gone(self, range_, count):
        self.answer(b"", 404)

    def wrong(self, range_, count):
        self.answer(b"x" * len(CONTENT))

    def page(self, range_, count):
        self.answer(b"<html>quota exceeded</html>", Content_Type="text/html; charset=utf-8")

    def log_message(self, *args):
        pass
