import { useEffect, useRef, useState } from "preact/hooks";
import { api, categories, sentenceOf, session, type Channel, type Decision, type Transaction } from "../api";
import { model, refreshModel } from "../live";
import { amount, causes, duration, fate, score as scoreOf, words } from "../text";
import { Challenge } from "../parts/challenge";
import { currentOf } from "../parts/charts";
import { Gauge, Reasons, StatusText, VerdictMark } from "../parts/verdict";

const stories = [
  ["usual", "A usual purchase"],
  ["large", "A large amount"],
  ["abroad", "Suddenly abroad"],
  ["testing", "A stolen card, tested"],
] as const;

/** said is the decision in a sentence, for those to whom it is read. */
function said(d: Decision): string {
  const score = d.score === null ? "" : ` The probability of fraud is ${scoreOf(d.score)}.`;
  return `${words[d.verdict]}${d.verdict === "challenge" ? `: ${fate(d).toLowerCase()}` : ""}.${score}`;
}

const channels: [Channel, string][] = [
  ["chip", "Chip"],
  ["contactless", "Contactless"],
  ["online", "Online"],
];

interface Form {
  amount: string;
  customer: string;
  terminal: string;
  merchant: string;
  device: string;
  channel: Channel;
  category: string;
  country: string;
  latitude: string;
  longitude: string;
}

const blank: Form = {
  amount: "42.50", customer: "17", terminal: "204", merchant: "51", device: "17001",
  channel: "chip", category: "grocery", country: "PT", latitude: "38.72", longitude: "-9.14",
};

function formOf(t: Transaction): Form {
  return {
    amount: (t.amount / 100).toFixed(2), customer: String(t.customer), terminal: String(t.terminal), merchant: String(t.merchant), device: String(t.device),
    channel: t.channel, category: t.category, country: t.country, latitude: String(t.latitude), longitude: String(t.longitude),
  };
}

