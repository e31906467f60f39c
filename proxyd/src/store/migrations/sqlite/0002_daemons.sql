-- Which daemon a session belongs to: several live while one takes over from another, and only the
-- rows of one that has died may be closed for it.

ALTER TABLE session ADD COLUMN daemon TEXT NOT NULL DEFAULT ''; -- UUID; empty: older than this step
