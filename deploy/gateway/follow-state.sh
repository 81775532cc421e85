#!/bin/sh
# Has nginx read its state anew when "cesta keys" or the supervisor has changed it. In a container they cannot signal
# nginx themselves. The nginx image's entrypoint starts this from /docker-entrypoint.d, before nginx.
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
