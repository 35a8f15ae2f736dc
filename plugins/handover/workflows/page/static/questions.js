/**
 * Open questions: whose turn it is, until when, what the answer rests on; answered by the person's own rights.
 */

import * as api from "./api.js";
import { distance, words } from "./format.js";
import { Ago } from "./ticker.js";
import { Badge, Component, html, Out, Section, When } from "./ui.js";

const UNTIL = /^\*\*Until:\*\* \w+ (\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) UTC/m;

/** What the page knows of one, from Airflow's answer. ``until`` null: its text does not say. */
export function understood(detail, now) {
  const said = detail.body?.match(UNTIL);
  const until = said ? Date.parse(`${said[1]}T${said[2]}Z`) / 1000 : null;
  const by = new Map();
  for (const { id, name } of detail.assigned_users) by.set(name, [...(by.get(name) ?? []), id]);
  const roles = [...by].map(([title, ids]) => `${title} (${ids.join(", ")})`);
  return {
    detail, until, roles, subject: detail.subject, turn: roles[0] ?? "", others: roles.slice(1),
    overdue: until !== null && until < now, task: detail.task_instance,
  };
}

/** Overdue first, then by deadline; those without one last. */
export function byUrgency(asked) {
  return [...asked].sort((a, b) => (a.until ?? Infinity) - (b.until ?? Infinity));
}

/** Those of the deployment itself and of its rollback: the others hold nothing up. */
export const followed = (asked, dags) => asked.filter(({ task }) => dags && [dags.deployment, dags.rollback].includes(task.dag_id));

/** All of a plan's. ``error``: why they may be out of date. */
export function Questions({ asked, error, me, answered }) {
  return html`<${Section} title="Open questions" id="questions" className=${asked.length ? "wide" : ""} aside=${html`<span class="muted">${asked.length || "none"}</span>`}>
    ${error && html`<p class="away" role="note">Airflow does not say which questions are open: ${error.message}.</p>`}
    ${!asked.length && !error && html`<p class="muted">Nobody is asked anything.</p>`}
    ${asked.map((one) => html`<${Question} key=${one.task.id} one=${one} me=${me} answered=${answered} />`)}
  <//>`;
}

class Question extends Component {
  state = { choice: "", fields: {}, sending: false, problem: "" };

  /** Why this person's buttons are of no use, "" when they are. */
  get unable() {
    const { one, me } = this.props;
    const ids = one.detail.assigned_users.map((user) => user.id);
    if (!ids.length || !me || ids.includes(me.id)) return "";
    return `You are signed in as ${me.username}. Only ${one.roles.join(" or ")} may answer this.`;
  }

  send = async (event) => {
    event.preventDefault();
    const { one, answered } = this.props;
    const choice = this.state.choice || (one.detail.options.length === 1 ? one.detail.options[0] : "");
    if (!choice) return this.setState({ problem: "Choose an answer first." });
    this.setState({ sending: true, problem: "" });
    try {
      await api.answer(one.task, choice, { ...defaults(one.detail.params), ...this.state.fields });
      this.setState({ sending: false });
      answered();
    } catch (error) {
      this.setState({ sending: false, problem: `Not answered: ${error.message}.` });
      if (error.status === 409) answered();
    }
  };

