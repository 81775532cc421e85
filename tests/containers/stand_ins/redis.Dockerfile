# Laid out as redis: its user and folder. The service replaces the entrypoint.
ARG DEBIAN_IMAGE
FROM ${DEBIAN_IMAGE}
RUN groupadd --system --gid 999 redis \
 && useradd --system --uid 999 --gid redis --home-dir /home/redis redis \
 && apt-get update \
 && apt-get install --yes --no-install-recommends redis-server \
 && rm -rf /var/lib/apt/lists/* \
 && install --directory --owner redis --group redis /data
WORKDIR /data
VOLUME /data
EXPOSE 6379
CMD ["redis-server"]
