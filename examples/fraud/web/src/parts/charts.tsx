import { useEffect, useRef } from "preact/hooks";
import type { Entry, ModelState, Verdict } from "../api";
import { points } from "../live";
import { short } from "../text";

/** Spark is a line of the last values, without axes. */
export function Spark({ values, label }: { values: number[]; label: string }) {
  if (values.length < 2) return <svg class="spark" viewBox="0 0 120 32" aria-hidden="true" />;
  const top = Math.max(...values, 1e-9);
  const step = 120 / (values.length - 1);
  const line = values.map((v, i) => `${(i * step).toFixed(1)},${(30 - (28 * v) / top).toFixed(1)}`);
  return (
    <svg class="spark" viewBox="0 0 120 32" preserveAspectRatio="none" role="img" aria-label={label}>
      <polygon points={`0,32 ${line.join(" ")} 120,32`} />
      <polyline points={line.join(" ")} vector-effect="non-scaling-stroke" />
    </svg>
  );
}

/** Histogram counts scores on a logarithmic scale: nearly all are low, and the others matter. */
export function Histogram({ counts, model }: { counts: number[]; model: ModelState | null }) {
  const height = (n: number) => (n === 0 ? 0 : Math.log10(n + 1));
  const top = Math.max(...counts.map(height), 1);
  const now = currentOf(model);
  const total = counts.reduce((a, b) => a + b, 0);
  return (
    <figure class="histogram">
      <svg viewBox="0 0 400 150" role="img" aria-label={`Scores of ${total} transactions: ${counts.map((n, i) => `${(i / 20).toFixed(2)}: ${n}`).join(", ")}`}>
        {[1, 2, 3, 4, 5, 6].filter((e) => e < top).map((e) => (
          <g key={e} class="grid">
            <line x1="34" x2="400" y1={130 - (120 * e) / top} y2={130 - (120 * e) / top} />
            <text x="30" y={134 - (120 * e) / top}>{short(10 ** e)}</text>
          </g>
        ))}
        {counts.map((n, i) => {
          const h = (120 * height(n)) / top;
          return <rect key={i} class={rangeOf(i / 20, now)} x={36 + i * 18.2} width="15.6" y={130 - h} height={h} rx="2" />;
        })}
        <line class="axis" x1="34" x2="400" y1="130" y2="130" />
        {[0, 0.25, 0.5, 0.75, 1].map((p) => (
          <text key={p} class="below" x={36 + p * 362} y="146">{p}</text>
        ))}
      </svg>
      <figcaption class="muted small">Scores since the start, on a logarithmic scale</figcaption>
    </figure>
  );
}

export function currentOf(model: ModelState | null) {
  return model?.versions?.find((v) => v.version === model.current) ?? null;
}

function rangeOf(p: number, now: { challenge_from: number; deny_from: number } | null): Verdict {
  if (!now || p < now.challenge_from) return "approve";
  return p < now.deny_from ? "challenge" : "deny";
}

const span = 60_000; // of the timeline, in milliseconds
const ticks = [0.001, 0.01, 0.1, 0.5, 0.9, 0.99];
const low = logit(0.0003);
const high = logit(0.9985);

function logit(p: number): number {
  return Math.log(p / (1 - p));
}

/**
 * Timeline is the last minute of decisions: time to the right, score upwards, in log-odds, so that there is room between the
 * many low scores. It is drawn on a canvas because there are thousands of points; the table beside it says the same to those
 * who cannot see it.
 */
export function Timeline({ model, paused }: { model: ModelState | null; paused: boolean }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const now = currentOf(model);
  useEffect(() => {
    const c = canvas.current!;
    const g = c.getContext("2d")!;
    let frame = 0;
    let last = 0;
    const colours = new Colours();
    const draw = (t: number) => {
      frame = requestAnimationFrame(draw);
      // Twelve pictures a second are enough to see it move.
      if (t - last < 80 || paused) return;
      last = t;
      paint(c, g, t, colours.now(), now);
    };
    frame = requestAnimationFrame(draw);
    return () => cancelAnimationFrame(frame);
  }, [now?.challenge_from, now?.deny_from, paused]);

  function open(e: MouseEvent) {
    const found = nearest(canvas.current!, e.offsetX, e.offsetY);
    if (found) location.hash = `/transactions/${encodeURIComponent(found.transaction.id)}`;
  }

  return <canvas ref={canvas} class="timeline" role="img" aria-label="The last minute of decisions by score; the table of decisions lists them" onClick={open} />;
}

