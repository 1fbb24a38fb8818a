# The trainer, with torch for the machine it is built on.
#   docker build -f deploy/images/trainer.Dockerfile -t etude-trainer:0.1.0 .
FROM python:3.11.14-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/etude
COPY requirements/trainer.txt requirements/torch.txt /src/requirements/
RUN /opt/etude/bin/pip install --no-deps --require-hashes -r /src/requirements/trainer.txt
# torch is not hashed: pip picks the build that the machine offers (requirements/README.md).
ARG TORCH_ARGS=""
# hadolint ignore=SC2086
RUN /opt/etude/bin/pip install -r /src/requirements/torch.txt $TORCH_ARGS
COPY proto /src/proto
COPY services/trainer /src/trainer
RUN /opt/etude/bin/pip install --no-deps --no-build-isolation /src/proto /src/trainer

FROM python:3.11.14-slim-bookworm
LABEL org.opencontainers.image.title="etude-trainer" \
      org.opencontainers.image.description="Trains the policy on the batches that Etude serves" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
# Volumes that are mounted here take this owner when they are new.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin etude \
    && install --directory --owner=etude --group=etude /models /weights /state
COPY deploy/images/with-secrets /usr/local/bin/with-secrets
COPY --from=build /opt/etude /opt/etude
ENV HOME=/tmp \
    PATH=/opt/etude/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 8323
ENTRYPOINT ["with-secrets"]
CMD ["etude-trainer", "run"]