  render({ one }, { choice, fields, sending, problem }) {
    const id = `q-${one.task.id}`;
    const unable = this.unable;
    return html`<article class=${`question ${one.overdue ? "overdue" : ""}`} aria-labelledby=${id}>
      <h3 id=${id} dir="auto">${one.subject}</h3>
      <p class="turn">
        ${one.overdue && html`<${Badge} tone="bad">Overdue<//>${" "}`}
        ${one.turn ? html`It is the turn of <strong>${one.turn}</strong>.` : "Whoever has the right may answer."}
        ${one.others.length > 0 && html`${" "}${one.others.join(", ")} may answer too.`}
        ${one.until && html`${" "}Until <${When} at=${one.until} /> (<${Ago} at=${one.until} say=${distance} />).`}
      </p>
      <div class="sides"><${Body} text=${one.detail.body ?? ""} />
      <form onSubmit=${this.send}>
        <fieldset disabled=${Boolean(unable) || sending} aria-describedby=${unable ? `${id}-why` : undefined}>
          <legend>Your answer</legend>
          ${one.detail.options.length > 1 && one.detail.options.map((option) => html`<label class="option" key=${option}>
            <input type="radio" name=${id} value=${option} checked=${choice === option} onChange=${() => this.setState({ choice: option })} />
            <span dir="auto">${option}</span>
          </label>`)}
          ${Object.entries(one.detail.params).map(([name, param]) => html`<${Field} key=${name} id=${`${id}-${name}`} name=${name}
            param=${param} value=${fields[name]} change=${(value) => this.setState({ fields: { ...fields, [name]: value } })} />`)}
          <button class="solid" type="submit">${sending ? "Sending…" : one.detail.options.length === 1 ? one.detail.options[0] : "Send answer"}</button>
        </fieldset>
        ${unable && html`<p id=${`${id}-why`} class="muted">${unable}</p>`}
        <p class="problem" role="alert">${problem}</p>
      </form></div>
      <p class="small"><${Out} href=${api.airflowPage(one.task.dag_id, one.task.dag_run_id, one.task.task_id)}>Open it in Airflow<//> (${one.task.dag_id}, ${one.task.dag_run_id})</p>
    </article>`;
  }
}

const defaults = (params) => Object.fromEntries(Object.entries(params).map(([name, param]) => [name, param.value ?? null]));

/** One field of an answer, by its JSON schema: a choice, a tick, a number, or text. */
function Field({ id, name, param, value, change }) {
  const schema = param.schema ?? {};
  const types = [schema.type ?? "string"].flat();
  const label = schema.title || words(name);
  const now = value === undefined ? param.value : value;
  if (types.includes("boolean")) {
    return html`<label class="option"><input type="checkbox" id=${id} checked=${Boolean(now)} onChange=${(e) => change(e.target.checked)} /> ${label}</label>`;
  }
  const told = (text) => (text === "" && types.includes("null") ? null : types.includes("number") || types.includes("integer") ? Number(text) : text);
  const shared = { id, value: now ?? "", onInput: (e) => change(told(e.target.value)), maxLength: schema.maxLength };
  return html`<div class="field"><label for=${id}>${label}</label>
    ${schema.enum
      ? html`<select ...${shared}>${[types.includes("null") ? "" : null, ...schema.enum].filter((one) => one !== null).map((one) => html`<option key=${one} value=${one}>${one || "–"}</option>`)}</select>`
      : html`<textarea ...${shared} rows="2"></textarea>`}
    ${param.description && html`<span class="small muted">${param.description}</span>`}
  </div>`;
}

/** The Markdown that questions are written in, as far as they use it: bold, emphasis, lists, escapes. The rest is text. */
export function Body({ text }) {
  const parts = text.split(/\n{2,}/).map((part) => part.split("\n"));
  return html`<div class="body" dir="auto">${parts.map((lines) => {
    const items = lines.filter((line) => line.startsWith("- "));
    const said = lines.filter((line) => !line.startsWith("- ") && line.trim());
    return html`${said.length > 0 && html`<p>${inline(said.join(" "))}</p>`}
      ${items.length > 0 && html`<ul>${items.map((line) => html`<li>${inline(line.slice(2))}</li>`)}</ul>`}`;
  })}</div>`;
}

function inline(text) {
  const found = text.split(/(\*\*(?:\\.|[^*\\])+\*\*|\*(?:\\.|[^*\\])+\*)/);
  const plain = (part) => part.replace(/\\([\\`*_{}[\]<>|#~!&:.])/g, "$1");
  return found.map((part) => {
    if (/^\*\*.+\*\*$/.test(part)) return html`<strong>${plain(part.slice(2, -2))}</strong>`;
    return /^\*.+\*$/.test(part) ? html`<em>${plain(part.slice(1, -1))}</em>` : plain(part);
  });
}
