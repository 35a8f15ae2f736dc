/**
 * One service now, or one deployment of it: in the order of somebody who was woken up.
 */

import { Feed } from "./api.js";
import { Decisions, Evidence, Incidents, Messages } from "./evidence.js";
import { distance, duration, measure, value, words } from "./format.js";
import { headline } from "./headline.js";
import { Past } from "./past.js";
import { Plots } from "./plots.js";
import { byUrgency, followed, Questions, understood } from "./questions.js";
import { RollBack } from "./rollback.js";
import { Ago, seconds } from "./ticker.js";
import { Away, Badge, Component, Facts, html, Icon, Out, Section, When } from "./ui.js";

export class PlanPage extends Component {
  state = { turn: 0 };

  componentDidMount() {
    const { plan, run } = this.props;
    this.feed = new Feed(plan, run, () => this.setState(({ turn }) => ({ turn: turn + 1 })));
    this.feed.start();
  }

  componentWillUnmount() {
    this.feed.stop();
  }

  render({ plan, run, me }) {
    const { now, deployment, measurements, questions } = this.feed?.data ?? {};
    const current = !run || now?.value?.deployment?.run === run;
    const view = deployment?.value;
    const asked = byUrgency((questions?.value ?? []).map((one) => understood(one, seconds())));
    const said = headline({ now: now?.value, error: now?.error, at: now?.at, asked: followed(asked, now?.value?.dags) });
    const open = html`<${Questions} key="open" asked=${asked} error=${questions?.error} me=${me} answered=${() => this.feed.now()} />`;
    const stale = (answer) => answer?.error && html`<${Stale} answer=${answer} />`;
    return html`
      ${current ? html`<${Headline} said=${said} now=${now?.value} feed=${this.feed} />` : html`<${PastHeadline} view=${view} answer=${deployment} plan=${plan} />`}
      ${current && now?.value && html`<div class=${`parts ${now.error ? "old" : ""}`}>
        ${asked.length > 0 && open}
        <${Traffic} now=${now.value} />
        <${Progress} now=${now.value} view=${view} />
        <div class="stack">
          <${Watch} now=${now.value} />
          <${Lock} now=${now.value} />
          ${!asked.length && open}
        </div>
      </div>`}
      <${Ledger} part=${now?.value?.parts.ledger} answer=${deployment} />
      <div class="parts">
        ${view && html`<${Incidents} incidents=${view.incidents} />
          <${Plots} view=${view} found=${measurements?.value} stale=${stale(measurements)} />
          <${Evidence} view=${view} stale=${stale(deployment)} />
          <${Decisions} decisions=${view.decisions} />
          <${Messages} view=${view} />
          <${About} view=${view} />`}
        ${!run && html`<${Past} plan=${plan} now=${now?.value} />`}
      </div>`;
  }
}

/** What is going on, what is wrong, who must do what; a screen reader hears of every change. */
function Headline({ said, now, feed }) {
  return html`<section class=${`headline ${said.tone}`} aria-label="Now">
    <p class="title">${now ? `${now.title} ` : ""}<${Badge} tone=${said.tone}>${said.word}<//></p>
    <div role="status" aria-live="polite" aria-atomic="true">
      <h1 dir="auto">${said.text}</h1>
      ${said.wrong && html`<p><strong>What is wrong:</strong> <span dir="auto">${said.wrong}</span></p>`}
      ${said.todo && html`<p><strong>Who must do what:</strong> <span dir="auto">${said.todo}</span></p>`}
    </div>
    ${now && html`<${RollBack} now=${now} done=${() => feed.all()} />`}
    <${Updated} feed=${feed} />
  </section>`;
}

function Updated({ feed }) {
  const at = feed?.data.now?.at;
  if (!at) return null;
  const way = feed.live ? "live" : "asked every 5 s";
  return html`<p class="updated small muted">Last updated <${When} at=${at} /> (<${Ago} at=${at} say=${(then, now) => (now - then < 1 ? "just now" : distance(then, now))} />), ${way}.</p>`;
}

