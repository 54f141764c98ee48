"""Tries the CloudFormation templates as far as that goes without an Outpost: what their policies allow is compared with what the
source asks AWS for, moto makes the stacks, shellcheck reads the user data, and then it runs: in a folder, as a host would boot,
with a metadata service that wants version 2, an S3 store that checks signatures, and dpkg."""

import ast
import base64
import contextlib
import hashlib
import http.server
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import boto3
import cfnlint.decode
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEMPLATES = ROOT / "deploy/cloudformation"
MOTO, VERSITYGW = sys.argv[1:]
ACCOUNT = "123456789012"

# Statements whose resource must be "*", with the reason.
STARS = {
    ("hosts.yaml", "MetricsOfTheNamespace"): "PutMetricData knows no resources; the condition cloudwatch:namespace confines it",
    ("network.yaml", "MetricsOfAnyNamespace"): "the same, in the endpoint's policy",
    ("storage.yaml", "KeyIsForPoliciesOfThisAccountToGive"): "in a key's own policy the only resource is the key, which is written so",
}
# Statements that name more than single actions.
WIDE = {
    ("storage.yaml", "KeyIsForPoliciesOfThisAccountToGive"): "without the account's root nobody could manage the key",
    ("storage.yaml", "EncryptedOnTheWay"): "it denies",
}
# What a host asks AWS for is where these look; the operator's side (push, the fleet's publisher) is not a host's.
HOST_SOURCES = ["internal/capture/upload", "internal/transfer/object.go", "internal/fleet/s3.go", "internal/metrics/cloudwatch"]
ACTIONS = {
    ("s3", "GetObject"): "s3:GetObject", ("s3", "HeadObject"): "s3:GetObject", ("s3", "ListObjectsV2"): "s3:ListBucket", ("s3", "PutObject"): "s3:PutObject",
    ("cloudwatch", "PutMetricData"): "cloudwatch:PutMetricData",
}


def listed(x):
    return x if isinstance(x, list) else [x]


def template(name):
    document, findings = cfnlint.decode.decode(str(TEMPLATES / name))
    assert not findings, findings
    return document


def statements(document):
    """All statements of all policies in a template."""
    def walk(x):
        if isinstance(x, dict):
            if "Statement" in x and "Version" in x:
                for s in x["Statement"]:
                    for one in (s["Fn::If"][1:] if "Fn::If" in s else [s]):
                        if "Effect" in one:
                            yield one
            else:
                for v in x.values():
                    yield from walk(v)
        elif isinstance(x, list):
            for v in x:
                yield from walk(v)
    yield from walk(document["Resources"])


def check_policies():
    stars, wide, seen = set(), set(), 0
    for path in sorted(TEMPLATES.glob("*.yaml")):
        for s in statements(template(path.name)):
            seen += 1
            key = (path.name, s.get("Sid"))
            if s.get("Action") == "sts:AssumeRole":
                assert s["Principal"] == {"Service": "ec2.amazonaws.com"}, s
                continue
            assert s.get("Sid"), f"{path.name}: a statement without a name: {s}"
            for action in listed(s["Action"]):
                if "*" in action:
                    wide.add(key)
            for resource in listed(s["Resource"]):
                text = resource if isinstance(resource, str) else json.dumps(resource)
                if resource == "*":
                    stars.add(key)
                elif re.search(r":::\*|\*\*|^arn:[^\"]*:\*$", text):
                    raise AssertionError(f"{key} is of every resource: {text}")
            if s["Effect"] == "Allow" and path.name == "hosts.yaml":
                assert not any(a.split(":")[0] in ("iam", "sts", "ec2", "ssm") for a in listed(s["Action"])), s
    assert stars == set(STARS), f"resources that are *, against those with a reason: {stars ^ set(STARS)}"
    assert wide == set(WIDE), f"actions with *, against those with a reason: {wide ^ set(WIDE)}"

    needed = set()
    for source in HOST_SOURCES:
        files = [ROOT / source] if source.endswith(".go") else [p for p in (ROOT / source).glob("*.go") if not p.name.endswith("_test.go")]
        assert files, source
        for f in files:
            for service, call in re.findall(r"\b(s3|cloudwatch|cloudwatchapi|kms)\.(\w+)Input\b", f.read_text()):
                needed.add((service.removesuffix("api"), call))
    unknown = needed - set(ACTIONS)
    assert not unknown, f"the source asks AWS for {unknown}: say in ACTIONS what must be allowed for it"
    wanted = {ACTIONS[n] for n in needed} | {"kms:Decrypt", "kms:GenerateDataKey"}  # of the bucket's key, by S3
    allowed = {a for s in statements(template("hosts.yaml")) if s["Effect"] == "Allow" for a in listed(s["Action"])} - {"sts:AssumeRole"}
    assert wanted <= allowed, f"a host may not {wanted - allowed}"
    more = {a for a in allowed - wanted if not (a.startswith("s3-outposts:") and a.replace("-outposts", "") in wanted)}
    assert not more, f"a host may {more}, which nothing asks for"
    through = {a for s in statements(template("network.yaml")) for a in listed(s["Action"])}
    assert {a for a in wanted if a.startswith(("s3:", "cloudwatch:"))} <= through, "an endpoint's policy keeps hosts from what they need"
    print(f"policies: {seen} statements, {len(STARS)} of them with * as the resource, each for a reason; a host may do the {len(wanted)} things that it asks for")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


