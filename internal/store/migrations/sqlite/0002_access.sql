-- +goose Up

-- Users, groups of users, policies, resource groups, the answers of repeated requests, and the audit trail.

ALTER TABLE access_keys ADD COLUMN user_name TEXT NOT NULL DEFAULT ''; -- empty: the account's own
DROP INDEX access_keys_account;
CREATE INDEX access_keys_owner ON access_keys (account, user_name, created);

-- Names of users, groups and policies are known exactly as they were given. folded is the name in lower case, because two
-- of them differ in more than case.
CREATE TABLE users (
    account      TEXT NOT NULL REFERENCES accounts (id),
    name         TEXT NOT NULL,
    folded       TEXT NOT NULL,
    id           TEXT NOT NULL,
    display_name TEXT NOT NULL,
    comments     TEXT NOT NULL,
    created      INTEGER NOT NULL,
    updated      INTEGER NOT NULL,
    PRIMARY KEY (account, name)
) WITHOUT ROWID;
CREATE UNIQUE INDEX users_folded ON users (account, folded);

CREATE TABLE user_groups (
    account  TEXT NOT NULL REFERENCES accounts (id),
    name     TEXT NOT NULL,
    folded   TEXT NOT NULL,
    id       TEXT NOT NULL,
    comments TEXT NOT NULL,
    created  INTEGER NOT NULL,
    updated  INTEGER NOT NULL,
    PRIMARY KEY (account, name)
) WITHOUT ROWID;
CREATE UNIQUE INDEX user_groups_folded ON user_groups (account, folded);

CREATE TABLE group_members (
    account   TEXT NOT NULL,
    grp       TEXT NOT NULL,
    user_name TEXT NOT NULL,
    joined    INTEGER NOT NULL,
    PRIMARY KEY (account, grp, user_name)
) WITHOUT ROWID;
CREATE INDEX group_members_user ON group_members (account, user_name, grp);

CREATE TABLE policies (
    account     TEXT NOT NULL REFERENCES accounts (id),
    name        TEXT NOT NULL,
    folded      TEXT NOT NULL,
    description TEXT NOT NULL,
    document    TEXT NOT NULL,
    version     INTEGER NOT NULL,
    created     INTEGER NOT NULL,
    updated     INTEGER NOT NULL,
    PRIMARY KEY (account, name)
) WITHOUT ROWID;
CREATE UNIQUE INDEX policies_folded ON policies (account, folded);

CREATE TABLE attachments (
    account     TEXT NOT NULL,
    entity_kind TEXT NOT NULL, -- user, group
    entity      TEXT NOT NULL,
    policy_type TEXT NOT NULL, -- System, Custom
    policy      TEXT NOT NULL,
    attached    INTEGER NOT NULL,
    PRIMARY KEY (account, entity_kind, entity, policy_type, policy)
) WITHOUT ROWID;
CREATE INDEX attachments_policy ON attachments (account, policy_type, policy, entity_kind, entity);

CREATE TABLE resource_groups (
    account      TEXT NOT NULL REFERENCES accounts (id),
    id           TEXT NOT NULL,
    name         TEXT NOT NULL,
    display_name TEXT NOT NULL,
    created      INTEGER NOT NULL,
    PRIMARY KEY (account, id)
) WITHOUT ROWID;
CREATE UNIQUE INDEX resource_groups_name ON resource_groups (account, name);
CREATE INDEX instances_group ON instances (account, resource_group) WHERE resource_group <> '';
CREATE INDEX activations_group ON activations (account, resource_group) WHERE resource_group <> '';

-- Until now a resource group was a mere label.
INSERT INTO resource_groups (account, id, name, display_name, created)
    SELECT account, resource_group, resource_group, resource_group, MIN(created)
    FROM (SELECT account, resource_group, registered AS created FROM instances
          UNION ALL SELECT account, resource_group, created FROM activations
          UNION ALL SELECT account, resource_group, created FROM deliveries)
    WHERE resource_group <> '' GROUP BY account, resource_group;

-- digest: SHA-256 of the parameters. answer: what was answered, sealed.
CREATE TABLE client_tokens (
    account TEXT NOT NULL,
    actor   TEXT NOT NULL, -- name of a user; empty: the account
    region  TEXT NOT NULL,
    action  TEXT NOT NULL,
    token   TEXT NOT NULL,
    digest  BLOB NOT NULL,
    answer  BLOB NOT NULL,
    expires INTEGER NOT NULL,
    PRIMARY KEY (account, actor, region, action, token)
) WITHOUT ROWID;
CREATE INDEX client_tokens_expires ON client_tokens (expires);

-- Numbered without gaps within an account. resources: a JSON array.
CREATE TABLE audit_records (
    account    TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    time       INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    actor_type TEXT NOT NULL,
    actor      TEXT NOT NULL,
    access_key TEXT NOT NULL,
    source_ip  TEXT NOT NULL,
    action     TEXT NOT NULL,
    region     TEXT NOT NULL,
    resources  TEXT NOT NULL,
    subject    TEXT NOT NULL,
    result     TEXT NOT NULL,
    previous   TEXT NOT NULL, -- hexadecimal, as is hash
    hash       TEXT NOT NULL,
    PRIMARY KEY (account, seq)
) WITHOUT ROWID;

-- Where the records of an account begin and end; seal: a keyed hash over the row, whose key is not in the database.
CREATE TABLE audit_heads (
    account TEXT PRIMARY KEY,
    first   INTEGER NOT NULL, -- number of the first record that is kept
    before  BLOB NOT NULL,    -- hash of the record before it
    last    INTEGER NOT NULL,
    hash    BLOB NOT NULL,    -- of the last record
    broken  INTEGER NOT NULL, -- number of the record before which somebody had altered this row; 0: nobody
    seal    BLOB NOT NULL
) WITHOUT ROWID;
