#!/usr/bin/env bash
# Makes sure that the programs which the tests need besides Go are there.
#
# As root on a Debian-like machine it installs the missing ones; elsewhere it says in one sentence what to install.
# When everything is there it does nothing and needs no network. `make run` does not need it: Go and a C compiler do.
set -euo pipefail

packages=()
need() { # need PACKAGE COMMAND...: PACKAGE is missing unless COMMAND succeeds
	local package=$1
	shift
	"$@" >/dev/null 2>&1 || packages+=("$package")
}

need gcc command -v gcc
need g++ command -v c++ # the C client compiles as C++ too
need libc6-dev test -e /usr/include/stdlib.h
need make command -v make
need git command -v git
need ca-certificates test -e /etc/ssl/certs/ca-certificates.crt
# The Python client and the fetching of libdlr run in virtual environments; Debian packs those separately.
need python3 command -v python3
need python3-venv python3 -c 'import venv, ensurepip'
need python3-pip python3 -m pip --version
# Keys and certificates to sign packages with.
need openssl command -v openssl
# What is said to be on disk is looked for in the calls of the system that it writes down.
need strace command -v strace
# The manual pages are read by it.
need mandoc command -v mandoc
# Runbooks rotate the keys of the spool and ask the daemon, and user data is checked before a host runs it.
need age command -v age-keygen
need curl command -v curl
need shellcheck command -v shellcheck
# perf_analyzer, which NVIDIA's tritonclient brings, is linked against it.
need libb64-0d sh -c 'ldconfig -p | grep -q libb64.so.0d'
# The fraud application is tested on a real PostgreSQL, which the tests start and stop; no service of it has to run.
need postgresql sh -c 'ls /usr/lib/postgresql/*/bin/initdb'
# It reads the unit files and passes sockets; nothing of it has to run.
need systemd sh -c 'command -v systemd-analyze && command -v systemd-socket-activate'
# The kernels for arm64 are compiled and run on any machine.
need gcc-aarch64-linux-gnu command -v aarch64-linux-gnu-gcc
need libc6-dev-arm64-cross test -e /usr/aarch64-linux-gnu/include/stdlib.h
need qemu-user command -v qemu-aarch64
# The archive for Windows.
need zip command -v zip

# The pages of the fraud application are tried in a real browser.
need chromium command -v chromium

if [ ${#packages[@]} -eq 0 ]; then
	exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
	echo "the tests need programs that are not on this machine: install ${packages[*]} (these are Debian's names) and run again" >&2
	exit 1
fi
echo "installing ${packages[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
