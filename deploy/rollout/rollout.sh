#!/bin/sh
# Changes the version of cesta on this host, in the checkout that holds docker-compose.yml.
#
#   sh deploy/rollout/rollout.sh up    the version and the images of images.new.yml, as "make images-file" writes it
#   sh deploy/rollout/rollout.sh back  the version before
#
# images.yml is what runs, images.before.yml what ran before it. If containers do not become healthy within
# ROLLOUT_TIMEOUT_S, the images of images.yml come back, and the exit code is 1.
set -eu

main() {
  cd "$(dirname "$0")/../.."
  case ${1-} in
    up) [ -e images.new.yml ] || refuse "images.new.yml is missing: it says which images to start" ;;
    back)
      [ -e images.before.yml ] || refuse "images.before.yml is missing: no version ran on this host before"
      cp images.before.yml images.new.yml ;;
    *) sed -n '4,5s/^# *//p' "$0" >&2; exit 2 ;;
  esac
  if start images.new.yml; then
    [ ! -e images.yml ] || mv images.yml images.before.yml
    mv images.new.yml images.yml
    echo "$(version_of images.yml) runs"
    return
  fi
  failed=$(version_of images.new.yml)
  rm images.new.yml
  [ -e images.yml ] || refuse "$failed did not become healthy; nothing ran before it"
  start images.yml || refuse "$failed did not become healthy, and neither did $(version_of images.yml) afterwards"
  refuse "$failed did not become healthy; $(version_of images.yml) runs again"
}

start() {  # the version and the images of this file; fails unless all containers become healthy
  git fetch --quiet --tags \
    && git checkout --quiet --detach "$(version_of "$1")" \
    && docker compose --file docker-compose.yml --file "$1" pull --quiet \
    && docker compose --file docker-compose.yml --file "$1" \
      up --detach --no-build --wait --wait-timeout "${ROLLOUT_TIMEOUT_S:-300}"
}

version_of() {
  sed -n 's/^x-version: //p' "$1"
}

refuse() {
  echo "$1" >&2
  exit 1
}

main "$@"
exit  # git has replaced this file, which sh reads as it goes