function PastHeadline({ view, answer, plan }) {
  const back = html`<p><a href=${`#/plans/${encodeURIComponent(plan)}`}>What goes on now</a></p>`;
  if (!view) return html`<section class="headline unknown" aria-label="Deployment"><h1>${answer?.error ? `This deployment cannot be shown: ${answer.error.message}.` : "Loading…"}</h1>${back}</section>`;
  const { row } = view;
  return html`<section class=${`headline ${toneOf(row)}`} aria-label="Deployment">
    <p class="title">A deployment of the past</p>
    <h1>${row.version}, after ${row.previous_version}: ${row.outcome}.</h1>
    ${row.report && html`<p><${Out} href=${row.report}>Report<//>${/^https?:/.test(row.report) ? "" : html`: <code>${row.report}</code>`}</p>`}
    ${back}
  </section>`;
}

const TONES = { succeeded: "good", deploying: "busy", rolling_back: "bad", rollback_failed: "bad" };
export const toneOf = ({ status }) => TONES[status] ?? (status ? "warn" : "busy");

function Stale({ answer }) {
  const since = answer.at ? html`as of <${When} at=${answer.at} />` : "nothing known";
  return html`<${Badge} tone="unknown">${since}: ${answer.error.message}<//>`;
}

/** Two colours: who serves, how many pods are ready. */
function Traffic({ now }) {
  const { traffic, parts } = now;
  const old = !parts.cluster.answers;
  return html`<${Section} title="Where traffic is" id="traffic" className=${old ? "old" : ""}>
    <${Away} part=${parts.cluster} what="The cluster" />
    ${traffic && html`<p>${traffic.colours.map(one).filter(Boolean).join(", ") || words(traffic.said)}${traffic.moved_at ? html` since <${When} at=${traffic.moved_at} />` : ""}.</p>
      <div class="colours">${traffic.colours.map((one) => html`<${Colour} key=${one.colour} one=${one} />`)}</div>
      ${traffic.unfit && html`<p class="problem">${traffic.unfit}</p>`}
      ${traffic.reason && html`<p class="small muted" dir="auto">Last moved because: ${traffic.reason}</p>`}`}
  <//>`;
}

/** For a part that rests on the cluster: how old it is while that does not answer. */
function aged({ parts: { cluster } }) {
  return cluster.answers ? {} : { className: "old", aside: html`<span class="small">as of <${When} at=${cluster.at} /></span>` };
}

const one = ({ colour, weight, version }) => weight > 0 && `${weight} % of new connections go to ${colour}${version ? ` (${version})` : ""}`;

function Colour({ one: { colour, role, weight, ready, wanted, version } }) {
  const short = weight > 0 && ready < wanted;
  const roles = { stable: "old version (stable)", preview: "new version (preview)" };
  return html`<div class=${`colour ${weight > 0 ? "serves" : ""}`}>
    <h3><span class=${`swatch ${/^(blue|green)$/.test(colour) ? colour : ""}`} aria-hidden="true"></span>${colour} <span class="muted">${roles[role] ?? ""}</span></h3>
    <p class="big">${version || "version not known"}</p>
    <div class="bar" role="img" aria-label=${`${weight} % of new connections`}><div style=${{ width: `${Math.max(0, Math.min(100, weight))}%` }}></div></div>
    <p>${weight} % of new connections<br />
      <span class=${short ? "problem" : ""}>${ready} of ${wanted} pods ready</span></p>
  </div>`;
}

function Progress({ now, view }) {
  const one = now.deployment;
  if (!one) return null;
  const steps = one.steps;
  const last = one.last_step;
  return html`<${Section} title=${one.over ? "The last deployment" : "Phase and step"} id="progress" ...${aged(now)}>
    <${Away} part=${now.parts.airflow} what="Airflow's API" />
    <p class="big">${one.version} <span class="muted">after ${one.previous_version}</span></p>
    ${steps.length > 0 && html`<ul class="under-way">${steps.map((step) => html`<li key=${step.step}>
      <strong>${words(step.phase) || "Between phases"}</strong>: ${words(step.name)} <span class="muted">(${words(step.state).toLowerCase()}${step.since ? html`, for <${Ago} at=${step.since} say=${(at, at2) => duration(at2 - at)} />` : ""}${step.try_number > 1 ? `, try ${step.try_number}` : ""})</span>
    </li>`)}</ul>`}
    <${Facts} pairs=${[
      last && ["Last step", html`${words(last.name)}: <${Badge} tone=${{ pass: "good", fail: "bad" }[last.verdict] ?? "unknown"}>${last.verdict}<//>`],
      ["Cutover", one.switched_at ? html`<${When} at=${one.switched_at} />, <${Ago} at=${one.switched_at} say=${distance} />` : "clients have not met the new version"],
      one.decision_at && ["Decision point", html`<${When} at=${one.decision_at} />, <${Ago} at=${one.decision_at} say=${distance} />`],
      one.watch_until && ["Monitoring until", html`<${When} at=${one.watch_until} />, <${Ago} at=${one.watch_until} say=${distance} />`],
      one.back_at && ["Traffic back", html`<${When} at=${one.back_at} />`],
      ["Began", html`<${When} at=${one.started_at} />${view?.row.requested_by ? ` by ${view.row.requested_by}` : ""}`],
      one.finished_at && ["Ended", html`<${When} at=${one.finished_at} />`],
      one.reason && ["Why", html`<span dir="auto">${one.reason}</span>`],
      one.migration.length > 0 && ["Migrations", one.migration.join(", ")],
      one.digest && ["Image", html`<code>${one.digest}</code>`],
    ]} />
  <//>`;
}

