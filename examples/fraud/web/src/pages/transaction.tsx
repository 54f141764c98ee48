import { useEffect, useState } from "preact/hooks";
import { api, Failure, sentenceOf, type Page } from "../api";
import { model, outcome, refreshModel } from "../live";
import { amount, causes, duration, momentOf, number } from "../text";
import { Challenge } from "../parts/challenge";
import { currentOf } from "../parts/charts";
import { Gauge, Reasons, StatusText, VerdictMark } from "../parts/verdict";

export function TransactionPage({ id }: { id: string }) {
  const [page, setPage] = useState<Page | null>(null);
  const [error, setError] = useState("");
  const [missing, setMissing] = useState(false);
  const [asking, setAsking] = useState(false);

  async function load() {
    setError("");
    try {
      setPage(await api.page(id));
    } catch (err) {
      setMissing(err instanceof Failure && err.status === 404);
      setError(sentenceOf(err));
    }
  }
  useEffect(() => {
    void refreshModel();
    void load();
  }, []);
  // Another analyst may record something, and the customer's time may end.
  const changed = outcome.value;
  useEffect(() => {
    if (changed?.transaction.id === id) void load();
  }, [changed]);

  async function record(fraud: boolean) {
    setError("");
    try {
      setPage(await api.truth(id, fraud));
    } catch (err) {
      setError(sentenceOf(err));
    }
  }

  if (!page) {
    return (
      <section class="empty">
        <h1>Transaction</h1>
        {error ? (
          <>
            <p class="error" role="alert">{error}</p>
            {missing ? <a href="#/live">Back to the decisions</a> : <button class="primary" onClick={() => void load()}>Try again</button>}
          </>
        ) : (
          <p aria-busy="true">Loading…</p>
        )}
      </section>
    );
  }

  const { transaction: t, decision: d } = page;
  if (!d.verdict) {
    return (
      <section class="empty">
        <h1>{amount(t.amount)}, {momentOf(t.time)}</h1>
        <p>Transaction <span class="mono">{t.id}</span> has no decision here: it came with the history that was imported, or is being decided right now.</p>
        <a href="#/live">Back to the decisions</a>
      </section>
    );
  }
  const version = model.value?.versions?.find((v) => v.version === d.model) ?? currentOf(model.value);
  return (
    <article class="transaction">
      <div class="column">
        <header class="card">
          <p class="muted small">
            <a href="#/live">Decisions</a> / <span class="mono">{t.id}</span>
          </p>
          <h1>
            {amount(t.amount)} <span class="muted">{t.category}, {t.country}</span>
          </h1>
          <p class={`stamp ${d.status}`}>
            <VerdictMark verdict={d.verdict} />
            <StatusText d={d} />
          </p>
          <Gauge d={d} challenge={version?.challenge_from} deny={version?.deny_from} />
          {d.status === "waiting" && (
            <button class="primary" onClick={() => setAsking(true)}>
              Enter the customer's code
            </button>
          )}
        </header>

        <section class="card">
          <h2>Why</h2>
          {d.source === "rules" && <p>Rules decided, because {causes[d.cause ?? ""] ?? d.cause}.</p>}
          {d.reasons && d.reasons.length > 0 ? (
            <>
              <Reasons reasons={d.reasons} />
              <p class="muted small">To the right is what speaks for fraud, to the left what speaks against it, in log-odds: exact contributions of the features.</p>
            </>
          ) : (
            d.source === "model" && (
              <p class="muted">
                {d.verdict === "approve" ? "Reasons are worked out for what is questioned or denied; this one was approved." : "There are no reasons: the model was loaded without explanations, or the score was in time and they were not."}
              </p>
            )
          )}
        </section>
      </div>

      <div class="column">
        <section class="card">
          <h2>Was it fraud?</h2>
          <p class="muted">What is recorded here is the ground truth, from which the risk of terminals and merchants is counted.</p>
          <div class="truth" role="group" aria-label="Ground truth">
            <button aria-pressed={page.fraud === true} class="deny" onClick={() => void record(true)}>
              Fraud
            </button>
            <button aria-pressed={page.fraud === false} class="approve" onClick={() => void record(false)}>
              Not fraud
            </button>
          </div>
          <p class="muted small" role="status">
            {page.labelled ? `Recorded as ${page.fraud ? "fraud" : "no fraud"} by ${page.by}, ${momentOf(page.labelled)}.` : "Nothing was recorded yet."}
          </p>
          <p class="error" role="alert">{error}</p>
        </section>

        <section class="card">
          <h2>Facts</h2>
          <dl class="facts">
            <Fact name="When">{momentOf(t.time)}</Fact>
            <Fact name="Paid by">{t.channel}</Fact>
            <Fact name="Customer">{t.customer}</Fact>
            <Fact name="Card or device">{t.device}</Fact>
            <Fact name="Merchant">{t.merchant}</Fact>
            <Fact name="Terminal">{t.terminal}</Fact>
            <Fact name="Place">{t.latitude.toFixed(2)}, {t.longitude.toFixed(2)}</Fact>
            <Fact name="Model">{d.model ? `version ${d.model}` : "none: rules"}</Fact>
            {d.inference && (
              <Fact name="Captured as">
                <span class="mono">{d.inference}</span>
              </Fact>
            )}
            <Fact name="Scored in">{d.source === "model" ? duration(d.score_us) : "–"}</Fact>
            <Fact name="Decided in">{duration(d.decide_us)}{d.recovered ? ", after a restart" : ""}</Fact>
          </dl>
        </section>
      </div>

      <section class="card profile">
        <h2>Profile</h2>
        <p class="muted">What was known of the customer, the terminal, the merchant and the device in that moment: the features that the score was made of.</p>
        {page.profile && page.profile.length > 0 ? (
          <dl>
            {page.profile.map((f) => (
              <div key={f.name}>
                <dt>
                  {f.text}
                  <small class="muted mono">{f.name}</small>
                </dt>
                <dd class="n">{number(f.value)}</dd>
              </div>
            ))}
          </dl>
        ) : (
          <p class="muted">It is not kept.</p>
        )}
      </section>
      {asking && (
        <Challenge
          transaction={t}
          decision={d}
          onDecision={(decision) => setPage({ ...page, decision: { ...d, ...decision } })}
          onClose={() => setAsking(false)}
        />
      )}
    </article>
  );
}

function Fact({ name, children }: { name: string; children: preact.ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
