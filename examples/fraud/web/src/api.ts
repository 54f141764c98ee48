// The messages of the application, as examples/fraud/api/api.go has them, and how to ask for them.

import { signal } from "@preact/signals";

export type Channel = "chip" | "contactless" | "online";
export type Verdict = "approve" | "challenge" | "deny";
export type Status = "approved" | "waiting" | "denied";

export interface Transaction {
  id: string;
  time: string;
  customer: number;
  terminal: number;
  merchant: number;
  device: number;
  amount: number;
  channel: Channel;
  category: string;
  country: string;
  latitude: number;
  longitude: number;
}

export interface Reason {
  feature: string;
  text: string;
  value: number | null;
  contribution: number;
}

export interface Factor {
  expires: string;
  attempts: number;
  refused?: "wrong" | "used" | "expired" | "";
}

export interface Decision {
  transaction: string;
  verdict: Verdict;
  status: Status;
  score: number | null;
  source: "model" | "rules";
  cause?: string;
  model?: string;
  inference?: string;
  reasons?: Reason[];
  decided: string;
  score_us: number;
  decide_us: number;
  factor?: Factor;
  recovered?: boolean;
}

export interface Entry {
  transaction: Transaction;
  decision: Decision;
  fraud: boolean | null;
}

export interface Decisions {
  entries: Entry[] | null;
  before?: string;
}

export interface Feature {
  name: string;
  text: string;
  value: number | null;
}

export interface Page extends Entry {
  profile: Feature[] | null;
  labelled?: string;
  by?: string;
}

export interface Quantiles {
  p50: number;
  p90: number;
  p99: number;
  p999: number;
  max: number;
}

export interface Statistics {
  time: string;
  per_second: number;
  latency_us: Quantiles;
  scoring_us: Quantiles;
  storing_us: Quantiles;
  scoring_share: number;
  histogram: number[];
  transactions: number;
  verdicts: Partial<Record<Verdict, number>> | null;
  by_rules: Record<string, number> | null;
  breaker: string;
  queue: number;
  queue_limit: number;
  database: string;
  scorer: string;
}

export interface Version {
  version: string;
  trained: string;
  challenge_from: number;
  deny_from: number;
  figures: Record<string, number> | null;
}

export interface ModelState {
  current: string;
  since: string;
  versions: Version[] | null;
  scored: Record<string, number> | null;
  explained: boolean;
}

export interface WAN {
  switchable: boolean;
  up: boolean;
  since: string;
}

export interface Capture {
  on: boolean;
  accepted: number;
  uploaded: number;
  waiting: number;
  dropped: number;
  bytes: number;
  told: number;
}

export interface Session {
  user: string;
  csrf: string;
  expires: string;
  demo: boolean;
}

export interface Origin {
  version: string;
  demo: boolean;
}

export interface OneTimeCode {
  code: string;
  expires: string;
  uri: string;
}

export interface Sample {
  story: string;
  transaction: Transaction;
}

export const categories = ["grocery", "fuel", "restaurant", "retail", "travel", "electronics", "online", "gambling", "jewelry", "cash"];

/** session is null before a login, and undefined until it is known. */
export const session = signal<Session | null | undefined>(undefined);

/** trouble is why it is not known yet. */
export const trouble = signal("");

/** Failure is an answer that is not 2xx, or none. Its message is a sentence for people. */
export class Failure extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

async function ask<T>(method: "GET" | "POST", path: string, body?: unknown): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method === "POST" && session.value) headers["X-CSRF-Token"] = session.value.csrf;
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      headers,
      credentials: "same-origin",
      redirect: "error",
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch {
    throw new Failure("the application does not answer; it may be restarting", 0);
  }
  if (response.status === 204) return undefined as T;
  const text = await response.text();
  if (response.ok) return JSON.parse(text) as T;
  if (response.status === 401 && path !== "/api/login") session.value = null;
  let sentence = "";
  try {
    sentence = (JSON.parse(text) as { error?: string }).error ?? "";
  } catch {
    // What stands between may answer with a page of its own.
  }
  throw new Failure(sentence || `the application answered with status ${response.status}`, response.status);
}

const get = <T>(path: string) => ask<T>("GET", path);
const post = <T>(path: string, body: unknown) => ask<T>("POST", path, body);
const part = encodeURIComponent;

export const api = {
  session: () => get<Session>("/api/session"),
  origin: () => get<Origin>("/api/origin"),
  login: (user: string, password: string) => post<Session>("/api/login", { user, password }),
  logout: () => post<void>("/api/logout", {}),
  submit: (t: Transaction) => post<Decision>("/api/transactions", t),
  answer: (id: string, code: string) => post<Decision>(`/api/challenges/${part(id)}`, { code }),
  page: (id: string) => get<Page>(`/api/transactions/${part(id)}`),
  truth: (id: string, fraud: boolean) => post<Page>(`/api/transactions/${part(id)}/truth`, { fraud }),
  decisions: (verdict?: Verdict, before?: string) =>
    get<Decisions>(`/api/decisions?limit=50${verdict ? `&verdict=${verdict}` : ""}${before ? `&before=${part(before)}` : ""}`),
  statistics: () => get<Statistics>("/api/statistics"),
  model: () => get<ModelState>("/api/model"),
  swap: (version: string) => post<ModelState>("/api/model", { version }),
  wan: () => get<WAN>("/api/wan"),
  setWAN: (up: boolean) => post<WAN>("/api/wan", { switchable: true, up, since: new Date().toISOString() }),
  capture: () => get<Capture>("/api/capture"),
  oneTime: (customer: number) => get<OneTimeCode>(`/api/customers/${customer}/one-time`),
  sample: (story: string) => get<Sample>(`/api/sample?story=${part(story)}`),
};

/** sentenceOf is what to show of something that was thrown, with a capital and a full stop. */
export function sentenceOf(err: unknown): string {
  const text = err instanceof Error ? err.message : String(err);
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}
