#!/usr/bin/env bash
# Builds the images and tries them: made from nothing but Debian's packages, started with a model on a read-only root, asked for
# predictions by another container over the volume of sockets, and stopped. Prints their sizes beside what the specification
# promises, and how long they took to be ready.
#
#   scripts/images.sh [cpu] [onnxruntime] [tool] [gpu] [arm64]        # all but arm64 without any
#
# The images for arm64 are cross-compiled, put into one manifest list with those for amd64, and tried in the same way, emulated (scripts/arm64).
#
# It needs root, a Debian machine, and Debian's packages over the network. There is no registry here: the base images are made by
# debootstrap under their names, where there are none of these names already, so that the Dockerfiles are used as they are.
set -euo pipefail
cd "$(dirname "$0")/.."

parts=("${@:-all}")
# The script starts itself where arm64 is emulated, with what it is to try there. In a user namespace containers can only be without a network, which they do
# not need, or have one of their own.
emulated='' network=host platform=linux/$(dpkg --print-architecture)
if [ "${parts[0]}" = --emulated ]; then emulated=yes network=none platform=linux/arm64 parts=(none); fi
wanted() { [[ " ${parts[*]} " == *" $1 "* || ( " ${parts[*]} " == *' all '* && $1 != arm64 ) ]]; }

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
	echo "images are built here with Debian's buildah as root; elsewhere: docker build -f Dockerfile.cpu ." >&2
	exit 1