export function Terminal() {
  const [form, setForm] = useState<Form>(blank);
  const [sent, setSent] = useState<Transaction | null>(null);
  const [decision, setDecision] = useState<Decision | null>(null);
  const [asking, setAsking] = useState(false);
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const result = useRef<HTMLElement>(null);
  // Samples are of a simulation, whose clock may be another: what is filled in by one is sent at its time.
  const ahead = useRef(0);
  useEffect(() => {
    void refreshModel();
    if (session.value?.demo) void fill("usual");
  }, []);

  const field = (name: keyof Form) => ({
    name,
    value: form[name],
    onInput: (e: Event) => setForm({ ...form, [name]: (e.target as HTMLInputElement).value }),
  });

  async function fill(story: string) {
    setError("");
    try {
      const t = (await api.sample(story)).transaction;
      ahead.current = new Date(t.time).getTime() - Date.now();
      setForm(formOf(t));
    } catch (err) {
      setError(sentenceOf(err));
    }
  }

  async function submit(e: SubmitEvent) {
    e.preventDefault();
    const t: Transaction = {
      id: `web-${crypto.randomUUID()}`,
      time: new Date(Date.now() + ahead.current).toISOString(),
      customer: Number(form.customer),
      terminal: Number(form.terminal),
      merchant: Number(form.merchant),
      device: Number(form.device),
      amount: Math.round(Number(form.amount) * 100),
      channel: form.channel,
      category: form.category,
      country: form.country.toUpperCase(),
      latitude: Number(form.latitude),
      longitude: Number(form.longitude),
    };
    setBusy(true);
    setError("");
    try {
      const d = await api.submit(t);
      setSent(t);
      setDecision(d);
      setAsking(d.status === "waiting");
    } catch (err) {
      setDecision(null);
      setError(sentenceOf(err));
    } finally {
      setBusy(false);
    }
    result.current?.scrollIntoView({ block: "nearest" });
  }

  const now = currentOf(model.value);
  return (
    <div class="terminal">
      <form class="card" onSubmit={submit} aria-labelledby="terminal-title">
        <h1 id="terminal-title">Terminal</h1>
        <p class="muted">A card is used; the answer is what the terminal would get.</p>
        {session.value?.demo && (
          <div class="choice" role="group" aria-label="Fill the form in">
            {stories.map(([story, name]) => (
              <button type="button" key={story} onClick={() => void fill(story)}>
                {name}
              </button>
            ))}
          </div>
        )}
        <div class="fields">
          <label class="big">
            Amount, €
            <input {...field("amount")} type="number" inputMode="decimal" min="0.01" max="100000" step="0.01" required />
          </label>
          <fieldset class="big">
            <legend>Paid by</legend>
            <div class="segments">
              {channels.map(([c, name]) => (
                <label key={c}>
                  <input type="radio" name="channel" value={c} checked={form.channel === c} onChange={() => setForm({ ...form, channel: c })} />
                  <span>{name}</span>
                </label>
              ))}
            </div>
          </fieldset>
          <label>
            Customer
            <input {...field("customer")} type="number" inputMode="numeric" min="1" max="4294967295" required />
          </label>
          <label>
            Card or device
            <input {...field("device")} type="number" inputMode="numeric" min="1" max="4294967295" required />
          </label>
          <label>
            Terminal
            <input {...field("terminal")} type="number" inputMode="numeric" min="1" max="4294967295" required />
          </label>
          <label>
            Merchant
            <input {...field("merchant")} type="number" inputMode="numeric" min="1" max="4294967295" required />
          </label>
          <label>
            Category
            <select {...field("category")}>
              {categories.map((c) => (
                <option key={c} value={c}>{c}</option>
              ))}
            </select>
          </label>
          <label>
            Country
            <input {...field("country")} pattern="[A-Za-z]{2}" maxLength={2} required autocapitalize="characters" />
          </label>
          <label>
            Latitude
            <input {...field("latitude")} type="number" min="-90" max="90" step="any" required />
          </label>
          <label>
            Longitude
            <input {...field("longitude")} type="number" min="-180" max="180" step="any" required />
          </label>
        </div>
        <button class="primary" disabled={busy}>
          {busy ? "Asking…" : `Pay ${amount(Math.round(Number(form.amount) * 100) || 0)}`}
        </button>
      </form>

      <section class="card receipt" ref={result} aria-labelledby="receipt-title">
        <h2 id="receipt-title">Decision</h2>
        <p class="visually-hidden" role="status">{decision ? said(decision) : ""}</p>
        {error && <p class="error" role="alert">{error}</p>}
        {!decision && !error && (
          <div class="empty">
            <svg viewBox="0 0 80 60" width="80" height="60" aria-hidden="true">
              <rect x="4" y="10" width="72" height="44" rx="6" />
              <path d="M4 22h72M12 42h16" />
            </svg>
            <p>Nothing was sent yet.</p>
          </div>
        )}
        {decision && sent && (
          <>
            <p class={`stamp ${decision.status}`}>
              <VerdictMark verdict={decision.verdict} />
              <StatusText d={decision} />
            </p>
            <Gauge d={decision} challenge={now?.challenge_from} deny={now?.deny_from} />
            {decision.status === "waiting" && (
              <button class="primary" onClick={() => setAsking(true)}>
                Enter the customer's code
              </button>
            )}
            <p class="muted small">
              {decision.source === "rules" ? `Rules decided, because ${causes[decision.cause ?? ""] ?? decision.cause}.` : `Model ${decision.model}, scored in ${duration(decision.score_us)}, decided in ${duration(decision.decide_us)}.`}{" "}
              <a href={`#/transactions/${encodeURIComponent(sent.id)}`}>Look closer</a>
            </p>
            {decision.reasons && decision.reasons.length > 0 && (
              <>
                <h3>Why</h3>
                <Reasons reasons={decision.reasons} />
              </>
            )}
          </>
        )}
      </section>
      {asking && sent && decision && <Challenge key={sent.id} transaction={sent} decision={decision} onDecision={setDecision} onClose={() => setAsking(false)} />}
    </div>
  );
}
