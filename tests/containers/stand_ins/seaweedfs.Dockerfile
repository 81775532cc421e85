# Laid out as chrislusf/seaweedfs: its entrypoint, its folder, its user, and busybox's wget. moto answers, from memory.
ARG DEBIAN_IMAGE
FROM ${DEBIAN_IMAGE}
RUN apt-get update \
 && apt-get install --yes --no-install-recommends busybox ca-certificates python3 python3-venv \
 && rm -rf /var/lib/apt/lists/* \
 && ln -s busybox /bin/wget \
 && useradd --uid 1000 --create-home seaweed \
 && install --directory --owner seaweed --group seaweed /data
COPY machine /
COPY moto-requirements.txt /opt/moto/requirements.txt
RUN python3 -m venv /opt/moto/venv \
 && /opt/moto/venv/bin/pip install --no-cache-dir --requirement /opt/moto/requirements.txt
COPY --chmod=0755 weed.py /usr/bin/weed
RUN ln -s /usr/bin/weed /entrypoint.sh
WORKDIR /data
VOLUME /data
EXPOSE 8333
ENTRYPOINT ["/entrypoint.sh"]
CMD ["mini", "-dir=/data"]
