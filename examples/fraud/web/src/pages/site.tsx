import { useEffect, useState } from "preact/hooks";
import { api, sentenceOf, type Capture, type ModelState, type WAN } from "../api";
import { history, model, statistics } from "../live";
import { bytes, count, dateOf, score, short, since } from "../text";
import { Spark } from "../parts/charts";

export function Site() {
  const [wan, setWAN] = useState<WAN | null>(null);
  const [capture, setCapture] = useState<Capture | null>(null);
  const [waiting, setWaiting] = useState<number[]>([]);
  const [error, setError] = useState("");
  useEffect(() => {
    let ended = false;
    const look = async () => {
      try {
        const [m, w, c] = await Promise.all([api.model(), api.wan(), api.capture()]);
        if (ended) return;
        model.value = m;
        setWAN(w);
        setCapture(c);
        setWaiting((past) => [...past, c.waiting].slice(-120));
        setError("");
      } catch (err) {
        if (!ended) setError(sentenceOf(err));
      }
    };
    void look();
    const timer = setInterval(() => void look(), 1000);
    return () => {
      ended = true;
      clearInterval(timer);
    };
  }, []);

  return (
    <div class="site">
      <h1 class="visually-hidden">Model and site</h1>
      {error && <p class="banner" role="alert">{error}</p>}
      <Models state={model.value} />
      <Line wan={wan} onChange={setWAN} />
      <Spool capture={capture} wan={wan} waiting={waiting} />
    </div>
  );
}

// Of the figures of a version, those that tell most in a line.
const worth: [name: string, text: string, show: (v: number) => string][] = [
  ["roc_auc", "ROC AUC", (v) => v.toFixed(3)],
  ["average_precision", "Average precision", (v) => v.toFixed(3)],
  ["frauds_stopped", "Frauds stopped", (v) => `${(100 * v).toFixed(1)}%`],
  ["honest_denied", "Honest denied", (v) => `${(100 * v).toFixed(3)}%`],
];

