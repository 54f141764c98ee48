#!/usr/bin/env bash
# Metrics in CloudWatch, for which moto stands, and the CloudFormation templates: cfn-lint reads them, and moto makes what
# they say.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

programs=$(scripts/moto.sh)
"$programs/cfn-lint" deploy/cloudformation/*.yaml
echo "cfn-lint: no findings in $(ls deploy/cloudformation/*.yaml | wc -l) templates"

gateway=$PWD/.cache/versitygw/run/versitygw
mkdir -p "${gateway%/*}"
(cd tools/versitygw && "${GO:-go}" build -o "$gateway" .)
"$programs/python" scripts/test_cloudformation.py "$programs/moto_server" "$gateway"

${GO:-go} test -count=1 -timeout 10m ./internal/metrics/cloudwatch -args -cloud.moto="$programs/moto_server"

work=$(mktemp -d)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$programs/moto_server" -H 127.0.0.1 -p "$port" >"$work/log" 2>&1 &
moto=$!
trap 'kill $moto; wait $moto 2>/dev/null || true; rm -rf "$work"' EXIT
AWS_ACCESS_KEY_ID=key AWS_SECRET_ACCESS_KEY=secret AWS_DEFAULT_REGION=us-west-2 AWS_CONFIG_FILE=/dev/null \
	"$programs/python" - "http://127.0.0.1:$port" deploy/cloudformation/monitoring.yaml <<'PYTHON'
import json, re, sys, time, urllib.request
import boto3, cfnlint.decode

url, template = sys.argv[1:]
for _ in range(600):
    try:
        urllib.request.urlopen(url + "/moto-api/data.json")
        break
    except OSError:
        time.sleep(0.1)
topic = boto3.client("sns", endpoint_url=url).create_topic(Name="alarms")["TopicArn"]
given = {"Fleet": "bank", "Model": "fraud", "Hosts": "3", "TopicArn": topic}
stacks = boto3.client("cloudformation", endpoint_url=url)
stacks.create_stack(StackName="fraud", TemplateBody=open(template).read(),
                    Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in given.items()])
stack = stacks.describe_stacks(StackName="fraud")["Stacks"][0]
assert stack["StackStatus"] == "CREATE_COMPLETE", stack

# moto's CloudFormation makes no alarms and no dashboards, its CloudWatch does: so they are made of the template here.
document, findings = cfnlint.decode.decode(template)
assert not findings, findings
values = {name: str(p.get("Default", "")) for name, p in document["Parameters"].items()} | given | {"AWS::Region": "us-west-2"}
NOTHING = object()


def resolve(x):
    if isinstance(x, list):
        return [y for y in map(resolve, x) if y is not NOTHING]
    if not isinstance(x, dict):
        return x
    if len(x) == 1:
        (name, of), = x.items()
        if name == "Ref":
            return NOTHING if of == "AWS::NoValue" else values[of]
        if name == "Fn::Sub":
            return re.sub(r"\$\{([^}]+)\}", lambda m: values[m[1]], of)
        if name == "Fn::If":
            return resolve(of[1] if resolve(document["Conditions"][of[0]]) else of[2])
        if name == "Fn::Not":
            return not resolve(of[0])
        if name == "Fn::Equals":
            return resolve(of[0]) == resolve(of[1])
    return {k: y for k, y in ((k, resolve(v)) for k, v in x.items()) if y is not NOTHING}


client = boto3.client("cloudwatch", endpoint_url=url)
for resource in document["Resources"].values():
    properties = resolve(resource["Properties"])
    if resource["Type"] == "AWS::CloudWatch::Dashboard":
        client.put_dashboard(**properties)
        continue
    for number in ("Threshold", "EvaluationPeriods"):
        properties[number] = (float if number == "Threshold" else int)(properties[number])
    client.put_metric_alarm(**properties)
alarms = {a["AlarmName"]: a for a in client.describe_alarms(MaxRecords=100)["MetricAlarms"]}
wanted = sum(r["Type"] == "AWS::CloudWatch::Alarm" for r in document["Resources"].values())
assert len(alarms) == wanted, (len(alarms), wanted)
for name, alarm in alarms.items():
    assert name.startswith("bank-fraud-") and alarm["AlarmActions"] == [topic], alarm
down = alarms["bank-fraud-hosts-down"]
assert down["Namespace"] == "Picket" and down["Threshold"] == 3 and down["Dimensions"] == [{"Name": "Fleet", "Value": "bank"}], down
body = json.loads(client.get_dashboard(DashboardName="Picket-bank-fraud")["DashboardBody"])
assert len(body["widgets"]) == 10 and "${" not in json.dumps(body), body
print(f"moto: {len(alarms)} alarms and a dashboard of {len(body['widgets'])} widgets")
PYTHON
