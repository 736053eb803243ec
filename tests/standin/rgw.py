"""Ceph's radosgw, a production S3 that checks signatures, with everything in memory and nothing left behind.

It comes with Debian and Ubuntu: apt-get install --no-install-recommends ceph-mon ceph-osd radosgw"""
import http.client
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

NEEDS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
CONF = """[global]
fsid = {fsid}
mon_host = v1:127.0.0.1:{port}
public_addr = 127.0.0.1
ms_bind_msgr2 = false
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
run_dir = {root}
admin_socket = {root}/$name.asok
log_file = {root}/$name.log
mon_data = {root}/mon
osd_data = {root}/osd
osd_objectstore = memstore
memstore_device_bytes = 4294967296
osd_crush_chooseleaf_type = 0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
rgw_thread_pool_size = 16
"""


def missing():
    "The programs that radosgw needs and that aren't on the PATH."
    return [n for n in NEEDS if not shutil.which(n)]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run(*args, seconds=120):
    "Run a program to its end, and give what it prints."
    got = subprocess.run(args, capture_output=True, text=True, timeout=seconds)
    if got.returncode: raise RuntimeError(f"{args[0]} ended with {got.returncode}: {got.stderr[-500:]}")
    return got.stdout


@contextmanager
def daemon(root, *args):
    "Have a program run, and end it."
    with open(root / f"{args[0]}.out", "wb") as out:
        p = subprocess.Popen([*args, "-f"], stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try: yield p
    finally:
        p.kill()
        p.wait()


def until_it_answers(port, process, seconds):
    "Wait for a web server."
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            with_it = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            with_it.request("GET", "/")
            return with_it.getresponse().status
        except OSError: time.sleep(0.1)
    raise RuntimeError(f"radosgw did not answer in {seconds} s")


def begin(stack, root, key, secret):
    "Start the cluster and then its gateway; give the gateway's port."
    conf = root / "ceph.conf"
    fsid = str(uuid4())
    port = free_port()
    web = free_port()
    conf.write_text(CONF.format(fsid=fsid, port=port, root=root))
    for place in ("mon", "osd"): (root / place).mkdir()
    ceph = ("ceph", "-c", str(conf), "--connect-timeout", "20")
    run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v1:127.0.0.1:{port}]", str(root / "monmap"))
    run("ceph-mon", "-c", str(conf), "-i", "a", "--mkfs", "--monmap", str(root / "monmap"))
    stack.enter_context(daemon(root, "ceph-mon", "-c", str(conf), "-i", "a"))
    osd = str(uuid4())
    run(*ceph, "osd", "new", osd, "0")
    run("ceph-osd", "-c", str(conf), "-i", "0", "--mkfs", "--osd-uuid", osd)
    stack.enter_context(daemon(root, "ceph-osd", "-c", str(conf), "-i", "0"))
    run(
        "radosgw-admin",
        "-c",
        str(conf),
        "user",
        "create",
        "--uid",
        "standin",
        "--display-name",
        "standin",
        "--access-key",
        key,
        "--secret",
        secret,
        seconds=120,
    )
    gateway = stack.enter_context(
        daemon(
            root,
            "radosgw",
            "-c",
            str(conf),
            "-n",
            "client.rgw",
            "--rgw-frontends",
            f"beast endpoint=127.0.0.1:{web}",
        )
    )
    until_it_answers(web, gateway, 60)
    return web


@contextmanager
def radosgw(key, secret, tries=3):
    "radosgw's address; a start that hangs is given up and made again."
    for last in (*[False] * (tries - 1), True):
        with ExitStack() as stack:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rgw-")))
            try: port = begin(stack, root, key, secret)
            except (RuntimeError, subprocess.TimeoutExpired):
                if last: raise
                continue
            yield "127.0.0.1", port
            return
