/**
 * Texts that change with the time alone. One timer for all of them, and none while nobody looks.
 */

import { Component, html } from "./ui.js";

const hearers = new Set();
setInterval(() => !document.hidden && hearers.forEach((hear) => hear()), 1000);

/** Seconds since the epoch, as this browser has it. */
export const seconds = () => Date.now() / 1000;

/** ``say(at, now)`` in words, every second anew. It is no news to a screen reader. */
export class Ago extends Component {
  hear = () => this.forceUpdate();

  componentDidMount() {
    hearers.add(this.hear);
  }

  componentWillUnmount() {
    hearers.delete(this.hear);
  }

  render({ at, say }) {
    return html`<span class="ticks">${say(at, seconds())}</span>`;
  }
}
