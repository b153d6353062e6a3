#!/usr/bin/env bash
# Make a bare machine ready: system packages, .venv, the package with its extras.
#
#   tools/setup_machine.sh [EXTRA ...]      extras besides "all" and "test", e.g. bench docs
#
# Environment: PYTHON = interpreter to use (3.11 or newer); NO_APT=1 = never call apt.
# Run again at will: when nothing changed it ends in well under two seconds.
set -euo pipefail
cd "$(dirname "$0")/.."

# What Qt's xcb plug-in, OpenGL and a virtual screen need on Debian 12; the fonts
# are there so that a screenshot shows letters.
SYSTEM_PACKAGES=(
    xvfb xauth libgl1 libgl1-mesa-dri libegl1
    libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxcb-shape0
    libdbus-1-3 libfontconfig1 libglib2.0-0
    fonts-dejavu-core
)

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 2; }

is_installed() {
    # Debian 13 renamed some libraries in the 64-bit time transition (libglib2.0-0t64).
    [[ "$(dpkg-query -W -f '[${db:Status-Status}]' "$1" "$1t64" 2>/dev/null)" == *"[installed]"* ]]
}

install_packages() { # NAME ... : 0 when they are there afterwards
    if [[ -n "${NO_APT:-}" ]]; then return 1; fi
    local as_root=()
    if [[ "$(id -u)" -ne 0 ]]; then
        command -v sudo >/dev/null && sudo -n true 2>/dev/null || return 1
        as_root=(sudo -n)
    fi
    command -v apt-get >/dev/null || return 1
    say "installing with apt: $*"
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120)
    # A failing update (one stale third-party list) need not stop the install.
    "${apt[@]}" update >/dev/null || say "apt-get update reported a problem; going on"
    "${apt[@]}" install -y --no-install-recommends "$@" >/dev/null
}

check_system_packages() {
    if ! command -v dpkg-query >/dev/null; then
        [[ "$(uname)" == Linux ]] &&
            say "not a Debian-like system: if no window opens, install Xvfb and the X and OpenGL" \
                "libraries named in docs/how-to/install.md"
        return 0
    fi
    local missing=() name
    for name in "${SYSTEM_PACKAGES[@]}"; do is_installed "$name" || missing+=("$name"); done
    [[ ${#missing[@]} -eq 0 ]] && return 0
    install_packages "${missing[@]}" && return 0
    say "system packages are missing: ${missing[*]}"
    say "install them with: sudo apt-get install --no-install-recommends ${missing[*]}"
    if [[ " ${missing[*]} " == *" xvfb "* && -z "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]]; then
        fail "there is no screen and no Xvfb to stand in for it"
    fi
    say "going on; a window may not open"
}

suits() { # INTERPRETER : new enough?
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2])' >/dev/null 2>&1
}

has_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

find_python() { # prints the interpreter
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python; do
        [[ -n "$candidate" ]] && command -v "$candidate" >/dev/null && suits "$candidate" || continue
        printf '%s\n' "$candidate"
        return 0
    done
    return 1
}

make_venv() {
    if [[ -x .venv/bin/python ]] && suits .venv/bin/python; then return 0; fi
    local python
    if ! python="$(find_python)"; then
        install_packages python3 python3-venv || true
        python="$(find_python)" ||
            fail "no Python 3.11 or newer found; install one (Debian 12: apt-get install python3" \
                "python3-venv) or name it: make PYTHON=/path/to/python3.12 test"
    fi
    if ! has_venv "$python"; then
        local version
        version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
        install_packages "python$version-venv" || true
        has_venv "$python" ||
            fail "$python cannot make virtual environments; install python$version-venv"
    fi
    say "making .venv with $("$python" --version 2>&1)"
    rm -rf .venv
    "$python" -m venv .venv
}

install_package() { # EXTRA ...
    local extras stamp state
    extras="$(printf '%s\n' all test "$@" | sort -u | paste -sd, -)"
    stamp=".venv/.installed-$extras"
    state="$(cat pyproject.toml constraints.txt tools/setup_machine.sh | cksum) $PWD"
    [[ -f "$stamp" && "$(cat "$stamp")" == "$state" ]] && return 0
    say "installing napari-xtal[$extras] with the versions of constraints.txt (a few minutes)"
    rm -f "$stamp"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        -c constraints.txt -e ".[$extras]"
    printf '%s\n' "$state" >"$stamp"
}

[[ "$(uname)" == Darwin ]] || check_system_packages
make_venv
install_package "$@"
