"""Runs the runbooks of docs/runbooks.md: for each one its fault is produced in a daemon, the commands are run as they stand
there, and the daemon must be well again. Every runbook must be known here, and everything known here must be in the document.

No systemd runs in a test: `systemctl` and `journalctl` are programs of this file that do to a process what they would do to the
unit. Paths of the host are replaced by those of a folder of the test."""

import contextlib
import datetime
import http.client
import http.server
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import boto3
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
MOTO = pathlib.Path(sys.argv[1]) / "moto_server"
ONLY = sys.argv[2:]
COLUMNS = 12

SYSTEMCTL = """#!/bin/bash
# systemctl for the one unit, picketd.
pids() { for p in /proc/[0-9]*; do [ "$(readlink "$p/exe")" = "$HOST/usr/bin/picketd" ] && echo "${p#/proc/}"; done | sort -n; }
# Those that are told to end, as the unit's KillMode has it: the process that prepares objects ends with the daemon that started it.
daemons() { for p in $(pids); do grep -qz '^prepare-objects$' "/proc/$p/cmdline" 2>/dev/null || echo "$p"; done; }
main() { daemons | head -n 1; }
command=$1; shift
case "$command" in
is-active) [ -n "$(pids)" ] && echo active || { echo inactive; exit 3; } ;;
status) [ -n "$(pids)" ] && echo "active (running), main PID $(main)" || { echo inactive; exit 3; } ;;
show) main ;;
daemon-reload) ;;
kill) kill -USR2 "$(main)" ;;
stop) for p in $(daemons); do kill "$p"; done; while [ -n "$(pids)" ]; do sleep 0.02; done ;;
restart)
	if [ "${1-}" = "$NTP" ]; then touch "$HOST/clock-is-set"; exit; fi
	"$0" stop; "$0" start ;;
start)
	STATE_DIRECTORY="$HOST/var/lib/picket" setsid "$HOST/usr/bin/picketd" --config "$HOST/etc/picket/picketd.yaml" >>"$HOST/log" 2>&1 &
	main=$!
	for _ in $(seq 1000); do
		picket list >/dev/null 2>&1 && exit 0
		kill -0 "$main" 2>/dev/null || { echo "picketd.service failed" >&2; exit 1; }
		sleep 0.02
	done
	exit 1 ;;
*) echo "systemctl $command is not known here" >&2; exit 64 ;;
esac
"""
JOURNALCTL = """#!/bin/bash
while [ $# -gt 0 ]; do [ "$1" = -n ] && lines=$2; shift; done
tail -n "${lines:-1000}" "$HOST/log"
"""
# The clock of this machine is everybody's, so it is the world that differs from it: until the second that the file right names.
TIMEDATECTL = """#!/bin/bash
if [ -e "$HOST/clock-is-set" ] && [ "$(date +%s)" -ge "$(cat "$HOST/right")" ]; then echo yes; else echo no; fi
"""


def wait(what, condition, seconds=40):
    """Waits for a condition, which is tried again while it fails."""
    end = time.monotonic() + seconds
    while True:
        try:
            value = condition()
            if value:
                return value
            error = None
        except (OSError, subprocess.CalledProcessError, http.client.HTTPException) as e:
            error = e
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s ({error})")
        time.sleep(0.05)


