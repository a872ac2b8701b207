// Where on the page one is, in the part of the address behind the hash, so that back and forward work.

import { Observable } from "./ui/observable.js";

export type Place = { kind: "models" } | { kind: "chat"; id?: string };

export const place = new Observable<Place>(read());
addEventListener("hashchange", () => (place.value = read()));

/** Goes there, also if one is there already. */
export function go(to: Place): void {
  const hash = write(to);
  if (location.hash === hash) place.value = to;
  else location.hash = hash;
}

/** Says in the address which conversation this is, without going anywhere. */
export function conversationPlace(id: string): void {
  history.replaceState(null, "", write({ kind: "chat", id }));
  place.value = { kind: "chat", id };
}

function read(): Place {
  const [, kind, id] = location.hash.split("/");
  if (kind === "chat") return id ? { kind, id } : { kind };
  return { kind: "models" };
}

function write(to: Place): string {
  if (to.kind === "models") return "#/models";
  return to.id ? `#/chat/${to.id}` : "#/chat";
}
