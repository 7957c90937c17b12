"""The SQL of the SQLite store: its tables, and the two scripts that change them.

A write is one statement: an `INSERT` into a view whose `INSTEAD OF` trigger is the script. So the
write lock is never held while a thread waits for the GIL, as it would be between the statements
of a transaction (a quarter of other processes' tries found it locked then).
"""

from __future__ import annotations

from typing import Final

from fluxgate.fleet.store import (
    BURST_GAP,
    MAX_COUNT,
    MAX_EPOCH,
    MAX_GRANTS,
    MAX_THRESHOLDS,
    OTHER_SHAPE,
    REPORT_KEPT,
    STATES,
    VERSION,
)

APPLICATION_ID: Final = 0x464C5558  # "FLUX": how we know a file of ours

_SLOW: Final = [f"s{n}" for n in range(MAX_THRESHOLDS)]
_COUNTS: Final = ["calls", "failures", "ms", *_SLOW]
_PROBES: Final = [f"p_{name}" for name in _COUNTS]

EXCHANGE: Final = [
    *("now", "process", "ask", "key", "epoch", "label", "width", "keep", "most"),
    *_COUNTS,
    *("witness", "wants", "slots", "lease", "probes", "report", "ttl"),
]
"""The columns of an exchange, in the order of `INSERT_EXCHANGES`' rows."""
MOVE: Final = [
    *("now", "process", "ask", "key", "expected", "known", "state", "remaining", "reopens"),
    *("reason", "reassert", "ttl"),
]


def _numbers(names: list[str]) -> str:
    return ", ".join(f"{name} INTEGER NOT NULL DEFAULT 0" for name in names)


def _sum(name: str, more: str) -> str:
    return f"{name} = min({name} + {more}, {MAX_COUNT})"


_HERE: Final = "(SELECT id FROM circuit WHERE key = NEW.key AND epoch = NEW.epoch)"
_INDEX: Final = "(NEW.now / 1000 / NEW.width)"
_COUNTED: Final = (
    "key = NEW.key AND epoch = NEW.epoch AND label = NEW.label AND state IN ('C', 'M') "
    "AND NEW.calls > 0"
)
_EMPTY: Final = (
    "epoch = NEW.epoch AND NOT EXISTS (SELECT 1 FROM bucket WHERE bucket.circuit = circuit.id)"
)
_UNSOUND: Final = " OR ".join(
    (
        f"state NOT IN ({', '.join(map(repr, STATES))})",
        *(
            f"typeof({name}) <> 'integer' OR {name} NOT BETWEEN 0 AND {MAX_EPOCH}"
            for name in ("epoch", "reopens", "burst", "expires", "coalesce(until, 0)")
        ),
    )
)
"""SQL for whether a row can't be read, as `view_of` has it; it is written anew then."""
_TOKENS: Final = "(SELECT json_extract(value, '$[0]') FROM json_each(NEW.probes))"


def _of_probes(place: int) -> str:
    """SQL for the sum that probes with live tokens add to one number."""
    return (
        f"coalesce((SELECT sum(json_extract(value, '$[{place + 1}]')) FROM json_each(NEW.probes) "
        "WHERE json_extract(value, '$[0]') IN (SELECT token FROM lease "
        "WHERE lease.circuit = circuit.id AND deadline > NEW.now)), 0)"
    )


SCHEMA: Final = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};

CREATE TABLE boot(id TEXT NOT NULL);
CREATE TABLE number(n INTEGER PRIMARY KEY);
WITH RECURSIVE up(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up WHERE n < {MAX_GRANTS})
INSERT INTO number SELECT n FROM up;

CREATE TABLE circuit(
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, epoch INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'C', until INTEGER, reopens INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '', author TEXT NOT NULL DEFAULT '',
    reporter TEXT NOT NULL DEFAULT '', moved TEXT NOT NULL DEFAULT '',
    label TEXT NOT NULL DEFAULT '', {_numbers(["token", "last", "burst", "bad", "expires"])},
    {_numbers(_PROBES)}
);
CREATE TABLE bucket(
    circuit INTEGER, idx INTEGER, {_numbers(_COUNTS)}, PRIMARY KEY(circuit, idx)
) WITHOUT ROWID;
CREATE TABLE process(
    circuit INTEGER, id TEXT, seen INTEGER NOT NULL DEFAULT -1, bad INTEGER NOT NULL DEFAULT -1,
    counted INTEGER NOT NULL DEFAULT -1, report TEXT NOT NULL DEFAULT '', PRIMARY KEY(circuit, id)
) WITHOUT ROWID;
CREATE TABLE lease(
    circuit INTEGER, token INTEGER, deadline INTEGER NOT NULL, asked TEXT NOT NULL,
    PRIMARY KEY(circuit, token)
) WITHOUT ROWID;

