-- +goose Up

-- This is what the first six schemas of SQLite amount to. Text is compared byte by byte, as there.
--
-- Several servers of adjacent versions use one schema at the same time: see docs/operations.md, PostgreSQL, before you
-- write another migration.

-- oldest: the schema that a program must know to work on this one. A migration that programs of the version before
-- cannot live with raises it.
CREATE TABLE schema_bounds (oldest BIGINT NOT NULL);
INSERT INTO schema_bounds (oldest) VALUES (6);

-- The last group of writes that each server has committed: a server whose connection broke while it committed reads
-- here what became of it.
CREATE TABLE writers (
    id   TEXT COLLATE "C" PRIMARY KEY,
    seq  BIGINT NOT NULL,
    used TIMESTAMPTZ NOT NULL
);

-- Which server does a chore, and until when the others leave it alone.
CREATE TABLE leases (
    name   TEXT COLLATE "C" PRIMARY KEY,
    holder TEXT COLLATE "C" NOT NULL,
    until  BIGINT NOT NULL
);

-- Times are Unix milliseconds, 0 where there is none yet. "secret" columns are sealed with the key file beside the database.

CREATE TABLE secrets (
    name   TEXT COLLATE "C" PRIMARY KEY,
    sealed BYTEA NOT NULL
);

CREATE TABLE accounts (
    id       TEXT COLLATE "C" PRIMARY KEY,
    name     TEXT COLLATE "C" NOT NULL,
    disabled BOOLEAN NOT NULL DEFAULT FALSE,
    created  BIGINT NOT NULL
);
CREATE UNIQUE INDEX accounts_name ON accounts (name);