class UnixHTTP(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("picket", timeout=30)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        self.sock.connect(self.path)


class Line:
    """The line to the region: a port that leads to moto, and can be cut."""

    def __init__(self, to):
        self.to, self.up = to, True
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            conn, _ = self.listener.accept()
            if not self.up:
                conn.close()
                continue
            threading.Thread(target=self.carry, args=(conn,), daemon=True).start()

    def carry(self, conn):
        with contextlib.suppress(OSError), conn, socket.create_connection(("127.0.0.1", self.to)) as other:
            def back():
                with contextlib.suppress(OSError):
                    while self.up and (data := other.recv(65536)):
                        conn.sendall(data)
                    conn.shutdown(socket.SHUT_RDWR)
            threading.Thread(target=back, daemon=True).start()
            while self.up and (data := conn.recv(65536)):
                other.sendall(data)


class CloudWatch(http.server.BaseHTTPRequestHandler):
    """Takes metrics, and says so in Smithy's protocol, which moto does not speak."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):  # noqa: N802: the name is the library's
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        for header, value in (("Smithy-Protocol", "rpc-v2-cbor"), ("Content-Type", "application/cbor"), ("Content-Length", "1")):
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(b"\xa0")  # an empty map

    def log_message(self, *_):
        pass


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def rows(n, shift=0.0, missing=0.0, seed=1):
    r = random.Random(seed)
    return "".join(",".join("" if missing and c == 1 and r.random() < missing else f"{r.gauss(shift if c == 0 else 0, 1):.5f}" for c in range(COLUMNS)) + "\n"
                   for _ in range(n))


def merge(into, what):
    for key, value in what.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


class Host:
    """A host with picketd, of which one runbook is tried."""

    def __init__(self, made, moto, line, work):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="h", dir=work))
        self.moto, self.line, self.mounts, self.closers = moto, line, [], []
        self.port = free_port()
        for d in ("etc/picket", "var/lib/picket/packages", "run/picket", "srv", "usr/bin"):
            (self.dir / d).mkdir(parents=True)
        for name in ("picket", "picketd"):
            os.link(made / name, self.dir / "usr/bin" / name)
        for name, text in (("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL), ("timedatectl", TIMEDATECTL)):
            path = self.dir / "usr/bin" / name
            path.write_text(text)
            path.chmod(0o755)
        for package in made.glob("fraud-*.tar.gz"):
            shutil.copy(package, self.dir / "var/lib/picket/packages")
        shutil.copy(made / "public.pem", self.dir / "etc/picket")
        self.config = {
            "packages": self.path("/var/lib/picket/packages"),
            "trust": {"keys": [self.path("/etc/picket/public.pem")]}, "host": {"imds": False}, "sockets": {"dir": self.path("/run/picket")},
            "models": [{"name": "fraud", "path": "fraud@3"}],
            "aws": {"region": "us-west-2", "endpoint": f"http://127.0.0.1:{line.port}", "path_style": True}, "packages_from": "s3://models/packages",
        }
        self.env = {
            **os.environ, "HOST": str(self.dir), "PATH": f"{self.dir}/usr/bin:{os.environ['PATH']}", "PICKET_SOCKETS": self.path("/run/picket"), "MODEL": "fraud",
            "METRICS": f"curl -s --unix-socket {self.path('/run/picket/oip.sock')} http://picket/metrics", "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret", "AWS_CONFIG_FILE": "/dev/null", "PICKET_IMDS": "off", "NO_PROXY": "127.0.0.1", "NTP": "systemd-timesyncd",
        }

    def path(self, path):
        return f"{self.dir}{path}"

    def text(self, text):
        """The document's text with the paths and the port of this host."""
        for p in ("/etc/picket", "/var/lib/picket", "/run/picket", "/srv/"):
            text = text.replace(p, self.path(p))
        return text.replace("18080", str(self.port))

    def write(self, **what):
        merge(self.config, what)
        pathlib.Path(self.path("/etc/picket/picketd.yaml")).write_text(yaml.safe_dump(self.config, default_flow_style=None, width=1000))

    def run(self, script):
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], env=self.env, cwd=self.dir, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
        if done.returncode:
            raise AssertionError(f"exit {done.returncode}\n--- of\n{script}\n--- it said\n{done.stdout}\n--- the log\n{self.log()[-3000:]}")
        return done.stdout

    def start(self, **what):
        self.write(**what)
        self.run("systemctl start picketd")

    def restart(self):
        self.run("systemctl restart picketd")

    def log(self):
        with contextlib.suppress(FileNotFoundError):
            return pathlib.Path(self.path("/log")).read_text()
        return ""

    def post(self, body):
        c = UnixHTTP(self.path("/run/picket/oip.sock"))
        try:
            c.request("POST", "/invocations", body=body, headers={"Content-Type": "text/csv"})
            answer = c.getresponse()
            return answer.status, answer.read().decode()
        finally:
            c.close()

    def predict(self, body=None):
        status, text = self.post(body or rows(3))
        assert status == 200, (status, text)
        return text

    def metrics(self):
        c = UnixHTTP(self.path("/run/picket/oip.sock"))
        try:
            c.request("GET", "/metrics")
            return c.getresponse().read().decode()
        finally:
            c.close()

    def metric(self, name, **labels):
        """The sum of the samples of that name with those labels; of an index the highest."""
        total = 0.0
        for line in self.metrics().splitlines():
            m = re.fullmatch(r"([a-zA-Z_:]+)(?:\{(.*)\})? (\S+)", line)
            if m and m[1] == name and all(f'{k}="{v}"' in (m[2] or "") for k, v in labels.items()):
                total = max(total, float(m[3])) if name.endswith("psi") else total + float(m[3])
        return total

    def processes(self):
        """The processes that run picketd, each with its arguments."""
        found = {}
        for p in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(p / "exe") == self.path("/usr/bin/picketd"):
                    found[int(p.name)] = (p / "cmdline").read_bytes().split(b"\0")
        return found

    def pids(self):
        """The daemons among them. The process that prepares objects ends with the one that started it."""
        return sorted(pid for pid, arguments in self.processes().items() if b"prepare-objects" not in arguments)

    def signal(self, what):
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):  # one that had begun to end
                os.kill(pid, what)

    def close(self):
        for close in self.closers:
            close()
        self.signal(signal.SIGTERM)
        end = time.monotonic() + 15
        while self.processes():
            if time.monotonic() > end:
                self.signal(signal.SIGKILL)
            time.sleep(0.02)
        for mount in self.mounts:
            subprocess.run(["umount", mount], check=True)
        shutil.rmtree(self.dir)


