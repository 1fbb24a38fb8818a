# Stands in for haproxy: Debian's, an older release.
FROM rehearsal/services:1.0.0
USER haproxy
CMD ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
