-- What was on screens and which commands were run, found after a session's end; and the queue of
-- trails in which that is still to be looked for.

CREATE TABLE indexing (
    session  TEXT    NOT NULL PRIMARY KEY REFERENCES session (id),
    node     TEXT    NOT NULL,                         -- which gateway has the trail
    state    TEXT    NOT NULL,                         -- "waiting", "done", "cut", "sealed", "failed"
    tries    INTEGER NOT NULL,
    lease_ns INTEGER NOT NULL                          -- wall clock until which it is somebody's
) STRICT;

CREATE INDEX indexing_that_waits ON indexing (node, lease_ns) WHERE state = 'waiting';

INSERT INTO indexing (session, node, state, tries, lease_ns)
    SELECT id, node, 'waiting', 0, 0 FROM session WHERE trail_hash <> '';

CREATE TABLE content (
    id          INTEGER NOT NULL PRIMARY KEY,
    session     TEXT    NOT NULL REFERENCES session (id),
    channel     INTEGER NOT NULL,
    at_ns       INTEGER NOT NULL,                      -- first line, since the session's start
    kind        TEXT    NOT NULL,                      -- "screen" or "command"
    found_by    TEXT    NOT NULL,                      -- how; a command by "request", a mark, a prompt
    text        TEXT    NOT NULL,                      -- lines
    line_ms     TEXT    NOT NULL,                      -- of each line, since at_ns: "0,120,5300"
    exit_status INTEGER                                -- of a command, where known
) STRICT;

CREATE INDEX content_by_session ON content (session, at_ns);

CREATE VIRTUAL TABLE content_words USING fts5 (
    text, content = 'content', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 0'
);

CREATE TRIGGER content_added AFTER INSERT ON content BEGIN
    INSERT INTO content_words (rowid, text) VALUES (NEW.id, NEW.text);
END;

CREATE TRIGGER content_removed AFTER DELETE ON content BEGIN
    INSERT INTO content_words (content_words, rowid, text) VALUES ('delete', OLD.id, OLD.text);
END;

CREATE VIRTUAL TABLE event_words USING fts5 (
    fields, content = 'event', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 0'
);

INSERT INTO event_words (event_words) VALUES ('rebuild');

CREATE TRIGGER event_added AFTER INSERT ON event BEGIN
    INSERT INTO event_words (rowid, fields) VALUES (NEW.id, NEW.fields);
END;

CREATE TRIGGER event_removed AFTER DELETE ON event BEGIN
    INSERT INTO event_words (event_words, rowid, fields) VALUES ('delete', OLD.id, OLD.fields);
END;

CREATE INDEX session_by_gateway_user ON session (gateway_user, started_ns);
CREATE INDEX session_by_remote_user ON session (remote_user, started_ns);