FAULTS = {}


def fault(*names):
    """Registers a generator: up to its yield it produces the fault, after it the daemon must be well."""
    def register(f):
        for name in names:
            FAULTS[name] = f
        return f
    return register


@fault("checklist", "capacity", "gpu")
def healthy(h):
    h.start()
    h.predict()
    yield
    h.predict()


@fault("down")
def down(h):
    h.start()
    os.kill(h.pids()[0], signal.SIGKILL)
    wait("the end", lambda: not h.processes())
    yield
    h.predict()


@fault("absent")
def absent(h):
    h.start()
    yield
    assert "picket_build_info" in urllib.request.urlopen(f"http://127.0.0.1:{h.port}/metrics").read().decode()


@fault("restarting")
def restarting(h):
    h.write()
    good = pathlib.Path(h.path("/etc/picket/picketd.yaml"))
    shutil.copy(good, h.path("/etc/picket/picketd.yaml.good"))
    good.write_text(good.read_text() + "limts: {}\n")
    assert "failed" in h.run("systemctl start picketd 2>&1 || true")
    yield
    assert "limts" in h.log()
    h.predict()


@contextlib.contextmanager
def load(h):
    """More than one instance answers."""
    body, stop = rows(4000), threading.Event()

    def ask():
        while not stop.is_set():
            h.post(body)
    threads = [threading.Thread(target=ask) for _ in range(12)]
    for t in threads:
        t.start()
    try:
        yield
    finally:
        stop.set()
        for t in threads:
            t.join()


@fault("queue", "refusing")
def overload(h):
    h.start(model_defaults={"instances": 1, "threads": 1, "max_queue": 1})
    with load(h):
        wait("refusals", lambda: h.metric("picket_model_requests_total", outcome="busy") > 0)
    yield
    before = h.metric("picket_model_requests_total", outcome="busy")
    assert h.metric("picket_model_queue_limit_requests") == 4096
    for _ in range(5):
        h.predict()
    assert h.metric("picket_model_requests_total", outcome="busy") == before


@fault("failing", "rollback")
def bad_model(h):
    h.start()
    good = h.predict()
    h.write(models=[{"name": "fraud", "path": "fraud@4"}])
    h.run("picket reload")
    assert h.predict() != good, "the bad model answers as the good one"
    yield
    if "rollback" in h.config["trust"]:
        wait("the good model", lambda: h.predict() == good)


@fault("slow")
def slow(h):
    h.start(model_defaults={"instances": 1, "threads": 1, "timeout": "1ms"})
    late = lambda: h.metric("picket_model_requests_total", outcome="deadline") + h.metric("picket_model_requests_total", outcome="busy")  # noqa: E731
    with load(h):
        wait("requests that are too late", lambda: late() > 0)
    yield
    before = late()
    for _ in range(5):
        h.predict(rows(1000))
    assert late() == before


@fault("input")
def bad_input(h):
    h.start()
    for _ in range(20):
        status, text = h.post("1,2,3\n")
        assert status == 400, (status, text)
    yield
    h.predict()


