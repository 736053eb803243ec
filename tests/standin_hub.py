"""A small stand-in for the Hugging Face Hub, for tests on loopback (standard library only).

It serves a folder laid out as ``<root>/datasets/<namespace>/<name>/<files>`` (and ``<root>/models/...``)
to an unmodified ``huggingface_hub`` / ``datasets`` that was started with ``HF_ENDPOINT=<hub.endpoint>``:

    with StandinHub(root) as hub:
        subprocess.run([sys.executable, "job.py"], env={**os.environ, **hub.env(cache_dir)}, check=True)
        print(hub.bytes_served("audio/xx/train/xx_train_0.tar"), hub.requests_for("*.tar"))

Every repository has one commit (a hash of its paths, sizes and mtimes), reachable as ``main``. A folder
``<name>@refs%2Fconvert%2Fparquet`` beside it is another branch, with a commit of its own. Files of at least ``lfs_min_bytes`` answer like Hub LFS files: a 302 with ``X-Linked-*`` headers to a second port (the "CDN"), which
must never see the token. Smaller ones answer in place. No ``X-Xet-*`` header is ever sent, so clients stay on HTTP.

Trouble on demand:
    hub.claim("*.tar", 10**15)                      say in listings that a file is larger than it is
    hub.deny("ns/name", "missing" | "private" | "gated" | "gated-listing" | "disabled")   access to a repository
    hub.fault("*.tar", status=503, times=2, headers={"Retry-After": "1"})   an error, then fine
    hub.fault("*.tar", cut=1_000_000, times=1)      close after that many body bytes (cut_how="reset" for a RST)
    hub.fault("*.tar", delay=3)                     wait before the status line
    hub.fault("*.tar", rate=200_000)                bytes a second
    hub.fault("*.tar", ignore_range=True)           answer 200 and the whole file to a Range request

Uploads: data sets are created, files sent by LFS to the second port (``hub.lfs``: hash to bytes) and committed, with the
right token. A repository that was created private answers 401 and 404 to others.
It does not imitate search, discussions, Xet, or tags.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import re
import socket
import struct
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

CHUNK = 64 * 1024


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """Clients that hang up in the middle are part of the game; anything else is a bug here."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


@dataclass
class Request:
    """One request as the server saw it; `sent` counts body bytes handed to the socket."""

    method: str
    target: str  # path and query string
    kind: str  # "api", "resolve" or "cdn"
    file: str | None = None  # path in the repository, for "resolve" and "cdn"
    range: str | None = None
    authorized: bool = False
    status: int = 0
    sent: int = 0


@dataclass
class Fault:
    pattern: str  # matched with fnmatch against the path in the repository, or against the URL path
    methods: tuple[str, ...]
    times: int | None  # None: for ever
    status: int | None = None
    headers: dict = field(default_factory=dict)
    body: object = None
    cut: int | None = None
    cut_how: str = "close"
    delay: float = 0.0
    rate: float | None = None
    ignore_range: bool = False

    @property
    def on_body(self):  # acts on a file's bytes, so not on the redirect that leads to them
        return self.cut is not None or self.rate is not None or self.ignore_range


