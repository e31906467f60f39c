-- The schema as SQLite has it after its step of the same number.

CREATE TABLE session (
    id                   TEXT   NOT NULL PRIMARY KEY, -- UUID, version 7
    started_ns           BIGINT NOT NULL,             -- wall clock, since 1970
    ended_ns             BIGINT,                      -- null while it lives
    protocol             TEXT   NOT NULL,
    policy               TEXT   NOT NULL,             -- empty: none matched
    client               TEXT   NOT NULL,             -- address:port
    original_destination TEXT   NOT NULL,             -- address:port
    target               TEXT   NOT NULL,             -- address:port; empty: not chosen
    gateway_user         TEXT   NOT NULL,
    remote_user          TEXT   NOT NULL,
    trail                TEXT   NOT NULL,             -- file name; empty: not recorded
    trail_hash           TEXT   NOT NULL,             -- SHA-256 it ends with; empty: not sealed
    outcome              TEXT   NOT NULL,             -- "active", then how it ended
    reason               TEXT   NOT NULL,
    daemon               TEXT   NOT NULL,             -- UUID
    node                 TEXT   NOT NULL              -- which gateway
);

CREATE INDEX session_by_start ON session (started_ns);

CREATE TABLE event (
    id      BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session TEXT   NOT NULL REFERENCES session (id),
    at_ns   BIGINT NOT NULL,                          -- since the session's start
    name    TEXT   NOT NULL,
    fields  TEXT   NOT NULL                           -- JSON object of strings
);

CREATE INDEX event_by_session ON event (session, at_ns);

-- Keys that we show to clients, one set for each server.
CREATE TABLE shown_host_key (
    server    TEXT  NOT NULL,                         -- address:port as clients reach it
    algorithm TEXT  NOT NULL,                         -- "ssh-ed25519" or "ssh-rsa"
    pkcs8     BYTEA NOT NULL,                         -- private key
    PRIMARY KEY (server, algorithm)
);

-- Keys by which servers are known to us.
CREATE TABLE known_host_key (
    server     TEXT   NOT NULL,                       -- address:port as we dial it
    algorithm  TEXT   NOT NULL,                       -- the key's type
    blob       BYTEA  NOT NULL,                       -- public key, RFC 4253 section 6.6
    learned_ns BIGINT NOT NULL,                       -- wall clock, since 1970
    PRIMARY KEY (server, algorithm)
);
