#!/usr/bin/env bash
# The two commands of README.md on a Debian 12 that has only the packages which README.md names.
#
#   tests/machines/debian_12.sh [--cache FOLDER] [--without PACKAGE] [--keep]
#
# A fresh root is made by debootstrap and entered as an ordinary user with chroot, in namespaces of its own. The user
# clones the committed state of this checkout, runs `make demo`, `make serve` and one question, and stops the server.
# --cache FOLDER     keep the bare root there for the next time (by default artifacts/machines)
# --without PACKAGE  leave a package of README.md out; then `make demo` must end at once, and its sentence is printed
# --keep             do not remove the machine's root
#
# Needs root, debootstrap and iproute2. The mirror is the one of this machine's apt. Settings, certificates and local
# indexes of this machine's pip are mounted read-only, so that packages come from where this machine gets them.
set -euo pipefail

suite=bookworm
script=$(realpath "$0")
checkout=$(dirname "$(dirname "$(dirname "$script")")")
user=shop

main() {
  local cache=$checkout/artifacts/machines without="" keep=""
  while [ $# -gt 0 ]; do
    case $1 in
      --cache) cache=$(realpath -m "$2"); shift 2 ;;
      --without) without=$2; shift 2 ;;
      --keep) keep=yes; shift ;;
      *) sed -n '2,14s/^# \{0,1\}//p' "$script"; exit 2 ;;
    esac
  done
  [ "$(id -u)" = 0 ] || { echo "needs root: chroot and mounts" >&2; exit 1; }
  make_base "$cache/$suite"
  machine=$(mktemp -d "$cache/machine-XXXXXX")
  [ -n "$keep" ] || trap 'rm -rf --one-file-system "$machine"' EXIT
  cp -a --reflink=auto "$cache/$suite/." "$machine"
  # The mounts end with the namespace, and every process with its first one.
  unshare --mount --pid --fork --kill-child bash "$script" --inside "$machine" "$without"
}

make_base() {  # the root without any package of ours; appears whole or not at all
  [ ! -d "$1" ] || return 0
  mkdir -p "$(dirname "$1")"
  local site
  # shellcheck disable=SC2016  # apt replaces these names
  site=$(apt-get indextargets --format '$(SITE) $(RELEASE)' 2>/dev/null | awk -v suite=$suite '$2 == suite {print $1; exit}')
  debootstrap --variant=minbase $suite "$1.new" "${site:-http://deb.debian.org/debian}" >&2
  mv "$1.new" "$1"
}

inside() {  # in the namespaces, still on this machine's root
  local root=$1 without=$2 packages
  packages=$(sed -n 's/^apt-get install \([^#]*\).*/\1/p' "$checkout/README.md" | head -1)
  [ -n "$packages" ] || { echo "README.md has no line that begins with apt-get install" >&2; exit 1; }
  mount_system "$root"
  in_machine "$root" root "apt-get update -qq && apt-get install -qq --no-install-recommends $(without "$without" "$packages")"
  mount_pip "$root"
  in_machine "$root" root "useradd --create-home --shell /bin/bash $user"
  in_machine "$root" $user "git -c advice.detachedHead=false clone --quiet /mnt/checkout.bundle cesta"
  if [ -n "$without" ]; then
    refuse_demo "$root"
  else
    in_machine "$root" $user "cd cesta && time make demo"
    # Its ports are those of a machine of its own, and serving needs no other machine.
    unshare --net bash "$script" --serve "$root"
  fi
}

without() {  # $2 without the word $1
  local word
  for word in $2; do [ "$word" = "$1" ] || printf '%s ' "$word"; done
}

mount_system() {
  mount --make-rprivate /
  mount -t proc proc "$1/proc"
  mount --rbind /dev "$1/dev"
  mount -t tmpfs -o mode=1777 tmpfs "$1/dev/shm"
  install -m 644 /etc/resolv.conf "$1/etc/resolv.conf"
  git -c safe.directory='*' -C "$checkout" bundle create --quiet "$1/mnt/checkout.bundle" HEAD
}

mount_pip() {  # after apt, which writes the certificates of a Debian
  local path
  for path in $(pip_paths); do
    if [ -d "$path" ]; then mkdir -p "$1$path"; else mkdir -p "$(dirname "$1$path")" && touch "$1$path"; fi
    mount --bind -o ro "$path" "$1$path"
  done
}

pip_paths() {  # what this machine's pip reads: its settings, and the paths in them
  {
    printf '%s\n' /etc/pip.conf /etc/xdg/pip
    python3 -m pip config list 2>/dev/null | grep -oE "(file://)?/[^' ]+" \
      | sed -E 's|^file://(.*)/[^/]+/?$|\1|'  # an index links to files beside it
  } | sort -u | while read -r path; do
    [ ! -e "$path" ] || [[ $path == /etc/xdg/pip/* ]] || echo "$path"
  done
}

in_machine() {  # a login shell of $2 runs $3; only what concerns packages and proxies is inherited
  local root=$1 as=$2 kept=() name
  for name in $(compgen -e | grep -E '^(PIP_.*|.*_proxy|.*_PROXY|SSL_CERT_.*|REQUESTS_CA_BUNDLE)$'); do
    kept+=("$name=${!name}")
  done
  local home=/home/$as
  [ "$as" != root ] || home=/root
  env -i "${kept[@]}" HOME="$home" PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
    chroot --userspec="$as" "$root" bash -c "cd && $3"
}

refuse_demo() {
  local said
  if said=$(in_machine "$1" $user "cd cesta && make demo" 2>&1); then
    echo "make demo succeeded without the package" >&2
    exit 1
  fi
  printf '%s\n' "$said"
  ! in_machine "$1" $user "test -e cesta/.venv" || { echo "something was installed first" >&2; exit 1; }
}

serve() {  # in a network of its own
  ip link set lo up
  in_machine "$1" $user "
    cd cesta
    make serve >serve.log 2>&1 & server=\$!
    until grep -q '^ready:' serve.log; do
      kill -0 \$server 2>/dev/null || { cat serve.log; exit 1; }
      sleep 0.2
    done
    grep '^ready:' serve.log
    .venv/bin/cesta ask --basket 1029743,1061220 --user 2070
    kill -TERM \$server  # make passes it on, and ends when the server has
    wait \$server || true
    tail -n 3 serve.log
    ! grep Traceback serve.log"
}

case ${1:-} in
  --inside) inside "$2" "$3" ;;
  --serve) serve "$2" ;;
  *) main "$@" ;;
esac
