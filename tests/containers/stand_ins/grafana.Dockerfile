# In the place of grafana/grafana, which no package of Debian's has: its user, its folders, and a web server that answers
# the health check.
ARG DEBIAN_IMAGE
FROM ${DEBIAN_IMAGE}
RUN apt-get update \
 && apt-get install --yes --no-install-recommends busybox \
 && rm -rf /var/lib/apt/lists/* \
 && ln -s busybox /bin/wget \
 && install --directory --owner 472 --group root --mode 0775 /var/lib/grafana \
 && install -D /dev/null /usr/share/grafana/api/health
USER 472
EXPOSE 3000
ENTRYPOINT ["busybox", "httpd", "-f", "-p", "3000", "-h", "/usr/share/grafana"]
