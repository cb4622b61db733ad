#!/bin/sh
# Debian packages that the tests use, added where they are missing and where we may.
#   system-packages.sh python [PYTHON]   what `python3 -m venv` needs
#   system-packages.sh test              what `make test` needs
#   system-packages.sh live              what the live suite needs besides: databases, a server's PHP, sshd
set -eu

packages=""
want() { command -v "$1" >/dev/null 2>&1 || packages="$packages $2"; }

case "${1:-test}" in
python)
    "${2:-python3}" -c 'import venv, ensurepip' 2>/dev/null || packages="python3 python3-venv" ;;
test)
    want php php-cli; want ssh openssh-client; want curl curl ;;
live)
    want php php-cli; want ssh openssh-client; want curl curl; want sudo sudo
    [ -x /usr/sbin/sshd ] || packages="$packages openssh-server"
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || packages="$packages postgresql"
    { command -v mariadbd || [ -x /usr/sbin/mariadbd ]; } >/dev/null 2>&1 || packages="$packages mariadb-server"
    for module in pgsql mysqli:mysql curl gd intl mbstring soap dom:xml zip; do
        php -m 2>/dev/null | grep -qix "${module%%:*}" || packages="$packages php-${module##*:}"
    done ;;
*)
    echo "usage: $0 python|test|live" >&2; exit 2 ;;
esac

[ -n "$packages" ] || exit 0

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    as_root="sudo -n"
    sudo -n true 2>/dev/null || { echo "Missing here:$packages. Install them: sudo apt-get install$packages" >&2; exit 1; }
fi
command -v apt-get >/dev/null 2>&1 || { echo "Missing here:$packages (Debian's names). Install them first." >&2; exit 1; }

echo "Installing$packages" >&2
# A package must not start a server of its own on this machine: the tests start private ones.
policy=/usr/sbin/policy-rc.d
made=""
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null && $as_root chmod 755 "$policy" && made=yes
fi
remove_policy() { if [ -n "$made" ]; then $as_root rm -f "$policy"; fi; }
trap remove_policy EXIT
$as_root apt-get update -qq
# shellcheck disable=SC2086 # a list of words
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
