-- +goose Up

-- Times are Unix milliseconds, 0 where there is none yet. "secret" columns are sealed with the key file beside the database.

CREATE TABLE secrets (
    name   TEXT PRIMARY KEY,
    sealed BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE accounts (
    id       TEXT PRIMARY KEY,
    name     TEXT NOT NULL,
    disabled INTEGER NOT NULL DEFAULT 0,
    created  INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE access_keys (
    id        TEXT PRIMARY KEY,
    account   TEXT NOT NULL REFERENCES accounts (id),
    secret    BLOB NOT NULL,
    active    INTEGER NOT NULL DEFAULT 1,
    created   INTEGER NOT NULL,
    last_used INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX access_keys_account ON access_keys (account);

-- digest: SHA-256 of owner and nonce, so that a nonce of any length takes the same room.
CREATE TABLE nonces (
    digest  BLOB PRIMARY KEY,
    expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX nonces_expires ON nonces (expires);

CREATE TABLE activations (
    id             TEXT PRIMARY KEY,
    account        TEXT NOT NULL REFERENCES accounts (id),
    region         TEXT NOT NULL,
    code_hash      BLOB NOT NULL,
    instance_name  TEXT NOT NULL,
    instance_count INTEGER NOT NULL,
    registered     INTEGER NOT NULL DEFAULT 0,
    deregistered   INTEGER NOT NULL DEFAULT 0,
    ttl            INTEGER NOT NULL,
    description    TEXT NOT NULL,
    address_range  TEXT NOT NULL,
    disabled       INTEGER NOT NULL DEFAULT 0,
    resource_group TEXT NOT NULL,
    created        INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX activations_listing ON activations (account, region, created, id);

CREATE TABLE instances (
    id             TEXT PRIMARY KEY,
    account        TEXT NOT NULL REFERENCES accounts (id),
    region         TEXT NOT NULL,
    name           TEXT NOT NULL,
    activation     TEXT NOT NULL,
    state          TEXT NOT NULL,
    hostname       TEXT NOT NULL,
    machine_id     TEXT NOT NULL,
    intranet_ip    TEXT NOT NULL,
    internet_ip    TEXT NOT NULL,
    os_type        TEXT NOT NULL,
    os_version     TEXT NOT NULL,
    agent_version  TEXT NOT NULL,
    capability     INTEGER NOT NULL,
    public_key     TEXT NOT NULL,
    resource_group TEXT NOT NULL,
    registered     INTEGER NOT NULL,
    released       INTEGER NOT NULL DEFAULT 0, -- left the fleet, or was quarantined
    presence       TEXT NOT NULL,
    session        TEXT NOT NULL DEFAULT '',
    last_seen      INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX instances_listing ON instances (account, region, registered, id);
CREATE INDEX instances_name ON instances (account, region, name);
CREATE UNIQUE INDEX instances_public_key ON instances (public_key);
CREATE INDEX instances_released ON instances (released) WHERE released > 0;

CREATE TABLE contents (
    digest BLOB PRIMARY KEY, -- SHA-256
    data   BLOB NOT NULL
);

CREATE TABLE deliveries (
    id             TEXT PRIMARY KEY, -- sorts by time of creation within a region
    account        TEXT NOT NULL,
    region         TEXT NOT NULL,
    name           TEXT NOT NULL,
    target_dir     TEXT NOT NULL,
    owner          TEXT NOT NULL,
    grp            TEXT NOT NULL,
    mode           TEXT NOT NULL,
    overwrite      INTEGER NOT NULL,
    content_type   TEXT NOT NULL,
    digest         BLOB NOT NULL,
    size           INTEGER NOT NULL,
    sent           TEXT,             -- the content as sent, where encoding data again would not give it back
    description    TEXT NOT NULL,
    resource_group TEXT NOT NULL,
    timeout        INTEGER NOT NULL, -- milliseconds
    created        INTEGER NOT NULL,
    deadline       INTEGER NOT NULL,
    targets        INTEGER NOT NULL,
    pending        INTEGER NOT NULL,
    running        INTEGER NOT NULL,
    success        INTEGER NOT NULL,
    failed         INTEGER NOT NULL,
    status         TEXT NOT NULL     -- what the four counts amount to, for the filter
) WITHOUT ROWID;
CREATE INDEX deliveries_listing ON deliveries (account, region, id);
CREATE INDEX deliveries_name ON deliveries (account, region, name, id);
CREATE INDEX deliveries_status ON deliveries (account, region, status, id);
CREATE INDEX deliveries_group ON deliveries (account, region, resource_group, id) WHERE resource_group <> '';
CREATE INDEX deliveries_digest ON deliveries (digest);

-- A target is open while finished is 0; only open ones are in the two partial indexes.
CREATE TABLE targets (
    delivery TEXT NOT NULL,
    instance TEXT NOT NULL,
    ordinal  INTEGER NOT NULL,
    status   TEXT NOT NULL,
    cause    TEXT NOT NULL DEFAULT '',
    detail   TEXT NOT NULL DEFAULT '',
    created  INTEGER NOT NULL,
    started  INTEGER NOT NULL DEFAULT 0,
    finished INTEGER NOT NULL DEFAULT 0,
    updated  INTEGER NOT NULL,
    deadline INTEGER NOT NULL,
    PRIMARY KEY (delivery, instance)
) WITHOUT ROWID;
CREATE INDEX targets_instance ON targets (instance, delivery, finished, created); -- covers the counts of an instance
CREATE INDEX targets_open_deadline ON targets (deadline) WHERE finished = 0;
CREATE INDEX targets_open_instance ON targets (instance, delivery) WHERE finished = 0;

CREATE TABLE tags (
    account  TEXT NOT NULL,
    kind     TEXT NOT NULL, -- delivery, instance, activation
    resource TEXT NOT NULL,
    key      TEXT NOT NULL,
    value    TEXT NOT NULL,
    PRIMARY KEY (kind, resource, key)
) WITHOUT ROWID;
CREATE INDEX tags_value ON tags (account, kind, key, value, resource);
