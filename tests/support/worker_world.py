"""A torclient worker in a thread, driven over its control socket."""

import select
import socket
import threading
import time

from flashflow.torclient.core.messages import (
    Begin,
    CircuitBuilt,
    FrameReader,
    Halt,
    OpenCircuits,
    SecondCounted,
    ShareEnded,
    WorkerReady,
    encode_frame,
)
from flashflow.torclient.workers.loop import Worker

PATIENCE_S = 20.0


class WorkerWorld:
    """One worker; a context manager that ends it."""

    def __init__(self, tls_key=None):
        self.sock, theirs = socket.socketpair()
        self.frames = FrameReader()
        self.heard = []
        self._taken = 0
        worker = Worker(theirs, tls_key)
        self.thread = threading.Thread(target=worker.run, daemon=True)
        self.thread.start()
        self._theirs = theirs
        self.until(lambda message: isinstance(message, WorkerReady))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()
        self.thread.join(PATIENCE_S)
        self._theirs.close()
        assert not self.thread.is_alive()

    def tell(self, message):
        """Sends a message to the worker."""
        self.sock.sendall(encode_frame(message))

    def until(self, wanted):
        """The next message that is wanted; those before it are passed over."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            while self._taken < len(self.heard):
                self._taken += 1
                if wanted(self.heard[self._taken - 1]):
                    return self.heard[self._taken - 1]
            readable, _, _ = select.select([self.sock], [], [], max(0.0, deadline_s - time.monotonic()))
            assert readable, f"not heard: {self.heard}"
            data = self.sock.recv(65_536)
            assert data, f"the worker ended: {self.heard}"
            self.heard += self.frames.receive(data)

    def open(self, peer, circ_ids=(1,), *, run=1, bucket_cells=20, **changes):
        """Orders circuits to `peer`."""
        fields = {
            "run": run,
            "meas_id": 7,
            "circ_ids": tuple(circ_ids),
            "host": peer.address.host,
            "port": peer.address.port,
            "fingerprint": peer.fingerprint,
            "ed25519": peer.target.ed25519.hex(),
            "ntor": peer.target.ntor.hex(),
            "token": "0f" * 16,
            "bucket_cells": bucket_cells,
            **changes,
        }
        self.tell(OpenCircuits(**fields))

    def open_built(self, peer, circ_ids=(1,), **changes):
        """Orders circuits and waits until all are built."""
        self.open(peer, circ_ids, **changes)
        for _ in circ_ids:
            self.until(lambda message: isinstance(message, CircuitBuilt))

    def begin(self, circ_ids=(1,), *, run=1, dur_s=1, warmup_s=0.2, rate_bytes=4_000_000.0):
        """Starts traffic."""
        self.tell(Begin(run, tuple(circ_ids), time.monotonic() + 0.02, warmup_s, dur_s, rate_bytes))

    def halt(self, run=1):
        """Ends it at once."""
        self.tell(Halt(run))

    def ended(self):
        """Waits for the end of the share."""
        return self.until(lambda message: isinstance(message, ShareEnded))

    @property
    def seconds(self):
        """The seconds heard of so far."""
        return [message for message in self.heard if isinstance(message, SecondCounted)]
