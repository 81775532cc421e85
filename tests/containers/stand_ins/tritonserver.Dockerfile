# Like nvcr.io/nvidia/tritonserver in its Python 3.12 with pip, and in nothing else: it has no server and no ONNX Runtime.
ARG DEBIAN_IMAGE
FROM ${DEBIAN_IMAGE}
RUN apt-get update \
 && apt-get install --yes --no-install-recommends \
        ca-certificates libbz2-1.0 libffi8 libgomp1 liblzma5 libreadline8 libsqlite3-0 libssl3 zlib1g \
 && rm -rf /var/lib/apt/lists/*
COPY python /usr/local
COPY machine /
RUN ldconfig