class StandinHub:
    def __init__(self, root, *, token="hf_standin", lfs_min_bytes=100_000, page_size=1000, host="127.0.0.1"):
        self.root = Path(root)
        self.token, self.lfs_min_bytes, self.page_size, self.host = token, lfs_min_bytes, page_size, host
        self.log: list[Request] = []
        self._denied: dict[str, str] = {}
        self._claims: dict[str, int] = {}
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._sha: dict[tuple, str] = {}
        self.lfs: dict[str, bytes] = {}  # what was sent, by its SHA-256
        self.commits: list[list[str]] = []  # paths of each commit
        self.private: set[str] = set()
        self._servers = [self._server(cdn=False), self._server(cdn=True)]
        self.endpoint, self.cdn = (f"http://{host}:{s.server_address[1]}" for s in self._servers)

    def _server(self, cdn):
        handler = type("Handler", (_Handler,), {"hub": self, "is_cdn": cdn})
        server = _Server((self.host, 0), handler)
        return server

    # -- life -------------------------------------------------------------------------------------------------------
    def start(self):
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def stop(self):
        for server in self._servers:
            server.shutdown()
            server.server_close()

    __enter__ = start

    def __exit__(self, *exc):
        self.stop()

    def env(self, hf_home, token=None) -> dict[str, str]:
        """Variables for a *new* process: all but HF_TOKEN are read once, when huggingface_hub is imported.

        They also silence what the developer's own shell may say (a real token, offline mode, other caches).
        """
        home = Path(hf_home)
        off = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_IMPLICIT_TOKEN")
        on = ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_UPDATE_CHECK")
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": token or "",
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_XET_CACHE": str(home / "xet"),
            "HF_DATASETS_CACHE": str(home / "datasets"),
            "HF_TOKEN_PATH": str(home / "token"),
            "NO_PROXY": f"{self.host},localhost",
            "no_proxy": f"{self.host},localhost",
            **dict.fromkeys(off, "0"),
            **dict.fromkeys(on, "1"),
        }

    # -- knobs and counters -----------------------------------------------------------------------------------------
    def deny(self, repo_id, how):
        assert how in ("missing", "private", "gated", "gated-listing", "disabled", None)
        self._denied[repo_id] = how

    def claim(self, pattern, size):
        self._claims[pattern] = size

    def fault(self, pattern, *, methods=("GET",), times=1, **what):
        item = Fault(pattern, tuple(methods), times, **what)
        with self._lock:
            self._faults.append(item)
        return item

    def clear(self):
        with self._lock:
            self._faults.clear()
            self.log.clear()
            self._denied.clear()
            self._claims.clear()

    def requests_for(self, pattern="*", method=None):
        return [
            r
            for r in list(self.log)
            if fnmatch.fnmatch(r.file or urlsplit(r.target).path, pattern) and method in (None, r.method)
        ]

    def bytes_served(self, pattern="*"):
        return sum(r.sent for r in self.requests_for(pattern))

    def bytes_by_file(self) -> Counter:
        out = Counter()
        for r in list(self.log):
            out[r.file or "(api)"] += r.sent
        return out

    def _take_fault(self, method, names, length=None):
        """The first fault that applies now; with `length`, one for a body of that many bytes about to be sent."""
        with self._lock:
            for f in self._faults:
                if f.times == 0 or method not in f.methods or f.on_body != (length is not None):
                    continue
                if f.cut is not None and f.cut >= length:
                    continue  # this answer is too short to be cut there
                if any(fnmatch.fnmatch(n, f.pattern) for n in names):
                    if f.times is not None:
                        f.times -= 1
                    return f
        return None

    # -- the repositories -------------------------------------------------------------------------------------------
    def repo_dir(self, kind, repo_id) -> Path:
        return self.root / kind / repo_id

    def files(self, kind, repo_id) -> dict[str, Path]:
        base = self.repo_dir(kind, repo_id)
        return {p.relative_to(base).as_posix(): p for p in sorted(base.rglob("*")) if p.is_file()}

    def branches(self, kind, repo_id) -> dict[str, str]:
        "Branch -> the name under which its folder stands."
        base = self.repo_dir(kind, repo_id)
        others = base.parent.glob(f"{base.name}@*") if base.parent.is_dir() else ()
        return {
            "main": repo_id,
            **{unquote(p.name.partition("@")[2]): f"{repo_id.partition('/')[0]}/{p.name}" for p in others},
        }

    def commit(self, kind, repo_id) -> str:
        h = hashlib.sha1()
        for name, p in self.files(kind, repo_id).items():
            st = p.stat()
            h.update(f"{name}\0{st.st_size}\0{st.st_mtime_ns}\n".encode())
        return h.hexdigest()

    def oid(self, path: Path, *, lfs: bool) -> str:
        """What the Hub uses as ETag: sha256 of an LFS file, git blob sha1 of another."""
        st = path.stat()
        key = (str(path), st.st_size, st.st_mtime_ns, lfs)
        if key not in self._sha:
            h = hashlib.sha256() if lfs else hashlib.sha1(f"blob {st.st_size}\0".encode())
            with path.open("rb") as f:
                while block := f.read(1 << 20):
                    h.update(block)
            self._sha[key] = h.hexdigest()
        return self._sha[key]

    def is_lfs(self, path: Path) -> bool:
        return path.stat().st_size >= self.lfs_min_bytes or path.suffix == ".parquet" and bool(self.lfs)

    def entry(self, name, path) -> dict:
        claimed = next((n for pattern, n in self._claims.items() if fnmatch.fnmatch(name, pattern)), None)
        size, lfs = claimed or path.stat().st_size, self.is_lfs(path)
        out = {"type": "file", "path": name, "size": size}
        if lfs:
            pointer = f"version lfs\noid sha256:{self.oid(path, lfs=True)}\nsize {size}\n".encode()
            out["oid"] = hashlib.sha1(f"blob {len(pointer)}\0".encode() + pointer).hexdigest()
            out["lfs"] = {"oid": self.oid(path, lfs=True), "size": size, "pointerSize": len(pointer)}
        else:
            out["oid"] = self.oid(path, lfs=False)
        return out

    def tree(self, kind, repo_id, folder, recursive) -> list[dict] | None:
        """Entries under `folder` in the Hub's order (folder first, then what is in it); None if there is no such."""
        base = self.repo_dir(kind, repo_id)
        top = base / folder if folder else base
        if not top.is_dir():
            return None
        out = []
        for p in sorted(top.iterdir()):
            name = p.relative_to(base).as_posix()
            if p.is_dir():
                out.append(
                    {"type": "directory", "path": name, "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0}
                )
                if recursive:
                    out += self.tree(kind, repo_id, name, True)
            else:
                out.append(self.entry(name, p))
        return out


class _Answer(Exception):
    def __init__(self, status, body=b"", **headers):
        self.status, self.body = status, body
        self.headers = {k.replace("_", "-"): v for k, v in headers.items()}


def _error(status, message, code=None, **headers):
    headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **headers}
    return _Answer(status, json.dumps({"error": message}).encode(), Content_Type="application/json", **headers)


