"""The fleet: one circuit for many processes, and nobody waits for the store.

Each process keeps its circuits as it does without a fleet, and decides about its own calls alone.
In the background it flushes what it counted to a store (Redis, or a file on one host) and reads
what all of them counted together. When the merged window fires, one process moves the circuit in
the store, and every process follows it.

The parts, one concept a module:

    store      the protocol: what a store keeps of a circuit, and its verbs
    _window    merged windows: which of a store's buckets are in a policy's window
    memory     a store inside one process: for tests
    _sqlite    a store in a file: the processes of one host
    _sqlite_file  whose that file is, how it is opened and made anew
    _sqlite_rows  its rows, as views and back
    _mounts    network file systems, where locks can't be relied on
    _redis     a store in Redis or Valkey: any number of hosts
    _redis_scripts  what it runs there
    _redis_rows  its answers, as views and reports
    _member    one circuit's part in it: what it hands in, follows, and moves
    _head      what a process knows of a circuit in the fleet: epoch, state, deadline
    _controls  states set by hand, on their way to the store
    _following how a circuit takes the state of the fleet
    _deltas    calls that are not handed in yet
    _probes    leases, and the outcomes of probes
    _reports   what a process says of its circuit
    _decisions which move a view asks for
    _verdict   what a policy makes of the calls of all processes
    _flusher   the two threads of a process
    _requests  what other threads wait for
    _flush     what one flush sends, and does with the answers
    _link      attached to the store or not
    _rhythm    when the flusher comes
    _doorbell  wakes it with the first call after a rest
    _fleet     `Fleet`, forks, and the end of the process
    _presence  which processes there are
    _by_hand   circuits that are set by hand without a breaker
    _circuits  all circuits with their processes, for pages and scripts
    _url       which store a URL means
"""

from __future__ import annotations

# First: see _clash.py.
import fluxgate._naming  # noqa: F401  # pyright: ignore[reportUnusedImport]
from fluxgate.fleet._circuits import FleetCircuit, FleetProcess
from fluxgate.fleet._fleet import Fleet, FleetStatus
from fluxgate.fleet._presence import FleetPresence
from fluxgate.fleet.store import StoreError

__all__ = ["Fleet", "FleetCircuit", "FleetPresence", "FleetProcess", "FleetStatus", "StoreError"]
