"""Stand-in of the Hugging Face hub on loopback that can be pushed to: repositories in memory, by the hub's own API.

It knows what its client asks for when it makes a repository, sends files and commits them, and what clients ask for to
read it. Large files go the way of Git LFS; Xet, the hub's newer way, is not spoken.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from tests.hub import LARGE, about_file, git_oid

TOKEN = "hf_stand_in_of_the_hub"
OWNER = "someone"
"""The only owner in whose name repositories can be made."""

_API = re.compile(rf"/api/(models|datasets)/({OWNER}/[^/]+)(?:/(revision|tree|preupload|commit)/([^/]+))?(?:/(.*))?")
_LFS = re.compile(rf"/(datasets/)?({OWNER}/[^/]+)\.git/info/lfs/objects/batch")
_FILE = re.compile(rf"/(datasets/)?({OWNER}/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Repository:
    """Repository as it is at its last commit."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)
    """Titles of its commits."""

    @property
    def head(self) -> str:
        return hashlib.sha1(repr((self.commits, sorted(self.files))).encode()).hexdigest()


@dataclass
class State:
    """What the server holds and has been asked."""

    endpoint: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    """Repositories by models/OWNER/NAME or datasets/OWNER/NAME."""
    objects: dict[str, bytes] = field(default_factory=dict)
    """Large files that were sent, by sha256, committed or not."""
    sent: list[str] = field(default_factory=list)
    """Sha256 of the large files in the order in which they were sent."""
    asked: Counter[str] = field(default_factory=Counter)
    fails: Callable[[str, str], int] = lambda method, path: 0


@contextlib.contextmanager
def serving() -> Iterator[State]:
    """Serve; yield what the server holds. `fails(method, path)` of it may return a status to answer with instead."""
    state = State()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.route()

        def do_HEAD(self) -> None:
            self.route()

        def do_POST(self) -> None:
            self.route()

        def do_PUT(self) -> None:
            self.route()

        def route(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = urlsplit(self.path).path
            state.asked[f"{self.command} {path.split('/')[1]}"] += 1
            if status := state.fails(self.command, path):
                return self.say({"error": "the stand-in was told to fail"}, status)
            if path.startswith("/lfs/"):  # without the token, as a signed address is
                return self.take(path.removeprefix("/lfs/"), body)
            if self.headers.get("authorization") != f"Bearer {TOKEN}":
                return self.say({"error": "Invalid username or password."}, 401)
            if path == "/api/repos/create":
                return self.create(json.loads(body))
            if path == "/api/validate-yaml":  # what the hub says of a card's head before it takes it
                head = yaml.safe_load(json.loads(body)["content"].split("---\n")[1])
                return self.say({"errors": [] if isinstance(head, dict) else [{"message": "no head"}], "warnings": []})
            if found := _API.fullmatch(path):
                return self.api(found, body)
            if found := _LFS.fullmatch(path):
                return self.batch(json.loads(body))
            if found := _FILE.fullmatch(path):
                return self.file(state.repositories[f"{'datasets' if found[1] else 'models'}/{found[2]}"], found[4])
            return self.missing("RepoNotFound")

        def create(self, asked: dict[str, Any]) -> None:
            owner, kind = asked.get("organization") or OWNER, f"{asked.get('type', 'model')}s"
            if owner != OWNER:
                said = f'You don\'t have the rights to create a {asked["type"]} under the namespace "{owner}"'
                return self.say({"error": said}, 403)
            name = f"{kind}/{owner}/{asked['name']}"
            url = f"{state.endpoint}/{'datasets/' * (kind == 'datasets')}{owner}/{asked['name']}"
            if name in state.repositories:
                return self.say({"error": "You already created this repo", "url": url}, 409)
            state.repositories[name] = Repository(private=asked.get("visibility") == "private")
            return self.say({"url": url, "name": f"{owner}/{asked['name']}"})

        def api(self, found: re.Match[str], body: bytes) -> None:
            repository = state.repositories.get(f"{found[1]}/{found[2]}")
            if repository is None:
                return self.missing("RepoNotFound")
            if found[3] in (None, "revision"):
                files = [{"rfilename": name} for name in sorted(repository.files)]
                about = {"id": found[2], "private": repository.private, "sha": repository.head, "siblings": files}
                return self.say(about | {"tags": [], "downloads": 0, "likes": 0, "gated": False, "disabled": False})
            if found[3] == "tree":
                return self.say([about_file(name, data) for name, data in sorted(repository.files.items())])
            if found[3] == "preupload":
                return self.say({"files": [_mode(repository, each) for each in json.loads(body)["files"]]})
            page = f"{state.endpoint}/{'datasets/' * (found[1] == 'datasets')}{found[2]}"
            return self.commit(repository, page, list(map(json.loads, body.splitlines())))

        def batch(self, asked: dict[str, Any]) -> None:
            answers = []
            for each in asked["objects"]:
                answer = {"oid": each["oid"], "size": each["size"]}
                if each["oid"] not in state.objects:
                    href = f"{state.endpoint}/lfs/{each['oid']}"
                    answer["actions"] = {"upload": {"href": href}, "verify": {"href": f"{state.endpoint}/lfs/verify"}}
                answers.append(answer)
            return self.say({"transfer": "basic", "objects": answers})

        def take(self, oid: str, body: bytes) -> None:
            if oid == "verify":
                asked = json.loads(body)
                whole = len(state.objects.get(asked["oid"], b"")) == asked["size"]
                return self.say({}, 200 if whole else 404)
            if hashlib.sha256(body).hexdigest() != oid:
                return self.say({"error": "not the content of that hash"}, 400)
            state.objects[oid] = body
            state.sent.append(oid)
            return self.say({})

        def commit(self, repository: Repository, page: str, lines: list[dict[str, Any]]) -> None:
            files = dict(repository.files)
            for line in lines:
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    if value["oid"] not in state.objects:
                        return self.say({"error": f"{value['path']} was not sent"}, 400)
                    files[value["path"]] = state.objects[value["oid"]]
                elif line["key"] == "deletedFile":
                    del files[value["path"]]
            repository.files = files
            repository.commits.append(next(line["value"]["summary"] for line in lines if line["key"] == "header"))
            url = f"{page}/commit/{repository.head}"
            return self.say({"success": True, "commitOid": repository.head, "commitUrl": url, "hookOutput": ""})

        def file(self, repository: Repository, name: str) -> None:
            data = repository.files.get(unquote(name))
            if data is None:
                return self.missing("EntryNotFound")
            about = {"X-Repo-Commit": repository.head, "ETag": f'"{git_oid(data)}"', "X-Linked-Size": str(len(data))}
            return self.answer(data, 200, about)

        def missing(self, code: str) -> None:
            self.say({"error": "not found"}, 404, {"X-Error-Code": code})

        def say(self, said: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
            self.answer(json.dumps(said).encode(), status, {"Content-Type": "application/json", **(headers or {})})

        def answer(self, data: bytes, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing of each request."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        state.endpoint = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield state
        server.shutdown()


def _mode(repository: Repository, asked: dict[str, Any]) -> dict[str, Any]:
    mode = "lfs" if asked["size"] >= LARGE else "regular"
    said: dict[str, Any] = {"path": asked["path"], "uploadMode": mode, "shouldIgnore": False}
    if (data := repository.files.get(asked["path"])) is not None:
        said["oid"] = hashlib.sha256(data).hexdigest() if mode == "lfs" else git_oid(data)
    return said
