#!/usr/bin/env bash
# Installs the packages of Debian or Ubuntu that the tests and measurements need beside those of README.md. Needs root.
set -euo pipefail
declare -A needed=(  # a file or program that it brings → package
  [/usr/lib/nginx/modules/ngx_http_lua_module.so]="nginx libnginx-mod-http-lua lua-cjson"
  [prometheus]="prometheus prometheus-alertmanager"
  [wrk]=wrk
  [c++]=g++
  [redis-server]=redis-server
  [chromium]=chromium
  [envsubst]=gettext-base
)
packages=()
for name in "${!needed[@]}"; do
  [ -e "$name" ] || command -v "$name" >/dev/null || read -ra packages <<<"${packages[*]} ${needed[$name]}"
done
[ "${#packages[@]}" != 0 ] || exit 0
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${packages[@]}"
for service in nginx prometheus prometheus-alertmanager redis-server; do  # Debian starts what it installs; the tests start theirs
  service "$service" stop >/dev/null 2>&1 || true
done