@fault("memory")
def memory(h):
    h.start(limits={"max_message": "1MiB", "max_in_flight": "2MiB"})
    for _ in range(2):
        s = socket.socket(socket.AF_UNIX)
        s.connect(h.path("/run/picket/oip.sock"))
        s.sendall(b"POST /invocations HTTP/1.1\r\nHost: picket\r\nContent-Type: text/csv\r\nContent-Length: 1000000\r\n\r\n" + b"1" * 950_000)
        h.closers.append(s.close)
    full = lambda: h.metric("picket_in_flight_bytes") / h.metric("picket_in_flight_limit_bytes") > 0.8  # noqa: E731
    wait("memory that is full", full)
    yield
    wait("room", lambda: not full() and h.predict())


@fault("descriptors")
def descriptors(h):
    h.start()
    pid = h.pids()[0]
    subprocess.run(["prlimit", "--pid", str(pid), f"--nofile={int(h.metric('process_open_fds')) + 4}:"], check=True)
    used = lambda: h.metric("process_open_fds") / h.metric("process_max_fds")  # noqa: E731
    assert used() > 0.8
    yield
    assert used() < 0.8


@fault("drift", "score", "missing")
def drift(h):
    h.start(drift={"sample": 1, "min_rows": 100})
    body = rows(1500, shift=4, missing=0.5, seed=2)
    pathlib.Path(h.path("/srv/captured.csv")).write_text(body)
    for _ in range(100):  # of a request only some rows are looked at
        h.predict(rows(60, shift=4, missing=0.5, seed=random.random()))
    wait("drift", lambda: h.metric("picket_model_drift_psi") > 0.2 and h.metric("picket_model_score_psi") > 0.2 and h.metric("picket_model_missing_increase") > 0.05)
    yield
    h.predict()


@fault("cloudwatch")
def cloudwatch(h):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), CloudWatch)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    h.closers += [server.shutdown, server.server_close]
    line = Line(server.server_port)
    line.up = False
    h.start(cloudwatch={"enabled": True, "endpoint": f"http://127.0.0.1:{line.port}", "period": "1s", "timeout": "2s"})
    wait("metrics that wait", lambda: h.metric("picket_cloudwatch_waiting_batches") > 0 and "CloudWatch: they wait" in h.log())
    yield
    line.up = True
    wait("metrics that are sent", lambda: h.metric("picket_cloudwatch_metrics_total", outcome="sent") > 0 and h.metric("picket_cloudwatch_waiting_batches") <= 1)


