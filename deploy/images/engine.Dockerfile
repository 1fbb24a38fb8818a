# vLLM's own image with our weight-transfer plug-in beside it: pure Python, no dependency of ours.
#   docker build -f deploy/images/engine.Dockerfile -t etude-engine:0.1.0 .
FROM python:3.11.14-slim-bookworm AS plugin
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
COPY requirements/rollout.txt /src/requirements/
RUN sed -n '/^setuptools==/,/[^\\]$/p' /src/requirements/rollout.txt > /src/build.txt \
    && pip install --no-deps --require-hashes -r /src/build.txt
COPY proto /src/proto
COPY services/rollout /src/rollout
RUN pip install --no-deps --no-build-isolation --target /opt/etude /src/proto /src/rollout

FROM vllm/vllm-openai:v0.32.0
LABEL org.opencontainers.image.title="etude-engine" \
      org.opencontainers.image.description="vLLM that takes weights from Etude's trainer" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
# torch asks for the user's name; the cache holds compiled kernels and is a volume.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin etude \
    && install --directory --owner=etude --group=etude /models /weights /cache
COPY --from=plugin /opt/etude /opt/etude
ENV HOME=/cache \
    PYTHONPATH=/opt/etude \
    PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 8324
ENTRYPOINT ["python3", "-m", "vllm.entrypoints.openai.api_server"]
