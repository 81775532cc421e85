#!/bin/sh
# Makes ./secrets for docker compose: random secrets, and placeholders for those that you must replace.
# Existing files stay.
set -eu
umask 077
mkdir -p secrets
cd secrets

draw() {
    [ -e "$1" ] || openssl rand -hex 32 > "$1"
}

draw control_secret
draw grafana_password
draw registry_user
draw registry_password
draw redis_password
[ -e registry_credentials ] || printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' \
    "$(cat registry_user)" "$(cat registry_password)" > registry_credentials
for url in critical_url warning_url; do  # incoming webhooks
    [ -e "$url" ] || echo "http://127.0.0.1:9/nobody-is-told" > "$url"
done
[ -e tls_key.pem ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 \
    -subj "/CN=${1:-localhost}" -addext "subjectAltName=DNS:${1:-localhost}" \
    -keyout tls_key.pem -out tls_certificate.pem 2>/dev/null
# The containers run as 10001 and other users, and a bind-mounted secret keeps its owner, so the files are readable.
# Each file is mounted by itself. The folder keeps other users of this machine out.
chmod 0644 ./*
chmod 0700 .
echo "secrets/ is complete; replace tls_*.pem with your own pair, critical_url and warning_url with webhooks"
