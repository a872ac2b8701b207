// The chat page as its user finds it: by roles, labels and ids.

import path from "node:path";
import { screenshots } from "./world.mjs";

const LONG = 240_000;

export class ChatPage {
  constructor(page) {
    this.page = page;
  }

  /** Opens the page of a world that `start` made. */
  static async open(world, address = "/index.html") {
    return new ChatPage(await world.page(address));
  }

  /** Loads what the chooser offers under this id. */
  async load(id) {
    await this.page.locator(`[data-model="${id}"]`).click();
    await this.ready();
  }

  async ready() {
    const done = this.page.locator('#model-button[data-state="ready"], #load-failure');
    await done.first().waitFor({ timeout: LONG });
    const failure = this.page.locator("#load-failure");
    if (await failure.isVisible()) throw new Error(`the model was not loaded: ${await failure.innerText()}`);
  }

  /** Fills the dialog of settings: { temperature: 0, ... } */
  async set(values) {
    const { page } = this;
    await page.getByRole("button", { name: "Settings for answers" }).click();
    for (const [name, value] of Object.entries(values)) await page.locator(`#set-${name}`).fill(String(value));
    await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
  }

  async ask(text) {
    await this.page.getByRole("textbox", { name: "Message" }).fill(text);
    await this.page.keyboard.press("Enter");
  }

  /** Waits for the first word of the last answer. */
  async begun() {
    await this.page.locator(".answer.begun").last().waitFor({ timeout: LONG });
  }

  /** Waits for the last answer to end, and hands out its text. */
  async answer() {
    const last = this.page.getByRole("article", { name: "Assistant" }).last();
    await last.getByRole("button", { name: "Regenerate" }).waitFor({ timeout: LONG });
    return (await last.locator(".answer-text").innerText()).trim();
  }

  /** What stands under the last answer: stopped, cut, failed. */
  note() {
    return this.page.locator(".turn-note").last().innerText();
  }

  conversations() {
    return this.page.locator("#conversations .conversation").allInnerTexts();
  }

  /** Chooses from the menu of the only conversation. */
  async menu(action) {
    await this.page.getByRole("button", { name: /^More about/ }).click();
    await this.page.locator("#conversation-menu").getByRole("button", { name: action }).click();
  }

  async figure(list, name) {
    return this.page.locator(`#${list} [data-figure="${name}"]`).innerText();
  }

  async screenshot(name) {
    await this.page.screenshot({ path: path.join(screenshots, `${name}.png`), animations: "disabled" });
  }
}
