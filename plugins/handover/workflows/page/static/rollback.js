/**
 * "Roll back now": a button that is there when there is something to roll back, and a dialog that says what will happen,
 * asks why, and then says where traffic is and how long it took.
 */

import * as api from "./api.js";
import { Badge, Component, createRef, html, Icon } from "./ui.js";

export class RollBack extends Component {
  state = { reason: "", sending: false, problem: "", told: null };
  dialog = createRef();
  opener = createRef();

  open = () => {
    this.setState({ problem: "", told: null, run: this.props.now.deployment?.run ?? "" });
    this.dialog.current.showModal();
    api.where(this.props.now.plan).catch(() => null); // the server's way to the cluster is open when it is needed
  };

  close = () => this.dialog.current.close();

  closed = () => {
    this.setState({ told: null });
    this.opener.current?.focus();
  };

  send = async (event) => {
    event.preventDefault();
    const { now, done } = this.props;
    const reason = this.state.reason.trim();
    const least = now.rollback.min_reason;
    if (reason.length < least) {
      this.setState({ problem: `Say why in at least ${least} characters: people read it, and it stands in the record.` });
      return;
    }
    this.setState({ sending: true, problem: "" });
    try {
      const told = await api.rollBack(now.plan, reason, this.state.run);
      this.setState({ sending: false, told });
    } catch (error) {
      this.setState({ sending: false, problem: `Not done: ${error.message}.` });
    }
    done();
  };

  render({ now }, state) {
    const { possible, allowed, why, effect } = now.rollback;
    const shown = possible || state.told || state.sending;
    const one = now.deployment;
    return html`<div class="rollback">
      ${shown && html`<button class="danger" ref=${this.opener} onClick=${this.open} disabled=${!allowed || !possible} aria-describedby="rollback-why">
        <${Icon} name="back" />Roll back now
      </button>`}
      <p id="rollback-why" class="small muted">${shown && !allowed ? "You have no right to start the rollback DAG." : shown ? why : ""}</p>
      <dialog ref=${this.dialog} aria-labelledby="rollback-title" onClose=${this.closed}>
        <h2 id="rollback-title">Roll back ${one?.version ?? ""} now?</h2>
        ${state.told ? html`<${Told} told=${state.told} close=${this.close} />` : html`<form onSubmit=${this.send} novalidate>
          <p><strong>What will happen:</strong> ${effect}.</p>
          ${why && html`<p class="away">${why}</p>`}
          <label for="rollback-reason">Why</label>
          <textarea id="rollback-reason" rows="3" maxlength="500" required aria-describedby="rollback-least" value=${state.reason}
            onInput=${(event) => this.setState({ reason: event.target.value })}></textarea>
          <p id="rollback-least" class="small muted">At least ${now.rollback.min_reason} characters. It is recorded with your name.</p>
          <p class="problem" role="alert">${state.problem}</p>
          <div class="actions">
            <button type="button" class="outline" onClick=${this.close}>Cancel</button>
            <button type="submit" class="danger" disabled=${state.sending}>${state.sending ? "Moving traffic…" : "Roll back now"}</button>
          </div>
        </form>`}
      </dialog>
    </div>`;
  }
}

function Told({ told, close }) {
  const took = told.moved ? `It took ${Math.round(told.milliseconds)} ms.` : told.back ? "It was there already." : "";
  return html`<div role="status">
    <p><${Badge} tone=${told.back ? "good" : "warn"}>${told.back ? "Traffic is back" : "Under way"}<//></p>
    <p>${told.said}. ${took}</p>
    <div class="actions"><button class="outline" onClick=${close} autofocus>Close</button></div>
  </div>`;
}
