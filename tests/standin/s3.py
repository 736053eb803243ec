"""The store: moto in a thread or Ceph's radosgw in a process, behind a proxy that can be told to fail."""
import http.client
import logging
import re
import socket
import struct
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3

from .rgw import radosgw

KEY, SECRET = "AKIASTANDIN", "standin-secret-key"
ERRORS = {403: "AccessDenied", 404: "NoSuchBucket", 500: "InternalError", 503: "SlowDown"}


@dataclass
class Fault:
    "What happens to requests of a method whose path matches."
    method: str
    path: str
    what: object    # an HTTP status, "cut" (it never arrives), "lost" (its answer doesn't), "reset" (in the middle of it), "slow", or a function
    times: float = 1
    skip: int = 0   # requests that pass before the first fault

    def meets(self, method, path):
        "Whether this request is to fail; each is counted."
        if not (re.fullmatch(self.method, method) and re.search(self.path, path)) or self.times <= 0: return False
        self.skip, now = self.skip - 1, self.skip <= 0
        self.times -= now
        return now


class Faults(list):
    "The faults to come, and what was asked so far."
    def __init__(self):
        self.asked, self.lock = [], threading.RLock()
        self.sent = {}  # bytes of answers, by the path that was asked for

    def meet(self, method, path):
        "Note a request; give what is to happen to it, if anything is."
        with self.lock:
            self.asked.append((method, path))
            what = next((f.what for f in self if f.meets(method, path)), None)
        if not callable(what): return what
        return what()


class Proxy(BaseHTTPRequestHandler):
    "Pass a request on to the store, or fail as told."
    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True

    def log_message(self, *args): pass

    def _refuse(self, status, code):
        said = (
            b""
            if self.command == "HEAD"
            else f"<Error><Code>{code}</Code><Message>as told</Message></Error>".encode()
        )
        self.send_response(status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def _body(self, what):
        size = int(self.headers.get("Content-Length") or 0)
        if what == "reset": self.rfile.read(size // 2)
        else: return self.rfile.read(size)

    def _hang_up(self):
        "Close the connection as a machine that has lost its memory does."
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def _pass(self, body):
        store = http.client.HTTPConnection(*self.server.store, timeout=60)
        store.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for k, v in self.headers.items():
            if k.lower() not in ("expect", "connection"): store.putheader(k, v)
        store.endheaders(body)
        got = store.getresponse()
        said = got.read()
        self.send_response(got.status)
        for k, v in got.getheaders():
            if k.lower() not in ("connection", "transfer-encoding", "content-length", "server", "date"):
                self.send_header(k, v)
        self.send_header(
            "Content-Length", got.getheader("Content-Length") if self.command == "HEAD" else str(len(said))
        )
        self.end_headers()
        with self.server.faults.lock:
            sent = self.server.faults.sent
            sent[self.path] = sent.get(self.path, 0) + len(said)
        self.wfile.write(said)
        store.close()

    def handle_any(self):
        what = self.server.faults.meet(self.command, self.path)
        if what is None and self.server.key not in self.headers.get("Authorization", self.server.key): what = 403
        body = self._body(what)
        if what == "slow": time.sleep(0.05)
        if what in ("reset", "cut"): return self._hang_up()
        return self._refuse(what, ERRORS[what]) if isinstance(what, int) else self._pass(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any


@contextmanager
def serving(server):
    "Have a server answer in a thread."
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try: yield server
    finally: server.shutdown(); server.server_close()


@contextmanager
def moto():
    "moto's S3, which takes any credentials."
    from moto.server import ThreadedMotoServer
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try: yield server.get_host_and_port()
    finally: server.stop()


class Store:
    "An S3 account with a bucket, as its clients reach it."
    def __init__(self, proxy, bucket):
        self.proxy, self.bucket, self.faults = proxy, bucket, proxy.faults
        self.conf = dict(
            endpoint_url=f"http://127.0.0.1:{proxy.server_port}", aws_access_key_id=KEY, aws_secret_access_key=SECRET
        )
        self.direct = boto3.client(
            "s3", region_name="us-east-1", **{**self.conf, "endpoint_url": "http://%s:%d" % proxy.store}
        )

    def objects(self, prefix=""):
        "What the bucket holds: key -> bytes."
        pages = self.direct.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return {o["Key"]: o["Size"] for page in pages for o in page.get("Contents", [])}

    def renew(self, key):
        "Hand out another key; the one before is refused from now on."
        self.conf["aws_access_key_id"] = self.proxy.key = key


@contextmanager
def store(kind="moto", bucket="datalake"):
    "A bucket of moto's or radosgw's, behind a proxy."
    with moto() if kind == "moto" else radosgw(KEY, SECRET) as address, serving(
        ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    ) as proxy:
        proxy.store = address
        proxy.faults = Faults()
        proxy.key = KEY
        proxy.daemon_threads = True
        made = Store(proxy, bucket)
        made.direct.create_bucket(Bucket=bucket)
        yield made