class Colours {
  private at = "";
  private known: Record<string, string> = {};
  now(): Record<string, string> {
    const root = document.documentElement;
    const at = `${root.dataset["theme"] ?? ""}${matchMedia("(prefers-color-scheme: dark)").matches}`;
    if (at !== this.at) {
      // A token is light-dark(…), which a canvas does not take; the colour of an element is what it comes to.
      const probe = document.body.appendChild(document.createElement("span"));
      for (const name of ["approve", "challenge", "deny", "muted", "line"]) {
        probe.style.color = `var(--${name})`;
        this.known[name] = getComputedStyle(probe).color;
      }
      probe.remove();
      this.at = at;
    }
    return this.known;
  }
}

const left = 44;
const below = 20;

function yOf(p: number | null, height: number): number {
  if (p === null) return height - below;
  const v = Math.min(high, Math.max(low, logit(Math.min(1 - 1e-9, Math.max(1e-9, p)))));
  return 8 + (height - below - 8) * (1 - (v - low) / (high - low));
}

function xOf(at: number, now: number, width: number): number {
  return left + (width - left - 8) * (1 - (now - at) / span);
}

function paint(c: HTMLCanvasElement, g: CanvasRenderingContext2D, t: number, colour: Record<string, string>, now: { challenge_from: number; deny_from: number } | null) {
  const ratio = devicePixelRatio || 1;
  const w = c.clientWidth;
  const h = c.clientHeight;
  if (c.width !== Math.round(w * ratio) || c.height !== Math.round(h * ratio)) {
    c.width = Math.round(w * ratio);
    c.height = Math.round(h * ratio);
  }
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, w, h);
  g.font = "11px 'Inter Variable', system-ui, sans-serif";
  g.textBaseline = "middle";
  g.lineWidth = 1;
  g.textAlign = "right";
  for (const p of ticks) {
    const y = yOf(p, h);
    g.strokeStyle = colour["line"]!;
    g.beginPath();
    g.moveTo(left, y);
    g.lineTo(w - 8, y);
    g.stroke();
    g.fillStyle = colour["muted"]!;
    g.fillText(`${Number((p * 100).toPrecision(3))}%`, left - 6, y);
  }
  g.textAlign = "center";
  for (let s = 0; s <= 60; s += 15) g.fillText(s === 0 ? "now" : `−${s} s`, Math.min(w - 20, Math.max(left + 12, xOf(t - s * 1000, t, w))), h - 8);
  if (now) {
    g.setLineDash([5, 4]);
    for (const [p, name] of [[now.challenge_from, "challenge"], [now.deny_from, "deny"]] as const) {
      g.strokeStyle = colour[name]!;
      g.beginPath();
      g.moveTo(left, yOf(p, h));
      g.lineTo(w - 8, yOf(p, h));
      g.stroke();
    }
    g.setLineDash([]);
  }
  for (let i = points.length - 1; i >= 0; i--) {
    const { at, entry } = points[i]!;
    if (t - at > span) break;
    const { verdict, score } = entry.decision;
    const x = xOf(at, t, w);
    const y = yOf(score, h);
    g.fillStyle = colour[verdict]!;
    g.globalAlpha = verdict === "approve" ? 0.55 : 0.95;
    g.beginPath();
    if (verdict === "approve") g.arc(x, y, 2.2, 0, 7);
    else if (verdict === "deny") g.rect(x - 3.5, y - 3.5, 7, 7);
    else {
      g.moveTo(x, y - 5);
      g.lineTo(x + 5, y);
      g.lineTo(x, y + 5);
      g.lineTo(x - 5, y);
    }
    g.fill();
  }
  g.globalAlpha = 1;
}

function nearest(c: HTMLCanvasElement, x: number, y: number): Entry | null {
  const t = performance.now();
  let best: Entry | null = null;
  let distance = 14 ** 2;
  for (let i = points.length - 1; i >= 0; i--) {
    const p = points[i]!;
    if (t - p.at > span) break;
    const d = (xOf(p.at, t, c.clientWidth) - x) ** 2 + (yOf(p.entry.decision.score, c.clientHeight) - y) ** 2;
    if (d < distance) {
      distance = d;
      best = p.entry;
    }
  }
  return best;
}