CREATE TABLE access_keys (
    id        TEXT COLLATE "C" PRIMARY KEY,
    account   TEXT COLLATE "C" NOT NULL REFERENCES accounts (id),
    user_name TEXT COLLATE "C" NOT NULL DEFAULT '', -- empty: the account's own
    secret    BYTEA NOT NULL,
    active    BOOLEAN NOT NULL DEFAULT TRUE,
    created   BIGINT NOT NULL,
    last_used BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX access_keys_owner ON access_keys (account, user_name, created);

-- digest: SHA-256 of owner and nonce, so that a nonce of any length takes the same room. claim: who was first, so that a
-- server whose connection broke can tell its own claim from another's.
CREATE TABLE nonces (
    digest  BYTEA PRIMARY KEY,
    expires BIGINT NOT NULL,
    claim   BIGINT NOT NULL
);
CREATE INDEX nonces_expires ON nonces (expires);

CREATE TABLE activations (
    id             TEXT COLLATE "C" PRIMARY KEY,
    account        TEXT COLLATE "C" NOT NULL REFERENCES accounts (id),
    region         TEXT COLLATE "C" NOT NULL,
    code_hash      BYTEA NOT NULL,
    instance_name  TEXT COLLATE "C" NOT NULL,
    instance_count BIGINT NOT NULL,
    registered     BIGINT NOT NULL DEFAULT 0,
    deregistered   BIGINT NOT NULL DEFAULT 0,
    ttl            BIGINT NOT NULL,
    description    TEXT COLLATE "C" NOT NULL,
    address_range  TEXT COLLATE "C" NOT NULL,
    disabled       BOOLEAN NOT NULL DEFAULT FALSE,
    resource_group TEXT COLLATE "C" NOT NULL,
    created        BIGINT NOT NULL
);
CREATE INDEX activations_listing ON activations (account, region, created, id);

CREATE TABLE instances (
    id             TEXT COLLATE "C" PRIMARY KEY,
    account        TEXT COLLATE "C" NOT NULL REFERENCES accounts (id),
    region         TEXT COLLATE "C" NOT NULL,
    name           TEXT COLLATE "C" NOT NULL,
    activation     TEXT COLLATE "C" NOT NULL,
    state          TEXT COLLATE "C" NOT NULL,
    hostname       TEXT COLLATE "C" NOT NULL,
    machine_id     TEXT COLLATE "C" NOT NULL,
    intranet_ip    TEXT COLLATE "C" NOT NULL,
    internet_ip    TEXT COLLATE "C" NOT NULL,
    os_type        TEXT COLLATE "C" NOT NULL,
    os_version     TEXT COLLATE "C" NOT NULL,
    agent_version  TEXT COLLATE "C" NOT NULL,
    capability     BIGINT NOT NULL,
    public_key     TEXT COLLATE "C" NOT NULL,
    resource_group TEXT COLLATE "C" NOT NULL,
    registered     BIGINT NOT NULL,
    released       BIGINT NOT NULL DEFAULT 0, -- left the fleet, or was quarantined
    presence       TEXT COLLATE "C" NOT NULL,
    session        TEXT COLLATE "C" NOT NULL DEFAULT '',
    last_seen      BIGINT NOT NULL DEFAULT 0,
    agent_kind     TEXT COLLATE "C" NOT NULL DEFAULT 'native',
    agent_key      BYTEA,                     -- public key of an official agent
    agent_token    BYTEA,                     -- hash of what it may show in place of its signature
    next_dial      BIGINT NOT NULL DEFAULT 0  -- when one without a channel is expected back
);
CREATE INDEX instances_listing ON instances (account, region, registered, id);
CREATE INDEX instances_name ON instances (account, region, name);
CREATE UNIQUE INDEX instances_public_key ON instances (public_key);
CREATE INDEX instances_released ON instances (released) WHERE released > 0;

CREATE TABLE contents (
    digest BYTEA PRIMARY KEY, -- SHA-256
    data   BYTEA NOT NULL
);

-- Deliveries and their targets are kept by the time of their creation, so that what is too old is dropped with its
-- partition. The server makes partitions ahead; what fits none goes to the one called other.
CREATE TABLE deliveries (
    id             TEXT COLLATE "C" NOT NULL, -- sorts by time of creation within a region
    account        TEXT COLLATE "C" NOT NULL,
    region         TEXT COLLATE "C" NOT NULL,
    name           TEXT COLLATE "C" NOT NULL,
    target_dir     TEXT COLLATE "C" NOT NULL,
    owner          TEXT COLLATE "C" NOT NULL,
    grp            TEXT COLLATE "C" NOT NULL,
    mode           TEXT COLLATE "C" NOT NULL,
    overwrite      BOOLEAN NOT NULL,
    content_type   TEXT COLLATE "C" NOT NULL,
    digest         BYTEA NOT NULL,
    size           BIGINT NOT NULL,
    sent           TEXT COLLATE "C",             -- the content as sent, where encoding data again would not give it back
    description    TEXT COLLATE "C" NOT NULL,
    resource_group TEXT COLLATE "C" NOT NULL,
    timeout        BIGINT NOT NULL, -- milliseconds
    created        BIGINT NOT NULL,
    deadline       BIGINT NOT NULL,
    targets        BIGINT NOT NULL,
    pending        BIGINT NOT NULL,
    running        BIGINT NOT NULL,
    success        BIGINT NOT NULL,
    failed         BIGINT NOT NULL,
    status         TEXT COLLATE "C" NOT NULL, -- what the four counts amount to, for the filter
    PRIMARY KEY (id, created)
) PARTITION BY RANGE (created);
CREATE TABLE deliveries_other PARTITION OF deliveries DEFAULT;
CREATE INDEX deliveries_listing ON deliveries (account, region, id);
CREATE INDEX deliveries_name ON deliveries (account, region, name, id);
CREATE INDEX deliveries_status ON deliveries (account, region, status, id);
CREATE INDEX deliveries_group ON deliveries (account, region, resource_group, id) WHERE resource_group <> '';
CREATE INDEX deliveries_digest ON deliveries (digest);

-- A target is open while finished is 0; only open ones are in the two partial indexes. created is its delivery's.
CREATE TABLE targets (
    delivery TEXT COLLATE "C" NOT NULL,
    instance TEXT COLLATE "C" NOT NULL,
    ordinal  BIGINT NOT NULL,
    status   TEXT COLLATE "C" NOT NULL,
    cause    TEXT COLLATE "C" NOT NULL DEFAULT '',
    detail   TEXT COLLATE "C" NOT NULL DEFAULT '',
    created  BIGINT NOT NULL,
    started  BIGINT NOT NULL DEFAULT 0,
    finished BIGINT NOT NULL DEFAULT 0,
    updated  BIGINT NOT NULL,
    deadline BIGINT NOT NULL,
    PRIMARY KEY (delivery, instance, created)
) PARTITION BY RANGE (created);
CREATE TABLE targets_other PARTITION OF targets DEFAULT;
CREATE INDEX targets_instance ON targets (instance, delivery, finished, created); -- covers the counts of an instance
CREATE INDEX targets_open_deadline ON targets (deadline) WHERE finished = 0;
CREATE INDEX targets_open_instance ON targets (instance, delivery) WHERE finished = 0;

CREATE TABLE tags (
    account  TEXT COLLATE "C" NOT NULL,
    kind     TEXT COLLATE "C" NOT NULL, -- delivery, instance, activation
    resource TEXT COLLATE "C" NOT NULL,
    key      TEXT COLLATE "C" NOT NULL,
    value    TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (kind, resource, key)
);
CREATE INDEX tags_value ON tags (account, kind, key, value, resource);

-- Names of users, groups and policies are known exactly as they were given. folded is the name in lower case, because two
-- of them differ in more than case.
CREATE TABLE users (
    account      TEXT COLLATE "C" NOT NULL REFERENCES accounts (id),
    name         TEXT COLLATE "C" NOT NULL,
    folded       TEXT COLLATE "C" NOT NULL,
    id           TEXT COLLATE "C" NOT NULL,
    display_name TEXT COLLATE "C" NOT NULL,
    comments     TEXT COLLATE "C" NOT NULL,
    created      BIGINT NOT NULL,
    updated      BIGINT NOT NULL,
    PRIMARY KEY (account, name)
);
CREATE UNIQUE INDEX users_folded ON users (account, folded);

CREATE TABLE user_groups (
    account  TEXT COLLATE "C" NOT NULL REFERENCES accounts (id),
    name     TEXT COLLATE "C" NOT NULL,
    folded   TEXT COLLATE "C" NOT NULL,
    id       TEXT COLLATE "C" NOT NULL,
    comments TEXT COLLATE "C" NOT NULL,
    created  BIGINT NOT NULL,
    updated  BIGINT NOT NULL,
    PRIMARY KEY (account, name)
);
CREATE UNIQUE INDEX user_groups_folded ON user_groups (account, folded);

CREATE TABLE group_members (
    account   TEXT COLLATE "C" NOT NULL,
    grp       TEXT COLLATE "C" NOT NULL,
    user_name TEXT COLLATE "C" NOT NULL,
    joined    BIGINT NOT NULL,
    PRIMARY KEY (account, grp, user_name)
);
CREATE INDEX group_members_user ON group_members (account, user_name, grp);

CREATE TABLE policies (
    account     TEXT COLLATE "C" NOT NULL REFERENCES accounts (id),
    name        TEXT COLLATE "C" NOT NULL,
    folded      TEXT COLLATE "C" NOT NULL,
    description TEXT COLLATE "C" NOT NULL,
    document    TEXT COLLATE "C" NOT NULL,
    version     BIGINT NOT NULL,
    created     BIGINT NOT NULL,
    updated     BIGINT NOT NULL,
    PRIMARY KEY (account, name)
);
CREATE UNIQUE INDEX policies_folded ON policies (account, folded);

CREATE TABLE attachments (
    account     TEXT COLLATE "C" NOT NULL,
    entity_kind TEXT COLLATE "C" NOT NULL, -- user, group
    entity      TEXT COLLATE "C" NOT NULL,
    policy_type TEXT COLLATE "C" NOT NULL, -- System, Custom
    policy      TEXT COLLATE "C" NOT NULL,
    attached    BIGINT NOT NULL,
    PRIMARY KEY (account, entity_kind, entity, policy_type, policy)
);
CREATE INDEX attachments_policy ON attachments (account, policy_type, policy, entity_kind, entity);

CREATE TABLE resource_groups (
    account      TEXT COLLATE "C" NOT NULL REFERENCES accounts (id),
    id           TEXT COLLATE "C" NOT NULL,
    name         TEXT COLLATE "C" NOT NULL,
    display_name TEXT COLLATE "C" NOT NULL,
    created      BIGINT NOT NULL,
    PRIMARY KEY (account, id)
);
CREATE UNIQUE INDEX resource_groups_name ON resource_groups (account, name);
CREATE INDEX instances_group ON instances (account, resource_group) WHERE resource_group <> '';
CREATE INDEX activations_group ON activations (account, resource_group) WHERE resource_group <> '';

-- digest: SHA-256 of the parameters. answer: what was answered, sealed.
CREATE TABLE client_tokens (
    account TEXT COLLATE "C" NOT NULL,
    actor   TEXT COLLATE "C" NOT NULL, -- name of a user; empty: the account
    region  TEXT COLLATE "C" NOT NULL,
    action  TEXT COLLATE "C" NOT NULL,
    token   TEXT COLLATE "C" NOT NULL,
    digest  BYTEA NOT NULL,
    answer  BYTEA NOT NULL,
    expires BIGINT NOT NULL,
    PRIMARY KEY (account, actor, region, action, token)
);
CREATE INDEX client_tokens_expires ON client_tokens (expires);

-- Numbered without gaps within an account. resources: a JSON array.
CREATE TABLE audit_records (
    account    TEXT COLLATE "C" NOT NULL,
    seq        BIGINT NOT NULL,
    time       BIGINT NOT NULL,
    request_id TEXT COLLATE "C" NOT NULL,
    actor_type TEXT COLLATE "C" NOT NULL,
    actor      TEXT COLLATE "C" NOT NULL,
    access_key TEXT COLLATE "C" NOT NULL,
    source_ip  TEXT COLLATE "C" NOT NULL,
    action     TEXT COLLATE "C" NOT NULL,
    region     TEXT COLLATE "C" NOT NULL,
    resources  TEXT COLLATE "C" NOT NULL,
    subject    TEXT COLLATE "C" NOT NULL,
    result     TEXT COLLATE "C" NOT NULL,
    previous   TEXT COLLATE "C" NOT NULL, -- hexadecimal, as is hash
    hash       TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (account, seq)
);

-- Where the records of an account begin and end; seal: a keyed hash over the row, whose key is not in the database.
CREATE TABLE audit_heads (
    account TEXT COLLATE "C" PRIMARY KEY,
    first   BIGINT NOT NULL, -- number of the first record that is kept
    before  BYTEA NOT NULL,    -- hash of the record before it
    last    BIGINT NOT NULL,
    hash    BYTEA NOT NULL,    -- of the last record
    broken  BIGINT NOT NULL, -- number of the record before which somebody had altered this row; 0: nobody
    seal    BYTEA NOT NULL
);
