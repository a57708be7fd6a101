"""A small Hub on loopback: the endpoints that huggingface_hub uses to push and to load, and faults on demand."""

import base64
import hashlib
import json
import re
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import huggingface_hub
import pytest
import transformers
import yaml

TOKEN = "hf_writer"
PIPELINE_TAGS = ("text-classification", "audio-classification", "video-classification")
RELATIONS = ("adapter", "finetune", "merge", "quantized")


@dataclass
class Repo:
    private: bool = False
    sdk: str | None = None  # of a Space, whose name begins with "spaces/"
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # files by commit
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch, files):
        sha = hashlib.sha1(repr((branch, len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        return sha

    def find(self, revision):
        return self.branches.get(revision, revision if revision in self.commits else None)


@dataclass
class Collection:
    title: str
    private: bool = False
    items: list[str] = field(default_factory=list)

    def describe(self, slug):
        items = [{"_id": str(i), "id": name, "type": "model", "position": i} for i, name in enumerate(self.items)]
        return {"slug": slug, "title": self.title, "owner": {"name": slug.partition("/")[0]}, "items": items,
                "lastUpdated": "2026-01-01T00:00:00.000Z", "position": 0, "private": self.private, "theme": "blue",
                "upvotes": 0}  # fmt: skip


@dataclass
class Fault:
    """What happens to the next `times` requests whose `METHOD path` matches: a status, "drop", "truncate" or "slow"."""

    pattern: str
    kind: int | str
    times: int = 1


class HubServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}  # large files by their SHA-256
        self.collections: dict[str, Collection] = {}  # by slug
        self.datasets: dict[str, dict] = {}  # information by name
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def fault_for(self, line):
        for fault in self.faults:
            if fault.times > 0 and re.search(fault.pattern, line):
                fault.times -= 1
                return fault.kind
        return None

    def handle_error(self, request, client_address):
        """A connection that the client or a fault broke off is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body of an answer in one packet: in two, each waits for the acknowledgement of the other

    def log_message(self, *args):
        pass

    def handle_one_method(self):
        path = unquote(urlsplit(self.path).path)
        line = f"{self.command} {path}"
        self.server.requests.append(line)
        self.body = self._read_body()
        self.fault = self.server.fault_for(line)
        if self.fault == "drop":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if self.fault == "slow":
            time.sleep(1.5)
        if isinstance(self.fault, int):
            self.reply(self.fault, {"error": "fault"}, {"Retry-After": "0"})
            return
        for method, pattern, name in ROUTES:
            if method == self.command and (found := re.fullmatch(pattern, path)):
                getattr(self, name)(*found.groups())
                return
        self.reply(404, {"error": f"no route {line}"})

    do_GET = do_HEAD = do_POST = do_PUT = handle_one_method

    def _read_body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def reply(self, status, content=None, headers=None):
        body = content if isinstance(content, bytes) else json.dumps(content if content is not None else {}).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.fault == "truncate":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(body)

    def repo(self, repo_id, write=False):
        """The repository, if the token may see it; else answers and returns `None`."""
        allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        repo = self.server.repos.get(repo_id)
        if (repo is None or repo.private or write) and not allowed:
            self.reply(401, {"error": "Invalid username or password."}, {"X-Error-Code": "RepoNotFound"})
            return None
        if repo is None:
            self.reply(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        return repo

    def create_repo(self):
        content = json.loads(self.body)
        kind = "spaces/" if content.get("type") == "space" else ""
        repo_id = f"{kind}{content['organization']}/{content['name']}"
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.reply(401, {"error": "Invalid username or password."})
        elif repo_id in self.server.repos:
            self.reply(409, {"error": "exists", "url": f"{self.server.url}/{repo_id}"})
        else:
            private = content.get("private") is True or content.get("visibility") == "private"
            repo = self.server.repos[repo_id] = Repo(private, content.get("sdk"))
            repo.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"})
            self.reply(200, {"url": f"{self.server.url}/{repo_id}", "name": repo_id})

    def validate_yaml(self):
        """Checks the metadata of a card by rules of the Hub's documentation."""
        content = json.loads(self.body)["content"]
        data = yaml.safe_load(content.split("---")[1]) if content.startswith("---") else {}
        languages = data.get("language", [])
        problems = [
            *(["sdk"] if data.get("sdk", "gradio") != "gradio" else []),
            *(["pipeline_tag"] if data.get("pipeline_tag", PIPELINE_TAGS[0]) not in PIPELINE_TAGS else []),
            *(["base_model_relation"] if data.get("base_model_relation", "finetune") not in RELATIONS else []),
            *(["language"] if not all(re.fullmatch("[a-z]{2,3}|multilingual", code)
                                      for code in ([languages] if isinstance(languages, str) else languages)) else []),
            *(["widget"] if not all(isinstance(item.get("text"), str) for item in data.get("widget", [])) else []),
            *(["new_version"] if "/" not in data.get("new_version", "/") else []),
            *(["co2_eq_emissions"] if not isinstance(data.get("co2_eq_emissions", {}).get("emissions", 0.0), float)
              else []),
            *(["model-index"] if any(not result["metrics"] for model in data.get("model-index", [])
                                     for result in model["results"]) else []),
        ]  # fmt: skip
        if problems:
            self.reply(400, {"errors": [{"message": f"{name} is not valid"} for name in problems], "warnings": []})
        else:
            self.reply(200, {"errors": [], "warnings": []})

    def create_collection(self):
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.reply(401, {"error": "Invalid username or password."})
            return
        content = json.loads(self.body)
        slug = f"{content['namespace']}/{content['title'].lower().replace(' ', '-')}-{24 * '0'}"
        known = slug in self.server.collections
        collection = self.server.collections.setdefault(slug, Collection(content["title"], content["private"]))
        self.reply(409 if known else 200, collection.describe(slug))

    def get_collection(self, slug):
        if slug in self.server.collections:
            self.reply(200, self.server.collections[slug].describe(slug))
        else:
            self.reply(404, {"error": "Collection not found"})

    def add_item(self, slug):
        collection = self.server.collections.get(slug)
        if collection is None:
            self.reply(404, {"error": "Collection not found"})
            return
        item = json.loads(self.body)["item"]
        known = item["id"] in collection.items
        if not known:
            collection.items.append(item["id"])
        self.reply(409 if known else 200, collection.describe(slug))

    def dataset_info(self, name):
        if name not in self.server.datasets:
            self.reply(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return
        self.reply(200, {"id": name, "tags": [], "downloads": 0, "likes": 0, **self.server.datasets[name]})

    def create_branch(self, repo_id, branch):
        if repo := self.repo(repo_id, write=True):
            known = branch in repo.branches
            if not known:
                repo.branches[branch] = repo.branches["main"]
            self.reply(409 if known else 200, {"error": "exists"} if known else {})

    def preupload(self, repo_id, revision):
        if self.repo(repo_id, write=True):
            files = [
                {"path": item["path"], "shouldIgnore": False, "oid": None,
                 "uploadMode": "lfs" if item["path"].endswith(".safetensors") else "regular"}
                for item in json.loads(self.body)["files"]
            ]  # fmt: skip
            self.reply(200, {"files": files})

    def lfs_batch(self, repo_id):
        if self.repo(repo_id, write=True):
            objects = []
            for item in json.loads(self.body)["objects"]:
                if item["oid"] not in self.server.objects:
                    item = {**item, "actions": {"upload": {"href": f"{self.server.url}/lfs/{item['oid']}"}}}
                objects.append(item)
            self.reply(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, oid):
        if hashlib.sha256(self.body).hexdigest() != oid:
            self.reply(400, {"error": "wrong hash"})
            return
        self.server.objects[oid] = self.body
        self.reply(200)

    def commit(self, repo_id, revision):
        repo = self.repo(repo_id, write=True)
        if not repo:
            return
        files = dict(repo.commits[repo.branches[revision]])
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        sha = repo.commit(revision, files)
        self.reply(200, {"commitOid": sha, "commitUrl": f"{self.server.url}/{repo_id}/commit/{sha}", "success": True})

    def info(self, repo_id, revision="main"):
        if repo := self.repo(repo_id):
            if (sha := repo.find(revision)) is None:
                self.reply(404, {"error": "no such revision"}, {"X-Error-Code": "RevisionNotFound"})
                return
            files = [{"rfilename": name} for name in repo.commits[sha]]
            self.reply(200, {"id": repo_id, "modelId": repo_id, "sha": sha, "private": repo.private, "siblings": files,
                             "tags": [], "downloads": 0, "likes": 0})  # fmt: skip

    def tree(self, repo_id, revision, folder=None):
        if repo := self.repo(repo_id):
            files = repo.commits[repo.find(revision)]
            folder = f"{folder}/" if folder else ""
            found = [{"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                     for name, content in files.items() if name.startswith(folder)]  # fmt: skip
            if not found:
                self.reply(404, {"error": "no such folder"}, {"X-Error-Code": "EntryNotFound"})
                return
            self.reply(200, found)

    def refs(self, repo_id):
        if repo := self.repo(repo_id):
            branches = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": sha}
                        for name, sha in repo.branches.items()]  # fmt: skip
            self.reply(200, {"branches": branches, "tags": [], "converts": []})

    def resolve(self, repo_id, revision, name):
        repo = self.repo(repo_id)
        if not repo:
            return
        sha = repo.find(revision)
        content = None if sha is None else repo.commits[sha].get(name)
        if content is None:
            code = "RevisionNotFound" if sha is None else "EntryNotFound"
            self.reply(404, {"error": "not found"}, {"X-Error-Code": code, **({"X-Repo-Commit": sha} if sha else {})})
            return
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if start:
            first = int(start[1])
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            self.reply(206, content[first:], headers)
        else:
            self.reply(200, content, headers)


_ID = r"([^/]+/[^/]+)"
_SPACE = r"(spaces/[^/]+/[^/]+)"
ROUTES = [
    ("POST", "/api/repos/create", "create_repo"),
    ("POST", "/api/validate-yaml", "validate_yaml"),
    ("POST", "/api/collections", "create_collection"),
    ("GET", f"/api/collections/{_ID}", "get_collection"),
    ("POST", f"/api/collections/{_ID}/items?", "add_item"),
    ("GET", f"/api/datasets/{_ID}", "dataset_info"),
    ("POST", f"/api/models/{_ID}/branch/(.+)", "create_branch"),
    ("POST", f"/api/models/{_ID}/preupload/(.+)", "preupload"),
    ("POST", f"/api/{_SPACE}/preupload/(.+)", "preupload"),
    ("POST", f"/api/{_SPACE}/commit/(.+)", "commit"),
    ("GET", f"/api/{_SPACE}", "info"),
    ("POST", f"/{_ID}.git/info/lfs/objects/batch", "lfs_batch"),
    ("PUT", r"/lfs/(\w+)", "lfs_put"),
    ("POST", f"/api/models/{_ID}/commit/(.+)", "commit"),
    ("GET", f"/api/models/{_ID}/refs", "refs"),
    ("GET", f"/api/models/{_ID}/tree/([^/]+)", "tree"),
    ("GET", f"/api/models/{_ID}/tree/([^/]+)/(.+)", "tree"),
    ("GET", f"/api/models/{_ID}/revision/(.+)", "info"),
    ("GET", f"/api/models/{_ID}", "info"),
    ("GET", f"/{_ID}/resolve/([^/]+)/(.+)", "resolve"),
    ("HEAD", f"/{_ID}/resolve/([^/]+)/(.+)", "resolve"),
]


@contextmanager
def serve():
    """A [`HubServer`] in a thread."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def server():
    with serve() as running:
        yield running


@pytest.fixture
def online(server, monkeypatch):
    """This process speaks to the server, with a token that may write."""
    template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    for name, value in (("ENDPOINT", server.url), ("HUGGINGFACE_CO_URL_TEMPLATE", template),
                        ("HF_HUB_OFFLINE", False), ("HF_HUB_DISABLE_XET", True)):  # fmt: skip
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(transformers.utils.hub, "_hf_api", None, raising=False)  # made once, for the address of then
    huggingface_hub.utils.close_session()
    yield server
    huggingface_hub.utils.close_session()
