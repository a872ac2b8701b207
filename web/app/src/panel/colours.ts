// Colours for "how often", even in lightness from the least to the most, so that they are told apart without hue as well.

type Rgb = readonly [number, number, number];

/** From the background's lightness to the far end: viridis on dark, yellow to blue on light. */
const DARK: Rgb[] = [[45, 38, 72], [62, 74, 137], [38, 130, 142], [53, 183, 121], [180, 222, 44], [253, 231, 37]];
const LIGHT: Rgb[] = [[222, 231, 192], [190, 223, 184], [118, 197, 190], [52, 145, 186], [36, 88, 160], [12, 36, 92]];

/** A CSS colour for a share from 0 to 1. */
export function colourOf(share: number, dark: boolean): string {
  const stops = dark ? DARK : LIGHT;
  const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const index = Math.min(Math.floor(place), stops.length - 2);
  const [from, to] = [stops[index] as Rgb, stops[index + 1] as Rgb];
  const mixed = from.map((value, channel) => Math.round(value + (to[channel as 0 | 1 | 2] - value) * (place - index)));
  return `rgb(${mixed.join(" ")})`;
}
