#!/bin/sh
# Makes ./secrets for docker compose: random secrets, and placeholders for those that you must replace.
# Existing files stay. Run it again after you replaced one: it sets owners and modes.
set -eu
umask 077
mkdir -p secrets
cd secrets

draw() {
    [ -e "$1" ] || openssl rand -hex 32 > "$1"
}

draw control_secret
draw grafana_password
draw redis_password
[ -e registry_credentials ] || printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' \
    "$(openssl rand -hex 10)" "$(openssl rand -hex 32)" > registry_credentials
# The same pair, as the object store reads it.
credential() {
    sed -n "s/^$1 *= *//p" registry_credentials | head -n 1
}
printf '{"identities": [{"name": "cesta", "credentials": [{"accessKey": "%s", "secretKey": "%s"}], "actions": ["Admin"]}]}\n' \
    "$(credential aws_access_key_id)" "$(credential aws_secret_access_key)" > registry_keys
# Whose releases may be served: the keys that this user trusts. Written again as long as it holds no key.
if ! grep -qs '^ed25519 ' trusted_keys; then
    echo '# public lines of publishers, as "cesta release keys" prints them' > trusted_keys
    cat "${CESTA_TRUSTED_KEYS_FILE:-${XDG_STATE_HOME:-$HOME/.local/state}/cesta/trusted-keys}" 2>/dev/null >> trusted_keys || true
fi
for url in critical_url warning_url; do  # incoming webhooks
    [ -e "$url" ] || echo "http://127.0.0.1:9/nobody-is-told" > "$url"
done
for key in pagerduty_key opsgenie_key email_password; do  # of other receivers of alerts, if you use them
    [ -e "$key" ] || echo "nobody-is-told" > "$key"
done
[ -e tls_key.pem ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 \
    -subj "/CN=${1:-localhost}" -addext "subjectAltName=DNS:${1:-localhost}" \
    -keyout tls_key.pem -out tls_certificate.pem 2>/dev/null
# A bind-mounted secret keeps its owner. Root gives each file to the user of the container that reads it, and nobody else
# can. Another user cannot give files away: he makes them readable for all, and the folder keeps other users out.
chmod 0700 .
if [ "$(id -u)" = 0 ]; then
    chown 10001:10001 control_secret trusted_keys registry_* tls_*.pem
    chown 10001:999 redis_password  # Triton's user, and the group of Redis
    chown 65534:65534 critical_url warning_url pagerduty_key opsgenie_key email_password
    chown 472:0 grafana_password
    chmod 0400 ./*
    chmod 0440 redis_password
else
    chmod 0644 ./*
fi
grep -q '^ed25519 ' trusted_keys || echo "secrets/trusted_keys has no key yet; publish a release and run this again"
echo "secrets/ is complete; replace tls_*.pem with your own pair, critical_url and warning_url with webhooks"
