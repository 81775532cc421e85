# Laid out as prom/prometheus: its paths, its user, and busybox's wget, which the health check calls.
ARG DEBIAN_IMAGE
FROM ${DEBIAN_IMAGE}
RUN apt-get update \
 && apt-get install --yes --no-install-recommends busybox prometheus \
 && rm -rf /var/lib/apt/lists/* /etc/prometheus \
 && ln -s busybox /bin/wget \
 && install --directory --owner nobody --group nogroup /etc/prometheus /prometheus
USER nobody
WORKDIR /prometheus
VOLUME /prometheus
EXPOSE 9090
ENTRYPOINT ["/bin/prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
