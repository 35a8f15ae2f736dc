/**
 * Begins the page: which view the address asks for, who is signed in, and the frame around every view.
 *
 *   #/                                    all services
 *   #/plans/PLAN                          what goes on at one
 *   #/plans/PLAN/deployments/RUN          one deployment of it, now or past
 */

import * as api from "./api.js";
import { PlanPage } from "./deployment.js";
import { chooseUtc, utcChosen, zone } from "./format.js";
import { Services } from "./services.js";
import "./theme.js";
import { Component, html, render } from "./ui.js";

function routeOf(hash) {
  const parts = hash.replace(/^#?\/?/, "").split("/").filter(Boolean).map(decoded);
  if (parts[0] !== "plans" || !parts[1]) return { view: "services" };
  return { view: "plan", plan: parts[1], run: parts[2] === "deployments" ? (parts[3] ?? "") : "" };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

class App extends Component {
  state = { route: routeOf(location.hash), me: null, utc: utcChosen() };

  componentDidMount() {
    addEventListener("hashchange", this.turned);
    api.me().then((me) => this.setState({ me }));
  }

  turned = () => {
    this.setState({ route: routeOf(location.hash) }, () => document.getElementById("main")?.focus());
    scrollTo(0, 0);
  };

  clocks = () => {
    chooseUtc(!this.state.utc);
    this.setState({ utc: !this.state.utc });
  };

  render(_, { route, me, utc }) {
    return html`<a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
      <header class="top">
        <nav aria-label="Deployments">
          <a href="#/" aria-current=${route.view === "services" ? "page" : undefined}>All services</a>
          ${route.plan && html`<span aria-hidden="true" class="muted">/</span>
            <a href=${`#/plans/${encodeURIComponent(route.plan)}`} aria-current=${route.run ? undefined : "page"}>${route.plan}</a>`}
          ${route.plan && route.run && html`<span aria-hidden="true" class="muted">/</span><span class="run" aria-current="page">${route.run}</span>`}
        </nav>
        <div class="who">
          ${me && html`<span class="muted">Signed in as ${me.username}</span>`}
          <button class="ghost" onClick=${this.clocks} aria-pressed=${utc} title="Switch between your own time and UTC">Times: ${zone()}</button>
        </div>
      </header>
      <main id="main" tabindex="-1"><${View} route=${route} me=${me} utc=${utc} /></main>`;
  }
}

function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

function View({ route, me }) {
  if (route.view === "plan") return html`<${PlanPage} key=${`${route.plan} ${route.run}`} plan=${route.plan} run=${route.run} me=${me} />`;
  return html`<${Services} />`;
}

const page = document.getElementById("page");
page.replaceChildren(); // the word that stood there until now
render(html`<${App} />`, page);
