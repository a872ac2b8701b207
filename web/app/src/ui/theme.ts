// Light, dark, or as the system has it. `theme-start.ts` applies the choice before the first paint.

import { Observable } from "./observable.js";
import { THEME_KEY } from "./theme-key.js";

export type Theme = "system" | "light" | "dark";

export const theme = new Observable<Theme>(stored());
const systemDark = matchMedia("(prefers-color-scheme: dark)");
/** Whether dark is what is shown now; for what is drawn and not styled. */
export const dark = new Observable(isDark());

theme.subscribe((value) => {
  if (value === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = value;
  try {
    localStorage.setItem(THEME_KEY, value);
  } catch {
    // Storage is switched off: the choice holds until the page is closed.
  }
  dark.value = isDark();
});
systemDark.addEventListener("change", () => (dark.value = isDark()));

function stored(): Theme {
  const value = document.documentElement.dataset.theme;
  return value === "light" || value === "dark" ? value : "system";
}

function isDark(): boolean {
  return theme.value === "dark" || (theme.value === "system" && systemDark.matches);
}