@fault("not-loaded")
def not_loaded(h):
    package = pathlib.Path(h.path("/var/lib/picket/packages/fraud-3.tar.gz"))
    os.truncate(package, package.stat().st_size // 2)
    h.start()
    assert "is declared and not loaded" in h.run("picket list")
    yield
    h.predict()


def captures(h, **more):
    h.write(capture={"enabled": True, "segment_age": "200ms", "segment_bytes": "64KiB", "flush_after": "5ms", "beside_bytes": "16KiB", **more}, model_defaults={"capture": {"rate": 1}})
    h.run("systemctl start picketd")


@fault("dropping")
def dropping(h):
    captures(h, max_bytes="1MiB")
    dropped = lambda: h.metric("picket_capture_dropped_records_total", reason="quota")  # noqa: E731
    wait("records that are dropped", lambda: h.predict(rows(2000)) and dropped() > 0)
    yield
    wait("the new limit", lambda: h.metric("picket_capture_spool_limit_bytes") == 1 << 30)
    before = dropped()
    for _ in range(20):
        h.predict(rows(500))
    assert dropped() == before


@fault("stuck", "offline")
def stuck(h):
    h.line.up = False
    captures(h, destination={"bucket": "captured"}, residency={"destinations": [{"bucket": "captured"}], "models": [
        {"model": "*", "samples": True, "otherwise": "allow", "outputs": "allow", "ids": "allow"}]})
    h.predict()
    wait("records that are stuck", lambda: h.metric("picket_upload_state", state="retrying") == 1)
    yield
    h.predict()  # no line is needed for it
    wait("both records", lambda: h.metric("picket_capture_accepted_records_total") >= 2)
    h.line.up = True
    wait("records that left", lambda: h.metric("picket_capture_on_disk_records") == 0 and h.metric("picket_upload_records_total") >= 2, 90)


@fault("disk-full")
def disk_full(h):
    spool = h.path("/var/lib/picket/capture")
    os.mkdir(spool, 0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", spool], check=True)
    h.mounts.append(spool)
    captures(h)
    with open(f"{spool}/core.1234", "wb", buffering=0) as f, contextlib.suppress(OSError):
        while True:
            f.write(b"x" * 4096)
    refused = lambda: h.metric("picket_capture_refused_records_total")  # noqa: E731
    wait("records that are refused", lambda: h.predict(rows(500)) and refused() > 0)
    yield
    accepted = h.metric("picket_capture_accepted_records_total")
    wait("records that are accepted", lambda: h.predict() and h.metric("picket_capture_accepted_records_total") > accepted)


def certificate(name, days):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    import ipaddress
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = (x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=30)).not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), True).sign(key, hashes.SHA256()))
    return (made.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


@fault("certificate")
def expired(h):
    trusted = b""
    for cert, key, days in (("/etc/picket/tls.pem", "/etc/picket/tls-key.pem", -1), ("/srv/new.pem", "/srv/new-key.pem", 30)):
        c, k = certificate(f"picket {days}", days)
        pathlib.Path(h.path(cert)).write_bytes(c)
        pathlib.Path(h.path(key)).write_bytes(k)
        trusted += c
    context = ssl.create_default_context(cadata=trusted.decode())
    h.start(tcp={"listen": [f"127.0.0.1:{h.port}"], "certificate": h.path("/etc/picket/tls.pem"), "key": h.path("/etc/picket/tls-key.pem")})

    def reach():
        with urllib.request.urlopen(f"https://127.0.0.1:{h.port}/v2/health/ready", context=context) as answer:
            return answer.status == 200
    try:
        reach()
        raise AssertionError("an expired certificate was accepted")
    except urllib.error.URLError as e:
        assert "expired" in str(e), e
    yield
    wait("the new certificate", reach)


class SkewedStore(http.server.BaseHTTPRequestHandler):
    """What S3 answers a host whose clock is an hour behind, whatever it asks."""

    def do_PUT(self):  # noqa: N802: the name is the library's
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b"<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the current time is too large.</Message></Error>"
        self.send_response_only(403)
        for header, value in (("Date", self.date_time_string(time.time() + 3600)), ("Content-Type", "application/xml"), ("Content-Length", str(len(body)))):
            self.send_header(header, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT  # noqa: N815: the names are the library's

    def log_message(self, *_):
        pass


def sign_with_certificate(h, version, begins, ends):
    """Has the package signed by somebody whose certificate is valid from a second to another, and trusts the root."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    at = lambda second: datetime.datetime.fromtimestamp(int(second), datetime.timezone.utc)  # noqa: E731
    keys, made, issuer = [], [], None
    for name, authority, begin, end in (("Root", True, time.time() - 86400, time.time() + 10 * 365 * 86400), ("Model signing", False, begins, ends)):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        use = x509.KeyUsage(digital_signature=not authority, key_cert_sign=authority, crl_sign=authority, content_commitment=False, key_encipherment=False,
                            data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False)
        c = (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer or subject).public_key(key.public_key()).serial_number(x509.random_serial_number())
             .not_valid_before(at(begin)).not_valid_after(at(end)).add_extension(x509.BasicConstraints(ca=authority, path_length=None), True).add_extension(use, True))
        if not authority:
            c = c.add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CODE_SIGNING]), False)
        keys.append(key)
        made.append(c.sign(keys[0], hashes.SHA256()))
        issuer = issuer or subject
    for file, data in (("/etc/picket/root.pem", made[0].public_bytes(serialization.Encoding.PEM)), ("/srv/chain.pem", b"".join(c.public_bytes(serialization.Encoding.PEM) for c in made[::-1])),
                       ("/srv/leaf.pem", keys[1].private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))):
        pathlib.Path(h.path(file)).write_bytes(data)
    h.run(f"picket package sign {h.path(f'/var/lib/picket/packages/fraud-{version}.tar.gz')} --key {h.path('/srv/leaf.pem')} --certificate-chain {h.path('/srv/chain.pem')}")
    h.write(trust={"keys": [], "roots": [h.path("/etc/picket/root.pem")], "names": ["Model signing"]})


@fault("clock-behind")
def clock_behind(h):
    """A signer's certificate begins later than now, and the store is an hour ahead, until the clock is set."""
    right = int(time.time()) + 15
    pathlib.Path(h.path("/right")).write_text(str(right))
    sign_with_certificate(h, 4, right, right + 86400)
    store = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SkewedStore)
    threading.Thread(target=store.serve_forever, daemon=True).start()
    h.closers += [store.shutdown, store.server_close]
    h.line.to = store.server_port
    # The model whose records wait is of before: with the key's signature.
    h.write(trust={"keys": [h.path("/etc/picket/public.pem")]}, models=[{"name": "fraud", "path": "fraud@4"}, {"name": "old", "path": "fraud@3"}])
    captures(h, destination={"bucket": "captured"}, residency={"destinations": [{"bucket": "captured"}], "models": [
        {"model": "*", "samples": True, "otherwise": "allow", "outputs": "allow", "ids": "allow"}]})
    listed = h.run("picket list")
    assert "fraud is declared and not loaded" in listed and "set the clock" in listed, listed
    h.predict()  # the one model that is there
    wait("records that are stuck", lambda: h.metric("picket_upload_failures_total", reason="clock") > 0)
    assert "this host's clock is wrong by" in h.log(), h.log()

    def set_right():
        while not pathlib.Path(h.path("/clock-is-set")).exists():
            time.sleep(0.05)
        h.line.to = h.moto
    threading.Thread(target=set_right, daemon=True).start()
    yield
    assert "not loaded" not in h.run("picket list")
    wait("records that left", lambda: h.metric("picket_capture_on_disk_records") == 0 and h.metric("picket_upload_records_total") >= 1, 90)


@fault("clock-ahead")
def clock_ahead(h):
    """The clock was two months ahead when a certificate that was valid then was last believed; the signer's of today is good for a month."""
    sign_with_certificate(h, 3, time.time() - 86400, time.time() + 30 * 86400)
    ahead = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=60)
    pathlib.Path(h.path("/var/lib/picket/accepted.json")).write_text(
        f'{{\n  "picket_accepted": 1,\n  "clock": "{ahead:%Y-%m-%dT%H:%M:%SZ}",\n  "highest": {{"fraud": {{"version": "3", "digest": "{digest(h)}"}}}},\n  "accepted": {{}}\n}}\n')
    h.run("systemctl start picketd")
    listed = h.run("picket list")
    assert "not loaded" in listed and "the clock in accepted.json" in listed, listed
    yield
    h.predict()


