"""The client of boto3 for sagemaker-edge, as programs for SageMaker Edge Manager use it, against picket fleet serve."""

import datetime
import json
import sys

import boto3
import botocore.exceptions


def main(endpoint: str, credentials: str) -> None:
    with open(credentials, encoding="utf-8") as f:
        key, secret, device = [line for line in f if not line.startswith("#")][0].split()

    def client(secret_key: str):
        return boto3.client(
            "sagemaker-edge",
            endpoint_url=endpoint,
            region_name="eu-central-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret_key,
        )

    edge = client(secret)
    names = {"DeviceName": device, "DeviceFleetName": "pos"}

    registration = edge.get_device_registration(**names)
    assert json.loads(registration["DeviceRegistration"])["group"] == "default", registration
    assert int(registration["CacheTTL"]) > 0, registration

    deployments = edge.get_deployments(**names)["Deployments"]
    assert len(deployments) == 1, deployments
    one = deployments[0]
    assert one["Type"] == "Model" and one["FailureHandlingPolicy"] == "ROLLBACK_ON_FAILURE", one
    definition = one["Definitions"][0]
    assert definition["ModelHandle"] == "fraud" and definition["State"] == "DEPLOY", definition
    assert definition["Checksum"]["Type"] == "SHA1" and len(definition["Checksum"]["Sum"]) == 40, definition

    now = datetime.datetime.now(datetime.timezone.utc)
    edge.send_heartbeat(
        AgentVersion="1.20220822.836f3023",
        AgentMetrics=[{"Dimension": "SageMaker", "MetricName": "AgentStartup", "Value": 1.0, "Timestamp": now}],
        Models=[
            {
                "ModelName": "fraud",
                "ModelVersion": "3",
                "LatestSampleTime": now,
                "LatestInference": now,
                "ModelMetrics": [{"Dimension": "a/b", "MetricName": "Predictions", "Value": 17.5, "Timestamp": now}],
            }
        ],
        DeploymentResult={
            "DeploymentName": one["DeploymentName"],
            "DeploymentStatus": "SUCCESS",
            "DeploymentStartTime": now,
            "DeploymentEndTime": now,
            "DeploymentModels": [
                {
                    "ModelHandle": "fraud",
                    "ModelName": "fraud",
                    "ModelVersion": "3",
                    "DesiredState": "DEPLOY",
                    "State": "DEPLOY",
                    "Status": "SUCCESS",
                }
            ],
        },
        **names,
    )

    for call, code in (
        (lambda: client("x" * 40).get_deployments(**names), "UnrecognizedClientException"),
        (lambda: edge.get_deployments(DeviceName="till-2", DeviceFleetName="pos"), "AccessDeniedException"),
        (lambda: edge.get_deployments(DeviceName=device, DeviceFleetName="other"), "ResourceNotFoundException"),
    ):
        try:
            call()
        except botocore.exceptions.ClientError as e:
            assert e.response["Error"]["Code"] == code, e.response
            assert e.response["Error"]["Message"], e.response
        else:
            raise AssertionError(f"no {code}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
