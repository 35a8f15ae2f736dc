-- What was overridden: the deployment window, the readiness, or both. Each has its own reason.
ALTER TABLE deployments RENAME COLUMN override_reason TO window_override_reason;
ALTER TABLE deployments ADD COLUMN readiness_override_reason text NOT NULL DEFAULT '';
