-- The ledger of deployments. One table for each kind of entry; none has a foreign key, because an entry that was kept
-- while the ledger was away may arrive before the one that it belongs to. Primary keys are natural: whatever is
-- delivered twice is there once.
CREATE TABLE deployments (
    deployment       text PRIMARY KEY,
    run              text NOT NULL,
    step             text NOT NULL,
    plan             text NOT NULL,
    version          text NOT NULL,
    image            text NOT NULL,
    previous_version text NOT NULL,
    previous_image   text NOT NULL,
    method           text NOT NULL,
    requested_by     text NOT NULL,
    reason           text NOT NULL,
    override_reason  text NOT NULL,
    started_at       timestamptz NOT NULL,
    recorded_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON deployments (started_at);

CREATE TABLE outcomes (
    deployment  text NOT NULL,
    run         text NOT NULL,
    step        text NOT NULL,
    status      text NOT NULL,
    at          timestamptz NOT NULL,
    switched_at timestamptz,
    backup_uri  text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (deployment, run, status)
);

CREATE TABLE checks (
    deployment   text NOT NULL,
    run          text NOT NULL,
    step         text NOT NULL,
    try_number   integer NOT NULL,
    check_name   text NOT NULL,
    verdict      text NOT NULL CHECK (verdict IN ('pass', 'fail', 'unknown')),
    reason       text NOT NULL,
    measurements jsonb NOT NULL,
    started_at   timestamptz NOT NULL,
    at           timestamptz NOT NULL,
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (deployment, run, step, try_number)
);

CREATE TABLE decisions (
    deployment  text NOT NULL,
    run         text NOT NULL,
    step        text NOT NULL,
    at          timestamptz NOT NULL,
    question    text NOT NULL,
    choice      text NOT NULL,
    who         text NOT NULL,
    why         text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (deployment, run, step, question, at)
);

CREATE TABLE messages (
    deployment  text NOT NULL,
    run         text NOT NULL,
    step        text NOT NULL,
    at          timestamptz NOT NULL,
    channel     text NOT NULL,
    text        text NOT NULL,
    problem     text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (deployment, run, step, channel, at)
);

CREATE TABLE incidents (
    deployment  text NOT NULL,
    run         text NOT NULL,
    step        text NOT NULL,
    incident    text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('opened', 'noted', 'resolved')),
    at          timestamptz NOT NULL,
    severity    text NOT NULL CHECK (severity IN ('critical', 'high', 'medium', 'low')),
    text        text NOT NULL,
    who         text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (incident, kind, at)
);
CREATE INDEX ON incidents (deployment);

CREATE TABLE measurements (
    deployment  text NOT NULL,
    run         text NOT NULL,
    step        text NOT NULL,
    what        text NOT NULL,
    source      text NOT NULL,
    at          timestamptz NOT NULL,
    value       double precision NOT NULL,
    unit        text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (deployment, what, source, at)
);

CREATE TABLE changes (
    deployment   text NOT NULL,
    run          text NOT NULL,
    step         text NOT NULL,
    revision     text NOT NULL,
    committed_at timestamptz NOT NULL,
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (deployment, revision)
);

-- A phase is what its steps are: from the first one's start to the last one's end.
CREATE VIEW phases AS
SELECT deployment, run, split_part(step, '.', 1) AS phase, min(started_at) AS started_at, max(at) AS ended_at,
       count(*) FILTER (WHERE verdict = 'pass') AS passed, count(*) AS checks
FROM checks
WHERE step LIKE '%.%'
GROUP BY deployment, run, split_part(step, '.', 1);
