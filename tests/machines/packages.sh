#!/usr/bin/env bash
# Installs the Debian packages that the tests use beside those of README.md; does nothing elsewhere. A test whose package is
# missing is skipped, and names it.
set -euo pipefail
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "only root of a Debian can install the tests' packages"
  exit 0
fi
packages=()
[ -e /usr/lib/nginx/modules/ngx_http_lua_module.so ] || packages+=(nginx libnginx-mod-http-lua lua-cjson)
command -v prometheus >/dev/null || packages+=(prometheus prometheus-alertmanager)
command -v wrk >/dev/null || packages+=(wrk)
command -v c++ >/dev/null || packages+=(g++)
command -v redis-server >/dev/null || packages+=(redis-server)
command -v chromium >/dev/null || packages+=(chromium)
command -v curl >/dev/null || packages+=(curl)
command -v docker >/dev/null || command -v podman >/dev/null || packages+=(podman buildah runc iptables netavark aardvark-dns)
command -v debootstrap >/dev/null || packages+=(debootstrap)
[ "${#packages[@]}" != 0 ] || exit 0
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${packages[@]}"
# Debian starts what it installs; the tests start theirs.
for service in nginx prometheus prometheus-alertmanager redis-server; do
  if command -v service >/dev/null; then service "$service" stop || true; fi
done
