import { signal } from "@preact/signals";

export type Theme = "auto" | "light" | "dark";
const key = "theme";

function stored(): Theme {
  try {
    const t = localStorage.getItem(key);
    return t === "light" || t === "dark" ? t : "auto";
  } catch {
    return "auto"; // storage may be forbidden
  }
}

export const theme = signal<Theme>(stored());

export function applyTheme(): void {
  const root = document.documentElement;
  if (theme.value === "auto") delete root.dataset["theme"];
  else root.dataset["theme"] = theme.value;
}

export function setTheme(t: Theme): void {
  theme.value = t;
  applyTheme();
  try {
    localStorage.setItem(key, t);
  } catch {
    // It holds for this page, then.
  }
}
