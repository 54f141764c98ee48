import { useEffect, useRef, useState } from "preact/hooks";
import { api, sentenceOf, session, type Decision, type OneTimeCode, type Transaction } from "../api";
import { amount } from "../text";

const refusals: Record<string, string> = {
  wrong: "That code is wrong.",
  used: "That code was used before; wait for the next one.",
  expired: "The time is up.",
};

/** Challenge asks for the code of the customer's authenticator. It is closed with the decision as it then stands. */
export function Challenge({ transaction, decision, onDecision, onClose }: { transaction: Transaction; decision: Decision; onDecision: (d: Decision) => void; onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const input = useRef<HTMLInputElement>(null);
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const [shown, setShown] = useState<OneTimeCode | null>(null);
  const left = useCountdown(decision.factor?.expires);
  useEffect(() => {
    dialog.current!.showModal();
    input.current!.focus();
  }, []);
  const over = left === 0;
  useEffect(() => {
    if (!over) return;
    setError("The time is up.");
    // Within a second or two the application denies the transaction.
    let ended = false;
    const look = async () => {
      try {
        const d = (await api.page(transaction.id)).decision;
        if (!ended) onDecision(d);
        if (!ended && d.status !== "waiting") dialog.current?.close();
      } catch {
        // It is asked again.
      }
    };
    const timer = setInterval(() => void look(), 1500);
    return () => {
      ended = true;
      clearInterval(timer);
    };
  }, [over]);

  async function submit(e: SubmitEvent) {
    e.preventDefault();
    setBusy(true);
    setError("");
    try {
      const d = await api.answer(transaction.id, input.current!.value.trim());
      onDecision(d);
      if (d.status !== "waiting") dialog.current!.close();
      else {
        setError(refusals[d.factor?.refused ?? "wrong"] ?? "The code was refused.");
        input.current!.value = "";
        input.current!.focus();
      }
    } catch (err) {
      setError(sentenceOf(err));
    } finally {
      setBusy(false);
    }
  }

  async function look() {
    try {
      setShown(await api.oneTime(transaction.customer));
    } catch (err) {
      setError(sentenceOf(err));
    }
  }

  return (
    <dialog ref={dialog} class="challenge" aria-labelledby="challenge-title" onClose={onClose}>
      <form onSubmit={submit}>
        <h2 id="challenge-title">Is it the customer?</h2>
        <p>
          Customer {transaction.customer} is paying <strong>{amount(transaction.amount)}</strong>. Ask for the six digits that their authenticator shows.
        </p>
        <label for="code">Code</label>
        <input ref={input} id="code" class="code" inputMode="numeric" autocomplete="one-time-code" pattern="[0-9]{6}" maxLength={6} required aria-describedby="code-left" placeholder="······" />
        <p id="code-left" class="muted small">
          {decision.factor?.attempts ?? 0} {decision.factor?.attempts === 1 ? "attempt" : "attempts"} and {Math.floor(left / 60)}:{String(left % 60).padStart(2, "0")} left
        </p>
        <p class="error" role="alert">{error}</p>
        <div class="actions">
          <button type="button" class="quiet" onClick={() => dialog.current!.close()}>
            Later
          </button>
          <button class="primary" disabled={busy || over}>
            {busy ? "Checking…" : "Confirm"}
          </button>
        </div>
        {session.value?.demo && (
          <div class="authenticator">
            {shown ? (
              <p>
                The customer's authenticator shows <output class="code-shown">{shown.code}</output>
                <br />
                <a class="small" href={shown.uri}>
                  Add it to an authenticator of yours
                </a>
              </p>
            ) : (
              <button type="button" class="quiet" onClick={() => void look()}>
                Look at the customer's authenticator
              </button>
            )}
          </div>
        )}
      </form>
    </dialog>
  );
}

/** useCountdown is how many seconds there are until then. */
function useCountdown(until: string | undefined): number {
  const remaining = () => (until ? Math.max(0, Math.round((new Date(until).getTime() - Date.now()) / 1000)) : 0);
  const [left, setLeft] = useState(remaining);
  useEffect(() => {
    setLeft(remaining());
    const timer = setInterval(() => setLeft(remaining()), 1000);
    return () => clearInterval(timer);
  }, [until]);
  return left;
}
