/**
 * The one sentence: what is going on, what is wrong, and who must do what. Pure, and without anything that ticks, so that
 * a screen reader says it only when it changes.
 */

import { clock, measure, reported, utcChosen, why, words } from "./format.js";

const time = (at) => clock(at, false, utcChosen());

/**
 * ``tone``: good, busy, warn, bad or unknown; ``word`` for it; ``text``: what is going on; ``wrong``: what is wrong, ""
 * when nothing is; ``todo``: who must do what.
 *
 * @param now the answer of /now, @param error why there is none that is current, @param at when it was
 * @param asked open questions of this deployment, the most urgent first, as `questions.js` understands them
 */
export function headline({ now, error, at, asked }) {
  if (!now) {
    const text = error ? "This page knows nothing yet." : "Loading…";
    return told("unknown", error ? "Not known" : "Loading", text, error?.message ?? "", error ? turn(error) : "");
  }
  if (error) {
    const text = `This page is out of date: what it shows is of ${time(at)}.`;
    return told("unknown", "Out of date", text, error.message, turn(error));
  }
  const { cluster } = now.parts;
  if (!cluster.answers) {
    const known = now.deployment ? ` Last known: ${now.deployment.version} ${words(now.deployment.status).toLowerCase()}.` : "";
    const since = cluster.at ? ` since ${time(cluster.at)}` : "";
    const todo = "Operations: bring the cluster's API back; traffic goes on as it last was.";
    return told("unknown", "Not known", `The cluster has not answered${since}: nobody can say here where traffic is.${known}`, why(cluster.reason), todo);
  }
  if (now.traffic?.unfit && now.deployment && !now.deployment.over) {
    return told("bad", "Wrong", `The router cannot move traffic.`, now.traffic.unfit, "Operations: mend the router's objects.");
  }
  return now.deployment ? ofDeployment(now, asked) : told("good", "Idle", "Nothing was ever deployed here.", "", "Nobody has to do anything.");
}

function ofDeployment(now, asked) {
  const one = now.deployment;
  const question = asked[0];
  if (one.status === "rollback_failed") {
    const todo = "The deployment lead: look at the failed step below, and finish it by hand.";
    return told("bad", "Rollback failed", `The rollback of ${one.version} failed${where(one)}.`, one.rollback_reason, todo);
  }
  if (one.status === "rolling_back") {
    const todo = question ? whoAnswers(question) : "Nobody has to do anything now: the rollback does the rest.";
    return told("bad", "Rolling back", `${one.version} is being rolled back${where(one)}.`, one.rollback_reason, todo);
  }
  if (one.over) return ended(one, question);
  if (now.traffic?.stage === "aborted" && now.traffic.deployment === one.run) {
    const since = now.traffic.moved_at ? ` since ${time(now.traffic.moved_at)}` : "";
    const text = `${one.version} is being taken back: traffic is back on ${one.stable} (${one.previous_version})${since}.`;
    return told("bad", "Taken back", text, now.traffic.reason, "Nobody has to do anything now: the rollback DAG does the rest.");
  }
  const open = one.incidents.filter((incident) => incident.outcome === "asked");
  const wrong = open.map((incident) => `${measure(incident.rule)}: ${incident.reason}`).join("; ");
  if (question) {
    const tone = question.overdue || open.length ? "bad" : "warn";
    const late = question.overdue ? ` No answer came until ${time(question.until)}.` : "";
    return told(tone, question.overdue ? "Overdue" : "Waits for an answer", `${one.version} waits for an answer: ${question.subject}${late}`, wrong, whoAnswers(question));
  }
  if (!now.parts.watch.answers) {
    const reason = now.parts.watch.reason || "its last sign of life is too old";
    return told("bad", "Not watched", `${doing(now)}, and nobody watches it.`, reason, "Operations: look after Airflow's triggerer; roll back by hand if in doubt.");
  }
  const bad = now.watches.filter((watch) => watch.verdict === "fail");
  if (open.length || bad.length) {
    const reason = wrong || bad.map((watch) => watch.reason).join("; ");
    return told("bad", "Breach", `${doing(now)}; something is wrong with it.`, reason, "The watch acts by itself; the deployment lead: be ready to roll back.");
  }
  return told("busy", "Under way", `${doing(now)}.`, "", next(one));
}

function doing(now) {
  const one = now.deployment;
  const step = one.steps.find((each) => each.phase) ?? one.steps[0];
  const at = step ? words(step.phase || step.name) : words(one.watch_phase);
  const serves = one.switched_at ? ` and has served since ${time(one.switched_at)}` : `; clients still meet ${one.previous_version}`;
  return `${one.version} is being deployed (${at})${serves}`;
}

function next(one) {
  if (!one.decision_at) return "Nobody has to do anything now.";
  return `Nobody has to do anything now: until ${time(one.decision_at)} a critical breach is rolled back by itself, then people are asked.`;
}

function ended(one, question) {
  const todo = question ? whoAnswers(question) : "Nobody has to do anything.";
  if (one.status === "succeeded") return told("good", "Deployed", `${one.version} is deployed and serves.`, "", todo);
  if (one.status === "given_up") return told("warn", "Given up", `${one.version} was given up before it began; nothing was changed.`, one.rollback_reason, todo);
  const [word, what] = one.stopped ? ["Stopped", "was stopped before any client met it"] : ["Rolled back", "was rolled back"];
  return told("warn", word, `${one.version} ${what}${where(one)}.`, one.rollback_reason, todo);
}

function whoAnswers(question) {
  const until = question.until ? ` until ${time(question.until)}` : "";
  return `${question.turn || "Somebody with the right to"}: answer below${question.overdue ? " now" : until}.`;
}

const where = (one) => (one.whereabouts ? `: ${one.whereabouts}` : "");

function turn(error) {
  if (error.status === 401) return "You: sign in to Airflow again.";
  if (error.status === 403) return "You: ask for the right to read this plan's deployment DAG.";
  return "Operations: look after Airflow's API server. python -m handover status works without it.";
}

function told(tone, word, text, wrong, todo) {
  return { tone, word, text, wrong: reported(wrong), todo };
}
