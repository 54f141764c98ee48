// What the stream of decisions says, for all pages.

import { batch, signal } from "@preact/signals";
import { api, session, type Entry, type ModelState, type Statistics } from "./api";

/** A point of the timeline. */
export interface Point {
  at: number; // when it came, in the browser's milliseconds
  entry: Entry;
}

export const connection = signal<"connecting" | "live" | "lost">("connecting");
export const recent = signal<Entry[]>([]); // newest first
export const statistics = signal<Statistics | null>(null);
export const history = signal<Statistics[]>([]); // oldest first, one a second
export const model = signal<ModelState | null>(null);
/** outcome is the last transaction of which something became known: its challenge was answered, or the ground truth recorded. */
export const outcome = signal<Entry | null>(null);
/** points is read by the timeline on each frame; it is no signal, as nothing else is drawn for a point. */
export const points: Point[] = [];

const kept = { recent: 60, history: 90, points: 4000 };
let source: EventSource | null = null;

export function start(): void {
  if (source) return;
  connection.value = "connecting";
  void refreshModel();
  void api.decisions().then(
    (d) => {
      recent.value = [...recent.value, ...(d.entries ?? [])].slice(0, kept.recent);
    },
    () => undefined, // the stream tells whether the application answers
  );
  const s = new EventSource("/api/decisions/stream?sample=50");
  source = s;
  s.onopen = () => (connection.value = "live");
  s.onerror = () => {
    connection.value = "lost";
    // A stream that was refused does not come again: the session may be over, which the next question tells.
    if (s.readyState === EventSource.CLOSED) {
      stop();
      connection.value = "lost";
      void api.session().then(
        () => setTimeout(() => session.value && start(), 2000),
        () => session.value && setTimeout(start, 2000),
      );
    }
  };
  s.addEventListener("decision", (e) => take(JSON.parse((e as MessageEvent<string>).data) as Entry));
  s.addEventListener("outcome", (e) => change(JSON.parse((e as MessageEvent<string>).data) as Entry));
  s.addEventListener("statistics", (e) => {
    const now = JSON.parse((e as MessageEvent<string>).data) as Statistics;
    batch(() => {
      statistics.value = now;
      history.value = [...history.value, now].slice(-kept.history);
    });
  });
}

export function stop(): void {
  source?.close();
  source = null;
  batch(() => {
    recent.value = [];
    history.value = [];
    statistics.value = null;
  });
  points.length = 0;
}

export async function refreshModel(): Promise<void> {
  try {
    model.value = await api.model();
  } catch {
    // It is asked for again; whoever wants to say so on a page asks itself.
  }
}

// Decisions come by the dozen: a page is drawn once a frame for all of them.
let waiting: Entry[] = [];
function take(e: Entry): void {
  points.push({ at: performance.now(), entry: e });
  if (points.length > kept.points) points.splice(0, points.length - kept.points);
  if (waiting.length === 0) setTimeout(flush, 250);
  waiting.push(e);
}

function flush(): void {
  recent.value = [...waiting.reverse(), ...recent.value].slice(0, kept.recent);
  waiting = [];
}

function change(e: Entry): void {
  outcome.value = e;
  const at = recent.value.findIndex((o) => o.transaction.id === e.transaction.id);
  if (at >= 0) recent.value = recent.value.with(at, e);
}
