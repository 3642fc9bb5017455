#!/bin/sh
# Installs packages with apt, as root. No service is started, now or at the next boot.
#
#   apt.sh CHOICE...
#
# Each CHOICE is one or more names, of which the first that apt knows is installed. What the learner
# should see begins with "==> "; the rest is for the log.
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
policy=${POLICY_RC_D:-/usr/sbin/policy-rc.d}

first_known() {
  for name; do
    if apt-cache policy "$name" | grep -q 'Candidate: [^(]'; then
      echo "$name"
      return
    fi
  done
  return 1
}

choose() {
  chosen=
  for choice; do
    # shellcheck disable=SC2086 # the names of a choice are words
    name=$(first_known $choice) || return 1
    chosen="$chosen $name"
  done
}

update() {
  echo "==> apt-get update"
  apt-get update --quiet -o DPkg::Lock::Timeout=60
}

install() {
  echo "==> apt-get install$chosen"
  # --no-remove: better no server of ours than one package less of the learner's.
  # shellcheck disable=SC2086
  apt-get install --yes --quiet --no-install-recommends --no-remove -o DPkg::Lock::Timeout=60 $chosen
}

# Debian asks this script before it starts a service: 101 is "do not". A machine that has one keeps its own.
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  # Should this shell be killed, the script left behind forbids nothing.
  printf '#!/bin/sh\n# caching-deep-dive\nkill -0 %s 2>/dev/null && exit 101\nexit 0\n' $$ >"$policy"
  chmod 755 "$policy"
fi
trap 'exit 130' INT HUP TERM

choose "$@" || { update; choose "$@"; } || {
  echo "No package source on this machine offers one of: $*"
  exit 1
}
# A package list from yesterday names files that are gone today.
install || { update; choose "$@" && install; } || exit 1

for name in $chosen; do
  case $name in
    redis-server) service=redis-server ;;
    mariadb-server) service=mariadb ;;
    *) continue ;;
  esac
  if command -v systemctl >/dev/null; then systemctl disable --quiet "$service" || true; fi
done
