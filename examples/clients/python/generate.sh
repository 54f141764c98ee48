#!/bin/sh
# Generates the Python stubs of the agent's interface into a directory:
#   generate.sh DIR
# PYTHON names the interpreter that has grpcio-tools (default: python3).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
proto=$here/../../../internal/api/agent

if [ $# -ne 1 ]; then
	echo "usage: generate.sh DIR" >&2
	exit 2
fi
mkdir -p "$1"
"${PYTHON:-python3}" -m grpc_tools.protoc -I "$proto" --python_out="$1" --grpc_python_out="$1" agent.proto
