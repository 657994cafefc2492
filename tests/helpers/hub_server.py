"""As much of the Hugging Face hub as uploading and downloading a few small files takes, on the loopback."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

TOKEN = "hf_of_the_test"
LICENCES = ("mit", "apache-2.0")


class Hub(ThreadingHTTPServer):
    """`commits` are {repository: [(its id, {path: bytes})]}, the newest last; `log` holds (method, path) of each request."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.commits, self.private, self.log = {}, {}, []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, repository, files):
        history = self.commits.setdefault(repository, [])
        history.append((hashlib.sha1(f"{repository} {len(history)}".encode()).hexdigest(), files))
        return history[-1][0]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.file()

    def do_GET(self):
        self.file()

    def do_POST(self):
        hub, body = self.server, self.rfile.read(int(self.headers["Content-Length"]))
        hub.log.append(("POST", self.path))
        if self.path == "/api/validate-yaml":
            licence = yaml.safe_load(json.loads(body)["content"].split("---")[1]).get("license")
            errors = [] if licence in (None, *LICENCES) else [{"message": '"license" must be one of the known ones'}]
            return self.answer(400 if errors else 200, {"warnings": [], "errors": errors})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(403, {"error": "Forbidden"})
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            known = name in hub.commits
            hub.commits.setdefault(name, [])
            hub.private.setdefault(name, asked.get("visibility") == "private" or asked.get("private", False))
            return self.answer(409 if known else 200, {"url": f"{hub.address}/{name}"})
        name, action, revision = re.fullmatch(r"/api/models/(.+?/.+?)/(preupload|commit)/(.+)", self.path).groups()
        if revision != "main":
            return self.answer(404, {"error": "Revision Not Found"}, {"X-Error-Code": "RevisionNotFound"})
        if action == "preupload":
            files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            return self.answer(200, {"files": files})
        lines = [json.loads(line) for line in body.splitlines()]
        files = {line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"}
        commit = hub.commit(name, files)
        return self.answer(200, {"commitUrl": f"{hub.address}/{name}/commit/{commit}", "commitOid": commit})

    def file(self):
        hub = self.server
        hub.log.append((self.command, self.path))
        found = re.fullmatch(r"/(.+?/.+?)/resolve/(.+?)/(.+)", self.path)
        history = dict(hub.commits.get(found[1], [])) if found else {}
        if not history:
            return self.answer(401, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        commit = list(history)[-1] if found[2] == "main" else found[2]
        if commit not in history:
            return self.answer(404, {"error": "Revision Not Found"}, {"X-Error-Code": "RevisionNotFound"})
        content = history[commit].get(found[3])
        if content is None:
            return self.answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        return self.answer(200, content, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": commit})

    def answer(self, code, content, headers=()):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **dict(headers)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args):
        pass
