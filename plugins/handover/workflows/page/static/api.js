/**
 * What the page asks: the plugin's own routes, and Airflow's public API with the cookie of whoever is signed in.
 *
 * A `Feed` keeps one plan's answers current, by server-sent events or, where there are none, by asking every 5 s. An
 * answer that fails leaves the one before in place, with the time when that was current and the reason.
 */

const HERE = new URL("./", location.href.replace(/[?#].*$/, ""));
const AIRFLOW = new URL("../", HERE);
const POLL_SECONDS = 5;
const SLOW_SECONDS = 10; // looked at anyway: no event says that there will be none any more
const PATIENCE_SECONDS = 10;

/** An answer that is none. ``status`` 0: nobody answered at all; ``last``: when the part that is away last did. */
export class NoAnswer extends Error {
  constructor(status, detail, part = "", last = null) {
    super(detail);
    Object.assign(this, { status, part, last });
  }
}

async function ask(url, init = {}) {
  let answer;
  try {
    const signal = AbortSignal.timeout(PATIENCE_SECONDS * 1000);
    answer = await fetch(url, { credentials: "same-origin", cache: "no-store", signal, ...init });
  } catch {
    throw new NoAnswer(0, "Airflow's API server does not answer");
  }
  const body = await answer.json().catch(() => null);
  if (answer.ok && body !== null) return body;
  throw new NoAnswer(answer.status, said(answer.status, body?.detail), body?.part, body?.last);
}

function said(status, detail) {
  const told = typeof detail === "string" ? detail : Array.isArray(detail) ? detail.map((one) => one.msg).join("; ") : "";
  const known = {
    401: "you are not signed in to Airflow, or not any more: sign in and come back",
    403: `you have no right to do this${told && told !== "Forbidden" ? `: ${told}` : ""}`,
    404: told || "there is no such thing",
    409: told || "somebody else was faster",
  };
  return known[status] ?? (told || `Airflow answered with ${status}`);
}

const path = (...parts) => parts.map(encodeURIComponent).join("/");
const own = (...parts) => new URL(path(...parts), HERE);

export const plans = () => ask(own("plans"));
export const pastDeployments = (plan, limit, offset) =>
  ask(new URL(`${path("plans", plan, "deployments")}?limit=${limit}&offset=${offset}`, HERE));
export const numbers = (plan) => ask(own("plans", plan, "numbers"));

/** Who is signed in, as Airflow knows them; null when it does not say. */
export const me = () => ask(new URL("ui/auth/me", AIRFLOW)).catch(() => null);

/** Where traffic is, as a rollback would find it. */
export const where = (plan) => ask(own("plans", plan));

/** Moves traffic back. Gives what the server says of it. */
export function rollBack(plan, reason, deployment) {
  const headers = { "Content-Type": "application/json", "X-Handover": "1" };
  const body = JSON.stringify({ reason, deployment });
  return ask(own("plans", plan, "rollback"), { method: "POST", headers, body });
}

/** The open questions of these DAGs, oldest first. ``plan`` "": whichever plan they are of. */
export async function questions(plan, dags) {
  const asked = new URLSearchParams({ response_received: "false", order_by: "created_at", limit: "100" });
  if (plan) asked.set("dag_id_prefix_pattern", `${plan}_`);
  for (const state of ["awaiting_input", "deferred"]) asked.append("state", state);
  const found = await ask(new URL(`api/v2/dags/~/dagRuns/~/hitlDetails?${asked}`, AIRFLOW));
  const ids = new Set(dags);
  return found.hitl_details.filter((one) => ids.has(one.task_instance.dag_id) && !one.response_received);
}

function taskPath({ dag_id, dag_run_id, task_id, map_index }) {
  return path("dags", dag_id, "dagRuns", dag_run_id, "taskInstances", task_id, String(map_index ?? -1));
}

/** Answers a question with the person's own rights. */
export function answer(task, option, fields) {
  const body = JSON.stringify({ chosen_options: [option], params_input: fields });
  const headers = { "Content-Type": "application/json" };
  return ask(new URL(`api/v2/${taskPath(task)}/hitlDetails`, AIRFLOW), { method: "PATCH", headers, body });
}

/** Where Airflow's own page of a run, or of a task in it, is. */
export function airflowPage(dag, run, task = "") {
  return new URL(`${path("dags", dag, "runs", run)}${task ? `/${path("tasks", task)}` : ""}`, AIRFLOW).href;
}

/** One plan's answers: ``data[name]`` is {value, at, error}; ``changed`` is called after each. */
export class Feed {
  constructor(plan, run, changed) {
    Object.assign(this, { plan, run, changed, data: {}, live: false, of: "", busy: new Map(), timers: [] });
    this.seen = () => (document.hidden ? this.pause() : this.resume());
  }

  start() {
    document.addEventListener("visibilitychange", this.seen);
    this.resume();
  }

  stop() {
    document.removeEventListener("visibilitychange", this.seen);
    this.pause();
    this.changed = () => {};
  }

  resume() {
    this.pause();
    this.all();
    this.listen();
    this.timers.push(setInterval(() => (this.live ? this.failed() : this.all()), POLL_SECONDS * 1000));
    this.timers.push(setInterval(() => this.live && this.now(), SLOW_SECONDS * 1000));
  }

  pause() {
    this.events?.close();
    this.live = false;
    this.timers.forEach(clearInterval);
    this.timers = [];
  }

  listen() {
    const events = (this.events = new EventSource(own("plans", this.plan, "events")));
    events.onopen = () => this.set({ live: true });
    events.addEventListener("changed", (event) => this.heard(JSON.parse(event.data)));
    events.onerror = () => {
      this.set({ live: false });
      if (events.readyState === EventSource.CLOSED) this.timers.push(setTimeout(() => this.events === events && this.listen(), 15000));
    };
  }

  heard({ what, run }) {
    if (what.includes("now")) this.now();
    if (run && run !== this.shown) return;
    if (what.includes("deployment")) this.deployment();
    if (what.includes("measurements")) this.measurements();
  }

  set(news) {
    Object.assign(this, news);
    this.changed();
  }

  /** The run that is shown: the one that was asked for, else the current one. */
  get shown() {
    return this.run || this.data.now?.value?.deployment?.run || "";
  }

  async all() {
    if (!(await this.now())) await Promise.all([this.deployment(), this.measurements()]);
  }

  /** Asks again what did not answer. */
  failed() {
    for (const name of ["now", "deployment", "measurements"]) if (this.data[name]?.error) this[name]();
  }

  async now() {
    await this.take("now", () => ask(own("plans", this.plan, "now")));
    const dags = this.data.now?.value?.dags;
    const turned = this.turned();
    if (dags) await this.take("questions", () => questions(this.plan, Object.values(dags)));
    return turned;
  }

  /** Whether another deployment is shown from now on; then nothing of the one before is left. */
  turned() {
    if (this.shown === this.of) return false;
    this.of = this.shown;
    delete this.data.deployment;
    delete this.data.measurements;
    this.deployment();
    this.measurements();
    return true;
  }

  deployment() {
    if (this.shown) return this.take("deployment", () => ask(own("plans", this.plan, "deployments", this.shown)));
  }

  measurements() {
    if (this.shown) return this.take("measurements", () => this.measured());
  }

  async measured() {
    const before = this.data.measurements?.value;
    const url = own("plans", this.plan, "deployments", this.shown, "measurements");
    if (!before?.at.length) return ask(url);
    url.search = `since=${before.at.at(-1)}`;
    const more = await ask(url);
    return continued(before, more) ?? ask(url.href.replace(/\?.*/, ""));
  }

  /** One at a time of each name; whoever asks meanwhile has it asked once more. */
  async take(name, get) {
    if (this.busy.has(name)) return this.busy.set(name, true);
    this.busy.set(name, false);
    const [at, of] = [Date.now() / 1000, this.of];
    const found = await get().then((value) => ({ value, at, error: null }), (error) => ({ error }));
    const before = this.data[name];
    const stays = name === "now" || name === "questions" || of === this.of;
    if (stays) this.data[name] = found.error ? { value: before?.value ?? null, at: before?.at ?? null, error: found.error } : found;
    const again = this.busy.get(name);
    this.busy.delete(name);
    this.changed();
    if (again) await this.take(name, get);
  }
}

/** Measurements with what came since; null when they do not fit and have to be read as a whole. */
export function continued(before, more) {
  const named = (one) => JSON.stringify([one.what, one.source, one.unit]);
  const same = more.seconds === before.seconds && more.series.length === before.series.length;
  if (!same || before.series.some((one, i) => named(one) !== named(more.series[i]))) return null;
  const kept = before.at.filter((at) => at < more.at[0]).length;
  const joined = (old, young) => [...old.slice(0, kept), ...young];
  const series = before.series.map((one, i) => {
    const [low, next] = [one.low.length ? one.low : one.high, more.series[i].low.length ? more.series[i].low : more.series[i].high];
    const flat = !one.low.length && !more.series[i].low.length;
    return { ...more.series[i], high: joined(one.high, more.series[i].high), low: flat ? [] : joined(low, next) };
  });
  return more.at.length ? { seconds: before.seconds, at: joined(before.at, more.at), series } : before;
}
