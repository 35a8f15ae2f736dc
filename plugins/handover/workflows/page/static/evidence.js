/**
 * What the record has of one deployment: its phases with every step and reason, decisions, incidents, messages.
 */

import { count, duration, measure, value, words } from "./format.js";
import { Badge, html, Section, When } from "./ui.js";

const TONES = { pass: "good", fail: "bad", unknown: "unknown" };

/** Folded by phase; a phase with a step that did not pass is open. */
export function Evidence({ view, stale }) {
  const checks = lastTries(view.checks);
  const phases = view.phases.map((phase) => ({ ...phase, checks: checks.filter((one) => one.run === phase.run && one.phase === phase.name) }));
  const placed = new Set(phases.flatMap((phase) => phase.checks));
  const others = checks.filter((one) => !placed.has(one));
  return html`<${Section} title="Evidence" id="evidence" className="wide" aside=${stale}>
    ${!checks.length && html`<p class="muted">No step has ended yet.</p>`}
    ${phases.map((phase) => html`<${Phase} key=${`${phase.run} ${phase.name}`} title=${title(phase, view)} phase=${phase} checks=${phase.checks} />`)}
    ${others.length > 0 && html`<${Phase} title="Steps of no phase" checks=${others} />`}
  <//>`;
}

const title = (phase, view) => `${phase.run === view.row.run ? "" : "Rollback: "}${words(phase.name) || "Steps of no phase"}`;

/** Only the last try of each step counts; the others are counted. */
function lastTries(checks) {
  const last = new Map();
  for (const one of checks) last.set(`${one.run} ${one.step}`, one);
  return [...last.values()];
}

function Phase({ title: name, phase, checks }) {
  const bad = checks.filter((one) => one.verdict !== "pass");
  const took = phase ? `, ${duration(phase.ended_at - phase.started_at)}` : "";
  return html`<details class="phase" open=${bad.length > 0}>
    <summary><span>${name}</span><${Badge} tone=${bad.length ? (bad.some((one) => one.verdict === "fail") ? "bad" : "unknown") : "good"}>
      ${bad.length ? `${bad.length} of ${count(checks.length, "step")} did not pass` : `${count(checks.length, "step")} passed`}${took}
    <//></summary>
    <ol class="steps">${checks.map((one) => html`<${Step} key=${`${one.run} ${one.step}`} one=${one} />`)}</ol>
  </details>`;
}

function Step({ one }) {
  return html`<li class=${`step ${one.verdict}`}>
    <div><${Badge} tone=${TONES[one.verdict]}>${one.verdict === "unknown" ? "not known" : one.verdict}<//>
      <strong>${words(one.name)}</strong>
      <span class="small muted"><${When} at=${one.at} />, ${duration(one.at - one.started_at)}${one.try_number > 1 ? `, try ${one.try_number}` : ""}</span></div>
    <p class="reason" dir="auto">${one.reason}</p>
    ${one.measurements.length > 0 && html`<details class="numbers"><summary>${count(one.measurements.length, "measurement")}</summary>
      <ul>${one.measurements.map((m) => html`<li>${measure(m.what)}: ${value(m.value, m.unit, m.what)}${m.why ? ` (${m.why})` : ""} <span class="muted">${m.source}</span></li>`)}</ul>
    </details>`}
  </li>`;
}

/** Open first. Nothing where there was none. */
export function Incidents({ incidents }) {
  if (!incidents.length) return null;
  const sorted = [...incidents].sort((a, b) => Number(a.resolved_at !== null) - Number(b.resolved_at !== null));
  return html`<${Section} title="Incidents" id="incidents" className="wide">${sorted.map((one) => html`<article class="incident" key=${one.incident}>
    <h3><${Badge} tone=${one.resolved_at === null ? "bad" : "good"}>${one.resolved_at === null ? "Open" : "Resolved"}<//>${" "}
      ${words(one.severity)}, since <${When} at=${one.opened_at} />${one.resolved_at !== null && html`, until <${When} at=${one.resolved_at} />`}</h3>
    <ol class="timeline">${one.lines.map((line) => html`<li><${When} at=${line.at} /> <span dir="auto">${line.text}</span> <span class="muted">${line.who}</span></li>`)}</ol>
  </article>`)}<//>`;
}

/** Who chose what. Nothing where nobody did. */
export function Decisions({ decisions }) {
  if (!decisions.length) return null;
  return html`<${Section} title="Decisions" id="decisions">
    <ol class="timeline">${decisions.map((one) => html`<li><${When} at=${one.at} /> <span dir="auto">${one.question}</span> <strong dir="auto">${one.choice}</strong>
      by ${one.who}${one.why && html`: <span dir="auto">${one.why}</span>`}</li>`)}</ol>
  <//>`;
}

/** What did not arrive is open, the rest folded. */
export function Messages({ view }) {
  const lost = view.messages.filter((one) => !one.arrived);
  const tone = lost.length ? "bad" : "good";
  return html`<${Section} title="Messages" id="messages" aside=${view.messages.length > 0 && html`<${Badge} tone=${tone}>${lost.length ? `${lost.length} did not arrive` : "all arrived"}<//>`}>
    ${!view.messages.length && html`<p class="muted">Nobody was told anything yet.</p>`}
    ${lost.map((one) => html`<${Message} one=${one} />`)}
    ${view.messages.length > lost.length && html`<details><summary>${count(view.messages.length - lost.length, "message")} arrived</summary>
      ${view.messages.filter((one) => one.arrived).map((one) => html`<${Message} one=${one} />`)}</details>`}
  <//>`;
}

function Message({ one }) {
  return html`<article class="message"><p class="small muted"><${When} at=${one.at} /> ${words(one.channel)}</p>
    <p class="reason" dir="auto">${one.text}</p>
    ${one.problem && html`<p class=${`small ${one.arrived ? "muted" : "problem"}`}>${one.arrived ? "Arrived at a later try. First: " : "Did not arrive: "}${one.problem}</p>`}</article>`;
}
