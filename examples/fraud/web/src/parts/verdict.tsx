import type { Decision, Reason, Verdict } from "../api";
import { fate, number, score, words } from "../text";

/** VerdictMark tells verdicts apart by shape and word, not by colour alone. */
export function VerdictMark({ verdict }: { verdict: Verdict }) {
  return (
    <span class={`verdict ${verdict}`}>
      <svg viewBox="0 0 10 10" width="10" height="10" aria-hidden="true">
        {verdict === "approve" ? <circle cx="5" cy="5" r="4.5" /> : verdict === "challenge" ? <path d="M5 0 10 5 5 10 0 5Z" /> : <path d="M.5.5h9v9h-9Z" />}
      </svg>
      {words[verdict]}
    </span>
  );
}

export function StatusText({ d }: { d: Decision }) {
  if (d.verdict !== "challenge") return null;
  return <span class={`status ${d.status}`}>{fate(d)}</span>;
}

/** Gauge shows a score between the two thresholds. */
export function Gauge({ d, challenge, deny }: { d: Decision; challenge?: number | undefined; deny?: number | undefined }) {
  const p = d.score;
  return (
    <div class="gauge">
      <div class="gauge-number">
        <strong>{score(p)}</strong>
        <span class="muted">{p === null ? "no score: rules decided" : "probability of fraud"}</span>
      </div>
      <svg viewBox="0 0 400 26" preserveAspectRatio="none" role="img" aria-label={p === null ? "No score" : `Score ${score(p)} of 1`}>
        <rect class="track" x="0" y="9" width="400" height="8" rx="4" />
        {p !== null && <rect class={`fill ${d.verdict}`} x="0" y="9" width={Math.max(4, at(p) * 400)} height="8" rx="4" />}
        {challenge !== undefined && <line class="tick challenge" x1={at(challenge) * 400} x2={at(challenge) * 400} y1="3" y2="23" />}
        {deny !== undefined && <line class="tick deny" x1={at(deny) * 400} x2={at(deny) * 400} y1="3" y2="23" />}
      </svg>
      {challenge !== undefined && deny !== undefined && (
        <p class="muted small">
          2nd factor from {score(challenge)}, denied from {score(deny)}
        </p>
      )}
    </div>
  );
}

// Most scores are close to nothing: the gauge gives the low ones more room.
const at = (p: number) => Math.sqrt(Math.min(1, Math.max(0, p)));

/** Reasons are bars to the right for what speaks for fraud, and to the left for what speaks against it. */
export function Reasons({ reasons }: { reasons: Reason[] }) {
  const most = Math.max(...reasons.map((r) => Math.abs(r.contribution)), 1e-9);
  return (
    <ol class="reasons">
      {reasons.map((r) => (
        <li key={r.feature + r.text}>
          <span class="what">
            {r.text}
            {r.feature !== "rule" && <small class="muted">{r.feature} = {number(r.value)}</small>}
          </span>
          {r.feature !== "rule" && (
            <span class="bar-cell" aria-label={`${r.contribution >= 0 ? "for" : "against"} fraud, ${r.contribution.toFixed(2)} in log-odds`} role="img">
              <svg viewBox="-100 0 200 14" preserveAspectRatio="none" aria-hidden="true">
                <line class="axis" x1="0" x2="0" y1="0" y2="14" />
                <rect
                  class={r.contribution >= 0 ? "for" : "against"}
                  x={r.contribution >= 0 ? 0 : (-96 * -r.contribution) / most}
                  y="2"
                  width={Math.max(1.5, (96 * Math.abs(r.contribution)) / most)}
                  height="10"
                  rx="2"
                />
              </svg>
              <span class="value">{r.contribution >= 0 ? "+" : "−"}{Math.abs(r.contribution).toFixed(2)}</span>
            </span>
          )}
        </li>
      ))}
    </ol>
  );
}
