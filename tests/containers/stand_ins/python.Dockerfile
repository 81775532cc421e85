# Like python:3.11-slim-bookworm: `python` and the libpython that the server's stub loads.
ARG DEBIAN_IMAGE
FROM ${DEBIAN_IMAGE}
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates libpython3.11 python3 python3-venv \
 && rm -rf /var/lib/apt/lists/* \
 && ln -s python3 /usr/bin/python
COPY machine /
