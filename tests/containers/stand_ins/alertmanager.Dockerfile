# Laid out as prom/alertmanager: its paths, its user, and busybox's wget, which the health check calls.
ARG DEBIAN_IMAGE
FROM ${DEBIAN_IMAGE}
RUN apt-get update \
 && apt-get install --yes --no-install-recommends busybox prometheus-alertmanager \
 && rm -rf /var/lib/apt/lists/* \
 && ln -s busybox /bin/wget \
 && ln -s prometheus-alertmanager /bin/alertmanager \
 && install --directory --owner nobody --group nogroup /etc/alertmanager /alertmanager
USER nobody
WORKDIR /alertmanager
VOLUME /alertmanager
EXPOSE 9093
ENTRYPOINT ["/bin/alertmanager"]
CMD ["--config.file=/etc/alertmanager/alertmanager.yml", "--storage.path=/alertmanager"]
