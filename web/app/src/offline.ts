// The service worker that keeps the page for use without a network, and the notice when a newer page is there.

/** Registers it; `newer` is called with a function that changes to the newer page when one was fetched. */
export async function keepOffline(newer: (apply: () => void) => void): Promise<void> {
  if (!("serviceWorker" in navigator)) return;
  const { serviceWorker } = navigator;
  const registration = await serviceWorker.register("sw.js", { updateViaCache: "none" }).catch(() => undefined);
  if (!registration) return;
  const offer = (worker: ServiceWorker) =>
    newer(() => {
      serviceWorker.addEventListener("controllerchange", () => location.reload(), { once: true });
      worker.postMessage("take-over");
    });
  if (registration.waiting && serviceWorker.controller) offer(registration.waiting);
  registration.addEventListener("updatefound", () => {
    const worker = registration.installing;
    worker?.addEventListener("statechange", () => {
      // Without a controller it is the first one: there is nothing older on the screen.
      if (worker.state === "installed" && serviceWorker.controller) offer(worker);
    });
  });
}