class _Handler(BaseHTTPRequestHandler):
    hub: StandinHub
    is_cdn: bool
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each small answer waits 40 ms for a delayed ACK

    def log_message(self, *args):
        pass

    def do_GET(self):
        body_length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(body_length) if body_length else b""
        is_form = "urlencoded" in (self.headers.get("Content-Type") or "urlencoded")
        self.form = parse_qs(self.body.decode()) if self.body and is_form and self.command != "PUT" else {}
        url = urlsplit(self.path)
        path, query = unquote(url.path), parse_qs(url.query)
        raw = url.path
        auth = self.headers.get("Authorization")
        self.req = Request(self.command, self.path, "cdn" if self.is_cdn else "api", authorized=bool(auth))
        self.req.range = self.headers.get("Range")
        self.authorized = auth == f"Bearer {self.hub.token}"
        self.started = False
        self.hub.log.append(self.req)
        try:
            try:
                if auth and not self.is_cdn and not self.authorized:
                    raise _error(401, "Invalid credentials in Authorization header")
                if self.is_cdn and self.command == "PUT":
                    self._put(path)
                elif self.is_cdn:
                    self._cdn(path)
                elif self.command == "POST" and path in ("/api/repos/create", "/api/validate-yaml"):
                    self._create() if path.endswith("create") else self._json({"errors": [], "warnings": []})
                elif m := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/(preupload|commit)/main", path):
                    self._upload(m[1], m[2])
                elif m := re.fullmatch(r"/datasets/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
                    self._upload(m[1], "batch")
                elif m := re.fullmatch(r"/(?:(datasets|spaces)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", raw):
                    kind = m.group(1) or "models"
                    repo = unquote(m[2])
                    rev = unquote(m[3])
                    name = unquote(m[4])
                    self._resolve(kind, repo, rev, name)
                elif m := re.fullmatch(
                    r"/api/(datasets|models)/([^/]+/[^/]+?)"
                    r"(?:/(revision|tree|paths-info|refs|auth-check)(?:/([^/]+))?(?:/(.+))?)?",
                    raw,
                ):
                    self._api(m[1], unquote(m[2]), m[3], unquote(m[4] or "main"), unquote(m[5] or ""), query)
                else:
                    self._pre_fault(path)
                    raise _error(404, f"The stand-in Hub has no such route: {path}")
            except _Answer as a:
                self._send(a.status, a.body, a.headers)
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    do_HEAD = do_POST = do_PUT = do_GET

    # -- uploads ----------------------------------------------------------------------------------------------------
    def _create(self):
        self._pre_fault("/api/repos/create")
        if not self.authorized:
            raise _error(401, "Invalid username or password.")
        ask = json.loads(self.body)
        repo = f"{ask['organization']}/{ask['name']}"
        url = f"{self.hub.endpoint}/datasets/{repo}"
        folder = self.hub.repo_dir("datasets", repo)
        if folder.is_dir():
            there = {"error": "You already created this dataset repo", "url": url}
            raise _Answer(409, json.dumps(there).encode(), Content_Type="application/json")
        folder.mkdir(parents=True)
        if ask.get("visibility") == "private":
            self.hub.private.add(repo)
        (folder / ".gitattributes").write_text("*.parquet filter=lfs diff=lfs merge=lfs -text\n")
        self._json({"url": url, "name": repo})

    def _upload(self, repo, what):
        self._pre_fault(urlsplit(self.path).path)
        self._check_repo("datasets", repo, "main", contents=True)
        if not self.authorized:
            raise _error(403, "You don't have the rights to write")
        if what == "preupload":
            mode = lambda path: "lfs" if path.endswith(".parquet") else "regular"
            files = [
                {"path": f["path"], "uploadMode": mode(f["path"]), "shouldIgnore": False}
                for f in json.loads(self.body)["files"]
            ]
            return self._json({"files": files})
        if what == "batch":
            return self._json({"objects": [self._object(o) for o in json.loads(self.body)["objects"]]})
        sent = [json.loads(line) for line in self.body.splitlines()]
        for item in sent[1:]:
            path = self.hub.repo_dir("datasets", repo) / item["value"]["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            if item["key"] == "lfsFile":
                path.write_bytes(self.hub.lfs[item["value"]["oid"]])
            else:
                path.write_bytes(base64.b64decode(item["value"]["content"]))
        self.hub.commits.append([item["value"]["path"] for item in sent[1:]])
        sha = self.hub.commit("datasets", repo)
        url = f"{self.hub.endpoint}/datasets/{repo}/commit/{sha}"
        self._json({"success": True, "commitOid": sha, "commitUrl": url})

    def _object(self, wanted):
        there = wanted["oid"] in self.hub.lfs
        href = f"{self.hub.cdn}/lfs/{wanted['oid']}"
        return {**wanted, **({} if there else {"actions": {"upload": {"href": href}}})}

    def _put(self, path):
        name = path.rpartition("/")[2]
        self.req.file = name
        if hashlib.sha256(self.body).hexdigest() != name:
            raise _error(400, "the bytes have another hash")
        self.hub.lfs[name] = self.body
        self._pre_fault(name)
        self._json({})

    # -- routes -----------------------------------------------------------------------------------------------------
    def _check_repo(self, kind, repo, rev, *, contents):
        how = self.hub._denied.get(repo) or ("private" if repo in self.hub.private else None)
        if how == "disabled":
            raise _error(403, "Access to this resource is disabled.")
        if how in ("missing", "private") or not self.hub.repo_dir(kind, repo).is_dir():
            if how == "private" and self.authorized:
                pass
            elif self.authorized:
                raise _error(404, "Repository not found", "RepoNotFound")
            else:  # the Hub does not say which: missing, or private and you are nobody
                raise _error(401, "Invalid username or password.", "RepoNotFound")
        # A gated repository shows its listing to all, its contents to few ("gated-listing" hides both).
        if how == "gated" and contents or how == "gated-listing":
            what = f"Access to dataset {repo} is restricted"
            if self.authorized:
                text = (
                    f"{what} and you are not in the authorized list. Visit https://huggingface.co/datasets/{repo} to"
                    " ask for access."
                )
                raise _error(403, text, "GatedRepo")
            text = f"{what}. You must have access to it and be authenticated to access it. Please log in."
            raise _error(401, text, "GatedRepo")
        for branch, at in self.hub.branches(kind, repo).items():
            if rev in (branch, sha := self.hub.commit(kind, at)):
                return sha, at
        raise _error(404, f"Invalid rev id: {rev}", "RevisionNotFound")

    def _api(self, kind, repo, what, rev, rest, query):
        self._pre_fault(urlsplit(self.path).path)
        if what == "auth-check":
            self._check_repo(kind, repo, "main", contents=True)
            raise _Answer(200, b"{}", Content_Type="application/json")
        sha, at = self._check_repo(kind, repo, rev, contents=False)
        gated = "manual" if (self.hub._denied.get(repo) or "").startswith("gated") else False
        if what in (None, "revision"):
            siblings = []
            for name, p in self.hub.files(kind, at).items():
                s = {"rfilename": name}
                if "blobs" in query:
                    e = self.hub.entry(name, p)
                    s |= {"size": e["size"], "blobId": e["oid"]}
                    if "lfs" in e:
                        s["lfs"] = {
                            "sha256": e["lfs"]["oid"],
                            "size": e["size"],
                            "pointerSize": e["lfs"]["pointerSize"],
                        }
                siblings.append(s)
            out = {"_id": sha[:24], "id": repo, "author": repo.split("/")[0], "sha": sha}
            out["private"] = repo in self.hub.private
            out |= {"gated": gated, "disabled": False, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings}
            out |= {"lastModified": "2024-01-01T00:00:00.000Z", "createdAt": "2024-01-01T00:00:00.000Z"}
            self._json(out)
        elif what == "refs":
            heads = {
                b: {"name": b, "ref": b, "targetCommit": self.hub.commit(kind, at)}
                for b, at in self.hub.branches(kind, repo).items()
            }
            self._json({"branches": [heads.pop("main")], "tags": [], "converts": list(heads.values())})
        elif what == "paths-info":
            files, out = self.hub.files(kind, at), []
            for name in self.form.get("paths", []):
                if name in files:
                    out.append(self.hub.entry(name, files[name]))
                elif (self.hub.repo_dir(kind, at) / name).is_dir():
                    out.append(
                        {
                            "type": "directory",
                            "path": name,
                            "oid": hashlib.sha1(name.encode()).hexdigest(),
                            "size": 0,
                        }
                    )
            self._json(out)
        elif what == "tree":
            entries = self.hub.tree(kind, at, rest, query.get("recursive", [""])[0].lower() == "true")
            if entries is None:
                raise _error(404, f'{rest} does not exist on "{rev}"', "EntryNotFound")
            start, headers = int(query.get("cursor", ["0"])[0]), {}
            end = start + self.hub.page_size
            if end < len(entries):
                rec = query.get("recursive", ["false"])[0]
                link = f"{self.hub.endpoint}{urlsplit(self.path).path}?recursive={rec}&cursor={end}"
                headers["Link"] = f'<{link}>; rel="next"'
            self._json(entries[start:end], headers)

    def _resolve(self, kind, repo, rev, name):
        self.req.kind, self.req.file = "resolve", name
        self._pre_fault(name, urlsplit(self.path).path)
        sha, at = self._check_repo(kind, repo, rev, contents=name not in ("README.md", ".gitattributes"))
        path = self.hub.repo_dir(kind, at) / name
        if ".." in name.split("/") or not path.is_file():
            raise _error(404, "Entry not found", "EntryNotFound", X_Repo_Commit=sha)
        size, lfs = path.stat().st_size, self.hub.is_lfs(path)
        etag = f'"{self.hub.oid(path, lfs=lfs)}"'
        if lfs:
            where = f"{self.hub.cdn}/{kind}/{quote(at)}/{quote(name)}"
            raise _Answer(302, b"", X_Repo_Commit=sha, X_Linked_Size=str(size), X_Linked_ETag=etag, Location=where)
        self._file(path, {"X-Repo-Commit": sha, "ETag": etag})

    def _cdn(self, path):
        kind, ns, repo, name = path.lstrip("/").split("/", 3)
        self.req.file = name
        self._pre_fault(name)
        p = self.hub.repo_dir(kind, f"{ns}/{repo}") / name
        if ".." in name.split("/") or not p.is_file():
            raise _error(404, "no such object")
        self._file(p, {"ETag": f'"{self.hub.oid(p, lfs=True)}"'})

    # -- answers ----------------------------------------------------------------------------------------------------
    def _pre_fault(self, *names):
        f = self.hub._take_fault(self.command, names)
        if f is None:
            return
        if f.delay:
            time.sleep(f.delay)
        if f.status is not None:
            body = f.body if f.body is not None else {"error": f"stand-in fault {f.status}"}
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            raise _Answer(f.status, body, **{"Content-Type": "application/json", **f.headers})

    def _json(self, obj, headers=None):
        self._send(200, json.dumps(obj).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _head(self, status, headers, length):
        self.req.status, self.started = status, True
        self.send_response(status)
        for k, v in headers.items():
            self.send_header(k, v)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _send(self, status, body, headers):
        self._head(status, headers, len(body))
        if self.command != "HEAD":
            self.req.sent += len(body)  # first: a client that has the bytes is to find them counted
            self.wfile.write(body)

    def _file(self, path, headers):
        size = path.stat().st_size
        start, end, status = 0, size, 200
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
        m = re.fullmatch(r"bytes=(\d*)-(\d*)", self.req.range or "")
        if m and (m[1] or m[2]):
            if m[1]:
                start, end = int(m[1]), min(int(m[2]) + 1, size) if m[2] else size
            else:
                start = max(size - int(m[2]), 0)
            if start >= size or start >= end:
                raise _error(416, "Requested range not satisfiable", Content_Range=f"bytes */{size}")
            status, headers["Content-Range"] = 206, f"bytes {start}-{end - 1}/{size}"
        f = self.hub._take_fault(self.command, (self.req.file,), end - start)
        if f and f.ignore_range:
            start, end, status = 0, size, 200
            headers.pop("Content-Range", None)
        self._head(status, headers, end - start)
        if self.command == "HEAD":
            return
        left = end - start
        stop_after = f.cut if f and f.cut is not None else None
        with path.open("rb") as src:
            src.seek(start)
            while left:
                n = min(CHUNK, left)
                if stop_after is not None:
                    n = min(n, stop_after - self.req.sent)
                    if n <= 0:
                        return self._cut(f.cut_how)
                block = src.read(n)
                self.req.sent += len(block)
                self.wfile.write(block)
                left -= len(block)
                if f and f.rate:
                    time.sleep(len(block) / f.rate)

    def _cut(self, how):
        self.close_connection = True
        if how == "reset":  # a TCP reset, as a dying proxy sends
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()


if __name__ == "__main__":
    with StandinHub(sys.argv[1]) as hub:
        print(f"HF_ENDPOINT={hub.endpoint}", flush=True)
        threading.Event().wait()
