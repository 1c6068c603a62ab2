"""A stand-in for the Hugging Face Hub: the few calls of its HTTP interface that fetching and sending a model make.

It keeps repositories in memory, one commit after another. What it cannot show is how the real Hub stores large files,
which huggingface_hub sends another way when the Hub asks for it.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WRITER, STRANGER = "hf_writer", "hf_stranger"
"""Tokens of somebody who may read and write everything, and of somebody who may see what is public."""


@dataclass
class Repo:
    private: bool = False
    gated: bool = False
    commits: list[dict[str, bytes]] = field(default_factory=lambda: [{}])
    messages: list[str] = field(default_factory=list)

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1]

    def at(self, revision: str) -> int | None:
        """The number of the commit that a branch, a tag or a hash names."""
        names = {commit_hash(number): number for number in range(len(self.commits))}
        return len(self.commits) - 1 if revision == "main" else names.get(revision)


def commit_hash(number: int) -> str:
    return hashlib.sha1(str(number).encode()).hexdigest()


class Hub:
    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.asked: list[str] = []
        self.broken = 0  # the status of every answer, where it is not 0

    @contextmanager
    def served(self) -> Iterator[str]:
        """The address at which it answers, for the block."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._resolve()

    def do_GET(self) -> None:
        self._resolve()

    def _answer(self, status: int, body: bytes = b"{}", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _begin(self) -> bool:
        self.hub.asked.append(f"{self.command} {self.path}")
        if self.hub.broken:
            self._answer(self.hub.broken)
        return not self.hub.broken

    @property
    def _token(self) -> str:
        return (self.headers.get("authorization") or "").removeprefix("Bearer ")

    def _resolve(self) -> None:
        if not self._begin():
            return
        about = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", self.path)
        if about is not None and about[1] not in self.hub.repos:
            return self._answer(404, X_Error_Code="RepoNotFound")
        if about is not None and about[2] and self.hub.repos[about[1]].at(about[2]) is None:
            return self._answer(404, X_Error_Code="RevisionNotFound")
        if about is not None:
            known = {"id": about[1], "private": self.hub.repos[about[1]].private}
            return self._answer(200, json.dumps(known).encode())
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        if found is None:
            return self._answer(404)
        name, revision, file = found.groups()
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and self._token != WRITER):
            return self._answer(401, X_Error_Code="RepoNotFound")
        if repo.gated and self._token != WRITER:
            return self._answer(403, X_Error_Code="GatedRepo")
        number = repo.at(revision)
        if number is None:
            return self._answer(404, X_Error_Code="RevisionNotFound")
        content, commit = repo.commits[number].get(file), commit_hash(number)
        if content is None:
            return self._answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        self._answer(200, content, X_Repo_Commit=commit, ETag=f'"{hashlib.sha1(content).hexdigest()}"')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if not self._begin():
            return
        if self.path == "/api/validate-yaml":
            return self._answer(200)
        if self._token != WRITER:
            return self._answer(403)
        if self.path == "/api/repos/create":
            return self._create(json.loads(body))
        name, step, revision = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(\w+)/([^/]+)", self.path).groups()
        if self.hub.repos[name].at(revision) is None:
            return self._answer(404, X_Error_Code="RevisionNotFound")
        if step == "preupload":
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            return self._answer(200, json.dumps({"files": files}).encode())
        self._commit(name, [json.loads(line) for line in body.splitlines()])

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        private = asked.get("visibility") == "private" or bool(asked.get("private"))  # as versions 2 and 1 ask for it
        known = self.hub.repos.setdefault(name, Repo(private))
        address = f"http://{self.headers['Host']}/{name}"
        self._answer(409 if known.messages else 200, json.dumps({"url": address}).encode())

    def _commit(self, name: str, lines: list[dict]) -> None:
        repo = self.hub.repos[name]
        new = {one["value"]["path"]: base64.b64decode(one["value"]["content"]) for one in lines if one["key"] == "file"}
        repo.messages += [one["value"]["summary"] for one in lines if one["key"] == "header"]
        repo.commits.append(repo.files | new)
        commit = commit_hash(len(repo.commits) - 1)
        address = f"http://{self.headers['Host']}/{name}/commit/{commit}"
        self._answer(200, json.dumps({"commitUrl": address, "commitOid": commit, "hookOutput": ""}).encode())
