#!/bin/sh
# install.sh VENV PYTHON ARGUMENTS: installs into an environment with uv, which pip installs there first: the whole takes half
# as long. With pip where uv cannot be had, or cannot install. PYTHON: its pip is used where the environment has none.
venv=$1 python=$2
shift 2
own=$venv/bin/python
if "$own" -m pip --version >/dev/null 2>&1; then
	pip="$own -m pip install"
else
	pip="$python -m pip --python $own install"
fi
pip="$pip --quiet --disable-pip-version-check"
[ -x "$venv/bin/uv" ] || $pip uv >/dev/null 2>&1
if [ -x "$venv/bin/uv" ]; then
	# uv does not read the settings of pip.
	index=${PIP_INDEX_URL:-$("$own" -m pip config get global.index-url 2>/dev/null)}
	[ -z "$index" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"
	"$venv/bin/uv" pip install --quiet --compile-bytecode --python "$own" "$@" && exit 0
	echo "uv could not install that; trying pip" >&2
fi
exec $pip "$@"
