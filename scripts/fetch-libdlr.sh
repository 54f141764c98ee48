#!/bin/sh
# Puts a real libdlr 1.6.0 into .cache/libdlr/1.6.0/libdlr.so of this repository, for the tests of cdlr and backends/dlr. It comes from
# the Python wheel dlr 1.6.0, the last one that contains the library.
set -eu

if [ "$(uname -s)/$(uname -m)" != Linux/x86_64 ]; then
	echo "fetch-libdlr: libdlr was published for Linux on x86-64 only, this is $(uname -s) on $(uname -m)" >&2
	exit 1
fi
exec "$(dirname "$0")/fetch-library.sh" dlr 1.6.0 manylinux1_x86_64 3.7 \
	cb9672db941537567005d6c5ea98a03ede8ca4c8f8c51db4fcfa49d83d3c75cf /libdlr.so \
	libdlr/1.6.0/libdlr.so 570d8e462cd1f4f6d997e150d6d0eea0026010098194bef62d1ad4f8e1196ca7
