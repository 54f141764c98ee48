# For the scripts beside it, which source it with root and library (xgboost or lightgbm) set: version is the version of the library
# that trains models, and environment makes $venv, where it is installed, unless that is complete.
# Needs Python 3.11 with venv (PYTHON, default python3).
# shellcheck shell=bash

case $library in
xgboost) version=1.7.6 ;;
lightgbm) version=3.3.5 ;;
*) echo "there is no library $library to train models with" >&2; exit 1 ;;
esac
venv=$root/.cache/venv-$library-$version

environment() {
	local requirements=$root/scripts/fixtures/requirements/$library-$version.txt
	if ! cmp -s "$requirements" "$venv/installed.txt"; then
		rm -rf "$venv"
		"${PYTHON:-python3}" -m venv "$venv"
		"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary=:all: -r "$requirements" >&2
		cp "$requirements" "$venv/installed.txt"
	fi
}
