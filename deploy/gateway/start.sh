#!/bin/sh
# Starts nginx in a container: fills in the templates from the environment, as operations/gateway/nginx.py does elsewhere.
set -euf

# Prints the machine's first name server in nginx's spelling. Without any, an address where nobody answers. nginx would ask
# several in turn, and in podman each knows the names of one network only.
resolver() {
    found=$(sed -n -e 's/^nameserver[[:space:]]\{1,\}\([0-9.]\{7,\}\)[[:space:]]*$/\1/p' \
        -e 's/^nameserver[[:space:]]\{1,\}\([0-9a-fA-F:.]*:[0-9a-fA-F:.]*\)[[:space:]]*$/[\1]/p' "${RESOLV_CONF:-/etc/resolv.conf}")
    set -- ${found:-127.0.0.1}
    echo "$1"
}

# Prints a directive for each trusted proxy.
real_ip() {
    for proxy in $(echo "${GATEWAY_TRUSTED_PROXIES:-}" | tr ',' ' '); do
        case $proxy in
        *[!0-9a-fA-F.:/]*)
            echo "GATEWAY_TRUSTED_PROXIES: \"$proxy\" is not an address or a network such as 10.0.0.0/8" >&2
            return 1
            ;;
        esac
        printf 'set_real_ip_from %s; ' "$proxy"
    done
}

# Removes the socket of a killed nginx, on which the next one could not listen.
free_socket() {
    socket=$GATEWAY_STATE/run/control.sock
    [ -e "$socket" ] || return 0
    answered=0
    curl --noproxy '*' --silent --output /dev/null --max-time 2 --unix-socket "$socket" http://gateway/metrics || answered=$?
    if [ "$answered" != 7 ]; then  # curl's number for a refused connection
        echo "a gateway already runs on $GATEWAY_STATE; stop it first" >&2
        return 1
    fi
    rm -f "$socket"
}

mkdir -p "$GATEWAY_STATE/run"
free_socket
GATEWAY_RESOLVER=$(resolver)
GATEWAY_REAL_IP=$(real_ip)
export GATEWAY_RESOLVER GATEWAY_REAL_IP
for name in nginx tls.ssl; do
    template=$GATEWAY_CONF/$name.conf.template
    envsubst "$(grep -o '\${[A-Z_]*}' "$template" | tr '\n' ' ')" <"$template" >"$GATEWAY_RUN/$name.conf"
done
exec nginx -e "$GATEWAY_ERROR_LOG" -c "$GATEWAY_RUN/nginx.conf" -g "daemon off;"
