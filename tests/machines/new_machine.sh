#!/usr/bin/env bash
# The two commands of README.md on a new machine.
#
#   tests/machines/new_machine.sh [MACHINE] [--cache FOLDER] [--without PACKAGE] [--python FOLDER] [--keep]
#
# debian-12    the default: only the packages that README.md names
# python-3.12  Debian 12 without a Python of its own, and a Python 3.12 in /opt
# debian-13    the same packages for Python 3.13: `make demo` must end at once, and its sentence is printed; then both
#              commands, with a Python 3.12 where `uv python install 3.12` would put one
#
# A fresh root is made by debootstrap and entered as an ordinary user with chroot, in namespaces of its own. The user
# clones the committed state of this checkout, runs `make demo`, `make serve` and one question, and stops the server.
# --cache FOLDER     keep the bare root there for the next time (by default artifacts/machines)
# --without PACKAGE  leave a package of README.md out; then `make demo` must end at once, and its sentence is printed
# --python FOLDER    the prefix of a Python 3.12 to mount (by default one that this machine has from pyenv or uv)
# --keep             do not remove the machine's root
#
# Needs root, debootstrap and iproute2. The mirror is the one of this machine's apt. Settings, certificates and local
# indexes of this machine's pip are mounted read-only, so that packages come from where this machine gets them.
set -euo pipefail

script=$(realpath "$0")
checkout=$(dirname "$(dirname "$(dirname "$script")")")
user=shop

main() {
  local machine=debian-12 cache=$checkout/artifacts/machines without="" python="" keep="" suite=bookworm
  while [ $# -gt 0 ]; do
    case $1 in
      debian-12 | python-3.12 | debian-13) machine=$1; shift ;;
      --cache) cache=$(realpath -m "$2"); shift 2 ;;
      --without) without=$2; shift 2 ;;
      --python) python=$(realpath "$2"); shift 2 ;;
      --keep) keep=yes; shift ;;
      *) sed -n '2,20s/^# \{0,1\}//p' "$script"; exit 2 ;;
    esac
  done
  [ "$(id -u)" = 0 ] || { echo "needs root: chroot and mounts" >&2; exit 1; }
  [ "$machine" != debian-13 ] || suite=trixie
  [ "$machine" = debian-12 ] || python=${python:-$(find_python)}
  make_base $suite "$cache/$suite"
  root=$(mktemp -d "$cache/machine-XXXXXX")
  [ -n "$keep" ] || trap 'rm -rf --one-file-system "$root"' EXIT
  cp -a --reflink=auto "$cache/$suite/." "$root"
  # The mounts end with the namespace, and every process with its first one.
  unshare --mount --pid --fork --kill-child bash "$script" --inside "$root" "$machine" "$without" "$python"
}

find_python() {  # the prefix of a Python 3.12 that can be mounted
  local python
  python=$(cd "$checkout" && python3 -m operations.preflight --find 3.12)
  python=$("$python" -c 'import sys; print(sys.base_prefix)')
  [ "$python" != /usr ] || { echo "this Python 3.12 is the system's own; name another with --python" >&2; exit 1; }
  echo "$python"
}

make_base() {  # the root of suite $1 without any package of ours; appears whole or not at all
  [ ! -d "$2" ] || return 0
  mkdir -p "$(dirname "$2")"
  local site
  # shellcheck disable=SC2016  # apt replaces these names
  site=$(apt-get indextargets --format '$(SITE) $(RELEASE)' 2>/dev/null | awk -v suite="$1" '$2 == suite {print $1; exit}')
  debootstrap --variant=minbase "$1" "$2.new" "${site:-http://deb.debian.org/debian}" >&2
  mv "$2.new" "$2"
}

inside() {  # in the namespaces, still on this machine's root
  local root=$1 machine=$2 without=$3 python=$4
  mount_system "$root"
  in_machine "$root" root "apt-get update -qq && apt-get install -qq --no-install-recommends $(packages "$machine" "$without")"
  mount_pip "$root"
  in_machine "$root" root "useradd --create-home --shell /bin/bash $user"
  in_machine "$root" $user "git -c advice.detachedHead=false clone --quiet /mnt/checkout.bundle cesta"
  if [ -n "$without" ]; then
    refuse_demo "$root" apt-get
    return
  fi
  case $machine in
    python-3.12)
      mount_python "$root" "$python" /opt/python-3.12
      ;;
    debian-13)
      refuse_demo "$root" "uv python install 3.12"
      local release
      release=$("$python/bin/python3.12" -c 'import platform; print(platform.python_version())')
      in_machine "$root" $user "mkdir -p .local/share/uv/python"
      mount_python "$root" "$python" "/home/$user/.local/share/uv/python/cpython-$release-linux-x86_64-gnu"
      ;;
  esac
  in_machine "$root" $user "cd cesta && time make demo"
  in_machine "$root" $user "cd cesta && .venv/bin/python --version && .venv-serving/bin/python --version"
  # Its ports are those of a machine of its own, and serving needs no other machine.
  unshare --net bash "$script" --serve "$root"
}

packages() {  # of machine $1, without the word $2
  local named word
  named=$(sed -n 's/^apt-get install \([^#]*\).*/\1/p' "$checkout/README.md" | head -1)
  [ -n "$named" ] || { echo "README.md has no line that begins with apt-get install" >&2; exit 1; }
  case $1 in
    debian-13) named=${named//3.11/3.13} ;;
    python-3.12) named="git make libssl3 libffi8 libsqlite3-0 libreadline8" ;;  # the Python in /opt needs the libraries
  esac
  for word in $named; do [ "$word" = "$2" ] || printf '%s ' "$word"; done
}

mount_python() {  # the prefix $2 at $3
  mkdir -p "$1$3"
  mount --bind -o ro "$2" "$1$3"
  # A Python of pyenv finds its libpython only in the folder where it was built.
  echo "$3/lib" >"$1/etc/ld.so.conf.d/python-3.12.conf"
  in_machine "$1" root ldconfig
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
  env -i "${kept[@]}" HOME="$home" PATH=/opt/python-3.12/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive chroot --userspec="$as" "$root" bash -c "cd && $3"
}

refuse_demo() {  # `make demo` ends at once with a sentence that has the words $2
  local said
  if said=$(in_machine "$1" $user "cd cesta && make demo" 2>&1); then
    echo "make demo succeeded without what it needs" >&2
    exit 1
  fi
  printf '%s\n' "$said"
  [[ $said == *"$2"* ]] || { echo "the sentence does not say: $2" >&2; exit 1; }
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
  --inside) inside "$2" "$3" "$4" "$5" ;;
  --serve) serve "$2" ;;
  *) main "$@" ;;
esac