fi
missing=()
for need in buildah podman runc debootstrap; do command -v $need >/dev/null || missing+=($need); done
if wanted arm64 && ! command -v qemu-aarch64-static >/dev/null; then missing+=(qemu-user-static); fi
if [ ${#missing[@]} -gt 0 ]; then
	echo "installing ${missing[*]}"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
for binary in bin/picket; do
	[ -x $binary ] || { echo "$binary is not there: run make build first" >&2; exit 1; }
done

work=$(mktemp -d)
containers=()
end() {
	status=$?
	trap - EXIT
	for c in "${containers[@]:+${containers[@]}}"; do podman_ rm -f "$c" >/dev/null 2>&1 || true; done
	[ -z "${volume:-}" ] || podman_ volume rm -f "$volume" >/dev/null 2>&1 || true
	rm -rf "$work"
	exit $status
}
trap end EXIT
trap 'exit 1' HUP INT TERM

# Overlays where the kernel lets us, else copies.
mkdir -p "$work/low" "$work/up" "$work/index" "$work/all"
if mount -t overlay overlay -o "lowerdir=$work/low,upperdir=$work/up,workdir=$work/index" "$work/all" 2>/dev/null; then
	umount "$work/all"
	export STORAGE_DRIVER=overlay
else
	export STORAGE_DRIVER=vfs
fi
export BUILDAH_ISOLATION=chroot
podman_() { podman --runtime runc --cgroup-manager cgroupfs --events-backend file "$@"; }

go_image=${GO_IMAGE:-docker.io/library/golang:$(sed -n 's/^ARG GO_IMAGE=.*golang://p' Dockerfile.cpu)}
debian_image=${DEBIAN_IMAGE:-$(sed -n 's/^ARG DEBIAN_IMAGE=//p' Dockerfile.cpu)}
if ! buildah inspect --type image "$debian_image" >/dev/null 2>&1; then
	echo "making $debian_image"
	debootstrap --variant=minbase bookworm "$work/rootfs" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
	# Authorities of this machine's own, for what the build fetches. They come into no image: those hold Debian's alone.
	install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$work/rootfs/usr/local/share/ca-certificates/host.crt"
	tar -C "$work/rootfs" -cf "$work/base.tar" --exclude='./var/cache/apt/archives/*.deb' .
	rm -rf "$work/rootfs"
	mkdir "$work/base"
	mv "$work/base.tar" "$work/base/"
	printf 'FROM scratch\nADD base.tar /\nCMD ["bash"]\n' >"$work/base/Dockerfile"
	buildah bud -q -t "$debian_image" "$work/base" >/dev/null
fi
if ! buildah inspect --type image "$go_image" >/dev/null 2>&1; then
	echo "making $go_image"
	version=${go_image##*golang:}
	[ "$(go env GOVERSION)" = "go${version%-bookworm}" ] || { echo "the image wants Go ${version%-bookworm}, and this machine has $(go env GOVERSION)" >&2; exit 1; }
	mkdir "$work/go"
	cp -a "$(go env GOROOT)" "$work/go/go"
	cat >"$work/go/Dockerfile" <<-DOCKERFILE
		FROM $debian_image
		RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends ca-certificates gcc g++ libc6-dev make git
		COPY go /usr/local/go
		ENV GOPATH=/go PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin GOTOOLCHAIN=local
	DOCKERFILE
	buildah bud -q --network host -t "$go_image" "$work/go" >/dev/null
fi

version=${VERSION:-$(scripts/version.sh)} commit=$(scripts/version.sh --commit) epoch=$(scripts/version.sh --date)
# Debian's buildah does not say by itself what builds, in arguments of FROM.
build() { # build FILE TARGET TAG [PLATFORM]
	local start=$SECONDS
	echo "building $3 (the first time compiles everything)"
	buildah bud -q --format docker --layers --network host --pull-never --platform "${4:-$platform}" \
		-f "$1" ${2:+--target "$2"} -t "$3" --timestamp "$epoch" \
		--build-arg BUILDPLATFORM="$platform" --build-arg PICKETD_IMAGE="$cpu" --build-arg GO_IMAGE="$go_image" --build-arg DEBIAN_IMAGE="$debian_image" --build-arg VERSION="$version" --build-arg COMMIT="$commit" \
		--build-arg SOURCE_DATE_EPOCH="$epoch" --build-arg CREATED="$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)" . >"$work/log" 2>&1 ||
		{ tail -n 50 "$work/log" >&2; exit 1; }
	echo "  $((SECONDS - start)) s"
}

failed=0
measure() { # measure TAG MEGABYTES: of all files, unpacked
	local container root size compressed
	container=$(buildah from --pull-never "$1" 2>"$work/log") || { cat "$work/log" >&2; exit 1; } # it warns of images for other machines
	root=$(buildah mount "$container")
	size=$(tar -C "$root" -cf - . | wc -c)
	compressed=$(tar -C "$root" -cf - . | gzip -1 | wc -c)
	printf '  %-28s %5.1f MB of at most %s; %.1f MB compressed\n' "$1" "$(bc_ "$size / 1000000")" "$2" "$(bc_ "$compressed / 1000000")"
	if [ "$size" -gt $(($2 * 1000000)) ]; then echo "  $1 is too large" >&2; failed=1; fi
	for program in bin/sh bin/bash bin/dash bin/busybox usr/bin/apt usr/bin/dpkg; do
		if [ -e "$root/$program" ]; then echo "  $1 has /$program, and should have no shell and no package manager" >&2; failed=1; fi
	done
	[ -s "$root/usr/share/doc/picket/sbom.spdx.json" ] || { echo "  $1 does not say what it consists of" >&2; failed=1; }
	buildah rm "$container" >/dev/null
}
bc_() { awk "BEGIN { print $1 }"; }

# A signed package of the demo's model, and rows for it with the scores that XGBoost gives.
model() {
	openssl ecparam -name prime256v1 -genkey -noout -out "$work/key.pem"
	mkdir -p "$work/etc" "$work/models/fraud" "$work/data"
	openssl pkey -in "$work/key.pem" -pubout -out "$work/etc/public.pem" 2>/dev/null
	cp examples/demo/fraud.ubj "$work/models/fraud/"
	bin/picket package build "$work/models/fraud" --name fraud --version 1 -o "$work/data/" >/dev/null
	bin/picket package sign "$work/data/fraud-1.tar.gz" --key "$work/key.pem" >/dev/null
	cat >"$work/etc/picketd.yaml" <<-YAML
		packages: /models
		state_dir: /var/lib/picket
		trust: {keys: [/etc/picket/public.pem]}
		models:
		  - {name: fraud, path: fraud}
	YAML
	# XGBoost's probabilities are the first column, below a header.
	tail -n +2 examples/demo/expected.csv | cut -d , -f 1 >"$work/expected"
	chmod -R a+rX "$work"
}

# now is in milliseconds.
now() { echo $(($(date +%s%N) / 1000000)); }

await_ready() { # await_ready CONTAINER: until the daemon says so
	local tries=0
	until podman_ logs "$1" 2>&1 | grep -q 'msg=ready'; do
		tries=$((tries + 1))
		if [ $tries -gt 3000 ] || [ "$(podman_ inspect -f '{{.State.Running}}' "$1")" != true ]; then
			echo "the daemon in the image did not start:" >&2
			podman_ logs "$1" >&2
			exit 1
		fi
		sleep 0.02
	done
}

# Starts the daemon of an image as an operator would: read-only, without capabilities, the sockets on a volume. Then asks it from a
# container of the tool's image, and stops it.
try() { # try TAG ROLE
	local began container status took
	echo "trying $1"
	volume=picket-sockets-$$
	podman_ volume create "$volume" >/dev/null
	local run=(run -d --platform "$platform" --network $network --read-only --read-only-tmpfs=false --cap-drop all --security-opt no-new-privileges --ulimit nofile=1024:1024 --ulimit nproc=1024:1024
		-e PICKET_IMDS=off -v "$volume:/run/picket" -v "$work/etc:/etc/picket:ro" -v "$work/data:/models:ro")
	# Without a model: how long a container takes to be ready.
	began=$(now)
	container=$(podman_ "${run[@]}" --no-healthcheck "$1")
	containers+=("$container")
	await_ready "$container"
	took=$(($(now) - began))
	echo "  ready without models after $took ms"
	podman_ stop -t 20 "$container" >/dev/null 2>"$work/podman"
	podman_ rm -f "$container" >/dev/null 2>&1

	began=$(now)
	# Podman has systemd run health checks, and says so where there is none; here the check of the image is run by hand.
	container=$(podman_ "${run[@]}" "$1" --config /etc/picket/picketd.yaml --state /var/lib/picket 2>"$work/podman") || { cat "$work/podman" >&2; exit 1; }
	containers+=("$container")
	await_ready "$container"
	echo "  ready with a signed model after $(($(now) - began)) ms"
	podman_ healthcheck run "$container" >"$work/health" 2>&1 || { echo "  the health check fails:" >&2; cat "$work/health" >&2; podman_ logs "$container" >&2; exit 1; }
	echo "  healthy"
	podman_ run --rm -i --platform "$platform" --network $network --read-only --cap-drop all --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 -v "$volume:/run/picket" "$tool" \
		predict fraud --json --input - <examples/demo/transactions.csv >"$work/answers"
	compare "$work/answers"
	began=$(now)
	podman_ stop -t 20 "$container" >/dev/null 2>"$work/podman"
	status=$(podman_ inspect -f '{{.State.ExitCode}}' "$container")
	if [ "$status" != 0 ]; then
		echo "  the daemon ended with $status when it was asked to stop:" >&2
		podman_ logs "$container" >&2
		exit 1
	fi
	echo "  stopped by SIGTERM with exit code 0 after $(($(now) - began)) ms"
	podman_ logs "$container" >"$work/log.$2" 2>&1
	podman_ rm -f "$container" >/dev/null 2>&1
	podman_ volume rm -f "$volume" >/dev/null
	volume=
}

# compare wants each answer to be XGBoost's, as far as a probability in decimals tells.
compare() {
	sed -n 's/.*\[\(-\{0,1\}[0-9][-+.0-9e]*\)\].*/\1/p' "$1" | paste - "$work/expected" | awk '
		{ d = $1 - $2; if (d < 0) d = -d; rows++; if (NF != 2 || d > 1e-6 * ($2 > 1e-3 ? $2 : 1e-3) * 10) { wrong++ } }
		END { if (rows != 300 || wrong) { printf "  %d answers, %d of them not XGBoost'"'"'s\n", rows, wrong > "/dev/stderr"; exit 1 } printf "  all %d predictions are XGBoost'"'"'s\n", rows }'
}

# One name for the images of both architectures: who pulls it gets that for the machine. What is pushed is looked at, not what was meant.
list() { # list NAME IMAGE-FOR-AMD64 IMAGE-FOR-ARM64
	buildah manifest rm "$1" >/dev/null 2>&1 || true
	buildah manifest create "$1" "$2" "$3" >/dev/null
	buildah manifest push -q --all "$1" "oci:$work/list:all" >/dev/null
	python3 - "$work/list" <<-'PYTHON'
		import json, pathlib, sys

		root = pathlib.Path(sys.argv[1])
		blob = lambda digest: json.loads((root / "blobs" / digest.replace(":", "/")).read_text())
		listed = blob(json.loads((root / "index.json").read_text())["manifests"][0]["digest"])["manifests"]
		found = {}
		for entry in listed:
		    config = blob(blob(entry["digest"])["config"]["digest"])
		    said = entry["platform"]["os"] + "/" + entry["platform"]["architecture"]
		    if said != config["os"] + "/" + config["architecture"]:
		        sys.exit(f"  the list says {said} of an image for {config['os']}/{config['architecture']}")
		    found[said] = entry["digest"]
		if sorted(found) != ["linux/amd64", "linux/arm64"]:
		    sys.exit(f"  the list has images for {', '.join(found)}")
		for platform, digest in sorted(found.items()):
		    print(f"  {platform}: {digest}")
	PYTHON
}

cpu=localhost/picketd:$version tool=localhost/picket:$version onnx=localhost/picketd:$version-onnxruntime gpu=localhost/picketd:$version-gpu
model
if [ -n "$emulated" ]; then
	tool=$tool-arm64
	try "$cpu-arm64" arm64
	exit
fi
build Dockerfile.cpu tool "$tool"
if wanted tool; then measure "$tool" 60; fi
if wanted cpu; then
	build Dockerfile.cpu picketd "$cpu"
	measure "$cpu" 60
	try "$cpu" cpu
fi
if wanted onnxruntime; then
	build Dockerfile.cpu with-onnxruntime "$onnx"
	measure "$onnx" 120
	try "$onnx" onnxruntime
	if grep 'backend is not usable' "$work/log.onnxruntime" | grep 'backend=onnx'; then echo "  the daemon does not find the image's ONNX Runtime" >&2; exit 1; fi
fi
if wanted gpu; then
	wanted cpu || build Dockerfile.cpu picketd "$cpu"
	build Dockerfile.gpu '' "$gpu"
	measure "$gpu" 60
	try "$gpu" gpu
	# There is no GPU in a container that is given none, and the daemon says so and serves.
	reason=$(grep 'backend=cuda' "$work/log.gpu" | head -n 1)
	[ -n "$reason" ] || { echo "  the daemon does not say that it has no GPU:" >&2; cat "$work/log.gpu" >&2; exit 1; }
	echo "  its log: ${reason#*msg=}"
fi
if wanted arm64; then
	wanted cpu || build Dockerfile.cpu picketd "$cpu"
	build Dockerfile.cpu tool "$tool-arm64" linux/arm64
	measure "$tool-arm64" 60
	build Dockerfile.cpu picketd "$cpu-arm64" linux/arm64
	measure "$cpu-arm64" 60
	echo "listing both as $cpu-all"
	list "$cpu-all" "$cpu" "$cpu-arm64"
	go run ./scripts/arm64 exec scripts/images.sh --emulated
fi
if [ $failed -ne 0 ]; then exit 1; fi
echo "the images are in this machine's storage of containers: podman images"
