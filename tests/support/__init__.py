"""What the tests share: real servers, task factories, waiting, the fault proxy."""
