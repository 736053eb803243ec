"""A core on loopback that answers as DigitalHub Core 0.15 does.

It was written from what the server's controllers and services do, not from what the SDK happens to send: a spec keeps the fields
that its kind knows and is sealed, states move along the server's own paths, ids, keys and dates are the server's, pages have Spring's
shape, and errors the server's words. It was never held against a running core."""
import base64
import math
import re
import socket
import threading
import uuid
from contextlib import contextmanager
from datetime import datetime, timezone
from urllib.parse import urlparse

from flask import Flask, Response, jsonify, request
from werkzeug.serving import WSGIRequestHandler, make_server

from .s3 import Faults, serving

SLUG, KIND = re.compile(r"[a-zA-Z0-9._+-]+"), re.compile(r"[a-zA-Z0-9._+:-]+")
PROJECT = re.compile(r"[a-z0-9-]{2,38}")
POD = {"volumes", "resources", "envs", "secrets", "profile"}
CODE = {"source", "image", "base_image", "python_version", "requirements"}
JOB = CODE | POD | {"task", "function", "workflow", "local_execution", "inputs", "parameters", "init_parameters"}
MODEL = {"path", "parameters", "framework", "algorithm"}
SPECS = {  # entity -> kind -> the fields that are kept; the others vanish without a word
    "artifact": {"artifact": {"path", "src_path"}},
    "dataitem": {"dataitem": {"path"}, "table": {"path", "schema"}, "croissant": {"path"}},
    "model": {"model": MODEL, "huggingface": MODEL | {"base_model", "model_id", "model_revision"}},
    "function": {"python": CODE},
    "workflow": {"hera": {"source", "image", "build"}},
    "task": {"python+job": POD | {"function"}, "python+build": POD | {"function", "instructions"}},
    "run": {"python+job:run": JOB, "python+build:run": JOB | {"instructions"}},
    "secret": {"secret": {"path", "provider"}},
}
REQUIRED = {"artifact": ["path"], "dataitem": ["path"], "model": ["path"], "run": ["task"], "task": ["function"]}
VERSIONED = {"artifact", "dataitem", "model", "function", "workflow"}
STORED = {"artifact", "dataitem", "model"}
NEXT = {
    "CREATED": "UPLOADING READY ERROR",
    "UPLOADING": "READY ERROR",
    "READY": "READY ERROR",
    "ERROR": "UPLOADING READY ERROR",
}
NEXT_OF_RUN = {
    "CREATED": "BUILT ERROR",
    "BUILT": "READY ERROR",
    "READY": "PENDING RUNNING ERROR",
    "PENDING": "PENDING RUNNING COMPLETED ERROR",
    "RUNNING": "RUNNING COMPLETED ERROR STOP",
    "STOP": "STOPPED ERROR",
    "STOPPED": "ERROR",
    "COMPLETED": "",
    "ERROR": "",
}
STATES = {**dict.fromkeys(STORED, NEXT), "run": NEXT_OF_RUN}


class Quiet(WSGIRequestHandler):
    def log(self, *args): pass


class ApiError(Exception):
    def __init__(self, status, message): self.status, self.message = status, message


def now(): return datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def non_empty(d): return {k: v for k, v in (d or {}).items() if v not in (None, "", [], {})}


def page(rows, args):
    "A page of rows, as Spring gives it."
    size, n = int(args.get("size", 25)), int(args.get("page", 0))
    if size > 1000: raise ApiError(400, "max page size exceeded")
    by, _, way = (args.get("sort") or "created,DESC").partition(",")
    rows = sorted(rows, key=lambda e: e["name"] if by == "name" else e["_seq"], reverse=way.upper() == "DESC")
    part, pages, order = (
        rows[n * size : (n + 1) * size],
        math.ceil(len(rows) / size),
        {"sorted": True, "unsorted": False, "empty": False},
    )
    where = {"pageNumber": n, "pageSize": size, "offset": n * size, "paged": True, "unpaged": False, "sort": order}
    return {
        "content": [shown(e) for e in part],
        "totalElements": len(rows),
        "totalPages": pages,
        "size": size,
        "number": n,
        "numberOfElements": len(part),
        "first": n == 0,
        "last": n >= pages - 1,
        "empty": not part,
        "sort": order,
        "pageable": where,
    }


