/**
 * What was before and what comes: past deployments a page at a time, DORA's four, windows and freezes.
 */

import * as api from "./api.js";
import { toneOf } from "./deployment.js";
import { count, duration, percent } from "./format.js";
import { Away, Badge, Component, Facts, html, Out, Section, When } from "./ui.js";

const PAGE = 20;

const standing = (now) => `${now?.deployment?.run} ${now?.deployment?.status}`;

/** Past deployments, numbers and calendar of one plan. Asked for when they are shown, and when a deployment begins or ends. */
export class Past extends Component {
  state = { offset: 0, found: null, at: null, problem: "", numbers: null, unknown: "" };

  componentDidMount() {
    this.look();
  }

  componentDidUpdate(before) {
    if (standing(before.now) !== standing(this.props.now)) this.look();
  }

  look() {
    this.turn(this.state.offset);
    api.numbers(this.props.plan).then((numbers) => this.setState({ numbers, unknown: "" }), (error) => this.setState({ unknown: error.message }));
  }

  turn = async (offset) => {
    try {
      this.setState({ found: await api.pastDeployments(this.props.plan, PAGE, offset), offset, at: Date.now() / 1000, problem: "" });
    } catch (error) {
      this.setState({ problem: error.message });
    }
  };

  render({ plan }, { found, at, problem, numbers, unknown }) {
    return html`<${Section} title="Deployments" id="past" className="wide" aside=${found && html`<span class="muted">${found.total}</span>`}>
        ${problem && html`<p class="away" role="note">The past cannot be read: ${problem}.${found ? html` This is as of <${When} at=${at} date />.` : ""}</p>`}
        ${found && html`<${Table} plan=${plan} rows=${found.rows} /><${Pager} found=${found} turn=${this.turn} />`}
      <//>
      <${Dora} numbers=${numbers} unknown=${unknown} />
      <${Calendar} numbers=${numbers} unknown=${unknown} />`;
  }
}

function Table({ plan, rows }) {
  if (!rows.length) return html`<p class="muted">There was none.</p>`;
  return html`<table class="rows"><thead><tr><th scope="col">Version</th><th scope="col">Outcome</th><th scope="col">Began</th><th scope="col">Took</th><th scope="col">By</th><th scope="col">Why</th><th scope="col">Report</th></tr></thead>
    <tbody>${rows.map((row) => html`<tr key=${row.run}>
      <th scope="row" data-label="Version"><a href=${`#/plans/${encodeURIComponent(plan)}/deployments/${encodeURIComponent(row.run)}`}>${row.version}</a> <span class="muted">after ${row.previous_version}</span></th>
      <td data-label="Outcome"><${Badge} tone=${toneOf(row)}>${row.outcome}<//></td>
      <td data-label="Began"><${When} at=${row.started_at} date /></td>
      <td data-label="Took">${row.ended_at ? duration(row.ended_at - row.started_at) : "–"}</td>
      <td data-label="By">${row.requested_by}</td>
      <td data-label="Why" dir="auto">${row.reason}</td>
      <td data-label="Report">${!row.report ? "–" : /^https?:/.test(row.report) ? html`<${Out} href=${row.report}>Report<span class="hidden"> of ${row.version}</span><//>` : html`<code class="small">${row.report}</code>`}</td>
    </tr>`)}</tbody></table>`;
}

function Pager({ found: { offset, limit, total }, turn }) {
  if (total <= limit) return null;
  const last = Math.min(offset + limit, total);
  return html`<nav class="pager" aria-label="Pages of deployments">
    <button class="outline" disabled=${offset === 0} onClick=${() => turn(Math.max(0, offset - limit))}>Newer</button>
    <span role="status">${offset + 1} to ${last} of ${total}</span>
    <button class="outline" disabled=${last >= total} onClick=${() => turn(offset + limit)}>Older</button>
  </nav>`;
}

function Dora({ numbers, unknown }) {
  const dora = numbers?.dora;
  return html`<${Section} title="How it goes" id="dora" aside=${dora && html`<span class="small muted">since <${When} at=${dora.since} date /></span>`}>
    ${unknown && html`<p class="away" role="note">Not known: ${unknown}.</p>`}
    <${Away} part=${numbers?.ledger} what="The ledger" />
    ${dora && html`<${Facts} pairs=${[
      ["Deployment frequency", dora.per_week === null ? "not known" : `${+dora.per_week.toPrecision(2)} a week (${count(dora.deployments, "deployment")}, ${dora.stopped} stopped before the switch)`],
      ["Lead time for changes", `${duration(dora.lead_time_seconds)} (${count(dora.changes, "change")})`],
      ["Change failure rate", `${percent(dora.failure_rate)} (${dora.failed})`],
      ["Time to restore", `${duration(dora.restore_seconds)} (${count(dora.incidents, "incident")}, ${dora.open_incidents} open)`],
    ]} />`}
  <//>`;
}

function Calendar({ numbers, unknown }) {
  if (!numbers) return unknown ? null : html`<${Section} title="Windows and freezes" id="calendar"><p class="muted">Loading…</p><//>`;
  return html`<${Section} title="Windows and freezes" id="calendar" aside=${html`<span class="small muted">the next 30 days; planned in ${numbers.timezone}</span>`}>
    ${numbers.calendar_problem && html`<p class="away" role="note">The freezes are not known: ${numbers.calendar_problem}</p>`}
    <ul class="calendar">${numbers.windows.map((window) => html`<li key=${window.opens}>
      <${Badge} tone=${window.frozen ? "warn" : window.open ? "busy" : "good"}>${window.frozen ? "frozen" : window.open ? "open now" : "window"}<//>
      ${" "}<${When} at=${window.opens} date /> to <${When} at=${window.closes} />${window.frozen ? `: ${window.frozen}` : ""}</li>`)}</ul>
    ${numbers.freezes.length > 0 && html`<h3>Freezes</h3><ul>${numbers.freezes.map((freeze) => html`<li key=${freeze.starts}><${When} at=${freeze.starts} date /> to <${When} at=${freeze.ends} date />: <span dir="auto">${freeze.why}</span></li>`)}</ul>`}
  <//>`;
}