CREATE TRIGGER gone AFTER DELETE ON circuit BEGIN
    DELETE FROM bucket WHERE circuit = OLD.id;
    DELETE FROM process WHERE circuit = OLD.id;
    DELETE FROM lease WHERE circuit = OLD.id;
END;

CREATE VIEW exchange({", ".join(EXCHANGE)}) AS SELECT {", ".join("NULL" for _ in EXCHANGE)};
CREATE TRIGGER exchanged INSTEAD OF INSERT ON exchange BEGIN
    DELETE FROM circuit WHERE key = NEW.key AND (expires <= NEW.now OR {_UNSOUND});
    INSERT INTO circuit(key, label, expires)
        SELECT NEW.key, NEW.label, NEW.now + NEW.ttl
        WHERE NEW.epoch = 0 AND (NEW.calls > 0 OR NEW.wants > 0)
        ON CONFLICT(key) DO NOTHING;
    -- Counts of another shape go once nobody adds to them.
    DELETE FROM bucket WHERE circuit = {_HERE} AND EXISTS (
        SELECT 1 FROM circuit WHERE id = bucket.circuit
        AND label <> NEW.label AND NEW.now - last >= {OTHER_SHAPE});
    DELETE FROM process WHERE circuit = (
        SELECT id FROM circuit WHERE key = NEW.key AND label <> NEW.label AND {_EMPTY});
    UPDATE circuit SET
        expires = max(expires, NEW.now + NEW.ttl, coalesce(until, 0) + NEW.ttl),
        label = CASE WHEN {_EMPTY} THEN NEW.label ELSE label END
        WHERE key = NEW.key;

    -- The outcomes of probes, by live tokens.
    UPDATE circuit SET {", ".join(_sum(n, _of_probes(i)) for i, n in enumerate(_PROBES))}
        WHERE key = NEW.key AND epoch = NEW.epoch AND NEW.probes <> '[]';
    DELETE FROM lease WHERE circuit = {_HERE} AND (deadline <= NEW.now OR token IN {_TOKENS});

    -- The delta.
    INSERT INTO bucket(circuit, idx, {", ".join(_COUNTS)})
        SELECT id, {_INDEX}, {", ".join(f"NEW.{name}" for name in _COUNTS)}
        FROM circuit WHERE {_COUNTED}
        ON CONFLICT(circuit, idx) DO UPDATE SET
        {", ".join(_sum(name, f"excluded.{name}") for name in _COUNTS)};
    INSERT INTO process(circuit, id, seen, bad, counted)
        SELECT id, NEW.process, {_INDEX}, CASE WHEN NEW.witness THEN {_INDEX} ELSE -1 END, NEW.ask
        FROM circuit WHERE {_COUNTED}
        ON CONFLICT(circuit, id) DO UPDATE SET
        seen = excluded.seen, bad = max(bad, excluded.bad), counted = excluded.counted;
    UPDATE circuit SET
        reporter = NEW.process, last = NEW.now,
        burst = CASE WHEN NEW.witness AND NEW.now - bad > {BURST_GAP}
            THEN NEW.now ELSE burst END,
        bad = CASE WHEN NEW.witness THEN NEW.now ELSE bad END
        WHERE {_COUNTED};
    INSERT INTO process(circuit, id, report)
        SELECT id, NEW.process,
            CASE WHEN NEW.report = '' THEN '' ELSE NEW.now || ' ' || NEW.report END FROM circuit
        WHERE key = NEW.key AND epoch = NEW.epoch AND NEW.report IS NOT NULL
        ON CONFLICT(circuit, id) DO UPDATE SET report = excluded.report;

    -- What has left the window.
    DELETE FROM bucket WHERE circuit = {_HERE} AND (
        idx <= {_INDEX} - NEW.keep
        OR (NEW.most > 0 AND idx < {_INDEX} - 2 AND NEW.most <= (
            SELECT sum(calls) FROM bucket AS newer
            WHERE newer.circuit = bucket.circuit AND newer.idx > bucket.idx)));
    DELETE FROM process WHERE NEW.ask % 64 = 0 AND circuit = {_HERE} AND seen <= {_INDEX} - NEW.keep
        AND (report = '' OR CAST(report AS INTEGER) <= NEW.now - {REPORT_KEPT});

    -- Leases.
    INSERT INTO lease(circuit, token, deadline, asked)
        SELECT id, max(token, NEW.now * 1000) + n, NEW.now + NEW.lease, NEW.process || NEW.ask
        FROM circuit, number
        WHERE key = NEW.key AND epoch = NEW.epoch AND state = 'H' AND n <= min(
            NEW.wants, NEW.slots - (SELECT count(*) FROM lease WHERE lease.circuit = circuit.id));
    UPDATE circuit SET
        token = (SELECT coalesce(max(token), circuit.token) FROM lease
            WHERE lease.circuit = circuit.id AND asked = NEW.process || NEW.ask)
        WHERE NEW.wants > 0 AND key = NEW.key AND epoch = NEW.epoch;
