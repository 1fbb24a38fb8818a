# The rollout service. Target `http` reaches a vLLM server and holds no torch; target `local`, the
# default, holds the `transformers` engine too and makes models.
#   docker build -f deploy/images/rollout.Dockerfile -t etude-rollout:0.1.0 .
FROM python:3.11.14-slim-bookworm AS wanted
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/etude
COPY requirements/rollout.txt /src/requirements/
RUN /opt/etude/bin/pip install --no-deps --require-hashes -r /src/requirements/rollout.txt

FROM wanted AS build
COPY proto /src/proto
COPY services/rollout /src/rollout
RUN /opt/etude/bin/pip install --no-deps --no-build-isolation /src/proto /src/rollout

FROM python:3.11.14-slim-bookworm AS base
LABEL org.opencontainers.image.title="etude-rollout" \
      org.opencontainers.image.description="Generates, scores and reports groups for Etude" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
# Volumes that are mounted here take this owner when they are new.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin etude \
    && install --directory --owner=etude --group=etude /models /weights
COPY deploy/images/with-secrets /usr/local/bin/with-secrets
ENV HOME=/tmp \
    PATH=/opt/etude/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 8322
ENTRYPOINT ["with-secrets"]
CMD ["etude-rollout", "worker"]

FROM base AS http
COPY --from=build /opt/etude /opt/etude

# What follows is for target `local` alone: the classic builder stops at its target.
FROM wanted AS wanted-torch
# torch is not hashed: pip picks the build that the machine offers (requirements/README.md).
ARG TORCH_ARGS=""
COPY requirements/torch.txt /src/requirements/
# hadolint ignore=SC2086
RUN /opt/etude/bin/pip install -r /src/requirements/torch.txt $TORCH_ARGS

FROM wanted-torch AS build-torch
COPY proto /src/proto
COPY services/rollout /src/rollout
RUN /opt/etude/bin/pip install --no-deps --no-build-isolation /src/proto /src/rollout

FROM base AS local
COPY --from=build-torch /opt/etude /opt/etude
