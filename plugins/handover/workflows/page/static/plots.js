/**
 * The plan's measures over time, each with its limit and the moments of the deployment. Drawn by uPlot, which is loaded
 * when the first plot comes into view.
 */

import { clock, measure, utcChosen, value } from "./format.js";
import { token } from "./theme.js";
import { Component, createRef, html, Section, When } from "./ui.js";

const HEIGHT = 150;
const MARKS = { switch: "--busy-mark", migration: "--mark-migration", incident: "--bad-mark", back: "--warn-mark", end: "--fg-muted" };
const NAMES = { switch: "switch", migration: "migration", incident: "incident", back: "back", end: "end" };

/** All of one deployment. ``view`` gives moments and measures, ``found`` the measurements. */
export function Plots({ view, found, stale }) {
  const moments = view?.moments ?? [];
  const known = (one) => (view?.measures ?? []).find((each) => each.name === one.what && each.source === one.source);
  const weight = (one) => SEVERITIES.indexOf(known(one)?.severity ?? "none") + (one.above === null && one.below === null ? 10 : 0);
  const series = [...(found?.series ?? [])].sort((a, b) => weight(a) - weight(b));
  const kinds = [...new Set(moments.map((moment) => moment.kind))];
  return html`<${Section} title="Measures" id="measures" className="wide" aside=${stale}>
    ${kinds.length > 0 && html`<ul class="marks" aria-label="Moments">${moments.map((moment) => html`<li key=${moment.kind + moment.at}>
      <span class=${`mark ${moment.kind}`} aria-hidden="true"></span>${NAMES[moment.kind]}${moment.text ? `: ${moment.text}` : ""} <${When} at=${moment.at} />
    </li>`)}</ul>`}
    ${!series.length && html`<p class="muted">Nothing was measured yet.</p>`}
    <div class="plots">${series.map((one) => html`<${Plot} key=${`${one.what} ${one.source} ${one.unit}`} one=${one} rule=${known(one)} at=${found.at} moments=${moments} />`)}</div>
  <//>`;
}

const SEVERITIES = ["critical", "high", "medium", "low", "none"];

class Plot extends Component {
  box = createRef();

  componentDidMount() {
    this.seen = new IntersectionObserver(([entry]) => entry.isIntersecting && this.draw(), { rootMargin: "200px" });
    this.seen.observe(this.box.current);
    this.sized = new ResizeObserver(() => this.plot?.setSize({ width: this.box.current.clientWidth, height: HEIGHT }));
    this.sized.observe(this.box.current);
    addEventListener("themechange", this.again);
  }

  componentDidUpdate(before) {
    if (!this.plot || before.at === this.props.at) return;
    if (before.moments.length !== this.props.moments.length) this.again();
    else this.plot.setData(this.rows());
  }

  componentWillUnmount() {
    this.seen.disconnect();
    this.sized.disconnect();
    removeEventListener("themechange", this.again);
    this.plot?.destroy();
  }

  again = () => {
    if (!this.plot) return;
    this.plot.destroy();
    this.plot = null;
    this.draw();
  };

  rows() {
    const { one, at } = this.props;
    const limits = [one.above, one.below].filter((limit) => limit !== null).map((limit) => at.map(() => limit));
    return [at, one.high, one.low.length ? one.low : one.high, ...limits];
  }

  async draw() {
    // Away for the moment: the figures above stand, and the next draw asks again.
    const found = await import("./vendor/uplot.js").catch(() => null);
    if (!found || this.plot || !this.box.current) return;
    const UPlot = found.default;
    this.plot = new UPlot(options(this.props, this.box.current.clientWidth, UPlot), this.rows(), this.box.current);
  }

  render({ one, rule }) {
    const said = (number) => value(number, one.unit, one.what);
    const known = one.high.filter((each) => each !== null);
    const last = known.at(-1);
    const limits = [one.above !== null && `at most ${said(one.above)}`, one.below !== null && `at least ${said(one.below)}`];
    const limit = limits.filter(Boolean).join(", ") || rule?.limit || "no limit";
    const low = one.low.filter((each) => each !== null);
    const range = known.length ? `from ${said(Math.min(...known, ...low))} to ${said(Math.max(...known))}` : "no data";
    const broken = (one.above !== null && last > one.above) || (one.below !== null && last < one.below);
    const gone = one.high.length > 0 && one.high.at(-1) === null && one.high.at(-2) === null;
    return html`<figure class="plot">
      <figcaption><strong>${measure(one.what)}</strong>
        <span class=${broken ? "over" : ""}>${said(last)}${broken ? " – outside its limit" : ""}</span>
        <span class="small muted">${limit}; ${range}${gone ? "; no data lately" : ""}; ${one.source}</span></figcaption>
      <div class="canvas" ref=${this.box} role="img" aria-label=${`${measure(one.what)}: last ${said(last)}, ${range}, ${limit}`}></div>
    </figure>`;
  }
}

function options({ one, moments }, width, UPlot) {
  const line = token("--busy-mark");
  const axis = { stroke: token("--fg-muted"), grid: { stroke: token("--border"), width: 1 }, ticks: { show: false }, font: "11px sans-serif" };
  const limit = { stroke: token("--bad-mark"), width: 1.5, dash: [6, 4], points: { show: false }, label: "limit" };
  return {
    width, height: HEIGHT, legend: { show: false }, cursor: { sync: { key: "measures" }, drag: { x: true, y: false } },
    scales: { x: { time: true }, y: { range: (_, low, high) => room(low, high) } },
    axes: [
      { ...axis, values: (_, ticks) => ticks.map((at) => clock(at, false, utcChosen()).slice(-8, -3)), space: 60, size: 28 },
      { ...axis, values: (_, ticks) => ticks.map((tick) => value(tick, one.unit, one.what)), size: 64 },
    ],
    series: [
      {},
      { stroke: line, width: 1.5, points: { size: 4 }, spanGaps: false },
      { stroke: line, width: one.low.length ? 1 : 0, points: { show: false } },
      ...[one.above, one.below].filter((each) => each !== null).map(() => limit),
    ],
    bands: one.low.length ? [{ series: [1, 2], fill: token("--busy-band") }] : [],
    hooks: { draw: [(plot) => mark(plot, moments, UPlot.pxRatio)] },
  };
}

function room(low, high) {
  if (low === null || high === null) return [0, 1];
  const floor = low >= 0 ? 0 : low * 1.1;
  return [floor, high > floor ? high + (high - floor) * 0.15 : floor + 1];
}

function mark(plot, moments, ratio) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.lineWidth = 2 * ratio;
  ctx.setLineDash([]);
  for (const moment of moments) {
    const x = plot.valToPos(moment.at, "x", true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = token(MARKS[moment.kind] ?? "--fg-muted");
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}
