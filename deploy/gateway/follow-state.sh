#!/bin/sh
# Reloads nginx when "cesta keys" or the supervisor has changed its state. In a container they cannot send nginx a signal.
# The entrypoint of the nginx image starts this script from /docker-entrypoint.d, before nginx.
set -eu

state() {
    cat "$GATEWAY_STATE"/*.conf 2>/dev/null | cksum
}

(
    known=$(state)
    while sleep 1; do
        now=$(state)
        if [ "$now" != "$known" ] && nginx -c "$GATEWAY_RUN/nginx.conf" -s reload; then
            known=$now
        fi
    done
) &