def digest(h):
    return re.search(r"digest +(sha256:[0-9a-f]{64})", h.run(f"picket package show {h.path('/var/lib/picket/packages/fraud-3.tar.gz')}"))[1]


@fault("upgrade")
def upgrade(h):
    h.start()
    failed, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            try:
                h.predict()
            except Exception as e:  # noqa: BLE001: whatever a client sees
                failed.append(e)
    t = threading.Thread(target=ask)
    t.start()
    yield
    stop.set()
    t.join()
    assert not failed, failed[:3]


@fault("signing-key")
def signing_key(h):
    h.start()
    yield
    listed = h.run("picket list")
    assert "next" in listed, listed
    assert "fraud@4" in listed or "fraud-4" in listed, listed


@fault("age")
def age(h):
    h.run("age-keygen -o $HOST/etc/picket/age.key 2>/dev/null")
    recipient = h.run("age-keygen -y $HOST/etc/picket/age.key").strip()
    captures(h, recipients=[recipient])
    h.predict()
    wait("a record", lambda: h.metric("picket_capture_accepted_records_total") >= 1)
    yield
    h.predict()
    spool, new = h.path("/var/lib/picket/capture"), h.path("/etc/picket/age-new.key")
    wait("a record for both keys", lambda: h.metric("picket_capture_accepted_records_total") >= 2)
    h.run(f"systemctl stop picketd; picket spool drain {spool} --identity {h.path('/etc/picket/age-both.key')} --to $HOST/records; test $(wc -l <$HOST/records) = 2; systemctl start picketd")
    h.predict()
    wait("a record for the new key", lambda: h.metric("picket_capture_on_disk_records") >= 1)
    assert len(h.run(f"picket spool cat {spool} --identity {new}").splitlines()) == 1


