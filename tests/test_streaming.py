"A prepared folder at a URL is read shard by shard: the first batch takes the first shard, over HTTP and from S3."
import socket
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

pytest.importorskip("s3fs", reason="s3fs is not installed")
from audio_ft_prep import SpeechCollator, load_prepared
from standin.s3 import KEY, SECRET, serving, store

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def folder(prepared): return prepared("it", storage="padded", shard_rows=5).folder


class Ranges(SimpleHTTPRequestHandler):
    "Files of a folder, whole or a range of bytes, a little at a time; what was sent of each is counted."
    protocol_version = "HTTP/1.1"

    def log_message(self, *args): pass
    def __init__(self, *args, **kwargs): super().__init__(*args, directory=str(args[2].folder), **kwargs)
    def do_HEAD(self): self.answer(b"")
    def do_GET(self): self.answer(None)

    def answer(self, body):
        file = self.server.folder / self.path.lstrip("/")
        if not file.is_file(): return self.send_error(404)
        data = file.read_bytes()
        size, asked = len(data), self.headers.get("Range")
        first, last = 0, size - 1
        if asked:
            first, last = asked.removeprefix("bytes=").split("-")
            first, last = int(first), min(int(last or size - 1), size - 1)
        self.send_response(206 if asked else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last + 1 - first))
        if asked: self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        if body is None: self.send(data[first:last + 1])

    def send(self, data):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
        sent = self.server.sent
        try:
            for i in range(0, len(data), 1 << 14):
                self.wfile.write(part := data[i:i + (1 << 14)])
                sent[self.path] = sent.get(self.path, 0) + len(part)
        except OSError: self.close_connection = True  # it was asked whether the file is there, no more


def read_on(url, folder, sent, slack):
    "Stream a batch, and then all: what the first fetches is less than two shards, and all is what the folder holds."
    size = sum(p.stat().st_size for p in folder.rglob("*.arrow"))
    one = max(p.stat().st_size for p in (folder / "train").glob("*.arrow"))
    rows = load_prepared(url, streaming=True)["train"]
    collate = SpeechCollator(50258)
    items = iter(rows)
    batch = collate([next(items) for _ in range(2)])
    fetched = sum(sent.values())
    here = load_prepared(folder)["train"]
    assert torch.equal(batch["input_features"], collate([here[0], here[1]])["input_features"])
    assert one / 2 < fetched < one + slack < size / 2, (fetched, one, size)
    assert [str(item["id"]) for item in items] == [*here["id"]][2:] and sum(sent.values()) > 3 * one


def test_the_first_batch_over_http_takes_one_shard(folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Ranges)
    server.folder, server.sent, server.daemon_threads = folder, {}, True
    with serving(server): read_on(f"http://127.0.0.1:{server.server_port}", folder, server.sent, 3 << 20)


def test_the_first_batch_from_s3_takes_one_shard(folder, monkeypatch):
    with store("moto", "speech") as s3:
        env = dict(AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET, AWS_DEFAULT_REGION="us-east-1")
        for name, value in {**env, "AWS_ENDPOINT_URL": s3.conf["endpoint_url"]}.items(): monkeypatch.setenv(name, value)
        for path in folder.rglob("*"):
            if path.is_file(): s3.direct.upload_file(str(path), "speech", path.relative_to(folder).as_posix())
        pytest.importorskip("s3fs").S3FileSystem.clear_instance_cache()  # of another test's server
        read_on("s3://speech", folder, s3.faults.sent, 1 << 20)
