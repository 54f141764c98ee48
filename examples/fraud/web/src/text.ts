// Numbers, times and decisions as people read them.

import type { Decision } from "./api";

const money = new Intl.NumberFormat("en-GB", { style: "currency", currency: "EUR" });
const whole = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });
const cents = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 2 });
const compact = new Intl.NumberFormat("en-GB", { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const zoned = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false, timeZoneName: "short" });

export const amount = (cents: number) => money.format(cents / 100);
export const count = (n: number) => whole.format(n);
export const short = (n: number) => (n < 10000 ? whole.format(n) : compact.format(n));
export const timeOf = (iso: string) => clock.format(new Date(iso));
export const dateOf = (iso: string) => day.format(new Date(iso));
/** momentOf has the zone, which an analyst in another one needs. */
export const momentOf = (iso: string) => zoned.format(new Date(iso));

/** score has four digits, as thresholds have, so that a score can be told from the threshold that it has just missed. */
export function score(p: number | null): string {
  if (p === null) return "–";
  if (p > 0 && p < 0.0001) return "<0.0001";
  if (p < 1 && p > 0.9999) return ">0.9999";
  return p.toFixed(4);
}

export function micros(us: number): [string, string] {
  if (us < 1000) return [whole.format(us), "µs"];
  if (us < 1_000_000) return [(us / 1000).toFixed(us < 10_000 ? 2 : us < 100_000 ? 1 : 0), "ms"];
  return [(us / 1_000_000).toFixed(2), "s"];
}

export const duration = (us: number) => micros(us).join(" ");

export function bytes(n: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) {
    n /= 1024;
    i++;
  }
  return `${i === 0 ? n : n.toFixed(1)} ${units[i]}`;
}

export function number(v: number | null): string {
  if (v === null) return "missing";
  if (Number.isInteger(v)) return whole.format(v);
  return Math.abs(v) < 100 ? String(Number(v.toPrecision(4))) : cents.format(v);
}

export function since(iso: string): string {
  const s = Math.max(0, Math.round((Date.now() - new Date(iso).getTime()) / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} days`;
}

export const words = { approve: "Approve", challenge: "2nd factor", deny: "Deny" } as const;
const states = { approved: "Approved", waiting: "Waiting for the code", denied: "Denied" } as const;

/** fate is what became of a transaction for which a code was asked. */
export function fate(d: Decision): string {
  if (d.status !== "denied" || !d.factor) return states[d.status];
  return d.factor.refused === "expired" ? "Denied: no code in time" : d.factor.attempts === 0 ? "Denied: no code was right" : states.denied;
}

export const causes: Record<string, string> = {
  late: "the score came too late",
  down: "the scorer did not answer",
  open: "the circuit breaker is open",
  busy: "the queue was full",
};
