-- Several nodes may share a database: each looks after its own sessions. Events get a number of
-- their own, as not every database numbers rows by itself.

ALTER TABLE session ADD COLUMN node TEXT NOT NULL DEFAULT ''; -- empty: older than this step

CREATE TABLE numbered_event (
    id      INTEGER NOT NULL PRIMARY KEY,
    session TEXT    NOT NULL REFERENCES session (id),
    at_ns   INTEGER NOT NULL,                          -- since the session's start
    name    TEXT    NOT NULL,
    fields  TEXT    NOT NULL                           -- JSON object of strings
) STRICT;

INSERT INTO numbered_event (session, at_ns, name, fields)
    SELECT session, at_ns, name, fields FROM event ORDER BY rowid;

DROP TABLE event;
ALTER TABLE numbered_event RENAME TO event;

CREATE INDEX event_by_session ON event (session, at_ns);
