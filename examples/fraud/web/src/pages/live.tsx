import { useSignal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Entry, Quantiles, Statistics, Verdict } from "../api";
import { api, sentenceOf } from "../api";
import { connection, history, model, recent, statistics } from "../live";
import { amount, causes, count, micros, score, short, timeOf, words } from "../text";
import { Histogram, Spark, Timeline } from "../parts/charts";
import { StatusText, VerdictMark } from "../parts/verdict";

export function Live() {
  const now = statistics.value;
  const past = history.value;
  const [paused, setPaused] = useState(false);
  const busy = now !== null && now.per_second > 0; // else there is nothing that took any time
  const [p99, p99Unit] = busy ? micros(now.latency_us.p99) : ["–", ""];
  const [scoring, scoringUnit] = busy ? micros(now.scoring_us.p50) : ["–", ""];
  return (
    <div class="desk">
      <h1 class="visually-hidden">Decisions</h1>
      {connection.value === "lost" && (
        <p class="banner" role="alert">
          The stream of decisions is interrupted; it is being connected again. What is below is from before.
        </p>
      )}
      <section class="figures" aria-label="Figures of the last ten seconds">
        <Figure name="Transactions" value={now ? short(Math.round(now.per_second)) : "–"} unit="a second">
          <Spark values={past.map((s) => s.per_second)} label="Transactions a second, the last minute and a half" />
        </Figure>
        <Figure name="Answered within" value={p99} unit={`${p99Unit} for 99 of 100`}>
          <Spark values={past.map((s) => s.latency_us.p99)} label="The 99th percentile of the latency" />
        </Figure>
        <Figure name="Scoring takes" value={scoring} unit={busy ? `${scoringUnit}, ${(now.scoring_share * 100).toFixed(1)}% of the time` : "nothing is scored"}>
          <Spark values={past.map((s) => s.scoring_us.p50)} label="The median time of a score" />
        </Figure>
        <Split now={now} />
      </section>

      <section class="card wide">
        <div class="head">
          <h2>The last minute</h2>
          <span class="legend">
            <VerdictMark verdict="approve" />
            <VerdictMark verdict="challenge" />
            <VerdictMark verdict="deny" />
          </span>
          <button class="quiet" aria-pressed={paused} onClick={() => setPaused(!paused)}>
            {paused ? "Go on" : "Pause"}
          </button>
        </div>
        <Timeline model={model.value} paused={paused} />
      </section>

      <Feed paused={paused} />

      <div class="column">
        <section class="card">
          <h2>Scores</h2>
          <Histogram counts={now?.histogram ?? new Array<number>(20).fill(0)} model={model.value} />
        </section>
        <section class="card">
          <h2>Latency</h2>
          <div class="scroll">
            <Latency now={now} />
          </div>
          {now && <Health now={now} />}
        </section>
      </div>
    </div>
  );
}

function Figure({ name, value, unit, children }: { name: string; value: string; unit: string; children: preact.ComponentChildren }) {
  return (
    <div class="figure card">
      <h2>{name}</h2>
      <p>
        <strong>{value}</strong> <span class="muted">{unit}</span>
      </p>
      {children}
    </div>
  );
}

const verdicts: Verdict[] = ["approve", "challenge", "deny"];

function Split({ now }: { now: Statistics | null }) {
  const of = (v: Verdict) => now?.verdicts?.[v] ?? 0;
  const all = Math.max(1, verdicts.reduce((sum, v) => sum + of(v), 0));
  return (
    <div class="figure card split">
      <h2>Decided</h2>
      <dl>
        {verdicts.map((v) => (
          <div key={v} class={v}>
            <dt>
              <VerdictMark verdict={v} />
            </dt>
            <dd>
              {count(of(v))} <small class="muted">{((100 * of(v)) / all).toFixed(v === "approve" ? 1 : 2)}%</small>
            </dd>
          </div>
        ))}
      </dl>
      <svg viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">
        {
          verdicts.reduce<{ x: number; out: preact.JSX.Element[] }>(
            (a, v) => {
              const w = (100 * of(v)) / all;
              a.out.push(<rect key={v} class={v} x={a.x} y="0" width={w} height="4" />);
              return { x: a.x + w, out: a.out };
            },
            { x: 0, out: [] },
          ).out
        }
      </svg>
    </div>
  );
}

