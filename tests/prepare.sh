# Sourced by the scripts beside it, with the commands they need as arguments, each as command:package. Ends with a
# sentence when it cannot be done; leaves the shell in the top folder, with cargo in $PATH.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

if [ "$(id -u)" -ne 0 ]; then
    echo "$0 makes network namespaces: run it as root, with sudo" >&2
    exit 2
fi

missing=()
for need in cc:gcc "$@"; do
    command -v "${need%%:*}" >/dev/null || missing+=("${need#*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
        echo "$0 needs these packages, and finds no apt-get to install them: ${missing[*]}" >&2
        exit 2
    fi
    echo "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null
fi

# sudo takes away what rustup has put into the path of the user who called it.
if ! command -v cargo >/dev/null && [ -n "${SUDO_USER:-}" ]; then
    home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    export PATH="$home/.cargo/bin:$PATH" RUSTUP_HOME="${RUSTUP_HOME:-$home/.rustup}"
fi
if ! command -v cargo >/dev/null; then
    echo "$0 needs cargo in the path: install Rust from https://rustup.rs" >&2
    exit 2
fi