@contextlib.contextmanager
def server(command, url, env=None):
    """A server for the time of the with, which answers at url."""
    process = subprocess.Popen(command, env={**os.environ, **(env or {})}, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(url)
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                assert process.poll() is None, f"{command[0]} ended"
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


# What moto's CloudFormation cannot make; a route to a local gateway is one that leads nowhere there.
UNKNOWN_TO_MOTO = {"AWS::EC2::LocalGatewayRouteTableVPCAssociation", "AWS::EC2::Route", "AWS::EC2::PlacementGroup", "AWS::EC2::EIPAssociation", "AWS::S3::BucketPolicy"}


def for_moto(name):
    document = json.loads(json.dumps(template(name)))
    resources = document["Resources"]
    for gone in [n for n, r in resources.items() if r["Type"] in UNKNOWN_TO_MOTO]:
        del resources[gone]
    if "Spread" not in resources and "Template" in resources:
        del resources["Template"]["Properties"]["LaunchTemplateData"]["Placement"]
    if "Host" in resources:  # of an instance it does not read the launch template
        resources["Host"]["Properties"] |= {"ImageId": {"Ref": "ImageId"}, "InstanceType": {"Ref": "InstanceType"}}
    document.pop("Rules", None)
    return json.dumps(document)


def make_stacks(url):
    """moto makes the stacks; gives the launch template's data by number of hosts."""
    kw = {"endpoint_url": url, "region_name": "us-west-2", "aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    stacks, ec2, iam = boto3.client("cloudformation", **kw), boto3.client("ec2", **kw), boto3.client("iam", **kw)

    def create(name, file, **given):
        stacks.create_stack(StackName=name, TemplateBody=for_moto(file), Capabilities=["CAPABILITY_IAM"],
                            Parameters=[{"ParameterKey": k, "ParameterValue": str(v)} for k, v in given.items()])
        stack = stacks.describe_stacks(StackName=name)["Stacks"][0]
        assert stack["StackStatus"] == "CREATE_COMPLETE", stack
        return {o["OutputKey"]: o["OutputValue"] for o in stack.get("Outputs", [])}, stacks.list_stack_resources(StackName=name)["StackResourceSummaries"]

    outpost = f"arn:aws:outposts:us-west-2:{ACCOUNT}:outpost/op-0123456789abcdef0"
    network, made = create("network", "network.yaml", OutpostArn=outpost, AvailabilityZone="us-west-2a", LocalGatewayId="lgw-0123456789abcdef0",
                           LocalGatewayRouteTableId="lgw-rtb-0123456789abcdef0", LocalNetworkCidr="192.168.0.0/16", BucketName="bank-models")
    count = len(made)
    subnet = ec2.describe_subnets(SubnetIds=[network["SubnetId"]])["Subnets"][0]
    assert subnet["CidrBlock"] == "10.80.0.0/24" and subnet["VpcId"] == network["VpcId"], subnet
    storage, made = create("storage", "storage.yaml", BucketName="bank-models")
    count += len(made)
    s3 = boto3.client("s3", **kw)
    assert s3.get_bucket_encryption(Bucket="bank-models")["ServerSideEncryptionConfiguration"]["Rules"][0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"

    image = ec2.describe_images()["Images"][0]["ImageId"]
    given = dict(ImageId=image, VpcId=network["VpcId"], SubnetId=network["SubnetId"], LocalNetworkCidr="192.168.0.0/16", BucketName="bank-models",
                 KeyArn=f"arn:aws:kms:us-west-2:{ACCOUNT}:key/1", PackageFile="picket_1_amd64.deb", PackageSha256="PACKAGE", SignerSha256="SIGNER")
    data = {}
    for hosts, serves in ((1, {"Model": "fraud@3"}), (3, {"Fleet": "pos", "FleetRootSha256": "ROOT"})):
        out, made = create(f"hosts-{hosts}", "hosts.yaml", Hosts=hosts, **given, **serves)
        count += len(made)
        types = [r["ResourceType"] for r in made]
        assert ("AWS::EC2::Instance" in types) == (hosts == 1) and ("AWS::AutoScaling::AutoScalingGroup" in types) == (hosts > 1), types
        (one,) = [r for r in made if r["ResourceType"] == "AWS::EC2::LaunchTemplate"]
        version = ec2.describe_launch_template_versions(LaunchTemplateId=one["PhysicalResourceId"])["LaunchTemplateVersions"][0]["LaunchTemplateData"]
        assert version["MetadataOptions"]["HttpTokens"] == "required" and version["MetadataOptions"]["HttpPutResponseHopLimit"] == 1, version
        assert version["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] in (True, "true"), version
        role = [r for r in made if r["ResourceType"] == "AWS::IAM::Role"][0]["PhysicalResourceId"]
        policy = iam.get_role_policy(RoleName=role, PolicyName="host")["PolicyDocument"]
        if isinstance(policy, str):  # moto keeps it as Python writes it
            policy = ast.literal_eval(policy)
        namespace = [s for s in policy["Statement"] if s and s["Sid"] == "MetricsOfTheNamespace"][0]
        assert namespace["Condition"] == {"StringEquals": {"cloudwatch:namespace": "Picket"}}, policy
        assert "s3:::bank-models/packages/*" in json.dumps(policy), policy
        data[hosts] = base64.b64decode(version["UserData"]).decode()
    print(f"moto: 4 stacks of {count} resources (it knows no local gateways, no placement groups and no S3 on Outposts)")
    return data


class Metadata(http.server.BaseHTTPRequestHandler):
    """The instance metadata service, version 2: nothing without a token. The store knows no sessions, so its credentials have none."""

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_PUT(self):  # noqa: N802
        self.answer(200, "the-token") if self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"] else self.answer(400, "")

    def do_GET(self):  # noqa: N802
        if self.headers["X-aws-ec2-metadata-token"] != "the-token":
            return self.answer(401, "")
        text = {
            "instance-id": "i-0123456789abcdef0", "iam/security-credentials/": "host-role",
            "iam/security-credentials/host-role": json.dumps({"Code": "Success", "AccessKeyId": "key", "SecretAccessKey": "secret/of+store", "Token": ""}, indent=1),
        }.get(self.path.removeprefix("/latest/meta-data/"))
        return self.answer(200, text) if text else self.answer(404, "")

    def log_message(self, *_):
        pass


def boot(scripts):
    """Runs the user data as a host would."""
    for hosts, script in scripts.items():
        done = subprocess.run(["shellcheck", "--shell=bash", "--severity=style", "-"], input=script, text=True, capture_output=True)
        assert done.returncode == 0, f"shellcheck says of the user data for {hosts} hosts:\n{done.stdout}"
    with tempfile.TemporaryDirectory(prefix="boot") as work:
        work = pathlib.Path(work)
        store, port = work / "store", free_port()
        (store / "bank-models").mkdir(parents=True)
        url = f"http://127.0.0.1:{port}"
        with server([VERSITYGW, "-listen", f"127.0.0.1:{port}", "-region", "us-west-2", "-data", str(store)], url,
                    {"VERSITYGW_ACCESS_KEY": "key", "VERSITYGW_SECRET_KEY": "secret/of+store"}):
            metadata = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
            threading.Thread(target=metadata.serve_forever, daemon=True).start()
            env = {**os.environ, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret/of+store", "AWS_CONFIG_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true"}
            package(work, url, env)
            digests = {n: hashlib.sha256((work / n).read_bytes()).hexdigest() for n in ("picket.deb", "public.pem", "root.json")}
            s3 = boto3.client("s3", endpoint_url=url, region_name="us-west-2", aws_access_key_id="key", aws_secret_access_key="secret/of+store")
            for name, key in (("picket.deb", "picket_1_amd64.deb"), ("public.pem", "public.pem"), ("root.json", "root.json")):
                s3.put_object(Bucket="bank-models", Key=f"deploy/{key}", Body=(work / name).read_bytes())

            def run(hosts, spoil=None):
                root = work / f"root-{hosts}-{spoil}"
                for d in ("var/lib/dpkg/info", "var/lib/dpkg/updates", "usr"):
                    (root / d).mkdir(parents=True)
                (root / "var/lib/dpkg/status").touch()
                script = scripts[hosts]
                for name, mark in (("picket.deb", "PACKAGE"), ("public.pem", "SIGNER"), ("root.json", "ROOT")):
                    script = script.replace(f"'{mark}'", f"'{'0' * 64 if name == spoil else digests[name]}'")
                return root, subprocess.run(["timeout", "60", "bash", "-c", script], text=True, capture_output=True, cwd=work, env={
                    **env, "BOOT_ROOT": str(root), "BOOT_IMDS": f"http://127.0.0.1:{metadata.server_port}", "BOOT_S3": f"{url}/bank-models", "BOOT_ENDPOINT": url, "BOOT_AS": "env"})

            root, done = run(1)
            assert done.returncode == 0, done.stdout + done.stderr
            config = yaml.safe_load((root / "etc/picket/picketd.yaml").read_text())
            assert config["models"] == [{"name": "fraud", "path": "fraud@3"}] and config["cloudwatch"]["device"] == "i-0123456789abcdef0", config
            assert (root / "var/lib/picket/packages/fraud-3.tar.gz").is_file() and "fleet" not in config, done.stdout
            serves(root)
            root, done = run(3)
            assert done.returncode == 0, done.stdout + done.stderr
            config = yaml.safe_load((root / "etc/picket/picketd.yaml").read_text())
            assert config["fleet"]["place"] == "s3://bank-models/fleets/pos" and config["fleet"]["device"] == "i-0123456789abcdef0" and "models" not in config, config
            assert (root / "etc/picket/fleet-root.json").read_bytes() == (work / "root.json").read_bytes()
            for spoil in ("picket.deb", "public.pem"):
                root, done = run(1, spoil)
                assert done.returncode != 0 and "computed checksum did NOT match" in done.stderr, (spoil, done.stderr)
                assert not (root / "etc/picket/picketd.yaml").exists() and not (root / "var/lib/picket/packages/fraud-3.tar.gz").exists()
                assert (root / "usr/bin/picket").exists() == (spoil != "picket.deb"), "it was installed before it was checked"
            metadata.shutdown()
            metadata.server_close()
    print("user data: shellcheck has no findings; it installs, joins, pulls the model, and picketd answers; a digest that differs ends it before it is used")


def package(work, url, env):
    """A Debian package of the programs, and a signed model in the bucket."""
    tree = work / "deb"
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "DEBIAN").mkdir()
    for name in ("picket", "picketd"):
        shutil.copy(ROOT / "bin" / name, tree / "usr/bin")
    (tree / "DEBIAN/control").write_text("Package: picket\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.com>\nDescription: of a test\n")
    model = ROOT / "internal/testkit/testdata/models/xgboost/binary-1.7.6.ubj"
    script = f"""
cd {work}
dpkg-deb --build -Znone deb picket.deb
openssl ecparam -name prime256v1 -genkey -noout -out key.pem && openssl pkey -in key.pem -pubout -out public.pem
mkdir model && cp {model} model/model.ubj
{ROOT}/bin/picket package build model --name fraud --version 3 -o fraud-3.tar.gz
{ROOT}/bin/picket package sign fraud-3.tar.gz --key key.pem
{ROOT}/bin/picket package push fraud-3.tar.gz s3://bank-models/packages --endpoint-url {url} --path-style --region us-west-2
{ROOT}/bin/picket fleet init pos --place s3://bank-models/fleets/pos --keys keys --endpoint-url {url} --path-style --region us-west-2
cp keys/root.json root.json
"""
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], text=True, capture_output=True, env=env)
    assert done.returncode == 0, done.stdout + done.stderr


def serves(root):
    """picketd starts with the configuration that was written, and answers."""
    sockets = root / "run"
    config = yaml.safe_load((root / "etc/picket/picketd.yaml").read_text())
    port = free_port()
    config["tcp"]["listen"] = [f"127.0.0.1:{port}"]  # the one thing that cannot be as on the host: its port may be taken here
    config["cloudwatch"]["enabled"] = False
    other = root / "try.yaml"
    other.write_text(yaml.safe_dump(config))
    with server([str(root / "usr/bin/picketd"), "--config", str(other), "--sockets", str(sockets)], f"http://127.0.0.1:{port}/v2/health/ready"):
        row = ",".join(["0.5"] * 12).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", data=row, headers={"Content-Type": "text/csv"})
        with urllib.request.urlopen(request) as answer:
            assert 0 < float(answer.read()) < 1


check_policies()
port = free_port()
url = f"http://127.0.0.1:{port}"
with server([MOTO, "-H", "127.0.0.1", "-p", str(port)], url + "/moto-api/data.json"):
    scripts = make_stacks(url)
boot(scripts)
