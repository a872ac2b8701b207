// The view for browsers without WebGPU: what to do in this one.

import { viewHeading } from "../ui/controls.js";
import { h } from "../ui/dom.js";
import { icon } from "../ui/icons.js";

interface Browser {
  name: string;
  test: RegExp;
  steps: string[];
}

// Edge calls itself Chrome too, and Chrome calls itself Safari: the order matters.
const BROWSERS: Browser[] = [
  {
    name: "Firefox",
    test: /Firefox\//,
    steps: ["Use Firefox 141 or newer on Windows, 145 or newer on a Mac with Apple silicon.", "On Linux and Android, use Chrome or Edge."],
  },
  {
    name: "Edge",
    test: /Edg\//,
    steps: ["Use Edge 113 or newer.", "Open edge://settings/system and switch on graphics acceleration.", "edge://gpu says why WebGPU is off."],
  },
  {
    name: "Chrome",
    test: /Chrom(e|ium)\//,
    steps: [
      "Use Chrome 113 or newer (on Android 121).",
      "Open chrome://settings/system and switch on graphics acceleration.",
      "On Linux, switch on chrome://flags/#enable-unsafe-webgpu and chrome://flags/#enable-vulkan.",
      "chrome://gpu says why WebGPU is off.",
    ],
  },
  {
    name: "Safari",
    test: /Safari\//,
    steps: ["Use Safari 26, which comes with macOS 26, iOS 26 and iPadOS 26.", "Or use Chrome or Edge on a Mac."],
  },
];

export function unsupportedView(reason: string | undefined): HTMLElement {
  const browser = BROWSERS.find(({ test }) => test.test(navigator.userAgent));
  const steps = isSecureContext
    ? (browser?.steps ?? ["Use a current version of Chrome, Edge, Safari or Firefox."])
    : ["Open this page by https, or by http://localhost: browsers give the GPU only to addresses that are safe from others on the way."];
  return h(
    "div",
    { class: "view failure", id: "no-webgpu" },
    h("div", { class: "failure-icon" }, icon("chip")),
    viewHeading("No WebGPU here"),
    h(
      "p",
      { class: "sentence" },
      isSecureContext
        ? `Models are computed by your GPU through WebGPU, and ${browser?.name ?? "this browser"} does not offer it now.`
        : "Models are computed by your GPU through WebGPU, and the browser does not offer it to an address without encryption.",
    ),
    reason && h("p", { class: "muted" }, `The reason: ${reason}.`),
    h("h2", {}, "What to do"),
    h("ul", { class: "steps" }, ...steps.map((step) => h("li", {}, step))),
    h("p", { class: "muted" }, "Conversations that you had before can be read and exported here all the same."),
  );
}