END;

CREATE VIEW move({", ".join(MOVE)}) AS SELECT {", ".join("NULL" for _ in MOVE)};
CREATE TRIGGER moved INSTEAD OF INSERT ON move BEGIN
    DELETE FROM circuit WHERE key = NEW.key AND (expires <= NEW.now OR {_UNSOUND});
    INSERT INTO circuit(key)
        SELECT NEW.key WHERE coalesce(NEW.expected, 0) = 0 ON CONFLICT(key) DO NOTHING;
    UPDATE circuit SET
        epoch = CASE WHEN NEW.reassert THEN NEW.known + (NEW.state = 'H')
            ELSE max(epoch + 1, NEW.known + 1, NEW.now) END,
        state = NEW.state, until = NEW.now + NEW.remaining, reopens = NEW.reopens,
        reason = NEW.reason, author = NEW.process, moved = NEW.process || NEW.ask,
        expires = NEW.now + NEW.ttl + coalesce(NEW.remaining, 0), label = '', last = 0,
        burst = 0, bad = 0, {", ".join(f"{name} = 0" for name in _PROBES)}
        WHERE key = NEW.key AND (NEW.expected IS NULL OR epoch = NEW.expected)
        AND (NOT NEW.reassert OR epoch < NEW.known);
    DELETE FROM bucket WHERE circuit = (
        SELECT id FROM circuit WHERE key = NEW.key AND moved = NEW.process || NEW.ask);
    DELETE FROM process WHERE circuit = (
        SELECT id FROM circuit WHERE key = NEW.key AND moved = NEW.process || NEW.ask);
    DELETE FROM lease WHERE circuit = (
        SELECT id FROM circuit WHERE key = NEW.key AND moved = NEW.process || NEW.ask);
END;
"""

INSERT_EXCHANGES: Final = (
    f"INSERT INTO exchange({', '.join(EXCHANGE)}) SELECT "
    + ", ".join(f"json_extract(value, '$[{place}]')" for place in range(len(EXCHANGE)))
    + " FROM json_each(?)"
)
INSERT_MOVE: Final = f"INSERT INTO move VALUES ({', '.join('?' for _ in MOVE)})"

_BUCKETS: Final = "printf('%x', idx)" + "".join(f" || printf('.%x', {n})" for n in _COUNTS)
SELECT_VIEWS: Final = f"""
SELECT key, epoch, state, until, reopens, reason, author, reporter, label, burst, moved,
    printf('{".".join("%x" for _ in _PROBES)}', {", ".join(_PROBES)}),
    (SELECT group_concat({_BUCKETS}, '|') FROM bucket WHERE circuit = id),
    (SELECT count(*) FROM process WHERE circuit = c.id
        AND seen >= (SELECT min(idx) FROM bucket WHERE circuit = c.id)),
    (SELECT count(*) FROM process WHERE circuit = c.id
        AND bad >= (SELECT min(idx) FROM bucket WHERE circuit = c.id)),
    (SELECT count(*) FROM lease WHERE circuit = c.id AND deadline > :now),
    (SELECT counted FROM process WHERE circuit = c.id AND id = :process),
    (SELECT group_concat(token || ':' || asked) FROM lease
        WHERE circuit = c.id AND asked LIKE :process || '%')
FROM circuit AS c WHERE expires > :now AND key IN (SELECT value FROM json_each(:keys))
"""
