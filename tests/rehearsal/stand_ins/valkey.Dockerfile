# Stands in for valkey/valkey: the wheel's server, Debian's client.
FROM rehearsal/services:1.0.0
RUN useradd --uid 998 --no-create-home --shell /usr/sbin/nologin valkey \
    && install --directory --owner=valkey --group=valkey /data \
    && ln -s /usr/bin/redis-cli /usr/local/bin/valkey-cli
COPY valkey-server /usr/local/bin/valkey-server
USER valkey
WORKDIR /data
CMD ["valkey-server"]
