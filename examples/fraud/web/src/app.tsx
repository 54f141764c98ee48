import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { api, session, trouble } from "./api";
import * as live from "./live";
import { setTheme, theme, type Theme } from "./theme";
import { Login } from "./pages/login";
import { Live } from "./pages/live";
import { Site } from "./pages/site";
import { Terminal } from "./pages/terminal";
import { TransactionPage } from "./pages/transaction";

const route = signal(location.hash.slice(1) || "/live");
addEventListener("hashchange", () => (route.value = location.hash.slice(1) || "/live"));

const tabs = [
  ["/live", "Decisions"],
  ["/terminal", "Terminal"],
  ["/site", "Model & site"],
] as const;

export function App() {
  const s = session.value;
  useEffect(() => {
    if (s) live.start();
    else live.stop();
  }, [s]);
  if (s === undefined)
    return (
      <main class="boot" aria-busy="true" aria-label="Loading">
        {trouble.value && <p class="banner" role="alert">{trouble.value}</p>}
      </main>
    );
  if (s === null) return <Login />;
  return <Shell user={s.user} />;
}

function Shell({ user }: { user: string }) {
  const path = route.value;
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  useEffect(() => {
    // A new page is read from its start, as after a load.
    if (first.current) first.current = false;
    else {
      main.current?.focus({ preventScroll: true });
      scrollTo(0, 0);
    }
    document.title = `${titleOf(path)} – Fraud desk`;
  }, [path]);
  return (
    <>
      <a
        class="skip"
        href="#content"
        onClick={(e) => {
          e.preventDefault();
          main.current?.focus();
        }}
      >
        Skip to the content
      </a>
      <header class="bar">
        <a class="mark" href="#/live" aria-label="Fraud desk, decisions">
          <img src="/icon.svg" alt="" width="28" height="28" />
          <span>Fraud desk</span>
        </a>
        <nav aria-label="Pages">
          {tabs.map(([to, name]) => (
            <a key={to} href={`#${to}`} aria-current={path === to ? "page" : undefined}>
              {name}
            </a>
          ))}
        </nav>
        <Connection />
        <ThemeSwitch />
        <button class="quiet" onClick={leave} title={`Signed in as ${user}`}>
          Sign out
        </button>
      </header>
      <main id="content" ref={main} tabIndex={-1}>
        <Fallback />
        {page(path)}
      </main>
    </>
  );
}

/** Fallback says when scores are missing. A breaker that was open for a moment only, as it is on a busy machine, is not worth a banner. */
function Fallback() {
  const closed = live.history.value.slice(-2).some((s) => s.breaker === "closed");
  return (
    <div role="status">
      {live.history.value.length > 1 && !closed && <p class="banner">Picket does not answer. Rules decide until it does, and each decision says so.</p>}
    </div>
  );
}

function titleOf(path: string): string {
  return tabs.find(([to]) => to === path)?.[1] ?? (path.startsWith("/transactions/") ? "Transaction" : "Not found");
}

function page(path: string) {
  if (path === "/live") return <Live />;
  if (path === "/terminal") return <Terminal />;
  if (path === "/site") return <Site />;
  if (path.startsWith("/transactions/")) {
    const id = decoded(path.slice("/transactions/".length));
    if (id) return <TransactionPage key={id} id={id} />;
  }
  return (
    <section class="empty">
      <h1>There is no such page</h1>
      <p>
        Go to the <a href="#/live">decisions</a>.
      </p>
    </section>
  );
}

/** decoded is a part of a path as it was meant, or empty where it means nothing. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return "";
  }
}

function Connection() {
  const state = live.connection.value;
  const text = { live: "Live", connecting: "Connecting", lost: "Reconnecting" }[state];
  return (
    <span class={`connection ${state}`} role="status">
      <i aria-hidden="true" />
      {text}
    </span>
  );
}

const next: Record<Theme, Theme> = { auto: "light", light: "dark", dark: "auto" };
const glyph: Record<Theme, string> = { auto: "◐", light: "☀", dark: "☾" };

export function ThemeSwitch() {
  const t = theme.value;
  return (
    <button class="quiet icon" onClick={() => setTheme(next[t])} aria-label={`Colours: ${t === "auto" ? "as the system" : t}. Change`} title={`Colours: ${t === "auto" ? "as the system" : t}`}>
      <span aria-hidden="true">{glyph[t]}</span>
    </button>
  );
}

async function leave() {
  try {
    await api.logout();
  } finally {
    session.value = null;
  }
}
