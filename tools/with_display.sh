#!/usr/bin/env bash
# Run a command on the screen, or on a virtual one when there is none.
#
#   tools/with_display.sh COMMAND [ARGUMENT ...]
#
# Under Xvfb Qt must use its xcb plug-in: with "offscreen" the OpenGL canvas stays empty.
set -euo pipefail

if [[ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" || "$(uname)" != Linux ]]; then
    exec "$@"
fi
if ! command -v xvfb-run >/dev/null; then
    echo "no screen (DISPLAY is not set) and no xvfb-run; install the package xvfb" >&2
    exit 2
fi
export QT_QPA_PLATFORM=xcb
exec xvfb-run -a -s "-screen 0 1920x1200x24 +extension GLX" "$@"
