# Stands in for prom/prometheus: Debian's, an older release.
FROM rehearsal/services:1.0.0
RUN install --directory --owner=65534 --group=65534 /prometheus
USER 65534:65534
ENTRYPOINT ["prometheus"]
