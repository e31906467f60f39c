-- As SQLite has it after its step of the same number. Words are runs of letters and digits.

CREATE TABLE indexing (
    session  TEXT   NOT NULL PRIMARY KEY REFERENCES session (id),
    node     TEXT   NOT NULL,                          -- which gateway has the trail
    state    TEXT   NOT NULL,                          -- "waiting", "done", "cut", "sealed", "failed"
    tries    BIGINT NOT NULL,
    lease_ns BIGINT NOT NULL                           -- wall clock until which it is somebody's
);

CREATE INDEX indexing_that_waits ON indexing (node, lease_ns) WHERE state = 'waiting';

INSERT INTO indexing (session, node, state, tries, lease_ns)
    SELECT id, node, 'waiting', 0, 0 FROM session WHERE trail_hash <> '';

CREATE TABLE content (
    id          BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session     TEXT   NOT NULL REFERENCES session (id),
    channel     BIGINT NOT NULL,
    at_ns       BIGINT NOT NULL,                       -- first line, since the session's start
    kind        TEXT   NOT NULL,                       -- "screen" or "command"
    found_by    TEXT   NOT NULL,                       -- how; a command by "request", a mark, a prompt
    text        TEXT   NOT NULL,                       -- lines
    line_ms     TEXT   NOT NULL,                       -- of each line, since at_ns: "0,120,5300"
    exit_status BIGINT,                                -- of a command, where known
    words       TSVECTOR NOT NULL GENERATED ALWAYS AS
                (to_tsvector('simple', regexp_replace(text, '[^[:alnum:]]+', ' ', 'g'))) STORED
);

CREATE INDEX content_by_session ON content (session, at_ns);
CREATE INDEX content_words ON content USING GIN (words);

ALTER TABLE event ADD COLUMN words TSVECTOR NOT NULL GENERATED ALWAYS AS
    (to_tsvector('simple', regexp_replace(fields, '[^[:alnum:]]+', ' ', 'g'))) STORED;

CREATE INDEX event_words ON event USING GIN (words);

CREATE INDEX session_by_gateway_user ON session (gateway_user, started_ns);
CREATE INDEX session_by_remote_user ON session (remote_user, started_ns);
