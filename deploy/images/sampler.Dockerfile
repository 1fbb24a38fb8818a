# The sampler and the `etude` command. No torch, and no servers: it is given URLs.
#   docker build -f deploy/images/sampler.Dockerfile -t etude-sampler:0.1.0 .
FROM python:3.11.14-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/etude
COPY requirements/sampler.txt requirements/trainer.txt /src/requirements/
RUN /opt/etude/bin/pip install --no-deps --require-hashes -r /src/requirements/sampler.txt
# Our packages are built with the setuptools that is pinned for the trainer.
RUN sed -n '/^setuptools==/,/[^\\]$/p' /src/requirements/trainer.txt > /src/build.txt \
    && /opt/etude/bin/pip install --no-deps --require-hashes -r /src/build.txt
COPY proto /src/proto
COPY services/sampler /src/sampler
RUN /opt/etude/bin/pip install --no-deps --no-build-isolation /src/proto /src/sampler \
    && /opt/etude/bin/pip uninstall --yes setuptools

FROM python:3.11.14-slim-bookworm
LABEL org.opencontainers.image.title="etude-sampler" \
      org.opencontainers.image.description="Decides what a tool-using LLM practises next" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin etude
COPY deploy/images/with-secrets /usr/local/bin/with-secrets
COPY --from=build /opt/etude /opt/etude
ENV HOME=/tmp \
    PATH=/opt/etude/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /tmp
EXPOSE 8321
ENTRYPOINT ["with-secrets"]
CMD ["etude", "serve"]
