import { useEffect, useRef, useState } from "preact/hooks";
import { api, sentenceOf, session, type Origin } from "../api";
import { ThemeSwitch } from "../app";

export function Login() {
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const [origin, setOrigin] = useState<Origin | null>(null);
  const user = useRef<HTMLInputElement>(null);
  const password = useRef<HTMLInputElement>(null);
  useEffect(() => {
    document.title = "Sign in – Fraud desk";
    user.current?.focus();
    api.origin().then(setOrigin, () => undefined);
  }, []);

  async function submit(e: SubmitEvent) {
    e.preventDefault();
    setBusy(true);
    setError("");
    try {
      session.value = await api.login(user.current!.value, password.current!.value);
    } catch (err) {
      setError(sentenceOf(err));
      password.current!.value = "";
      password.current!.focus();
    } finally {
      setBusy(false);
    }
  }

  return (
    <main class="login">
      <div class="corner">
        <ThemeSwitch />
      </div>
      <form class="card" onSubmit={submit} aria-labelledby="login-title">
        <img src="/icon.svg" alt="" width="44" height="44" />
        <h1 id="login-title">Fraud desk</h1>
        <p class="muted">Decisions about card transactions, as they are made.</p>
        <label>
          User
          <input ref={user} name="user" autocomplete="username" required maxLength={64} spellcheck={false} autocapitalize="none" />
        </label>
        <label>
          Password
          <input ref={password} name="password" type="password" autocomplete="current-password" required maxLength={256} />
        </label>
        <p class="error" role="alert">
          {error}
        </p>
        <button class="primary" disabled={busy}>
          {busy ? "Signing in…" : "Sign in"}
        </button>
        {origin?.demo && <p class="muted small">This is a demonstration with generated data: the user and the password are in the terminal where it was started.</p>}
      </form>
      {origin && <p class="muted small version">Version {origin.version}</p>}
    </main>
  );
}
