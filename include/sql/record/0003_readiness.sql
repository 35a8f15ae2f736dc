-- Which run of the readiness DAG a deployment rests on; its checks are on record under that run.
ALTER TABLE deployments ADD COLUMN readiness text NOT NULL DEFAULT '';