function Models({ state }: { state: ModelState | null }) {
  const [busy, setBusy] = useState("");
  const [said, setSaid] = useState("");
  const [error, setError] = useState("");

  async function swap(version: string) {
    setBusy(version);
    setError("");
    setSaid("");
    const before = statistics.value;
    const began = performance.now();
    try {
      model.value = await api.swap(version);
      const took = Math.round(performance.now() - began);
      const answered = (statistics.value?.transactions ?? 0) - (before?.transactions ?? 0);
      setSaid(`Version ${version} scores now. Loading it took ${took} ms${answered > 0 ? `, in which ${count(answered)} transactions were answered` : ""}.`);
    } catch (err) {
      setError(sentenceOf(err));
    } finally {
      setBusy("");
    }
  }

  const known = new Set((state?.versions ?? []).flatMap((v) => Object.keys(v.figures ?? {})));
  const figures = worth.filter(([f]) => known.has(f));
  return (
    <section class="card models">
      <div class="head">
        <h2>Model</h2>
        {state && <span class="muted">version {state.current} for {since(state.since)}</span>}
      </div>
      <p class="muted">
        Another version is loaded beside the one that scores, warmed up, and put in its place between two transactions. None waits for it, and none fails.
        {state && !state.explained && " The present one is loaded without explanations."}
      </p>
      <p role="status" class="said">{said}</p>
      <p class="error" role="alert">{error}</p>
      <div class="scroll" tabIndex={0} role="region" aria-label="Versions of the model">
        <table>
          <thead>
            <tr>
              <th scope="col">Version</th>
              <th scope="col">Trained</th>
              {figures.map(([f, text]) => (
                <th key={f} scope="col" class="n spare">{text}</th>
              ))}
              <th scope="col" class="n spare">2nd factor from</th>
              <th scope="col" class="n spare">Denied from</th>
              <th scope="col" class="n">Scored</th>
              <th scope="col">
                <span class="visually-hidden">Put it in place</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {(state?.versions ?? []).map((v) => (
              <tr key={v.version} aria-current={v.version === state?.current ? "true" : undefined}>
                <th scope="row">{v.version}</th>
                <td>{dateOf(v.trained)}</td>
                {figures.map(([f, , show]) => (
                  <td key={f} class="n spare">{v.figures?.[f] === undefined ? "–" : show(v.figures[f])}</td>
                ))}
                <td class="n spare">{score(v.challenge_from)}</td>
                <td class="n spare">{score(v.deny_from)}</td>
                <td class="n">{count(state?.scored?.[v.version] ?? 0)}</td>
                <td class="n">
                  {v.version === state?.current ? (
                    <span class="pill good">scores</span>
                  ) : (
                    <button onClick={() => void swap(v.version)} disabled={busy !== ""}>
                      {busy === v.version ? "Loading…" : `Swap to ${v.version}`}
                    </button>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
        {state && (state.versions ?? []).length === 0 && <p class="empty">There are no versions to choose from.</p>}
      </div>
      <Spark values={history.value.map((s) => s.per_second)} label="Transactions a second" />
      <p class="muted small">{statistics.value ? `${short(Math.round(statistics.value.per_second))} transactions a second meanwhile` : "No transactions yet"}</p>
    </section>
  );
}

function Line({ wan, onChange }: { wan: WAN | null; onChange: (w: WAN) => void }) {
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);

  async function flip() {
    if (!wan) return;
    setBusy(true);
    setError("");
    try {
      onChange(await api.setWAN(!wan.up));
    } catch (err) {
      setError(sentenceOf(err));
    } finally {
      setBusy(false);
    }
  }

  const up = wan?.up ?? true;
  return (
    <section class={`card line ${up ? "up" : "down"}`}>
      <h2 id="wan-title">The line to the region</h2>
      <svg class="wire" viewBox="0 0 300 60" aria-hidden="true">
        <rect x="2" y="14" width="66" height="32" rx="6" />
        <text x="35" y="34">site</text>
        <path d="M70 30h62M168 30h62" />
        {up ? <path d="M132 30h36" /> : <path class="cut" d="m140 18 20 24M160 18l-20 24" />}
        <rect x="232" y="14" width="66" height="32" rx="6" />
        <text x="265" y="34">region</text>
      </svg>
      <div class="switch-row">
        <button class="switch" role="switch" aria-checked={up} aria-labelledby="wan-title" disabled={!wan?.switchable || busy} onClick={() => void flip()}>
          <i aria-hidden="true" />
        </button>
        <span role="status">{!wan ? "…" : up ? "Connected" : `Cut for ${since(wan.since)}`}</span>
      </div>
      <p class="muted small">
        {wan && !wan.switchable
          ? "It cannot be cut here: the application was started without the relay in the line."
          : up
            ? "Cut it: transactions are scored as before, because nothing that scores is at the other end."
            : "Scoring goes on; what is captured waits here until the line is back."}
      </p>
      <p class="error" role="alert">{error}</p>
    </section>
  );
}

function Spool({ capture, wan, waiting }: { capture: Capture | null; wan: WAN | null; waiting: number[] }) {
  if (capture && !capture.on) {
    return (
      <section class="card spool">
        <h2>Capture</h2>
        <p class="empty">Capture is off: this daemon keeps no records of what it scored.</p>
      </section>
    );
  }
  const state = !capture ? "" : wan && !wan.up ? "waiting for the line" : capture.waiting > 0 ? "sending" : "all is home";
  return (
    <section class="card spool">
      <div class="head">
        <h2>Capture</h2>
        {state && <span class={`pill ${state === "all is home" ? "good" : "busy"}`}>{state}</span>}
      </div>
      <dl class="counters">
        <Counter name="Waiting here" n={capture?.waiting} note={capture ? bytes(capture.bytes) : ""} />
        <Counter name="Sent home" n={capture?.uploaded} />
        <Counter name="Accepted" n={capture?.accepted} />
        <Counter name="Dropped" n={capture?.dropped} />
        <Counter name="Outcomes told" n={capture?.told} />
      </dl>
      <Spark values={waiting} label="Records that wait, the last two minutes" />
      <p class="muted small">Records that wait, the last two minutes</p>
    </section>
  );
}

function Counter({ name, n, note = "" }: { name: string; n: number | undefined; note?: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        {n === undefined ? "–" : count(n)} {note && <small class="muted">{note}</small>}
      </dd>
    </div>
  );
}
