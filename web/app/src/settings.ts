// What the user set for answers. Kept in localStorage; the next answer uses it.

import { Observable } from "./ui/observable.js";

export interface Settings {
  system: string;
  temperature: number;
  top_p: number;
  top_k: number;
  min_p: number;
  repetition_penalty: number;
  max_tokens: number;
  /** Null: another one for each answer. */
  seed: number | null;
}

export const DEFAULTS: Readonly<Settings> = {
  system: "",
  temperature: 0.7,
  top_p: 0.95,
  top_k: 0,
  min_p: 0,
  repetition_penalty: 1,
  max_tokens: 1024,
  seed: null,
};

const KEY = "moxel-settings";

export const settings = new Observable<Settings>(stored());
settings.subscribe((value) => {
  try {
    localStorage.setItem(KEY, JSON.stringify(value));
  } catch {
    // Storage is switched off: the settings hold until the page is closed.
  }
});

/** What was kept, as far as it still makes sense. */
function stored(): Settings {
  const result: Settings = { ...DEFAULTS };
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    for (const [name, value] of Object.entries(kept ?? {})) {
      if (!(name in DEFAULTS)) continue;
      const fits = name === "system" ? typeof value === "string" : Number.isFinite(value);
      if (fits) Object.assign(result, { [name]: value });
    }
  } catch {
    return { ...DEFAULTS };
  }
  return result;
}
