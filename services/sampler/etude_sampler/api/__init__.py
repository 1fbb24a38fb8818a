"""HTTP: routes, bodies, problem documents. Thin; every decision is in `service`."""
