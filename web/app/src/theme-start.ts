import { THEME_KEY } from "./ui/theme-key.js";

// Runs before the page is painted, so that a chosen theme does not flash.
try {
  const theme = localStorage.getItem(THEME_KEY);
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is switched off: the system's theme it is.
}