@fault("fleet-keys")
def fleet_keys(h):
    h.start()
    h.run(f"picket fleet init pos --place file://{h.path('/srv/fleet')} --keys {h.path('/srv/fleet-keys')}")
    names = ("online.pem", "targets.pem", "root.pem")
    before = {n: pathlib.Path(h.path(f"/srv/fleet-keys/{n}")).read_bytes() for n in names}
    yield
    for n in names:
        assert pathlib.Path(h.path(f"/srv/fleet-keys/{n}")).read_bytes() != before[n], n


def blocks():
    """The document's blocks by runbook, in order: ("sh" or "yaml", text)."""
    found = {}
    for kind, name, text in re.findall(r"^```(sh|yaml) runbook=(\S+)\n(.*?)^```$", (ROOT / "docs/runbooks.md").read_text(), re.M | re.S):
        found.setdefault(name, []).append((kind, text))
    return found


def make(made):
    """Two signed packages of other models with as many columns; the first with a baseline."""
    for name in ("picket", "picketd"):
        shutil.copy(ROOT / "bin" / name, made)
    with open(made / "train.csv", "w") as f:  # the last column is a score, of another kind than the model's answers to what comes
        f.writelines(f"{line},{0.5 + 0.001 * (i % 9)}\n" for i, line in enumerate(rows(3000).splitlines()))
    models = ROOT / "internal/testkit/testdata/models/xgboost"
    script = f"""
cd {made}
openssl ecparam -name prime256v1 -genkey -noout -out key.pem && openssl pkey -in key.pem -pubout -out public.pem
mkdir three four && cp {models}/binary-1.7.6.ubj three/model.ubj && cp {models}/base-score-reg-1.7.6.json four/model.json
./picket monitor baseline train.csv --no-header --score _c12 -o baseline
./picket package build three --name fraud --version 3 --baseline baseline -o fraud-3.tar.gz
./picket package build four --name fraud --version 4 -o fraud-4.tar.gz
for v in 3 4; do ./picket package sign fraud-$v.tar.gz --key key.pem; done
"""
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], text=True, capture_output=True)
    if done.returncode:
        sys.exit(f"making the packages failed:\n{done.stdout}{done.stderr}")


def main():
    found = blocks()
    if set(found) != set(FAULTS):
        sys.exit(f"docs/runbooks.md and scripts/test_runbooks.py do not have the same runbooks: {sorted(set(found) ^ set(FAULTS))}")
    work = pathlib.Path(tempfile.mkdtemp(prefix="rb"))
    moto = None
    try:
        made = work / "made"
        made.mkdir()
        port = free_port()
        moto = subprocess.Popen([MOTO, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        make(made)
        wait("moto", lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/data.json"))
        s3 = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-west-2", aws_access_key_id="key", aws_secret_access_key="secret")
        for bucket in ("models", "captured"):
            s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
        subprocess.run([made / "picket", "package", "push", made / "fraud-3.tar.gz", "s3://models/packages", "--endpoint-url", f"http://127.0.0.1:{port}", "--path-style", "--region", "us-west-2"],
                       check=True, stdout=subprocess.DEVNULL, env={**os.environ, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_CONFIG_FILE": "/dev/null"})
        failed = []
        for name in ONLY or found:
            began, h = time.monotonic(), Host(made, port, Line(port), work)
            try:
                g = FAULTS[name](h)
                next(g)
                for kind, text in found[name]:
                    if kind == "yaml":
                        h.write(**yaml.safe_load(h.text(text)))
                    else:
                        h.run(h.text(text))
                for _ in g:
                    pass
                print(f"  {name:12} {time.monotonic() - began:5.1f} s", flush=True)
            except Exception as e:  # noqa: BLE001: every runbook is tried
                failed.append(name)
                print(f"  {name:12} FAILED: {type(e).__name__}: {e}\n{h.log()[-2000:]}", flush=True)
            finally:
                h.close()
        if failed:
            sys.exit(f"runbooks that do not work: {' '.join(failed)}")
        print(f"{len(ONLY or found)} runbooks work")
    finally:
        if moto:
            moto.terminate()
            moto.wait()
        shutil.rmtree(work, ignore_errors=True)


main()