function Watch({ now }) {
  const part = now.parts.watch;
  return html`<${Section} title="The watch" id="watch" className=${part.answers ? "" : "old"}>
    <${Away} part=${part} what="The watch" />
    ${part.answers && !now.watches.length && html`<p class="muted">Nobody watches, and nothing has to be watched.</p>`}
    ${now.watches.map((watch) => html`<article key=${watch.watcher}>
      <p><${Badge} tone=${watch.silent ? "unknown" : { pass: "good", fail: "bad" }[watch.verdict] ?? "unknown"}>${watch.silent ? "silent" : watch.verdict}<//>
        ${" "}<strong>${watch.watcher}</strong>, last word <${When} at=${watch.at} /> (<${Ago} at=${watch.at} say=${distance} />)${watch.armed ? "" : ", does not act yet"}</p>
      <p class="reason" dir="auto">${watch.reason}</p>
      ${watch.clean_since && html`<p>Clean since <${When} at=${watch.clean_since} />.</p>`}
      ${watch.measurements.length > 0 && html`<details><summary>What it measured</summary><ul>${watch.measurements.map((m) =>
        html`<li>${measure(m.what)}: ${value(m.value, m.unit, m.what)}${m.why ? ` (${m.why})` : ""}</li>`)}</ul></details>`}
    </article>`)}
  <//>`;
}

function Lock({ now }) {
  const lock = now.lock;
  return html`<${Section} title="The lock" id="lock" ...${aged(now)}>
    ${!lock && html`<p class="muted">${now.parts.cluster.answers ? "Nobody ever held it." : "Not known."}</p>`}
    ${lock && !lock.holder && html`<p><${Badge} tone="good">Free<//> Nobody holds it.</p>`}
    ${lock?.holder && html`<${Facts} pairs=${[
      ["Held by", html`<code>${lock.holder}</code>`],
      ["Since", html`<${When} at=${lock.since} />`],
      lock.reason && ["Why", html`<span dir="auto">${lock.reason}</span>`],
    ]} />`}
  <//>`;
}

/** The ledger is away, or has nothing of this one yet. */
function Ledger({ part, answer }) {
  if (part === null) return html`<p class="away" role="note"><${Icon} name="unknown" /><span>Nothing is recorded of this service, so there is no evidence to show.</span></p>`;
  if (part && !part.answers) return html`<${Away} part=${part} what="The ledger" />`;
  if (!answer?.error || answer.error.status === 404) return null;
  return html`<p class="away" role="note"><${Icon} name="unknown" /><span><strong>The record cannot be read:</strong> ${answer.error.message}.</span></p>`;
}

function About({ view }) {
  return html`<${Section} title="About it" id="about">
    <${Facts} pairs=${[
      ["Run", html`<${Out} href=${new URL(`../dags/${encodeURIComponent(view.dags.deployment)}/runs/${encodeURIComponent(view.row.run)}`, location.href.replace(/[?#].*$/, "")).href}>${view.row.run}<//>`],
      ["Asked for by", view.row.requested_by],
      ["Why", html`<span dir="auto">${view.row.reason}</span>`],
      ["Migrations by", view.method],
      view.window_override_reason && ["Window overridden", view.window_override_reason],
      view.readiness_override_reason && ["Readiness overridden", view.readiness_override_reason],
      ["Image", html`<code>${view.image}</code>`],
      ["Before", html`<code>${view.previous_image}</code>`],
      view.backup && ["Backup", html`<code>${view.backup}</code>`],
      view.changes.length > 0 && ["Commits", view.changes.length],
    ]} />
  <//>`;
}
