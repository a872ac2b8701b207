/** Keeps the end of `content` in sight as it grows, unless the reader has scrolled away from it. */
export function followEnd(scroller: HTMLElement, content: HTMLElement, toEnd: HTMLElement, signal: AbortSignal): { stick(): void; go(): void } {
  let following = true;
  let before = 0;
  const atEnd = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 40;
  const scrolled = () => {
    // Only the reader scrolls up. That the end is far away says nothing: the text may just have grown.
    if (scroller.scrollTop < before - 2) following = false;
    if (atEnd()) following = true;
    before = scroller.scrollTop;
    toEnd.hidden = following;
  };
  const grew = () => {
    if (following) scroller.scrollTop = scroller.scrollHeight;
    toEnd.hidden = following || atEnd();
  };
  scroller.addEventListener("scroll", scrolled, { signal, passive: true });
  const resized = new ResizeObserver(grew);
  resized.observe(content);
  resized.observe(scroller);
  signal.addEventListener("abort", () => resized.disconnect());
  return {
    stick() {
      following = true;
      grew();
    },
    go() {
      following = true;
      scroller.scrollTo({ top: scroller.scrollHeight, behavior: "smooth" });
    },
  };
}
