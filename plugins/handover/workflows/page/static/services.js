/**
 * All services that this person may read, each with what goes on there and what comes next.
 */

import * as api from "./api.js";
import { count, distance, words } from "./format.js";
import { headline } from "./headline.js";
import { byUrgency, followed, understood } from "./questions.js";
import { Ago, seconds } from "./ticker.js";
import { Badge, Component, Facts, html, When } from "./ui.js";

const EVERY_SECONDS = 5;
const ORDER = ["bad", "unknown", "warn", "busy", "good"];

export class Services extends Component {
  state = { found: null, at: null, error: null, asked: [], unasked: null };

  componentDidMount() {
    this.look();
    this.timer = setInterval(() => !document.hidden && this.look(), EVERY_SECONDS * 1000);
  }

  componentWillUnmount() {
    clearInterval(this.timer);
  }

  look = async () => {
    const at = Date.now() / 1000;
    try {
      this.setState({ found: await api.plans(), at, error: null });
    } catch (error) {
      this.setState({ error });
    }
    const dags = (this.state.found?.plans ?? []).flatMap((plan) => Object.values(plan.now.dags));
    if (!dags.length) return;
    await api.questions("", dags).then((asked) => this.setState({ asked, unasked: null }), (unasked) => this.setState({ unasked }));
  };

  render(_, { found, at, error, asked, unasked }) {
    const open = byUrgency(asked.map((one) => understood(one, seconds())));
    const cards = (found?.plans ?? []).map((plan) => {
      const mine = open.filter((one) => Object.values(plan.now.dags).includes(one.task.dag_id));
      return { plan, asked: mine.length, said: headline({ now: plan.now, error: null, at, asked: followed(mine, plan.now.dags) }) };
    });
    cards.sort((a, b) => ORDER.indexOf(a.said.tone) - ORDER.indexOf(b.said.tone));
    return html`<h1 class="page-title">Services</h1>
      ${error && html`<p class="away" role="alert">${found ? html`Out of date, as of <${When} at=${at} />: ` : "Not known: "}${error.message}.</p>`}
      ${unasked && html`<p class="away" role="note">Airflow does not say which questions are open: ${unasked.message}.</p>`}
      ${found?.broken > 0 && html`<p class="away" role="note">${count(found.broken, "plan file")} cannot be read: Airflow shows why among its import errors.</p>`}
      ${!found && !error && html`<p class="loading">Loading…</p>`}
      ${found && !found.plans.length && html`<p class="muted">There is no service that you may read.</p>`}
      <div class=${`parts cards ${error ? "old" : ""}`}>${cards.map((card) => html`<${Card} key=${card.plan.name} ...${card} />`)}</div>
      ${at && html`<p class="updated small muted">Last updated <${When} at=${at} /> (<${Ago} at=${at} say=${distance} />).</p>`}`;
  }
}

function Card({ plan, said, asked }) {
  const { now, readiness, release_due: due, window: next } = plan;
  const one = now.deployment;
  const id = `plan-${plan.name}`;
  return html`<article class=${`panel card ${said.tone}`} aria-labelledby=${id}>
    <header><h2 id=${id}><a href=${`#/plans/${encodeURIComponent(plan.name)}`}>${plan.title}</a></h2><${Badge} tone=${said.tone}>${said.word}<//></header>
    <p dir="auto">${said.text}</p>
    ${said.wrong && html`<p class="problem" dir="auto">${said.wrong}</p>`}
    <${Facts} pairs=${[
      one && ["Version", html`${one.version} <span class="muted">after ${one.previous_version}</span>`],
      ["Traffic", now.traffic ? html`${serving(now.traffic)}${now.parts.cluster.answers ? "" : html` <span class="muted">(as of <${When} at=${now.parts.cluster.at} />)</span>`}` : "not known"],
      one?.steps.length > 0 && ["Step", words(one.steps[0].name)],
      asked > 0 && ["Open questions", html`<strong>${asked}</strong>`],
      now.lock?.holder && ["Lock", html`<code>${now.lock.holder}</code>`],
      ["Readiness", html`<${Ready} readiness=${readiness} />`],
      ["Release due", due.problem ? html`<span class="muted">not known: ${due.problem}</span>` : due.version || "none"],
      ["Next window", html`${next.open ? html`<${Badge} tone="busy">open<//> until <${When} at=${next.closes} date />` : html`<${When} at=${next.opens} date /> (<${Ago} at=${next.opens} say=${distance} />)`}${next.frozen ? html`<br /><${Badge} tone="warn">frozen<//> ${next.frozen}` : ""}`],
    ]} />
  </article>`;
}

const serving = (traffic) => traffic.colours.filter((one) => one.weight > 0).map((one) => `${one.weight} % ${one.colour}${one.version ? ` (${one.version})` : ""}`).join(", ") || traffic.said;

function Ready({ readiness: { known, counts, problem } }) {
  if (!known) return html`<span class="muted">${problem || "never judged"}</span>`;
  const against = known.against.length ? `: ${count(known.against.length, "line")} against it` : "";
  return html`<${Badge} tone=${counts ? "good" : "warn"}>${counts ? "ready" : "not ready"}<//> ${known.version}${against}${!counts && problem ? html`<br /><span class="muted">${problem}</span>` : ""}`;
}