def shown(e):
    "An entity as a client sees it, with its key."
    kind = e["_type"]
    name = e["id"] if kind in ("task", "run") else e["name"]
    key = f"store://{e['project']}/{kind}/{e['kind']}/{name}" + ("" if kind == "project" else f":{e['id']}")
    return {**{k: v for k, v in e.items() if not k.startswith("_")}, "key": key}


def checked_spec(kind, sub, spec):
    "The fields of a spec that the server keeps."
    if kind == "project": return non_empty(spec)
    if sub not in SPECS.get(kind, {}): raise ApiError(400, "missing spec" if kind == "run" else "invalid kind")
    kept = non_empty({k: v for k, v in (spec or {}).items() if k in SPECS[kind][sub]})
    for field in REQUIRED.get(kind, []):
        if field not in kept: raise ApiError(400, f"{field}: must not be blank")
    if kind == "run": kept.setdefault("local_execution", False)
    return kept


def check_names(kind, given):
    "Refuse a kind, a name or an id that the server would."
    for field, pattern in (("kind", KIND), ("name", SLUG), ("id", SLUG)):
        optional = field == "id" or field == "name" and kind in ("run", "task")
        if given.get(field) is None and optional: continue
        if not pattern.fullmatch(str(given.get(field) or "")):
            raise ApiError(400, f'{field}: must match "^{pattern.pattern}$"')
    if kind == "project" and not PROJECT.fullmatch(given["name"]): raise ApiError(400, "name: must match pattern")