function Feed({ paused }: { paused: boolean }) {
  const filter = useSignal<Verdict | "">("");
  const [kept, setKept] = useState<Entry[] | null>(null);
  const [error, setError] = useState("");
  const [held, setHeld] = useState<Entry[]>([]);
  const [before, setBefore] = useState("");
  const earlier = useRef(false);
  // While it is paused, the rows stay where they are.
  const flowing = recent.value;
  if (!paused && held !== flowing) setHeld(flowing);
  const entries = kept ?? held;

  const v = filter.value;
  useEffect(() => {
    setError("");
    if (v === "") {
      setKept(null);
      return;
    }
    // The stream has a sample of all decisions; those of one kind are asked for, again and again, unless somebody looks at earlier ones.
    let ended = false;
    const look = async () => {
      try {
        const d = await api.decisions(v);
        if (ended || earlier.current) return;
        setKept(d.entries ?? []);
        setBefore(d.before ?? "");
      } catch (err) {
        if (!ended) setError(sentenceOf(err));
      }
    };
    earlier.current = false;
    void look();
    const timer = paused ? undefined : setInterval(() => void look(), 3000);
    return () => {
      ended = true;
      clearInterval(timer);
    };
  }, [v, paused]);

  async function more() {
    earlier.current = true;
    setError("");
    try {
      const d = await api.decisions(v || undefined, before);
      setKept([...(kept ?? []), ...(d.entries ?? [])]);
      setBefore(d.before ?? "");
    } catch (err) {
      setError(sentenceOf(err));
    }
  }

  return (
    <section class="card feed">
      <div class="head">
        <h2>Decisions</h2>
        <div class="choice" role="group" aria-label="Which decisions">
          {(["", ...verdicts] as const).map((one) => (
            <button key={one} aria-pressed={v === one} onClick={() => (filter.value = one)}>
              {one === "" ? "All, live" : words[one]}
            </button>
          ))}
        </div>
      </div>
      <Find />
      {error && <p class="error" role="alert">{error}</p>}
      <div class="scroll" tabIndex={0} role="region" aria-label="Decisions, newest first">
        <table>
          <thead>
            <tr>
              <th scope="col">Time</th>
              <th scope="col">Verdict</th>
              <th scope="col" class="n">Amount</th>
              <th scope="col" class="n">Score</th>
              <th scope="col" class="spare">What, or why</th>
            </tr>
          </thead>
          <tbody>
            {(kept ?? entries.slice(0, 40)).map((e) => (
              <tr key={e.transaction.id}>
                <td>
                  <a href={`#/transactions/${encodeURIComponent(e.transaction.id)}`}>
                    {timeOf(e.transaction.time)}
                    <span class="visually-hidden">, transaction {e.transaction.id}</span>
                  </a>
                </td>
                <td>
                  <VerdictMark verdict={e.decision.verdict} /> <StatusText d={e.decision} />
                </td>
                <td class="n">{amount(e.transaction.amount)}</td>
                <td class="n">{score(e.decision.score)}</td>
                <td class="spare muted" title={why(e)}>{why(e)}</td>
              </tr>
            ))}
          </tbody>
        </table>
        {entries.length === 0 && <p class="empty">{v === "" ? "Nothing was decided yet. Send a transaction from the terminal, or start the stream of generated ones." : "There are none of these yet."}</p>}
        {kept && before && (
          <p class="more">
            <button onClick={() => void more()}>Show earlier ones</button>
          </p>
        )}
      </div>
    </section>
  );
}

/** Find goes to the page of a transaction by its id, such as one that a customer asks about. */
function Find() {
  const id = useRef<HTMLInputElement>(null);
  return (
    <form
      class="find"
      role="search"
      onSubmit={(e) => {
        e.preventDefault();
        location.hash = `/transactions/${encodeURIComponent(id.current!.value.trim())}`;
      }}
    >
      <input ref={id} type="search" aria-label="Find a transaction by its id" placeholder="Find a transaction by its id" required maxLength={64} spellcheck={false} autocomplete="off" autocapitalize="none" />
      <button>Find</button>
    </form>
  );
}

function why(e: Entry): string {
  const d = e.decision;
  if (d.source === "rules") return `Rules decided: ${causes[d.cause ?? ""] ?? d.cause ?? ""}`;
  const first = d.reasons?.find((r) => r.contribution > 0) ?? d.reasons?.[0];
  // What is approved has no reasons.
  return first?.text ?? `${e.transaction.category}, ${e.transaction.country}, ${e.transaction.channel}`;
}

const quantiles: [keyof Quantiles, string][] = [
  ["p50", "50%"],
  ["p90", "90%"],
  ["p99", "99%"],
  ["p999", "99.9%"],
  ["max", "max"],
];

function Latency({ now }: { now: Statistics | null }) {
  const rows: [string, Quantiles | undefined][] = [
    ["Answer", now?.latency_us],
    ["Score", now?.scoring_us],
    ["Commit", now?.storing_us],
  ];
  return (
    <table class="latency">
      <caption class="visually-hidden">Latency by percentile, the last ten seconds</caption>
      <thead>
        <tr>
          <th scope="col">
            <span class="visually-hidden">What</span>
          </th>
          {quantiles.map(([q, name]) => (
            <th key={q} scope="col" class="n">{name}</th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map(([name, of]) => (
          <tr key={name}>
            <th scope="row">{name}</th>
            {quantiles.map(([q]) => {
              const [v, unit] = of && of.max > 0 ? micros(of[q]) : ["–", ""];
              return (
                <td key={q} class="n">
                  {v} <small class="muted">{unit}</small>
                </td>
              );
            })}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

const interfaces: Record<string, string> = { lane: "the lane", agent: "the agent's interface", oip: "Open Inference" };

function Health({ now }: { now: Statistics }) {
  const rules = Object.entries(now.by_rules ?? {}).filter(([, n]) => n > 0);
  return (
    <dl class="health">
      <div>
        <dt>Circuit breaker</dt>
        <dd class={now.breaker === "closed" ? "good" : "bad"}>{now.breaker}</dd>
      </div>
      <div>
        <dt>Queue</dt>
        <dd>
          {count(now.queue)} of {count(now.queue_limit)}
        </dd>
      </div>
      <div>
        <dt>By rules</dt>
        <dd>{rules.length === 0 ? "none" : rules.map(([cause, n]) => `${count(n)} ${cause}`).join(", ")}</dd>
      </div>
      <div>
        <dt>Through</dt>
        <dd>
          {interfaces[now.scorer] ?? now.scorer}, {now.database === "postgresql" ? "PostgreSQL" : now.database === "sqlite" ? "SQLite" : now.database}
        </dd>
      </div>
    </dl>
  );
}
