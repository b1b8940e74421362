# syntax=docker/dockerfile:1
# Two images of the service, without torch: `--target cpu`, and `--target gpu`, the default, which needs an NVIDIA
# driver >= 580 and the NVIDIA container toolkit on the host. CUDA and cuDNN come as wheels beside onnxruntime-gpu, so
# both images stand on the same slim Python.

FROM python:3.12-slim-bookworm AS python
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore


FROM python AS wheel
WORKDIR /build
COPY . .
RUN pip wheel --no-deps --wheel-dir /wheels .


# What the project depends on, from its metadata and the pins alone: this layer is kept until one of them moves, however
# often the code does. The rooms are empty here; the wheel fills them below.
FROM python AS dependencies
WORKDIR /build
COPY pyproject.toml constraints.txt deploy/constraints-gpu.txt README.md LICENSE NOTICE ./
RUN for room in contract runtime models training evaluation scoring service commands; do mkdir "$room" && touch "$room/__init__.py"; done
RUN python -m venv /opt/nonesuch
ENV PATH=/opt/nonesuch/bin:$PATH


FROM dependencies AS environment-cpu
RUN pip install -c constraints.txt '.[cpu]'
COPY --from=wheel /wheels /wheels
RUN pip install --no-deps --force-reinstall /wheels/*.whl


FROM dependencies AS environment-gpu
RUN pip install -c constraints.txt -c constraints-gpu.txt '.[gpu]'
COPY --from=wheel /wheels /wheels
RUN pip install --no-deps --force-reinstall /wheels/*.whl


FROM python AS service
RUN useradd --system --uid 10001 --home-dir /srv/nonesuch --shell /usr/sbin/nologin nonesuch
# Pictures that permanent links show; a volume mounted here keeps them, and takes its owner from this folder.
RUN install -d -o nonesuch /var/lib/nonesuch/pictures
WORKDIR /srv/nonesuch
COPY bundles bundles
ENV PATH=/opt/nonesuch/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NONESUCH_LOG_FORMAT=json \
    NONESUCH_PICTURES=/var/lib/nonesuch/pictures
USER nonesuch
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
# Inside a container every address is the container's own: what is published, and to whom, is decided outside it.
ENTRYPOINT ["nonesuch", "serve"]
CMD ["--host", "0.0.0.0", "--port", "8000", "--allow-anonymous"]


FROM service AS cpu
COPY --from=environment-cpu /opt/nonesuch /opt/nonesuch


FROM service AS gpu
COPY --from=environment-gpu /opt/nonesuch /opt/nonesuch
ENV NONESUCH_PROVIDER=cuda \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