class Core:
    "The core: what it keeps in memory, and how it may be told to fail."
    def __init__(self, s3, user="admin", password="admin", level="15", pat="dhcp_pat"):
        self.s3, self.user, self.password, self.level, self.pat = s3, user, password, str(level), pat
        self.version = f"0.{self.level}.0"
        self.db = {}
        self.seq = 0
        self.files = {}
        self.metrics = {}
        self.secrets = {}
        self.tokens = set()
        self.refresh = set()
        self.lock = threading.RLock()
        self.faults = Faults()
        self.app = Flask("core")
        self._guard()
        self._auth_routes()
        self._entity_routes()
        self._run_routes()

    @contextmanager
    def serving(self):
        "Answer on a port of loopback."
        with serving(make_server("127.0.0.1", 0, self.app, threaded=True, request_handler=Quiet)) as server:
            self.url = f"http://127.0.0.1:{server.port}"
            yield self

    # what a client needs to know

    def env(self):
        "What a person exports to reach this platform with a password."
        conf = self.s3.conf
        return {
            "DHCORE_ENDPOINT": self.url,
            "DHCORE_USER": self.user,
            "DHCORE_PASSWORD": self.password,
            "DHCORE_DEFAULT_FILES_STORE": f"s3://{self.s3.bucket}",
            "AWS_ENDPOINT_URL": conf["endpoint_url"],
            "AWS_ACCESS_KEY_ID": conf["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": conf["aws_secret_access_key"],
            "AWS_REGION": "us-east-1",
            "S3_SIGNATURE_VERSION": "s3v4",
        }

    def token_env(self):
        "The same for a job, which has tokens that end one day."
        env = {k: v for k, v in self.env().items() if k not in ("DHCORE_USER", "DHCORE_PASSWORD")}
        access, refresh = self.new_tokens()
        return {
            **env,
            "DHCORE_ISSUER": self.url,
            "DHCORE_CLIENT_ID": "standin",
            "DHCORE_ACCESS_TOKEN": access,
            "DHCORE_REFRESH_TOKEN": refresh,
        }

    def config(self):
        "What the core tells of itself."
        return {
            "dhcore_endpoint": self.url,
            "dhcore_name": "standin",
            "dhcore_version": self.version,
            "dhcore_api_level": self.level,
            "dhcore_api_version": "v1",
            "dhcore_issuer": self.url,
            "dhcore_client_id": "standin",
            "dhcore_default_files_store": f"s3://{self.s3.bucket}",
            "s3_bucket": self.s3.bucket,
            "aws_endpoint_url": self.s3.conf["endpoint_url"],
            "aws_region": "us-east-1",
            "s3_signature_version": "s3v4",
        }

    def new_tokens(self):
        access, refresh = uuid.uuid4().hex, uuid.uuid4().hex
        self.tokens.add(access)
        self.refresh.add(refresh)
        return access, refresh

    def expire(self):
        "End every token, and the store's key with them."
        self.tokens.clear()
        self.s3.renew(f"AKIA{uuid.uuid4().hex[:12].upper()}")

    # entities

    def all(self, kind, project=None):
        "The entities of a kind, oldest first."
        return [e for e in self.db.values() if e["_type"] == kind and project in (None, e["project"])]

    def get(self, kind, id, project=None):
        if (e := self.db.get((kind, id))) is None: raise ApiError(404, f"No such {kind}.")
        if project not in (None, e["project"]): raise ApiError(400, "invalid project")
        return e

    def move(self, e, state):
        "To a state that follows; another one is ignored, as the server does."
        now_in, paths = e["status"].get("state", "CREATED"), STATES.get(e["_type"])
        if paths is None or state == now_in or state in paths[now_in].split(): e["status"]["state"] = state

    def _new_id(self, kind, project, given):
        if kind != "project" and ("project", project) not in self.db: raise ApiError(400, "invalid or missing project")
        id = given["name"] if kind == "project" else given.get("id") or uuid.uuid4().hex
        taken = kind == "secret" and any(s["name"] == given["name"] for s in self.all(kind, project))
        if (kind, id) in self.db or taken:
            raise ApiError(400, f"Duplicated entity {kind}:{given['name'] if taken else id}.")
        return id

    def create(self, kind, project, given):
        "Keep a new entity."
        check_names(kind, given)
        id, spec, date = self._new_id(kind, project, given), checked_spec(kind, given["kind"], given.get("spec")), now()
        name, meta = given.get("name") or id, dict(given.get("metadata") or {})
        if kind == "run": self._known_task(spec)
        meta.update(
            project=project or id,
            created=date,
            updated=date,
            created_by=self.user,
            updated_by=self.user,
            name=meta.get("name") or name,
        )
        if meta.get("version") in (None, "", id): meta["version"] = uuid.uuid4().hex
        self.seq += 1
        status = given.get("status") or {}
        e = {
            "_type": kind,
            "_seq": self.seq,
            "id": id,
            "name": name,
            "kind": given["kind"],
            "project": project or id,
            "user": self.user,
            "metadata": meta,
            "spec": spec,
            "status": {**status, "state": "CREATED"},
            "extensions": given.get("extensions") or [],
        }
        self.move(e, status.get("state") or "CREATED")
        self.db[kind, id] = e
        if kind == "run" and not spec["local_execution"]: self._build(e)
        return e

    def _known_task(self, spec):
        if ("task", spec["task"].split("/")[-1]) not in self.db: raise ApiError(400, "invalid task")

    def _build(self, run):
        "A job is built and made ready as it is created; where both say something, the function is right."
        task = self.db["task", run["spec"]["task"].split("/")[-1]]
        function = self.get("function", task["spec"]["function"].rsplit(":", 1)[-1])
        run["spec"], run["status"]["state"] = {**task["spec"], **run["spec"], **function["spec"]}, "READY"

    def update(self, kind, e, given):
        "Change an entity; most specs are sealed."
        if given.get("kind") is None or given.get("name") is None and kind not in ("run", "task"):
            raise ApiError(400, "must not be null")
        state, status = e["status"].get("state", "CREATED"), given.get("status") or {}
        if kind in ("project", "task", "function") or kind == "run" and state == "CREATED":
            e["spec"] = checked_spec(kind, e["kind"], given.get("spec"))
        kept = {k: e["metadata"][k] for k in ("created", "created_by", "project")}
        e["metadata"] = {**(given.get("metadata") or {}), **kept, "updated": now(), "updated_by": self.user}
        e["status"] = {**status, "state": state}
        self.move(e, status.get("state") or "CREATED")
        return e

    def delete(self, e, cascade):
        "Forget an entity; its files go too only where that is asked for."
        path = e["spec"].get("path", "")
        if cascade and e["_type"] in STORED and path.startswith("s3://"):
            where = urlparse(path)
            for key in self.s3.objects(where.path[1:]): self.s3.direct.delete_object(Bucket=where.netloc, Key=key)
        self.files.pop((e["_type"], e["id"]), None)
        self.db.pop((e["_type"], e["id"]), None)

    def search(self, kind, project, args):
        "The entities that are asked for: of a name's versions the latest first, and then the filters."
        rows = self.all(kind, project)
        if kind in VERSIONED and args.get("versions") != "all":
            rows = list({e["name"]: e for e in sorted(rows, key=lambda e: e["_seq"])}.values())
        for field in ("name", "kind", "user"):
            if args.get(field): rows = [e for e in rows if e[field] == args[field]]
        for field in ("function", "workflow", "task"):
            if args.get(field): rows = [e for e in rows if e["spec"].get(field) == args[field]]
        if args.get("state"): rows = [e for e in rows if e["status"].get("state") == args["state"]]
        if args.get("q"): rows = [e for e in rows if args["q"] in e["id"] or args["q"] in e["name"]]
        return rows

    # requests

    def _known(self):
        "Whether who asks has shown a password or a token."
        said = request.headers.get("Authorization", "")
        if said.startswith("Basic "): return base64.b64decode(said[6:]).decode() == f"{self.user}:{self.password}"
        return said.startswith("Bearer ") and said[7:] in self.tokens

    def _guard(self):
        @self.app.before_request
        def meet():
            what = self.faults.meet(request.method, request.full_path.rstrip("?"))
            if what in ("cut", "lost"): request.environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            if isinstance(what, int) or what == "cut": raise ApiError(503, "as told")
            if not request.path.startswith(("/.well-known", "/auth/")) and not self._known():
                return Response(status=401, headers={"WWW-Authenticate": "Bearer"})

        @self.app.after_request
        def say_level(answer):
            if request.path.startswith("/api/v1"):
                answer.headers.update({"X-Api-Version": self.version, "X-Api-Level": self.level})
            return answer

        @self.app.errorhandler(ApiError)
        def say_error(e): return jsonify({"status": e.status, "message": e.message, "errorCode": None}), e.status

    def _auth_routes(self):
        app = self.app

        @app.get("/.well-known/configuration")
        def configuration(): return jsonify(self.config())

        @app.get("/.well-known/openid-configuration")
        def openid(): return jsonify({"issuer": self.url, "token_endpoint": self.url + "/auth/token"})

        @app.get("/api/auth")
        def who(): return jsonify({"username": self.user, "permissions": ["ROLE_ADMIN", "ROLE_USER"]})

        @app.post("/auth/token")
        def token():
            form = request.form
            if form.get("grant_type") == "refresh_token": known = form.get("refresh_token") in self.refresh
            else: known = form.get("subject_token") == self.pat
            if not known: return jsonify({"error": "invalid_grant"}), 401
            self.refresh.discard(form.get("refresh_token"))
            access, refresh = self.new_tokens()
            keys = {k: v for k, v in self.s3.conf.items() if k.startswith("aws_")}
            return jsonify(
                {
                    **self.config(),
                    **keys,
                    "token_type": "Bearer",
                    "access_token": access,
                    "refresh_token": refresh,
                    "expires_in": 28800,
                    "client_id": form.get("client_id"),
                    "issuer": self.url,
                }
            )

    def _entity_routes(self):
        app, here = self.app, "/api/v1/-/<project>/<plural>"

        @app.route("/api/v1/projects", methods=["GET", "POST"])
        def projects():
            with self.lock:
                if request.method == "POST":
                    return jsonify(shown(self.create("project", None, request.get_json(force=True))))
                return jsonify(page(self.all("project"), {"sort": "name,ASC", **request.args}))

        @app.route("/api/v1/projects/<id>", methods=["GET", "PUT", "DELETE"])
        def project(id):
            with self.lock: return self._one("project", self.get("project", id))

        @app.route(here, methods=["GET", "POST", "DELETE"])
        def many(project, plural):
            with self.lock: return self._many(project, plural[:-1])

        @app.route(here + "/<id>", methods=["GET", "PUT", "DELETE"])
        def one(project, plural, id):
            with self.lock: return self._one(plural[:-1], self.get(plural[:-1], id, project))

        @app.route(here + "/<id>/files/info", methods=["GET", "PUT"])
        def files(project, plural, id):
            with self.lock: return self._files(self.get(plural[:-1], id, project))

    def _many(self, project, kind):
        args, cascade = request.args, request.args.get("cascade") == "true"
        if kind not in SPECS: raise ApiError(404, "Not Found")
        if request.method == "POST": return jsonify(shown(self.create(kind, project, request.get_json(force=True))))
        if request.method == "GET":
            return jsonify(
                page(
                    self.search(kind, project, args), {**({"sort": "name,ASC"} if kind == "secret" else {}), **args}
                )
            )
        if kind not in VERSIONED: return Response(status=405)
        for e in [e for e in self.all(kind, project) if e["name"] == args["name"]]: self.delete(e, cascade)
        return Response(status=200)

    def _one(self, kind, e):
        cascade = request.args.get("cascade") == "true"
        if request.method == "PUT": self.update(kind, e, request.get_json(force=True))
        if request.method != "DELETE": return jsonify(shown(e))
        for x in [x for x in self.db.values() if x["project"] == e["id"]] if kind == "project" else [e]:
            self.delete(x, cascade)
        return Response(status=200)

    def _files(self, e):
        if request.method == "PUT":
            self.files[e["_type"], e["id"]] = request.get_json(force=True)
            return Response(status=200)
        rows = e["status"].get("files") or self.files.get((e["_type"], e["id"])) or []
        if int(self.level) < 16: return jsonify(rows)
        n, size = int(request.args.get("page", 0)), int(request.args.get("size", 100))
        return jsonify(
            {
                "content": rows[n * size : (n + 1) * size],
                "number": n,
                "size": size,
                "totalPages": math.ceil(len(rows) / size),
            }
        )

    def _run_routes(self):
        app, here = self.app, "/api/v1/-/<project>"

        @app.route(here + "/secrets/data", methods=["GET", "PUT"])
        def secret_data(project):
            if request.method == "PUT":
                self.secrets.update({(project, k): v for k, v in request.get_json(force=True).items()})
                return Response(status=200)
            names = {s["name"] for s in self.all("secret", project)}
            return jsonify(
                {k: self.secrets.get((project, k)) for k in request.args.get("keys", "").split(",") if k in names}
            )

        @app.get(here + "/<plural>/<id>/metrics")
        def metrics(project, plural, id): return jsonify({name: v for (i, name), v in self.metrics.items() if i == id})

        @app.route(here + "/<plural>/<id>/metrics/<name>", methods=["GET", "PUT"])
        def metric(project, plural, id, name):
            self.get(plural[:-1], id, project)
            if request.method == "GET": return jsonify(self.metrics.get((id, name)))
            self.metrics[id, name] = request.get_json(force=True)
            return Response(status=200)

        @app.get(here + "/runs/<id>/logs")
        def logs(project, id):
            self.get("run", id, project)
            return jsonify([])
