-- +goose Up

-- Where events of an account in a region are sent to. types: the event types with commas around them; empty: all.
CREATE TABLE webhooks (
    id          TEXT PRIMARY KEY,
    account     TEXT NOT NULL REFERENCES accounts (id),
    region      TEXT NOT NULL,
    url         TEXT NOT NULL,
    description TEXT NOT NULL,
    types       TEXT NOT NULL,
    secret      BLOB NOT NULL, -- sealed
    enabled     BOOLEAN NOT NULL,
    reason      TEXT NOT NULL DEFAULT '', -- why the server disabled it
    created     INTEGER NOT NULL,
    updated     INTEGER NOT NULL,
    failures    INTEGER NOT NULL DEFAULT 0,
    resume      INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX webhooks_scope ON webhooks (account, region, id);

-- What each webhook is told, written together with what it tells of. seq: later for what happened later to one subject.
-- until: an attempt that fails after this was the last.
CREATE TABLE webhook_events (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    webhook  TEXT NOT NULL,
    id       TEXT NOT NULL,
    type     TEXT NOT NULL,
    subject  TEXT NOT NULL,
    body     TEXT NOT NULL,
    time     INTEGER NOT NULL,
    status   TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    tried    INTEGER NOT NULL DEFAULT 0,
    next     INTEGER NOT NULL,
    until    INTEGER NOT NULL,
    answer   TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX webhook_events_id ON webhook_events (webhook, id);
CREATE INDEX webhook_events_listing ON webhook_events (webhook, seq);
CREATE INDEX webhook_events_waiting ON webhook_events (webhook, subject, seq) WHERE status = 'Waiting';
CREATE INDEX webhook_events_due ON webhook_events (webhook, attempts, seq) WHERE status = 'Waiting';
CREATE INDEX webhook_events_time ON webhook_events (time);
