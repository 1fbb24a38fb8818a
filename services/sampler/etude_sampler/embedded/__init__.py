"""Real PostgreSQL and Valkey from pip wheels, owned by this process, reached by Unix sockets.

`etude serve` uses `start_embedded` when no URL is configured; the tests use `start_postgres` and
`start_redis` directly. There is no other store: what runs on a laptop is what runs in production.

The parts, inwards: `keeping` (starts again what died) > `serve` (the pair under `./.etude/`) >
`postgres`, `redis` (one server each) > `binaries` (which executable), `identity` (not as root),
`sockets` (short paths), `process` (start, ready, stop, die with the parent), `locking`. Nothing
here imports the rest of the sampler.

Start servers from the main thread: the kernel ends them with the *thread* that created them.
"""

from .errors import EmbeddedServerError
from .keeping import Keeper, keep
from .postgres import PostgresServer, start_postgres
from .process import RunningServer
from .redis import start_redis
from .serve import Embedded, start_embedded

__all__ = [
    "Embedded",
    "EmbeddedServerError",
    "Keeper",
    "PostgresServer",
    "RunningServer",
    "keep",
    "start_embedded",
    "start_postgres",
    "start_redis",
]
